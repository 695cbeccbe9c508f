/**
 * kprobe-multi: all functions in one go, by address, modules included. Linux 5.18 with FPROBE.
 *
 * The argument positions that nearly all functions have the packet in get a link each, with a program that knows
 * it; one more link serves the rest, whose program looks positions up. Closing a link takes 0.13 s (Linux
 * 6.12, emulated). An attach cookie cannot tell the position: the kernel looks for it under the function's entry,
 * which is not the address that ftrace lists.
 */
import { readFileSync } from "node:fs";
import type { ProbeContext } from "../../../bpf-programs/registers.ts";
import { kprobeMultiPositionsProgram, kprobeMultiProgram } from "../../../bpf-programs/function_programs.ts";
import type { Fate } from "../../../bpf-programs/trace.ts";
import { type BeneathProbe, stackProgram, stackWatchProgram } from "../../../bpf-programs/stack_programs.ts";
import type { TraceOptions } from "../../../bpf-programs/frame.ts";
import type { KernelTypes, ProgramSpec } from "../../../asm/code.ts";
import { UnsupportedError } from "../../errors.ts";
import {
  attachKprobeMulti,
  attachKprobeMultiWherePossible,
  missedHits,
  trialProgram,
} from "../../link/kprobe_multi.ts";
import type { Link } from "../../link/link.ts";
import { entriesBefore } from "../../link/probe_place.ts";
import type { Maps } from "../../maps/maps.ts";
import { symbolText } from "../../symbols/table.ts";
import { isErrno } from "../../sys/ffi.ts";
import { releaseMemory } from "../../sys/memory.ts";
import { loadProgram, type Program } from "../../sys/program.ts";
import {
  type AttachProgress,
  type FunctionBackend,
  type Load,
  type ProbeFailure,
  recursionMisses,
} from "../backend.ts";
import { type Extras, noExtras, unseenRemarks } from "../extras.ts";
import type { Selection, TracedFunction } from "../functions.ts";

/**
 * Asks with an address that no function has: only a kernel without the feature says that it is that.
 *
 * @throws {UnsupportedError} this kernel has no kprobe-multi
 */
export function requireKprobeMulti(kernel: KernelTypes): void {
  const hint = "--backend kprobe or --backend tracepoint may work";
  if (kernel.enumerator("bpf_attach_type", "BPF_TRACE_KPROBE_MULTI") === undefined) {
    throw new UnsupportedError("This kernel is older than kprobe-multi, which came with Linux 5.18", {
      hint,
    });
  }
  using program = loadProgram(trialProgram);
  try {
    using _link = attachKprobeMulti(program, { addresses: BigUint64Array.of(1n) });
  } catch (error) {
    if (isErrno(error, "EINVAL", "ENOENT", "ESRCH")) return;
    if (!isErrno(error, "EOPNOTSUPP")) throw error;
    throw new UnsupportedError("This kernel was built without kprobe-multi (CONFIG_FPROBE)", {
      hint,
      cause: error,
    });
  }
}

/**
 * Where ftrace is switched off (kernel.ftrace_enabled) functions can be attached to, and none is seen.
 *
 * @param setting the text of the sysctl; absent: this kernel has none
 * @throws {UnsupportedError} it is switched off
 */
export function requireFtrace(setting: string | undefined = readSetting()): void {
  if (setting?.trim() !== "0") return;
  throw new UnsupportedError("Cannot see functions by kprobe-multi: ftrace is switched off", {
    hint: "sysctl -w kernel.ftrace_enabled=1",
  });
}

function readSetting(): string | undefined {
  try {
    return readFileSync("/proc/sys/kernel/ftrace_enabled", "latin1");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** Argument positions with a program of their own. */
const USUAL: ReadonlySet<number> = new Set([1, 2, 3]);

/** Where a function's entry may be, which is what bpf_get_func_ip gives. */
const entries = ({ address }: TracedFunction, recordAddresses: boolean): readonly bigint[] =>
  recordAddresses ? entriesBefore(address, process.arch) : [address];

/** Functions that one program serves. */
interface Group {
  readonly functions: readonly TracedFunction[];
  readonly program: () => ProgramSpec;
  /** they were asked for */
  readonly counts: boolean;
}

export class KprobeMultiBackend implements FunctionBackend {
  readonly name = "kprobe-multi";
  readonly remarks: string[] = [];
  readonly failures: ProbeFailure[] = [];
  attached = 0;
  readonly #functions: readonly TracedFunction[];
  readonly #recordAddresses: boolean;
  readonly #maps: Maps;
  readonly #extras: Extras;
  readonly #options: TraceOptions;
  readonly #context: ProbeContext;
  readonly #load: Load;
  readonly #names = new Map<bigint, string>();
  readonly #programs: Program[] = [];
  readonly #links: Link[] = [];
  /** misses of these are calls by programs of our own, not to be told from others */
  readonly #uncounted = new Set<Program>();
  readonly #uncountedLinks: Link[] = [];
  /** by links that are closed */
  #missed = 0n;
  /** links of a program that does nothing, left from looking for addresses that the kernel refuses */
  readonly #trials: Disposable[] = [];

  constructor(
    { functions, recordAddresses }: Selection,
    options: TraceOptions,
    context: ProbeContext,
    load: Load,
    maps: Maps,
    extras: Extras = noExtras,
  ) {
    this.#functions = functions;
    this.#recordAddresses = recordAddresses;
    this.#maps = maps;
    this.#extras = extras;
    this.#options = options;
    this.#context = context;
    this.#load = load;
    this.#name(functions);
  }

  #name(functions: readonly TracedFunction[]): void {
    for (const traced of functions) {
      for (const entry of entries(traced, this.#recordAddresses)) {
        this.#names.set(entry, symbolText(traced));
      }
    }
  }

  get found(): number {
    return this.#functions.length;
  }

  attach({ signal, onLive, onProgress }: AttachProgress): Promise<void> {
    let done = 0;
    for (const { functions, program: spec, counts } of this.#groups()) {
      if (signal.aborted) break;
      // What the first program left behind, and the code that made it, is the peak of a run's memory.
      if (this.#programs.length === 1) releaseMemory();
      const refused = this.#attach(functions, spec(), true);
      if (!counts) {
        this.remarks.push(...unseenRemarks(refused));
        continue; // nobody asked for them
      }
      this.attached += functions.length - refused.length;
      this.failures.push(...refused);
      onProgress(done += functions.length, this.found);
    }
    onLive();
    return Promise.resolve();
  }

  /** Returns what was refused. */
  #attach(functions: readonly TracedFunction[], spec: ProgramSpec, countMisses: boolean): ProbeFailure[] {
    const program = this.#load(spec);
    this.#programs.push(program);
    if (!countMisses) this.#uncounted.add(program);
    const attached = attachKprobeMultiWherePossible(program, {
      addresses: BigUint64Array.from(functions, ({ address }) => address),
    });
    if (attached.link !== undefined) (countMisses ? this.#links : this.#uncountedLinks).push(attached.link);
    this.#trials.push(...attached.trials);
    return attached.refused.map((index) => ({
      name: symbolText(functions[index] as TracedFunction),
      code: "EINVAL",
    }));
  }

  attachBeneath(functions: readonly TracedFunction[], probe: BeneathProbe): Promise<ProbeFailure[]> {
    if (functions.length === 0) return Promise.resolve([]);
    this.#name(functions);
    const spec = stackProgram(this.#options, this.#context, "kprobe-multi", probe);
    // Our own programs call helpers as well, and no probe sees that.
    return Promise.resolve(this.#attach(functions, spec, !probe.fromPrograms));
  }

  /** Functions that one program serves; ends and beginnings of packets first. */
  #groups(): Group[] {
    const { shown, unseen, watched } = this.#extras;
    const options = this.#options, context = this.#context;
    const special = new Set(shown.flatMap(({ functions }) => functions.map(({ address }) => address)));
    const lives = this.#functions.filter(({ address }) => !special.has(address));
    const usual = (fate: Fate, all: readonly TracedFunction[], counts = true): Group[] =>
      [...Map.groupBy(all, ({ argument }) => argument)].map(([argument, functions]) => ({
        functions,
        program: () => kprobeMultiProgram(options, context, argument, fate),
        counts,
      }));
    const others = lives.filter(({ argument }) => !USUAL.has(argument));
    if (others.length > 0) this.#notePositions(others);
    const groups: Group[] = [
      {
        functions: watched,
        program: () => stackWatchProgram(options, context, "kprobe-multi"),
        counts: false,
      },
      ...unseen.flatMap(({ fate, functions }) => usual(fate, functions, false)),
      ...shown.flatMap(({ fate, functions }) => usual(fate, functions)),
      ...usual("lives", lives.filter(({ argument }) => USUAL.has(argument))),
      { functions: others, program: () => kprobeMultiPositionsProgram(options, context), counts: true },
    ];
    return groups.filter(({ functions }) => functions.length > 0);
  }

  /** For the program that does not know them. */
  #notePositions(functions: readonly TracedFunction[]): void {
    const positions = this.#maps.get(this.#options.maps.positions);
    const key = new Uint8Array(8), value = new Uint8Array(8), keyView = new DataView(key.buffer);
    for (const traced of functions) {
      value[0] = traced.argument;
      for (const entry of entries(traced, this.#recordAddresses)) {
        keyView.setBigUint64(0, entry, true);
        positions.update(key, value);
      }
    }
  }

  nameOf(address: bigint): string | undefined {
    return this.#names.get(address);
  }

  missed(): bigint {
    const byLinks = this.#links.reduce((sum, link) => sum + missedHits(link), this.#missed);
    return byLinks + recursionMisses(this.#programs.filter((program) => !this.#uncounted.has(program)));
  }

  close(): void {
    for (const link of this.#links.splice(0)) {
      this.#missed += missedHits(link);
      link[Symbol.dispose]();
    }
    for (const link of [...this.#uncountedLinks.splice(0), ...this.#trials.splice(0)]) link[Symbol.dispose]();
  }

  release(): Promise<void> {
    return Promise.resolve();
  }

  [Symbol.dispose](): void {
    this.close();
    for (const program of this.#programs.splice(0)) program[Symbol.dispose]();
  }
}
