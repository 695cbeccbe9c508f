/**
 * Runs every test there is: npm test [-- --only PART,...] [--scenario NAME,...]
 *
 * Parts: unit (pure, anywhere), kernel (this machine's kernel, root), and one per kernel that is booted under
 * QEMU. What a part needs is installed when we are root on Debian. A part that cannot run is skipped with its
 * reason; under CI=true that is a failure, except for a kernel that Debian no longer has.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type KernelName, kernelNames, NoSuchKernel } from "./vm/images.ts";
import { peerStandsIn, prepare, testedBinary } from "./vm/lab.ts";
import { guestsBeside, measured } from "./vm/plan.ts";

const repository = resolve(import.meta.dir, "..");
const bun = process.execPath;
const parts = ["unit", "kernel", ...kernelNames] as const;
type Part = (typeof parts)[number];

/** One line of the closing table. */
interface Row {
  readonly part: Part;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
  /** why the part did not run */
  readonly reason?: string;
}

const bold = (text: string) => process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text;
const title = (part: Part) => part === "unit" || part === "kernel" ? part : `Linux ${part}`;
const announce = (text: string) => console.log(bold(`\n=== ${text}`));

/** A part that did not run counts as one skipped test, or as one failed test where it has to run. */
function notRun(part: Part, reason: string, forgivable = false): Row {
  console.log(bold(`SKIPPED ${title(part)}: ${reason}`));
  const failed = process.env["CI"] === "true" && !forgivable;
  return { part, passed: 0, failed: failed ? 1 : 0, skipped: failed ? 0 : 1, seconds: 0, reason };
}

/** Totals of a JUnit report: the attributes of its root element. */
function totals(report: string): { passed: number; failed: number; skipped: number } {
  const root = /<testsuites\b[^>]*>/.exec(report)?.[0] ?? "";
  const of = (name: string) => Number(new RegExp(` ${name}="(\\d+)"`).exec(root)?.[1] ?? 0);
  const failed = of("failures") + of("errors"), skipped = of("skipped");
  return { passed: of("tests") - failed - skipped, failed, skipped };
}

/** Runs `bun test` on these files; `quiet` holds the output back until the end. */
async function bunTest(part: Part, files: readonly string[], env: Record<string, string>, quiet: boolean) {
  const work = mkdtempSync(join(tmpdir(), "pwru-test-")), report = join(work, "junit.xml");
  const begin = performance.now();
  try {
    const argv = [bun, "test", "--reporter=junit", `--reporter-outfile=${report}`, ...files];
    const output = quiet ? Bun.file(join(work, "output")) : "inherit";
    const child = Bun.spawn(argv, {
      cwd: repository,
      env: { ...process.env, ...env },
      stdin: "ignore",
      stdout: output,
      stderr: output,
    });
    const status = await child.exited;
    if (quiet) {
      announce(title(part));
      process.stdout.write(readFileSync(join(work, "output"), "utf8"));
    }
    const counted = totals(existsSync(report) ? readFileSync(report, "utf8") : "");
    // A crash of the runner, or a failing beforeAll, is in no report.
    const failed = status !== 0 && counted.failed === 0 ? 1 : counted.failed;
    return { part, ...counted, failed, seconds: (performance.now() - begin) / 1000 };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const testFiles = (pattern: string) =>
  [...new Bun.Glob(pattern).scanSync({ cwd: repository })].map((path) => `./${path}`).sort();

function unit(): Promise<Row> {
  announce("unit");
  const files = testFiles("tests/**/*.test.ts")
    .filter((path) => !path.startsWith("./tests/kernel/") && path !== "./tests/vm/vm.test.ts");
  return bunTest("unit", files, {}, false);
}

function kernel(): Row | Promise<Row> {
  const files = testFiles("tests/kernel/**/*.test.ts");
  if (files.length === 0) return notRun("kernel", "there are no tests in tests/kernel", true);
  if (process.getuid?.() !== 0) return notRun("kernel", "needs root");
  announce("kernel (this machine)");
  return bunTest("kernel", files, {}, false);
}

/** @param scenarios those of the boot */
function virtualMachine(name: KernelName, scenarios: "measured" | "others"): Row | Promise<Row> {
  if (!peerStandsIn() && !existsSync(testedBinary())) return notRun(name, `there is no "${testedBinary()}"`);
  try {
    prepare(name, (line) => console.log(`${title(name)}: ${line}`));
  } catch (error) {
    return notRun(name, String(error), error instanceof NoSuchKernel);
  }
  console.log(`${title(name)}: booting for the scenarios that are ${scenarios}`);
  const env = { PWRU_VM_KERNELS: name, PWRU_VM_BOOT: scenarios };
  return bunTest(name, ["./tests/vm/vm.test.ts"], env, true);
}

/** Two boots of each kernel, one if the other has nothing to do; those that are measured go first, alone. */
async function virtualMachines(names: readonly KernelName[], scenarios?: readonly string[]): Promise<Row[]> {
  const rows: Row[] = [];
  for (const name of names.filter((name) => measured.kernels.includes(name))) {
    if (scenarios?.includes(measured.scenario) ?? true) rows.push(await virtualMachine(name, "measured"));
  }
  if (scenarios?.every((name) => name === measured.scenario) ?? false) return rows;
  const width = Number(process.env["PWRU_VM_PARALLEL"] ?? guestsBeside());
  // most of the scenarios are for 6.12: it takes longest, so it goes first
  const order = names.toSorted((a, b) => Number(b === "6.12") - Number(a === "6.12"));
  rows.push(...await inParallel(width, order.map((name) => () => virtualMachine(name, "others"))));
  return names.map((name) => rows.filter((row) => row.part === name).reduce(added));
}

function added(one: Row, other: Row): Row {
  const { part } = one, reason = one.reason ?? other.reason;
  const [passed, failed, skipped, seconds] = (["passed", "failed", "skipped", "seconds"] as const)
    .map((key) => one[key] + other[key]) as [number, number, number, number];
  return { part, passed, failed, skipped, seconds, ...(reason === undefined ? {} : { reason }) };
}

/** Runs the tasks, at most `width` at a time; results in the order of the tasks. */
async function inParallel<T>(width: number, tasks: readonly (() => T | Promise<T>)[]): Promise<T[]> {
  const results: T[] = [];
  const queue = [...tasks.entries()];
  const worker = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
      results[next[0]] = await next[1]();
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return results;
}

function printTable(rows: readonly Row[]): void {
  const cells = [
    ["kernel", "passed", "failed", "seconds", ""],
    ...rows.map((row) => [
      title(row.part),
      String(row.passed),
      String(row.failed),
      row.seconds.toFixed(1),
      row.reason === undefined ? "" : `not run: ${row.reason.split("\n", 1)[0]}`,
    ]),
  ];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  console.log();
  for (const row of cells) {
    const [first = "", ...rest] = row.map((cell, i) => i === 0 ? cell.padEnd(widths[0] ?? 0) : cell);
    console.log([first, ...rest.map((cell, i) => cell.padStart(widths[i + 1] ?? 0))].join("  ").trimEnd());
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { only: { type: "string" }, scenario: { type: "string" } } });
  const wanted = values.only?.split(",") ?? [...parts];
  const unknown = wanted.filter((name) => !(parts as readonly string[]).includes(name));
  if (unknown.length > 0) {
    console.error(`Unknown part "${unknown.join(",")}": there are ${parts.join(", ")}`);
    return 2;
  }
  if (values.scenario !== undefined) process.env["PWRU_VM_SCENARIOS"] = values.scenario;

  if (existsSync(join(repository, "build.ts"))) {
    announce("build");
    const build = Bun.spawnSync([bun, "build.ts"], { cwd: repository, stdout: "inherit", stderr: "inherit" });
    if (build.exitCode !== 0) {
      console.log("\n0 passed, 1 failed, 0 skipped");
      return 1;
    }
  }
  const rows: Row[] = [];
  if (wanted.includes("unit")) rows.push(await unit());
  if (wanted.includes("kernel")) rows.push(await kernel());
  const machines = kernelNames.filter((name) => wanted.includes(name));
  rows.push(...await virtualMachines(machines, values.scenario?.split(",")));

  printTable(rows);
  const sum = (count: (row: Row) => number) => rows.reduce((total, row) => total + count(row), 0);
  const failed = sum((row) => row.failed);
  console.log(`\n${sum((row) => row.passed)} passed, ${failed} failed, ${sum((row) => row.skipped)} skipped`);
  return failed === 0 ? 0 : 1;
}

process.exit(await main());
