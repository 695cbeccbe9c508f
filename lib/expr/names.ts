/** Names in the kernel's types that stand for themselves in an expression: enumerators, and members to suggest. */
import { type Btf, BTF_KIND } from "../btf/parse.ts";
import { enumerators, isComposite, members, strip } from "../btf/walk.ts";

/** One value of one enum. */
export interface Enumerator {
  readonly enumId: number;
  readonly value: bigint;
}

/** Every enumerator of the kernel by name. There are tens of thousands, so they are read when first asked for. */
export class Enumerators {
  readonly #btf: Btf;
  #all: Map<string, Enumerator[]> | undefined;

  constructor(btf: Btf) {
    this.#btf = btf;
  }

  /** In the order of the types; different enums may have the same name. */
  find(name: string): readonly Enumerator[] {
    return this.#read().get(name) ?? [];
  }

  names(): Iterable<string> {
    return this.#read().keys();
  }

  #read(): Map<string, Enumerator[]> {
    if (this.#all !== undefined) return this.#all;
    const all = this.#all = new Map<string, Enumerator[]>(), btf = this.#btf;
    for (let id = 1; id < btf.endId; id++) {
      const kind = btf.kind(id);
      if (kind !== BTF_KIND.ENUM && kind !== BTF_KIND.ENUM64) continue;
      for (const [name, value] of enumerators(btf, id)) {
        const found = all.get(name);
        if (found === undefined) all.set(name, [{ enumId: id, value }]);
        else found.push({ enumId: id, value });
      }
    }
    return all;
  }
}

/** The names behind `->`, those of anonymous structs and unions too. */
export function* memberNames(btf: Btf, id: number, seen: Set<number> = new Set()): Generator<string> {
  const at = strip(btf, id);
  if (seen.has(at)) return;
  seen.add(at);
  for (const { name, type } of members(btf, at)) {
    if (name !== "") yield name;
    else if (isComposite(btf.kind(strip(btf, type)))) yield* memberNames(btf, type, seen);
  }
}
