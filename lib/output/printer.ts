/** What every output format is made of: what it is told, whom it asks for names, what it does. */

/** One printer per trace. */
export interface EventPrinter {
  /** events printed; a header is none */
  readonly printed: number;
  /** What precedes the first event, in formats that have such a thing. */
  header(): void;
  /**
   * Prints the record of `packetEvent.size` bytes at `offset`. Nothing of it is kept.
   *
   * @throws {KernelError} the sink could not write
   */
  print(view: DataView, offset: number): void;
}

export interface PrintOptions {
  readonly outputMeta: boolean;
  readonly outputTuple: boolean;
  /** the flags of TCP packets, as part of the tuple */
  readonly outputTcpFlags: boolean;
  readonly outputNetnsNames: boolean;
  /** the number that a packet shares with its children; records are longer by a packetIdentity */
  readonly outputPacketId: boolean;
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
  /** `symbol+0xoff`, with `[module]`: the code at `address` */
  place(address: bigint): string | undefined;
  /** enum skb_drop_reason and its like in modules; empty on kernels without drop reasons */
  readonly dropReasons: ReadonlyMap<number, string>;
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
