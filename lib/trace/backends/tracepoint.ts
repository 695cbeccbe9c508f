/**
 * Raw tracepoints that carry a packet: for kernels without kprobes, and for locked-down ones. They show the
 * devices and queues on a packet's way and how it ended, not every function between.
 */
import { setImmediate as turn } from "node:timers/promises";
import type { TraceOptions } from "../../../bpf-programs/frame.ts";
import { type TracepointHook, tracepointProgram } from "../../../bpf-programs/tracepoint_program.ts";
import { KernelError } from "../../errors.ts";
import { attachRawTracepoint } from "../../link/raw_tracepoint.ts";
import { freeFiles } from "../../sys/process.ts";
import type { Program } from "../../sys/program.ts";
import {
  type AttachProgress,
  type Load,
  type ProbeBackend,
  type ProbeFailure,
  recursionMisses,
} from "../backend.ts";

const isShown = ({ fate }: TracepointHook) => fate !== "ends unseen";

/** A program and a link for each tracepoint; the rest of the run must still be able to open files. */
const filesEach = 2, spareFiles = 8;

export class TracepointBackend implements ProbeBackend {
  readonly name = "tracepoint";
  readonly remarks: string[] = [];
  readonly failures: ProbeFailure[] = [];
  attached = 0;
  readonly #hooks: readonly TracepointHook[];
  readonly #load: Load;
  readonly #options: TraceOptions;
  readonly #names: ReadonlyMap<bigint, string>;
  readonly #programs: Program[] = [];
  readonly #links: Disposable[] = [];

  constructor(hooks: readonly TracepointHook[], options: TraceOptions, load: Load) {
    this.#hooks = hooks;
    this.#options = options;
    this.#load = load;
    this.#names = new Map(hooks.map(({ name, index }) => [BigInt(index), name]));
  }

  get found(): number {
    return this.#hooks.filter(isShown).length;
  }

  async attach({ signal, onLive, onProgress }: AttachProgress): Promise<void> {
    const room = Math.floor((freeFiles() - spareFiles) / filesEach);
    for (const [done, hook] of this.#hooks.entries()) {
      await turn(); // to load a long filter takes seconds, at each of them
      if (signal.aborted) break;
      if (this.attached >= room) {
        this.failures.push({ name: hook.name, code: "EMFILE" });
        continue;
      }
      const program = this.#load(tracepointProgram(this.#options, hook));
      this.#programs.push(program);
      try {
        this.#links.push(attachRawTracepoint(program, hook.name));
        if (isShown(hook)) this.attached++;
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        this.failures.push({ name: hook.name, code: error.code });
      }
      onProgress(done + 1, this.#hooks.length);
    }
    onLive();
  }

  nameOf(address: bigint): string | undefined {
    return this.#names.get(address);
  }

  missed(): bigint {
    return recursionMisses(this.#programs);
  }

  close(): void {
    for (const link of this.#links.splice(0)) link[Symbol.dispose]();
  }

  release(): Promise<void> {
    return Promise.resolve();
  }

  [Symbol.dispose](): void {
    this.close();
    for (const program of this.#programs.splice(0)) program[Symbol.dispose]();
  }
}
