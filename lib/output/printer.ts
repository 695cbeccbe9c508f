/** What every output format is made of: what it is told, whom it asks for names, what it does. */
import type { RecordContents } from "../trace/contents.ts";
import type { Ledger } from "./ledger.ts";

/** One printer per trace. */
export interface EventPrinter {
  /** events printed, or counted instead; a header is none */
  readonly printed: number;
  /** What precedes the first event, in formats that have such a thing. */
  header(): void;
  /**
   * Prints the record at `offset`: a packetEvent, and what `PrintOptions.record` has behind it. Nothing is kept.
   *
   * @throws {KernelError} the sink could not write
   */
  print(view: DataView, offset: number): void;
  /** Says that so many events are missing between the last one and the next. */
  gap(lost: bigint): void;
  /** What follows the last event, in formats that have such a thing. */
  end(ledger: Ledger): void;
}

/** What the records hold beyond a packetEvent is all printed; without it, nothing. */
export interface PrintOptions extends Partial<RecordContents> {
  readonly outputMeta: boolean;
  readonly outputTuple: boolean;
  /** the flags of TCP packets, as part of the tuple */
  readonly outputTcpFlags: boolean;
  readonly outputNetnsNames: boolean;
  /** columns of the text format for them, at least 10 */
  readonly netnsNamesMaxLength: number;
  readonly timestamp: "none" | "current" | "relative" | "absolute";
  /** the probes are tracepoints: kfree_skb has its reason and place in other arguments */
  readonly tracepoints: boolean;
  /** CLOCK_REALTIME - CLOCK_MONOTONIC in ns, measured once; for "absolute" */
  readonly bootOffsetNs: bigint;
}

/** Names for what the records carry as numbers. Each answer is kept, so they may be slow. */
export interface Names {
  /** the function, with `[module]`, or tracepoint that `packetEvent.address` stands for */
  probe(address: bigint): string | undefined;
  /** the function that holds the code at `address` */
  symbol(address: bigint): CodeSymbol | undefined;
  /** what argument2 means where a BPF program was left; undefined: `address` is no such place */
  verdicts?(address: bigint): ReadonlyMap<number, string> | undefined;
  /** enum skb_drop_reason and its like in modules; empty on kernels without drop reasons */
  readonly dropReasons: Pick<ReadonlyMap<number, string>, "get" | "size">;
  /** which argument of this function is a drop reason, counted from 1 */
  reasonArgument(func: string): number | undefined;
}

/** A place in a function. */
export interface CodeSymbol {
  /** with `[module]` */
  readonly name: string;
  /** bytes behind the function's start */
  readonly offset: number;
}

/** Names of network interfaces, which come and go. */
export interface InterfaceNames {
  /** undefined is not kept: the next packet asks again */
  nameOf(netns: number, ifindex: number): string | undefined;
  /** grows when a name that was given before may be wrong now */
  readonly generation: number;
}

/** Names of network namespaces, which come and go as well. */
export interface NetnsNames {
  /** undefined is not kept: the next packet asks again */
  nameOf(netns: number): string | undefined;
  /** grows when a name that was given before may be wrong now */
  readonly generation: number;
}

/** For printers that show no names of namespaces. */
export const noNetnsNames: NetnsNames = { nameOf: () => undefined, generation: 0 };
