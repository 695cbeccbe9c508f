/**
 * Runs the suite of the expression language on the kernel of a virtual machine, compiled, since that has no Bun:
 *
 *   bun build --compile --outfile /tmp/expr tests/vm/expr.ts
 *   echo './expr > $OUT/result' > /tmp/expr.sh; bun tests/vm/lab.ts 5.10 /tmp/expr.sh /tmp/expr
 *
 *     expr [RANDOM]      how many random expressions; one `ExprReport` a suite on stdout, status 1 on trouble
 */
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { raiseLockedMemory } from "../../lib/sys/process.ts";
import { runCases, runLargest, runRandom, type Summary } from "../kernel/expr_suite.ts";

/** What came of one suite. */
export interface ExprReport extends Summary {
  readonly name: string;
  readonly ms: number;
}

raiseLockedMemory();
const btf = loadKernelBtf(), count = Number(process.argv[2] ?? 100);
const suites: Readonly<Record<string, () => Summary>> = {
  cases: () => runCases(btf),
  random: () => runRandom(btf, 1, count),
  largest: () => runLargest(btf),
};
let failed = false;
for (const [name, run] of Object.entries(suites)) {
  const start = performance.now(), { trouble, ...counts } = run();
  const report: ExprReport = {
    name,
    ...counts,
    ms: Math.round(performance.now() - start),
    trouble: trouble.slice(0, 20).map((text) => text.slice(0, 4000)),
  };
  console.log(JSON.stringify(report));
  failed ||= trouble.length > 0;
}
process.exit(failed ? 1 : 0);
