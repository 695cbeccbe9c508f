/**
 * A scenario: what happens in the guest, and what must be true of the files it leaves.
 *
 * The script runs in the guest with tracer.sh and topo.sh at hand; the checks run on the host, each as a test.
 */
import type { Outcome } from "./boot.ts";
import type { Job } from "./initramfs.ts";
import { type KernelName, machineFor, type Series, seriesOf, x64Kernels } from "./images.ts";
import { parseLines, type TraceLine } from "./lines.ts";
import type { Machine } from "./machines.ts";

export interface Scenario {
  readonly name: string;
  readonly boot?: BootName;
  /** kernels it makes sense on; all that there are for x86-64 when left out */
  readonly kernels?: readonly KernelName[];
  /** further kernels, of the long set of tests: npm test -- --long */
  readonly longKernels?: readonly KernelName[];
  /** bash */
  readonly script: string;
  readonly limitSeconds: number;
  /** files of the host to put beside the script; what has to be made is made in `folder` */
  readonly files?: (machine: Machine, folder: string) => readonly string[];
  readonly checks: Checks;
  /** what Debian's pwru cannot do: left out when it stands in for ours */
  readonly oursOnly?: Checks;
}

/**
 * Which boot of its kernel it is part of: one whose clock counts instructions, for what is measured; the usual one; or one
 * apart from that, so that neither takes too long.
 */
export type BootName = "counting" | "apart" | "usual";
export const bootNames: readonly BootName[] = ["counting", "apart", "usual"];
export const bootOf = ({ boot = "usual" }: Scenario): BootName => boot;

export const runsOn = (scenario: Scenario, kernel: KernelName, long: boolean): boolean =>
  isUsual(scenario, kernel) || (long && isLong(scenario, kernel));

const isUsual = ({ kernels = x64Kernels }: Scenario, kernel: KernelName): boolean => kernels.includes(kernel);

/** Whether a kernel has a scenario in the long set alone. */
export const isLong = (scenario: Scenario, kernel: KernelName): boolean =>
  !isUsual(scenario, kernel) && scenario.longKernels?.includes(kernel) === true;

/** How many times longer than usual things may take: for machines with a lot else to do. */
const patience = Number(process.env["PWRU_VM_PATIENCE"] ?? 1);

/** Until it is given up. */
export const limitOf = ({ limitSeconds }: Scenario): number => limitSeconds * patience;

/** What a boot of that kernel is told of a scenario; makes its files in `folder`. */
export function jobOf(scenario: Scenario, kernel: KernelName, folder: string): Job {
  const { name, script, files } = scenario;
  return {
    name,
    script,
    limitSeconds: limitOf(scenario),
    ...(files === undefined ? {} : { files: files(machineFor(kernel), folder) }),
  };
}

export type Checks = Readonly<Record<string, (run: Run) => void>>;

/** What tracer.sh wrote down about one run of a tracer. */
export interface Facts {
  readonly ready: boolean;
  readonly readyMs: number;
  /** from the signal (or the start, for `run`) until the process was gone, or until we stopped waiting */
  readonly stopMs: number;
  readonly gone: boolean;
  /** exit status as the shell gives it: 130 is SIGINT; NaN while it is not gone */
  readonly status: number;
  /** peak resident memory, VmHWM */
  readonly peakKib: number;
  /** lines of enabled_functions and live lines of kprobes/list while it ran */
  readonly functions: number;
  readonly kprobes: number;
  /** until no definition of a kprobe event was left */
  readonly sweptMs: number;
}

/** One scenario's files on one kernel, as the checks read them. */
export class Run {
  readonly kernel: KernelName;
  readonly #outcome: Outcome;
  /** parsed once: several checks look at the same file */
  readonly #lines = new Map<string, TraceLine[]>();

  constructor(kernel: KernelName, outcome: Outcome) {
    this.kernel = kernel;
    this.#outcome = outcome;
  }

  text(file: string): string {
    return this.#outcome.read(file);
  }

  lines(file: string): readonly TraceLine[] {
    const known = this.#lines.get(file);
    if (known !== undefined) return known;
    const lines = parseLines(this.text(file));
    this.#lines.set(file, lines);
    return lines;
  }

  facts(name: string): Facts {
    const rows = this.text(`${name}.facts`).trim().split("\n").map((row) => row.split("="));
    const of = Object.fromEntries(rows) as Record<string, string | undefined>;
    return {
      ready: of["ready"] === "yes",
      readyMs: Number(of["ready_ms"]),
      stopMs: Number(of["stop_ms"]),
      gone: of["gone"] === "yes",
      status: Number(of["status"]),
      peakKib: Number(of["hwm_kib"]),
      functions: Number(of["enabled_functions"]),
      kprobes: Number(of["kprobes"]),
      sweptMs: Number(of["swept_ms"]),
    };
  }
}

/** Function names in the order they were printed, only those of `names`: repeats stay. */
export const only = (lines: readonly TraceLine[], names: readonly string[]): string[] =>
  lines.map((line) => line.func).filter((func) => names.includes(func));

/** "function(REASON)" of lines that carry one. */
export const withReason = (line: TraceLine): string =>
  line.reason === undefined ? line.func : `${line.func}(${line.reason})`;

/** 5.10 < 6.1 < 6.12: whether a kernel is at least that one. */
export function atLeast(kernel: KernelName, other: Series): boolean {
  const [a = 0, b = 0] = seriesOf(kernel).split(".").map(Number),
    [c = 0, d = 0] = other.split(".").map(Number);
  return a !== c ? a > c : b >= d;
}
