/** What every way of attaching classic kprobes has in common, for the one who calls it. */

/** A function to probe. Callers add what they want to know of it when it fires. */
export interface KprobeTarget {
  /** its first byte, or its ftrace record (recordAddresses) */
  readonly address: bigint;
  /** as in kallsyms, for messages */
  readonly name: string;
  /** absent: the kernel itself */
  readonly module?: string;
  /** which argument, from 1, is the packet: it selects the program */
  readonly argument: number;
}

export interface AttachOptions<T> {
  /** Stops the attaching at the next turn of the event loop; what is attached stays so. */
  readonly signal?: AbortSignal | undefined;
  /** The targets' addresses are those of ftrace's records (Selection.recordAddresses), else of the symbols. */
  readonly recordAddresses?: boolean;
  /** How many probes are set at a time, before output and signals have their turn. Those of the PMU go one by one. */
  readonly batchSize?: number | undefined;
  /** Their misses are not counted: it would be by programs of our own that run in probes. */
  readonly uncounted?: boolean;
  /** A probe is about to be set; events with this address (as in `probes`) will be of this function. */
  readonly onProbe?: (place: bigint, target: T) => void;
  /** Events of more functions flow from now on. The reader may start after the first. */
  readonly onLive?: (attachedSoFar: number) => void;
  /** Several times a second. */
  readonly onProgress?: (done: number, total: number) => void;
  /** A function that could not be probed; the same is in the result. */
  readonly onFailure?: (failure: AttachFailure<T>) => void;
}

export interface AttachFailure<T> {
  readonly target: T;
  /** errno's name: EINVAL where the kernel allows no probe, EMFILE when our fds are used up */
  readonly code: string;
}

export interface AttachResult<T> {
  /** functions whose events flow */
  readonly attached: number;
  readonly failed: readonly AttachFailure<T>[];
  /** `signal` ended it early */
  readonly interrupted: boolean;
}

export interface ReleaseOptions {
  /** Tells the user about work that holds up the exit. */
  readonly say: (sentence: string) => void;
  /** Gives up that work. */
  readonly signal?: AbortSignal | undefined;
}

/** Probes of one process, from attaching to the end. */
export interface KprobeBackend<T extends KprobeTarget> extends Disposable {
  readonly name: "kprobe events" | "kprobe PMU";
  /**
   * Where a probe fires (the instruction pointer, on x86-64 minus 1) -> function; grows while attaching. A
   * function may have two entries.
   */
  readonly probes: ReadonlyMap<bigint, T>;
  /**
   * Attaches batch after batch, in the given order.
   *
   * @param programs argument position -> fd of a loaded BPF_PROG_TYPE_KPROBE that returns 0
   */
  attach(
    batches: readonly (readonly T[])[],
    programs: ReadonlyMap<number, number>,
    options?: AttachOptions<T>,
  ): Promise<AttachResult<T>>;
  /**
   * Hits that the kernel ran no program for, because another kprobe was at work on that CPU. Not known for
   * probes of the PMU, and no more after `release`.
   */
  missed(): bigint;
  /** Ends the stream of events; no program of ours runs for these probes afterwards, unless noted. */
  close(): void;
  /** Sees to what a closed probe leaves behind. Last act before the exit. */
  release(options: ReleaseOptions): Promise<void>;
}
