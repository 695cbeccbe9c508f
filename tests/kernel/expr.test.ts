/** Expressions in this kernel give what the evaluator gives, by every way of reading memory that it has. */
import { describe, expect, test } from "bun:test";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { runCases, runLargest, runRandom, type Summary } from "./expr_suite.ts";
import { isAtLeast, isRoot } from "./requires.ts";

describe.skipIf(!isRoot || !isAtLeast(5, 10))("expressions in the kernel (needs root, Linux 5.10)", () => {
  const agree = ({ trouble, ...counts }: Summary) => {
    console.log(counts);
    expect(trouble.slice(0, 5)).toEqual([]);
    // a suite whose filters all say the same, or that never meets NULL, tests nothing
    expect(counts.trueRuns).toBeGreaterThan(counts.runs / 5);
    expect(counts.trueRuns).toBeLessThan(counts.runs * 4 / 5);
  };

  test("the written cases", () => {
    const summary = runCases(loadKernelBtf());
    agree(summary);
    expect(summary.expressions).toBeGreaterThan(500);
    expect(summary.ofXdp).toBeGreaterThan(50);
    expect(summary.failedRuns).toBeGreaterThan(200);
  }, 60_000);

  test("random expressions", () => {
    agree(runRandom(loadKernelBtf(), 20_240_601, 200));
  }, 60_000);

  test("the largest there can be", () => {
    expect(runLargest(loadKernelBtf()).trouble).toEqual([]);
  }, 60_000);
});
