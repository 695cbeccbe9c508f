/**
 * kprobe-multi: all functions in one go, by address, modules included. Linux 5.18 with FPROBE.
 *
 * One link per argument position, each with a program that knows it. A single link would have to ask every
 * hit for its attach cookie; closing a link takes up to 0.13 s (Linux 6.12, emulated), so five still let go
 * within a second.
 */
import type { ProbeContext } from "../../../bpf-programs/registers.ts";
import { type Fate, kprobeMultiProgram } from "../../../bpf-programs/trace.ts";
import { stackProgram, stackWatchProgram } from "../../../bpf-programs/stack_programs.ts";
import type { TraceOptions } from "../../../bpf-programs/frame.ts";
import type { KernelTypes, ProgramSpec } from "../../../asm/code.ts";
import { UnsupportedError } from "../../errors.ts";
import { attachKprobeMulti, attachKprobeMultiWherePossible, trialProgram } from "../../link/kprobe_multi.ts";
import { symbolText } from "../../symbols/table.ts";
import { isErrno } from "../../sys/ffi.ts";
import { loadProgram, type Program } from "../../sys/program.ts";
import {
  type AttachProgress,
  type Load,
  type ProbeBackend,
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

/** ENDBR (x86) or BTI (arm64) in front of ftrace's record: what bpf_get_func_ip gives begins there. */
const LANDING_PAD_BYTES = 4n;

/** Entry -> name. An entry that is a landing pad earlier than ftrace's record is known under both addresses. */
function entryNames(functions: readonly TracedFunction[], recordAddresses: boolean): Map<bigint, string> {
  const names = new Map<bigint, string>();
  for (const traced of functions) {
    const name = symbolText(traced);
    names.set(traced.address, name);
    if (recordAddresses) names.set(traced.address - LANDING_PAD_BYTES, name);
  }
  return names;
}

export class KprobeMultiBackend implements ProbeBackend {
  readonly name = "kprobe-multi";
  readonly remarks: string[] = [];
  readonly failures: ProbeFailure[] = [];
  attached = 0;
  readonly #functions: readonly TracedFunction[];
  readonly #extras: Extras;
  readonly #options: TraceOptions;
  readonly #context: ProbeContext;
  readonly #load: Load;
  readonly #names: ReadonlyMap<bigint, string>;
  readonly #programs: Program[] = [];
  readonly #links: Disposable[] = [];
  /** links of a program that does nothing, left from looking for addresses that the kernel refuses */
  readonly #trials: Disposable[] = [];

  constructor(
    selection: Selection,
    options: TraceOptions,
    context: ProbeContext,
    load: Load,
    extras: Extras = noExtras,
  ) {
    this.#functions = selection.functions;
    this.#extras = extras;
    this.#options = options;
    this.#context = context;
    this.#load = load;
    const { functions, recordAddresses } = selection;
    this.#names = entryNames([...functions, ...extras.packetless], recordAddresses);
  }

  get found(): number {
    return this.#functions.length + this.#extras.packetless.length;
  }

  attach({ signal, onLive, onProgress }: AttachProgress): Promise<void> {
    let done = 0;
    for (const { functions, program: spec, counts } of this.#groups()) {
      if (signal.aborted) break;
      const program = this.#load(spec);
      this.#programs.push(program);
      const attached = attachKprobeMultiWherePossible(program, {
        addresses: BigUint64Array.from(functions, ({ address }) => address),
      });
      if (attached.link !== undefined) this.#links.push(attached.link);
      this.#trials.push(...attached.trials);
      const refused = attached.refused.map((index) => ({
        name: symbolText(functions[index] as TracedFunction),
        code: "EINVAL",
      }));
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

  /** Functions that one program serves; ends and beginnings of packets first. */
  #groups(): { functions: readonly TracedFunction[]; program: ProgramSpec; counts: boolean }[] {
    const { begins, endsShown, endsUnseen, watched, packetless } = this.#extras;
    const special = new Set([...begins, ...endsShown]);
    const lives = this.#functions.filter((traced) => !special.has(traced));
    const kinds: [Fate, readonly TracedFunction[]][] = [
      ["ends unseen", endsUnseen],
      ["ends", endsShown],
      ["begins", begins],
      ["lives", lives],
    ];
    const groups = kinds.flatMap(([fate, all]) =>
      [...new Set(all.map((traced) => traced.argument))].map((argument) => ({
        functions: all.filter((traced) => traced.argument === argument),
        program: kprobeMultiProgram(this.#options, this.#context, argument, fate),
        counts: fate !== "ends unseen",
      }))
    );
    const watch = () => stackWatchProgram(this.#options, this.#context, "kprobe-multi");
    const show = () => stackProgram(this.#options, this.#context, "kprobe-multi");
    return [
      ...(watched.length === 0 ? [] : [{ functions: watched, program: watch(), counts: false }]),
      ...groups,
      ...(packetless.length === 0 ? [] : [{ functions: packetless, program: show(), counts: true }]),
    ];
  }

  nameOf(address: bigint): string | undefined {
    return this.#names.get(address);
  }

  missed(): bigint {
    return recursionMisses(this.#programs);
  }

  close(): void {
    for (const link of [...this.#links.splice(0), ...this.#trials.splice(0)]) link[Symbol.dispose]();
  }

  release(): Promise<void> {
    return Promise.resolve();
  }

  [Symbol.dispose](): void {
    this.close();
    for (const program of this.#programs.splice(0)) program[Symbol.dispose]();
  }
}
