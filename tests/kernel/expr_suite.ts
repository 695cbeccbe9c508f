/**
 * The expression language on the running kernel, without a test runner: the same suite runs in bun:test and as a
 * compiled program in a virtual machine. Needs root, Linux 5.10.
 */
import type { Btf } from "../../lib/btf/parse.ts";
import { FilterSyntaxError } from "../../lib/errors.ts";
import { compileValue, type Root, skb, xdp } from "../../lib/expr/compile.ts";
import { randomFrom } from "../asm/random_insn.ts";
import { cases } from "../expr/cases.ts";
import { randomExpression } from "../expr/random.ts";
import { ExpressionLab } from "./expr_lab.ts";

export interface Summary {
  readonly expressions: number;
  /** those of them that are about an xdp_buff */
  readonly ofXdp: number;
  /** programs run on structs */
  readonly runs: number;
  readonly trueRuns: number;
  /** NULL on the way, or a division by zero */
  readonly failedRuns: number;
  /** what did not agree, in words */
  readonly trouble: readonly string[];
}

type Source = readonly [source: string, root: Root];

/** The written cases. */
export function runCases(btf: Btf): Summary {
  using lab = new ExpressionLab(btf, 1);
  return run(lab, cases);
}

/** `count` random expressions. */
export function runRandom(btf: Btf, seed: number, count: number): Summary {
  using lab = new ExpressionLab(btf, seed);
  return run(lab, randomSources(btf, seed, count));
}

/** Expressions at the edge of what the language allows: the verifier has to cope with the longest. */
export function runLargest(btf: Btf): Summary {
  using lab = new ExpressionLab(btf, 1);
  return run(lab, largest.map((source) => [source, skb]));
}

const repeat = (count: number, separator: string, piece: (index: number) => string) =>
  Array.from({ length: count }, (_, index) => piece(index)).join(separator);

function balanced(depth: number): string {
  const leaf = ["skb->len", "skb->mark", "skb->tstamp", "skb->hash"][depth] ?? "skb->len";
  return depth === 0 ? leaf : `(${balanced(depth - 1)}${"+*-/"[depth % 4]}${balanced(depth - 1)})`;
}

const largest: readonly string[] = [
  repeat(150, "+", (i) => `(skb->len>${i})`),
  repeat(190, "||", (i) => `skb->mark==${i}`),
  repeat(150, "&&", (i) => `skb->dev->mtu!=${i}`),
  repeat(120, "/", () => "skb->tstamp"),
  repeat(120, "^", () => "skb->tstamp/skb->len"),
  repeat(100, ":", (i) => `skb->len>${i}?skb->mark`) + ":0",
  balanced(8),
];

function* randomSources(btf: Btf, seed: number, count: number): Generator<Source> {
  const random = randomFrom(seed);
  for (let found = 0; found < count;) {
    const source = randomExpression(random, 1 + random(6));
    try {
      compileValue(source, btf, skb);
    } catch (error) {
      // a constant that is divided by or shifted by may be wrong, and a text too long
      if (error instanceof FilterSyntaxError && /^Cannot (divide|shift|read an)/.test(error.message)) {
        continue;
      }
      throw error;
    }
    found++;
    yield [source, skb];
  }
}

function run(lab: ExpressionLab, sources: Iterable<Source>): Summary {
  let expressions = 0, ofXdp = 0, runs = 0, trueRuns = 0, failedRuns = 0;
  const trouble: string[] = [];
  for (const [source, root] of sources) {
    expressions++;
    if (root === xdp) ofXdp++;
    let outcome;
    try {
      outcome = lab.check(source, root);
    } catch (error) {
      if (!(error instanceof FilterSyntaxError)) throw error;
      trouble.push(`${source}: ${error.message}`);
      continue;
    }
    runs += outcome.runs;
    trueRuns += outcome.trueRuns;
    failedRuns += outcome.failedRuns;
    if (outcome.trouble !== "") trouble.push(outcome.trouble);
  }
  return { expressions, ofXdp, runs, trueRuns, failedRuns, trouble };
}
