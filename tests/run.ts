/**
 * Runs every test there is: npm test [-- --only PART,...] [--scenario NAME,...] [--long]
 *
 * Parts: unit (pure, anywhere), kernel (this machine's kernel, root), and one per kernel that is booted under
 * QEMU. What a part needs is installed when we are root on Debian. A part that cannot run is skipped with its
 * reason; under CI=true that is a failure, except for a kernel that Debian no longer has. What takes long and is
 * unlikely to find more than the rest runs with --long only, and is named at the end where it did not; so do
 * kernels for arm64, unless they are asked for by name.
 */
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { cpus, freemem, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { columns } from "../lib/output/columns.ts";
import { installPrograms, referencePrograms } from "./vm/debian.ts";
import { arm64Kernels, type KernelName, kernelNames, machineFor, NoSuchKernel } from "./vm/images.ts";
import { peerStandsIn, prepare, testedBinary } from "./vm/lab.ts";
import { isNative } from "./vm/machines.ts";
import { type BootName, bootNames, bootOf, isLong, runsOn } from "./vm/scenario.ts";
import { scenarios } from "./vm/scenarios/all.ts";

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
  /** what `bun test` printed of each test that failed */
  readonly failures?: readonly string[];
}

const bold = (text: string) => process.stdout.isTTY ? `\x1b[1m${text}\x1b[0m` : text;
const title = (part: Part) => part === "unit" || part === "kernel" ? part : `Linux ${part}`;
const announce = (text: string) => console.log(bold(`\n=== ${text}`));

const nothing = { passed: 0, failed: 0, skipped: 0, seconds: 0 } as const;

/** A part that did not run counts as one skipped test, or as one failed test where it has to run. */
function notRun(part: Part, reason: string, forgivable = false): Row {
  console.log(bold(`SKIPPED ${title(part)}: ${reason}`));
  const failed = process.env["CI"] === "true" && !forgivable;
  return { part, ...nothing, failed: failed ? 1 : 0, skipped: failed ? 0 : 1, reason };
}

/** Totals of a JUnit report: the attributes of its root element. */
function totals(report: string): { passed: number; failed: number; skipped: number } {
  const root = /<testsuites\b[^>]*>/.exec(report)?.[0] ?? "";
  const of = (name: string) => Number(new RegExp(` ${name}="(\\d+)"`).exec(root)?.[1] ?? 0);
  const failed = of("failures") + of("errors"), skipped = of("skipped");
  return { passed: of("tests") - failed - skipped, failed, skipped };
}

/** The last lines printed before each "(fail)", and it; and what was thrown outside of tests. */
function failuresIn(output: string): string[] {
  const [told = ""] = output.split(/^\d+ tests? (?:skipped|failed):$/m, 1); // names again follow
  const blocks = told.split(/^\((?:pass|skip|todo)\).*\n|(?<=^\(fail\).*\n)/m);
  return blocks.filter((block) => /^\(fail\)|^# Unhandled error/m.test(block))
    .map((block) => block.trim().split("\n").slice(-40).join("\n"));
}

/** Runs `bun test` on these files; its output appears when it has ended. */
async function bunTest(part: Part, files: readonly string[], env: Record<string, string>) {
  const work = mkdtempSync(join(tmpdir(), "pwru-test-")), report = join(work, "junit.xml");
  const begin = performance.now();
  try {
    const argv = [bun, "test", "--reporter=junit", `--reporter-outfile=${report}`, ...files];
    const output = openSync(join(work, "output"), "a"); // both streams at its end, whoever writes
    const child = Bun.spawn(argv, {
      cwd: repository,
      env: { ...process.env, ...env },
      stdin: "ignore",
      stdout: output,
      stderr: output,
    });
    const status = await child.exited;
    closeSync(output);
    const printed = readFileSync(join(work, "output"), "utf8");
    announce(title(part));
    process.stdout.write(printed);
    const counted = totals(existsSync(report) ? readFileSync(report, "utf8") : "");
    // A crash of the runner, or a failing beforeAll, is in no report.
    const failed = status !== 0 && counted.failed === 0 ? 1 : counted.failed;
    const seconds = (performance.now() - begin) / 1000;
    return { part, ...counted, failed, seconds, failures: failuresIn(printed) };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const testFiles = (pattern: string) =>
  [...new Bun.Glob(pattern).scanSync({ cwd: repository })].map((path) => `./${path}`).sort();

function unit(long: boolean): Promise<Row> {
  console.log("unit: running");
  const files = testFiles("tests/**/*.test.ts")
    .filter((path) => !path.startsWith("./tests/kernel/") && path !== "./tests/vm/vm.test.ts");
  return bunTest("unit", files, long ? { PWRU_TEST_LONG: "1" } : {});
}

function kernel(long: boolean): Row | Promise<Row> {
  const files = testFiles("tests/kernel/**/*.test.ts");
  if (files.length === 0) return notRun("kernel", "there are no tests in tests/kernel", true);
  if (process.getuid?.() !== 0) return notRun("kernel", "needs root");
  console.log("kernel: running on this machine");
  return bunTest("kernel", files, long ? { PWRU_TEST_LONG: "1" } : {});
}

/** One boot of a kernel, for these scenarios. */
interface Guest {
  readonly kernel: KernelName;
  readonly boot: BootName;
  readonly names: readonly string[];
  /** of all its scenarios together */
  readonly limitSeconds: number;
}

function virtualMachine({ kernel, names }: Guest, cpus: number): Row | Promise<Row> {
  const binary = testedBinary(kernel);
  if (!peerStandsIn() && !existsSync(binary)) return notRun(kernel, `there is no "${binary}"`);
  try {
    prepare(kernel, (line) => console.log(`${title(kernel)}: ${line}`));
  } catch (error) {
    return notRun(kernel, String(error), error instanceof NoSuchKernel);
  }
  console.log(`${title(kernel)}: booting for ${names.join(", ")}`);
  const env = {
    PWRU_VM_KERNELS: kernel,
    PWRU_VM_SCENARIOS: names.join(","),
    PWRU_VM_LONG: "1", // the names are those of the scenarios that are to run
    PWRU_VM_CPUS: String(cpus),
  };
  return bunTest(kernel, ["./tests/vm/vm.test.ts"], env);
}

/** Which scenarios are to run. */
interface Wanted {
  /** absent: all */
  readonly names?: readonly string[];
  /** on which kernels also what takes long */
  readonly long: (kernel: KernelName) => boolean;
}

/** The boots that kernels need for the scenarios that are wanted. */
function guestsOf(kernels: readonly KernelName[], { names, long }: Wanted): Guest[] {
  return kernels.flatMap((kernel) => {
    const mine = scenarios.filter((scenario) =>
      runsOn(scenario, kernel, long(kernel)) && (names?.includes(scenario.name) ?? true)
    );
    return bootNames.map((boot) => {
      const here = mine.filter((scenario) => bootOf(scenario) === boot);
      const limitSeconds = here.reduce((sum, scenario) => sum + scenario.limitSeconds, 0);
      return { kernel, boot, names: here.map(({ name }) => name), limitSeconds };
    });
  }).filter(({ names }) => names.length > 0);
}

/**
 * Guests and the parts that need none, which keep one processor busy each, beside each other, those first that may take
 * longest.
 */
async function everything(
  guests: readonly Guest[],
  guestless: readonly (() => Row | Promise<Row>)[],
): Promise<Row[]> {
  const width = Number(process.env["PWRU_VM_PARALLEL"] ?? guestsBeside());
  // Two guests of two processors on a host of two would spin, each processor waiting for one that does not run.
  const processors = width > 1 ? 1 : 2;
  const [first = [], ...others] = [...guests]
    .sort((a, b) => b.limitSeconds - a.limitSeconds)
    .map((guest) => [() => virtualMachine(guest, processors)]);
  const rows = await inParallel(width, [...first, ...guestless, ...others.flat()]);
  return parts.map((name) => rows.filter((row) => row.part === name))
    .filter((found) => found.length > 0)
    .map((found) => found.reduce(added));
}

/** How many guests may run beside each other. One has 3 GiB, and its processors are idle half of the time. */
function guestsBeside(): number {
  return Math.max(1, Math.min(2, cpus().length, Math.floor(freemem() / 2 ** 32)));
}

function added(one: Row, other: Row): Row {
  const { part } = one, reason = one.reason ?? other.reason;
  const [passed, failed, skipped, seconds] = (["passed", "failed", "skipped", "seconds"] as const)
    .map((key) => one[key] + other[key]) as [number, number, number, number];
  const failures = [...one.failures ?? [], ...other.failures ?? []];
  return { part, passed, failed, skipped, seconds, failures, ...(reason === undefined ? {} : { reason }) };
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

/** Runs `build.ts`; says whether it did what it should. */
function builds(...words: readonly string[]): boolean {
  const options = { cwd: repository, stdout: "inherit", stderr: "inherit" } as const;
  return Bun.spawnSync([bun, "build.ts", ...words], options).exitCode === 0;
}

/** What of the long set did not run, as "flood on Linux 6.1 7.3". */
function leftOut(long: Wanted["long"]): string[] {
  return scenarios.flatMap((scenario) => {
    const left = kernelNames.filter((kernel) => isLong(scenario, kernel) && !long(kernel));
    return left.length === 0 ? [] : [`${scenario.name} on Linux ${left.join(" ")}`];
  });
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
  console.log(`\n${columns(cells, [1, 2, 3])}`.trimEnd());
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: "string" },
      scenario: { type: "string" },
      long: { type: "boolean", default: false },
    },
  });
  const wanted = values.only?.split(",") ?? [...parts];
  const unknown = wanted.filter((name) => !(parts as readonly string[]).includes(name));
  if (unknown.length > 0) {
    console.error(`Unknown part "${unknown.join(",")}": there are ${parts.join(", ")}`);
    return 2;
  }
  const named = values.scenario?.split(",");
  const missing = named?.filter((name) => !scenarios.some((scenario) => scenario.name === name)) ?? [];
  if (missing.length > 0) {
    console.error(
      `Unknown scenario "${missing.join(",")}": there are ${scenarios.map(({ name }) => name).join(", ")}`,
    );
    return 2;
  }

  const isWanted = (name: Part) => wanted.includes(name);
  // Named, an arm64 kernel is meant; all of its scenarios are in the long set.
  const long = (kernel: KernelName) =>
    values.long || (values.only !== undefined && isWanted(kernel) && arm64Kernels.includes(kernel));
  const guests = guestsOf(kernelNames.filter(isWanted), {
    long,
    ...(named === undefined ? {} : { names: named }),
  });

  if (existsSync(join(repository, "build.ts"))) {
    announce("build");
    const foreign = guests.some(({ kernel }) => !isNative(machineFor(kernel)));
    if (!builds() || (foreign && !builds("--release"))) {
      console.log("\n0 passed, 1 failed, 0 skipped");
      return 1;
    }
  }
  if (isWanted("unit") || isWanted("kernel")) {
    try {
      installPrograms(referencePrograms, console.log);
    } catch (error) {
      console.log(bold(`Some tests will be skipped. ${(error as Error).message}`));
      if (process.env["CI"] === "true") return 1;
    }
  }
  const rows = await everything(guests, [
    ...(isWanted("kernel") ? [() => kernel(values.long)] : []),
    ...(isWanted("unit") ? [() => unit(values.long)] : []),
  ]);
  const unasked = arm64Kernels.filter((kernel) => isWanted(kernel) && !long(kernel));
  rows.push(...unasked.map((part) => ({ part, ...nothing, reason: "it is of the long set (--long)" })));

  for (const { part, failures } of rows) {
    for (const failure of failures ?? []) {
      console.log(`${bold(`\n=== failed in ${title(part)}`)}\n${failure}`);
    }
  }
  printTable(rows);
  const left = [...(values.long ? [] : ["a release"]), ...leftOut(long)];
  if (left.length > 0) console.log(`\nLeft out of the long set (--long): ${left.join(", ")}`);
  const sum = (count: (row: Row) => number) => rows.reduce((total, row) => total + count(row), 0);
  const failed = sum((row) => row.failed);
  console.log(`\n${sum((row) => row.passed)} passed, ${failed} failed, ${sum((row) => row.skipped)} skipped`);
  return failed === 0 ? 0 : 1;
}

process.exit(await main());
