/**
 * Classic kprobes, for kernels without kprobe-multi: function after function, the main path first. Events flow
 * from the first batch on, while the others are still being attached.
 */
import type { ProbeContext } from "../../../bpf-programs/registers.ts";
import { kprobeProgram, type TraceOptions } from "../../../bpf-programs/trace.ts";
import type { ChosenKprobes } from "../../link/kprobe.ts";
import type { KprobeBackend as Kprobes } from "../../link/kprobe_backend.ts";
import { symbolText } from "../../symbols/table.ts";
import type { Program } from "../../sys/program.ts";
import {
  type AttachProgress,
  type Load,
  type ProbeBackend,
  type ProbeFailure,
  recursionMisses,
} from "../backend.ts";
import type { Selection, TracedFunction } from "../functions.ts";
import { mainPath } from "../main_path.ts";

/** Functions of the second batch: enough to see most of a packet's way, few enough to be quick. */
const SECOND_BATCH = 260;
/** After a breakpoint on x86-64 the instruction pointer is one byte further. */
const BREAKPOINT_BYTES = process.arch === "x64" ? 1n : 0n;

export class ClassicKprobeBackend implements ProbeBackend {
  readonly name = "kprobe";
  readonly failures: ProbeFailure[] = [];
  readonly remarks: string[] = [];
  attached = 0;
  readonly #functions: readonly TracedFunction[];
  readonly #recordAddresses: boolean;
  readonly #options: TraceOptions;
  readonly #context: ProbeContext;
  readonly #load: Load;
  readonly #chosen: ChosenKprobes<TracedFunction>;
  readonly #programs = new Map<number, Program>();

  constructor(
    chosen: ChosenKprobes<TracedFunction>,
    { functions, recordAddresses }: Selection,
    options: TraceOptions,
    context: ProbeContext,
    load: Load,
  ) {
    this.#options = options;
    this.#context = context;
    this.#load = load;
    this.#chosen = chosen;
    this.#functions = functions;
    this.#recordAddresses = recordAddresses;
    if (this.#chosen.fallback !== undefined) this.remarks.push(this.#chosen.fallback.message);
  }

  get #kprobes(): Kprobes<TracedFunction> {
    return this.#chosen.backend;
  }

  get found(): number {
    return this.#functions.length;
  }

  async attach({ signal, onLive, onProgress }: AttachProgress): Promise<void> {
    for (const argument of new Set(this.#functions.map(({ argument }) => argument))) {
      this.#programs.set(argument, this.#load(kprobeProgram(this.#options, this.#context, argument)));
    }
    const programs = new Map([...this.#programs].map(([argument, { fd }]) => [argument, fd]));
    let live = false;
    const result = await this.#kprobes.attach(batches(this.#functions), programs, {
      signal,
      recordAddresses: this.#recordAddresses,
      onProgress,
      onBatch: (_, attachedSoFar) => {
        this.attached = attachedSoFar;
        if (live) return;
        live = true;
        onLive();
      },
    });
    this.attached = result.attached;
    this.failures.push(...result.failed.map(({ target, code }) => ({ name: symbolText(target), code })));
    if (!live) onLive();
    this.#chosen.sweepDeadOwners();
  }

  nameOf(address: bigint): string | undefined {
    const traced = this.#kprobes.probes.get(address - BREAKPOINT_BYTES);
    return traced === undefined ? undefined : symbolText(traced);
  }

  missed(): bigint {
    return recursionMisses(this.#programs.values());
  }

  close(): void {
    this.#kprobes.close();
  }

  release(options: { say: (sentence: string) => void; signal: AbortSignal }): Promise<void> {
    return this.#kprobes.release(options);
  }

  [Symbol.dispose](): void {
    this.#kprobes[Symbol.dispose]();
    for (const program of this.#programs.values()) program[Symbol.dispose]();
    this.#programs.clear();
  }
}

/** The main path in its order, then the rest in two parts, so that events of most functions flow early. */
function batches(functions: readonly TracedFunction[]): TracedFunction[][] {
  const rank = new Map(mainPath.map((name, index) => [name, index]));
  const rankOf = ({ name }: TracedFunction) => rank.get(name) ?? Infinity;
  const first = functions.filter((traced) => rank.has(traced.name)).sort((a, b) => rankOf(a) - rankOf(b));
  const rest = functions.filter((traced) => !rank.has(traced.name));
  return [first, rest.slice(0, SECOND_BATCH), rest.slice(SECOND_BATCH)].filter((batch) => batch.length > 0);
}
