/**
 * Start and stop beside Debian's pwru, on real kernels: npm run bench [-- --instructions] [KERNEL...]
 *
 * One boot per kernel under QEMU; the measuring is that of tests/vm/scenarios/start.ts, whose gates run in the
 * tests. Times are those of an emulated machine: read them as ratios. With --instructions the guest's clock counts the
 * instructions of its one processor, one per ns: those ratios are the same on a busy machine.
 */
import { tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { TemporaryFolder } from "../build/host.ts";
import { columns } from "../lib/output/columns.ts";
import { boot } from "../tests/vm/boot.ts";
import { kernelNames, x64Kernels } from "../tests/vm/images.ts";
import { isKernelName, prepare, testedBinary } from "../tests/vm/lab.ts";
import { jobOf, Run } from "../tests/vm/scenario.ts";
import { type StartRow, startRows, startStop } from "../tests/vm/scenarios/start.ts";

const seconds = (ms: number) => (ms / 1000).toFixed(2);

const cells: readonly [title: string, cell: (row: StartRow) => string][] = [
  ["tracer", (row) => row.tracer],
  ["ready s", (row) => row.ready ? seconds(row.readyMs) : `failed after ${seconds(row.readyMs)}`],
  [
    "prompt s",
    (row) => isNaN(row.stopMs) ? "" : row.gone ? seconds(row.stopMs) : `over ${seconds(row.stopMs)}`,
  ],
  ["peak MiB", (row) => (row.peakKib / 1024).toFixed(1)],
  ["functions", (row) => String(Math.max(row.functions, row.kprobes))],
];

function printTable(rows: readonly StartRow[]): void {
  console.log(
    columns([cells.map(([title]) => title), ...rows.map((row) => cells.map(([, cell]) => cell(row)))], [
      1,
      2,
      3,
      4,
    ]),
  );
}

const { values: { instructions }, positionals: wanted } = parseArgs({
  options: { instructions: { type: "boolean", default: false } },
  allowPositionals: true,
});
const unknown = wanted.filter((word) => !isKernelName(word));
if (unknown.length > 0) {
  console.error(`Unknown kernel "${unknown.join(" ")}": there are ${kernelNames.join(", ")}`);
  process.exit(2);
}
for (const kernel of wanted.length === 0 ? x64Kernels : wanted.filter(isKernelName)) {
  using made = new TemporaryFolder(tmpdir());
  const image = prepare(kernel, console.error);
  const options = { binary: testedBinary(kernel), countsInstructions: instructions };
  const booted = await boot(image, [jobOf(startStop, kernel, made.path)], options);
  const outcome = booted.outcomes.get(startStop.name);
  console.log(`\nLinux ${kernel} (${image.package})${instructions ? ", ns = instructions" : ""}`);
  if (outcome?.status !== 0) {
    console.log(`status ${outcome?.status ?? "none"}\n${outcome?.read("stderr") ?? booted.console}`);
  }
  if (outcome !== undefined) printTable(startRows(new Run(kernel, outcome)));
}
