/** Tables that hold every pair of choices: most of what goes wrong between options goes wrong between two. */

/** What can be chosen of each factor. */
export type Factors = Readonly<Record<string, readonly string[]>>;
export type Row<F extends Factors> = { readonly [K in keyof F]: F[K][number] };

/**
 * Rows in which every choice of every factor meets every choice of every other one. Greedy: a row begins with a pair
 * that is still missing, and each further factor takes what adds most. The same factors give the same rows.
 */
export function pairwise<const F extends Factors>(factors: F): Row<F>[] {
  const names = Object.keys(factors), rows: Row<F>[] = [];
  const missing = new Set(allPairs(factors));
  while (missing.size > 0) {
    const [first] = missing;
    const row = new Map(first!.split("&").map((choice) => choice.split("=") as [string, string]));
    for (const name of names.filter((name) => !row.has(name))) {
      const gain = (value: string) =>
        [...row].filter(([other, chosen]) => missing.has(pair(names, other, chosen, name, value))).length;
      const best = factors[name]!.toSorted((a, b) => gain(b) - gain(a))[0]!;
      row.set(name, best);
    }
    for (const covered of pairsOf(names, row)) missing.delete(covered);
    rows.push(Object.fromEntries(names.map((name) => [name, row.get(name)])) as Row<F>);
  }
  return rows;
}

/** "a=1&b=2", in the order of the factors. */
function pair(names: readonly string[], a: string, va: string, b: string, vb: string): string {
  return names.indexOf(a) < names.indexOf(b) ? `${a}=${va}&${b}=${vb}` : `${b}=${vb}&${a}=${va}`;
}

export function allPairs(factors: Factors): string[] {
  const names = Object.keys(factors);
  return names.flatMap((a, i) =>
    names.slice(i + 1).flatMap((b) =>
      factors[a]!.flatMap((va) => factors[b]!.map((vb) => pair(names, a, va, b, vb)))
    )
  );
}

export function pairsOf(names: readonly string[], row: ReadonlyMap<string, string>): string[] {
  return names.flatMap((a, i) =>
    names.slice(i + 1).map((b) => pair(names, a, row.get(a) ?? "", b, row.get(b) ?? ""))
  );
}
