/**
 * Expressions of --filter-skb-expr and --filter-xdp-expr give in this kernel what the evaluator says, by every way of
 * reading memory that it has.
 */
import { expect } from "bun:test";
import { compiled } from "../compiled.ts";
import type { ExprReport } from "../expr.ts";
import type { Run, Scenario } from "../scenario.ts";

function reports(run: Run): Map<string, ExprReport> {
  const rows = run.text("expressions.out").trim().split("\n").map((line) => JSON.parse(line) as ExprReport);
  return new Map(rows.map((row) => [row.name, row]));
}

export const expressions: Scenario = {
  name: "expressions",
  boot: "apart",
  kernels: [],
  longKernels: ["5.10", "6.12", "7.3"],
  limitSeconds: 900,
  files: (machine, folder) => [compiled("expr", machine, folder)],
  // Emulated, the optimising compilers cost four times what they save. What it finds is for the checks to say.
  script: `
    BUN_JSC_useDFGJIT=0 ./expr 100 > "$OUT/expressions.out" || true
  `,
  checks: {
    "what is written, at random, and the largest all agree"(run) {
      for (const { trouble, ...counts } of reports(run).values()) {
        console.log(`Linux ${run.kernel}`, counts);
        expect({ name: counts.name, trouble }).toEqual({ name: counts.name, trouble: [] });
      }
      expect([...reports(run).keys()]).toEqual(["cases", "random", "largest"]);
    },
    "hundreds of them, of both structs"(run) {
      const { expressions = 0, ofXdp = 0, trueRuns = 0, failedRuns = 0, runs = 0 } =
        reports(run).get("cases") ?? {};
      expect(expressions).toBeGreaterThan(500);
      expect(ofXdp).toBeGreaterThan(50);
      expect(failedRuns).toBeGreaterThan(200);
      // filters that all say the same test nothing
      expect(trueRuns).toBeGreaterThan(runs / 5);
      expect(trueRuns).toBeLessThan(runs * 4 / 5);
    },
  },
};
