/**
 * Classic kprobes, for kernels without kprobe-multi: function after function, the main path first. Events flow
 * from there on, while the others are still being attached.
 */
import type { ProgramSpec } from "../../../asm/code.ts";
import type { ProbeContext } from "../../../bpf-programs/registers.ts";
import { kprobePositionsProgram, kprobeProgram } from "../../../bpf-programs/function_programs.ts";
import type { Fate } from "../../../bpf-programs/trace.ts";
import { type BeneathProbe, stackProgram, stackWatchProgram } from "../../../bpf-programs/stack_programs.ts";
import type { TraceOptions } from "../../../bpf-programs/frame.ts";
import type { ChosenKprobes } from "../../link/kprobe.ts";
import type { AttachFailure, KprobeBackend as Kprobes } from "../../link/kprobe_backend.ts";
import type { Maps } from "../../maps/maps.ts";
import type { FtraceSource } from "../../symbols/ftrace.ts";
import { symbolText } from "../../symbols/table.ts";
import type { Program } from "../../sys/program.ts";
import {
  type AttachProgress,
  type FunctionBackend,
  type Load,
  type ProbeFailure,
  recursionMisses,
} from "../backend.ts";
import { type Extras, noExtras, unseenRemarks } from "../extras.ts";
import type { Selection, TracedFunction } from "../functions.ts";
import { mainPath } from "../main_path.ts";

/**
 * The position that most functions have the packet in: they get a program that knows it. With two batches that
 * makes four perf events, and each takes up to 0.1 s to close.
 */
const USUAL = 1;
/** After a breakpoint on x86-64 the instruction pointer is one byte further. */
const BREAKPOINT_BYTES = process.arch === "x64" ? 1n : 0n;

export interface ClassicOptions {
  /** how many probes are set at a time */
  readonly batchSize?: number | undefined;
  /** what ftrace lists, where the functions were chosen without it */
  readonly traceable?: FtraceSource["read"];
}

export class ClassicKprobeBackend implements FunctionBackend {
  readonly name = "kprobe";
  readonly failures: ProbeFailure[] = [];
  readonly remarks: string[] = [];
  attached = 0;
  readonly #functions: readonly TracedFunction[];
  readonly #extras: Extras;
  readonly #recordAddresses: boolean;
  readonly #options: TraceOptions;
  readonly #context: ProbeContext;
  readonly #load: Load;
  readonly #chosen: ChosenKprobes<TracedFunction>;
  readonly #maps: Maps;
  readonly #programs: Program[] = [];
  readonly #attaching: ClassicOptions;
  /** functions that the kernel refused, and that nobody can trace */
  #untraceable = 0;
  /** whose misses say nothing */
  readonly #uncounted: Program[] = [];

  constructor(
    chosen: ChosenKprobes<TracedFunction>,
    { functions, recordAddresses }: Selection,
    options: TraceOptions,
    context: ProbeContext,
    load: Load,
    maps: Maps,
    extras: Extras = noExtras,
    attaching: ClassicOptions = {},
  ) {
    this.#extras = extras;
    this.#attaching = attaching;
    this.#options = options;
    this.#context = context;
    this.#load = load;
    this.#maps = maps;
    this.#chosen = chosen;
    this.#functions = functions;
    this.#recordAddresses = recordAddresses;
    if (this.#chosen.fallback !== undefined) this.remarks.push(this.#chosen.fallback.message);
  }

  get #kprobes(): Kprobes<TracedFunction> {
    return this.#chosen.backend;
  }

  get found(): number {
    return this.#functions.length - this.#untraceable;
  }

  async attach({ signal, onLive, onProgress }: AttachProgress): Promise<void> {
    const usual = this.#load(kprobeProgram(this.#options, this.#context, USUAL));
    const others = this.#load(kprobePositionsProgram(this.#options, this.#context));
    this.#programs.push(usual, others);
    const before = await this.#attachExtras(signal);
    const positions = this.#maps.get(this.#options.maps.positions);
    const programs = new Map([1, 2, 3, 4, 5].map((n) => [n, n === USUAL ? usual.fd : others.fd]));
    const key = new Uint8Array(8), value = new Uint8Array(8), keyView = new DataView(key.buffer);
    let live = false;
    const special = new Set(
      this.#extras.shown.flatMap(({ functions }) => functions.map(({ address }) => address)),
    );
    const lives = this.#functions.filter(({ address }) => !special.has(address));
    const result = await this.#kprobes.attach(batches(lives), programs, {
      signal,
      recordAddresses: this.#recordAddresses,
      batchSize: this.#attaching.batchSize,
      onProgress,
      onProbe: (place, { argument }) => {
        if (argument === USUAL) return;
        keyView.setBigUint64(0, place + BREAKPOINT_BYTES, true);
        value[0] = argument;
        positions.update(key, value);
      },
      onLive: (attachedSoFar) => {
        this.attached = before + attachedSoFar;
        if (live) return;
        live = true;
        onLive();
      },
    });
    this.attached = before + result.attached;
    if (!live) onLive();
    const refused = await this.#traceable(result.failed);
    this.failures.push(...refused.map(({ target, code }) => ({ name: symbolText(target), code })));
    this.#chosen.sweepDeadOwners();
  }

  /** Of the refused functions those that ftrace lists, if they were not chosen from its list. */
  async #traceable(
    refused: readonly AttachFailure<TracedFunction>[],
  ): Promise<readonly AttachFailure<TracedFunction>[]> {
    const list = refused.length === 0 ? undefined : await this.#attaching.traceable?.();
    if (list === undefined) return refused;
    const listed = refused.filter(({ target: { module, name } }) =>
      list.table.rowsIn(module, name).length > 0
    );
    this.#untraceable += refused.length - listed.length;
    return listed;
  }

  /** By programs of their own, before the others; returns how many of them will be shown. */
  async #attachExtras(signal: AbortSignal): Promise<number> {
    const { shown: seen, unseen, watched } = this.#extras;
    const attach = async (
      targets: readonly TracedFunction[],
      programOf: (argument: number) => ProgramSpec,
      shown = true,
    ) => {
      if (targets.length === 0) return 0;
      const programs = new Map<number, number>();
      for (const { argument } of targets) {
        if (programs.has(argument)) continue;
        const program = this.#load(programOf(argument));
        this.#programs.push(program);
        programs.set(argument, program.fd);
      }
      const { attached, failed } = await this.#kprobes.attach([targets], programs, {
        signal,
        recordAddresses: this.#recordAddresses,
      });
      const refused = failed.map(({ target, code }) => ({ name: symbolText(target), code }));
      if (shown) this.failures.push(...refused);
      else this.remarks.push(...unseenRemarks(refused));
      return attached;
    };
    const fated = (fate: Fate) => (argument: number) =>
      kprobeProgram(this.#options, this.#context, argument, fate);
    for (const { fate, functions } of unseen) await attach(functions, fated(fate), false);
    await attach(watched, () => stackWatchProgram(this.#options, this.#context, "kprobe"), false);
    let attached = 0;
    for (const { fate, functions } of seen) attached += await attach(functions, fated(fate));
    return attached;
  }

  async attachBeneath(
    functions: readonly TracedFunction[],
    probe: BeneathProbe,
  ): Promise<ProbeFailure[]> {
    if (functions.length === 0) return [];
    const program = this.#load(stackProgram(this.#options, this.#context, "kprobe", probe));
    // Our own programs call helpers as well, and no probe sees that.
    (probe.fromPrograms ? this.#uncounted : this.#programs).push(program);
    const { failed } = await this.#kprobes.attach([functions], new Map([[1, program.fd]]), {
      recordAddresses: this.#recordAddresses,
      uncounted: probe.fromPrograms,
    });
    return failed.map(({ target, code }) => ({ name: symbolText(target), code }));
  }

  nameOf(address: bigint): string | undefined {
    const traced = this.#kprobes.probes.get(address - BREAKPOINT_BYTES);
    return traced === undefined ? undefined : symbolText(traced);
  }

  missed(): bigint {
    return this.#kprobes.missed() + recursionMisses(this.#programs);
  }

  close(): void {
    this.#kprobes.close();
  }

  release(options: { say: (sentence: string) => void; signal: AbortSignal }): Promise<void> {
    return this.#kprobes.release(options);
  }

  [Symbol.dispose](): void {
    this.#kprobes[Symbol.dispose]();
    for (const program of [...this.#programs.splice(0), ...this.#uncounted.splice(0)]) {
      program[Symbol.dispose]();
    }
  }
}

/** The main path in its order, then the rest. Of either, the position that is met first is live first. */
function batches(functions: readonly TracedFunction[]): TracedFunction[][] {
  const rank = new Map(mainPath.map((name, index) => [name, index]));
  const rankOf = ({ name }: TracedFunction) => rank.get(name) ?? Infinity;
  const first = functions.filter((traced) => rank.has(traced.name)).sort((a, b) => rankOf(a) - rankOf(b));
  const rest = functions.filter((traced) => !rank.has(traced.name));
  return [first, rest].filter((batch) => batch.length > 0);
}
