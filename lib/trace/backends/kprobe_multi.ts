/**
 * kprobe-multi: all functions in one go, by address, modules included. Linux 5.18 with FPROBE.
 *
 * The two argument positions that nine of ten functions have the packet in get a link each, with a program that
 * knows it; one more link serves the rest, whose program looks positions up. Closing a link takes 0.13 s (Linux
 * 6.12, emulated). An attach cookie cannot tell the position: the kernel looks for it under the function's entry,
 * which is not the address that ftrace lists.
 */
import type { ProbeContext } from "../../../bpf-programs/registers.ts";
import { kprobeMultiPositionsProgram, kprobeMultiProgram } from "../../../bpf-programs/trace.ts";
import type { TraceOptions } from "../../../bpf-programs/frame.ts";
import type { KernelTypes } from "../../../asm/code.ts";
import { UnsupportedError } from "../../errors.ts";
import {
  attachKprobeMulti,
  attachKprobeMultiWherePossible,
  missedHits,
  trialProgram,
} from "../../link/kprobe_multi.ts";
import type { Link } from "../../link/link.ts";
import type { Maps } from "../../maps/maps.ts";
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

/** Argument positions with a program of their own. */
const USUAL: ReadonlySet<number> = new Set([1, 2]);

/** ENDBR (x86) or BTI (arm64) in front of ftrace's record: what bpf_get_func_ip gives begins there. */
const LANDING_PAD_BYTES = 4n;

/** Where a function's entry may be: before ftrace's record there is a landing pad, or nothing. */
function entries({ address }: TracedFunction, recordAddresses: boolean): bigint[] {
  return recordAddresses ? [address, address - LANDING_PAD_BYTES] : [address];
}

export class KprobeMultiBackend implements ProbeBackend {
  readonly name = "kprobe-multi";
  readonly remarks: string[] = [];
  readonly failures: ProbeFailure[] = [];
  attached = 0;
  readonly #functions: readonly TracedFunction[];
  readonly #recordAddresses: boolean;
  readonly #maps: Maps;
  readonly #options: TraceOptions;
  readonly #context: ProbeContext;
  readonly #load: Load;
  readonly #names = new Map<bigint, string>();
  readonly #programs: Program[] = [];
  readonly #links: Link[] = [];
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
  ) {
    this.#functions = functions;
    this.#recordAddresses = recordAddresses;
    this.#maps = maps;
    this.#options = options;
    this.#context = context;
    this.#load = load;
    for (const traced of functions) {
      for (const entry of entries(traced, recordAddresses)) this.#names.set(entry, symbolText(traced));
    }
  }

  get found(): number {
    return this.#functions.length;
  }

  attach({ signal, onLive, onProgress }: AttachProgress): Promise<void> {
    let done = 0;
    const groups = Map.groupBy(this.#functions, ({ argument }) => USUAL.has(argument) ? argument : undefined);
    for (const [argument, functions] of groups) {
      if (signal.aborted) break;
      if (argument === undefined) this.#notePositions(functions);
      const program = this.#load(
        argument === undefined
          ? kprobeMultiPositionsProgram(this.#options, this.#context)
          : kprobeMultiProgram(this.#options, this.#context, argument),
      );
      this.#programs.push(program);
      const attached = attachKprobeMultiWherePossible(program, {
        addresses: BigUint64Array.from(functions, ({ address }) => address),
      });
      if (attached.link !== undefined) this.#links.push(attached.link);
      this.#trials.push(...attached.trials);
      this.attached += functions.length - attached.refused.length;
      for (const index of attached.refused) {
        this.failures.push({ name: symbolText(functions[index] as TracedFunction), code: "EINVAL" });
      }
      onProgress(done += functions.length, this.#functions.length);
    }
    onLive();
    return Promise.resolve();
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
    return byLinks + recursionMisses(this.#programs);
  }

  close(): void {
    for (const link of this.#links.splice(0)) {
      this.#missed += missedHits(link);
      link[Symbol.dispose]();
    }
    for (const link of this.#trials.splice(0)) link[Symbol.dispose]();
  }

  release(): Promise<void> {
    return Promise.resolve();
  }

  [Symbol.dispose](): void {
    this.close();
    for (const program of this.#programs.splice(0)) program[Symbol.dispose]();
  }
}
