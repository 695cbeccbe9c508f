/**
 * The text format: one line per packet and function, in pwru's columns.
 *
 * A line goes from the record in the ring straight into the output bytes. Columns with few values (process,
 * interface, function) are kept as ready-made cells; the rest are digit loops. No strings, no objects.
 */
import { packetEvent } from "../../bpf-programs/events.ts";
import {
  type Cell,
  cell,
  centre,
  printable,
  putAddress,
  putCell,
  putDecimal,
  putHex,
  putHexFour,
  putNineDigits,
  putSpace,
  putSpaces,
  putThreeDigits,
  SLACK,
  tail,
} from "./bytes.ts";
import { decodeTuple, putTuple, Tuple, TUPLE_BYTES } from "./tuple.ts";
import type { LineSink } from "./writer.ts";

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
  /** changes when a name that was given before may be wrong now */
  readonly generation: number;
}

export interface TextOptions {
  readonly outputMeta: boolean;
  readonly outputTuple: boolean;
  readonly timestamp: "none" | "current" | "relative" | "absolute";
  /** the probes are tracepoints: kfree_skb has its reason and place in other arguments */
  readonly tracepoints: boolean;
  /** CLOCK_REALTIME - CLOCK_MONOTONIC in ns, measured once; for "absolute" */
  readonly bootOffsetNs: bigint;
}

const SKB_WIDTH = 18, CPU_WIDTH = 3, PROCESS_WIDTH = 16, TIME_WIDTH = 23, TIMESTAMP_WIDTH = 16;
const NETNS_WIDTH = 10, MARK_WIDTH = 8, IFACE_WIDTH = 16, MTU_WIDTH = 5, LEN_WIDTH = 5;

/** All columns but tuple, function and place, at their widest (a timestamp of 20 digits). */
const FIXED_BYTES = 192;
/** Values a cache may hold; beyond, it starts again. Hostile input must not fill the memory. */
const CACHE_LIMIT = 65_536;

const NEWLINE = 0x0a, MINUS = 0x2d, HEX_PREFIX = 0x7830; // "0x", little endian
const NOTHING = cell("");

/** The record's offsets, as plain numbers. */
const at = Object.fromEntries(
  Object.values(packetEvent.fields).map((field) => [field.name, field.offset]),
) as { readonly [K in keyof typeof packetEvent.fields]: number };
const TIMESTAMP = at.timestamp, SKB = at.skb, ADDRESS = at.address;
const NETNS = at.netns, MARK = at.mark, IFINDEX = at.ifindex, MTU = at.mtu, LEN = at.len, PID = at.pid;
const CPU = at.cpu, PROTOCOL = at.protocol, HEADER_LENGTH = at.headerBytes, COMM = at.comm;
const HEADERS = at.headers, HEADER_ROOM = packetEvent.fields.headers.type.size;

/** Which argument of a probe is a drop reason, and which the code that dropped. -1: none. */
interface DropArguments {
  readonly reason: number;
  readonly place: number;
}
const FUNCTION_DROPS: Readonly<Record<string, DropArguments>> = {
  kfree_skb_reason: { reason: at.argument2, place: -1 },
  sk_skb_reason_drop: { reason: at.argument3, place: -1 },
};
const TRACEPOINT_DROPS: Readonly<Record<string, DropArguments>> = {
  kfree_skb: { reason: at.argument3, place: at.argument2 },
};

/** The function cell of one address. */
interface ProbeCell {
  readonly high: number;
  readonly name: string;
  readonly text: Cell;
  readonly drop: DropArguments | undefined;
  readonly reasons: Map<number, Cell>;
}

/** The process cell of one pid, valid while its name is these 16 bytes. */
interface ProcessCell {
  readonly comm: readonly [number, number, number, number];
  readonly text: Cell;
}

/** The cell of one network namespace, and those of its interfaces. */
interface NetnsCell {
  readonly inode: number;
  readonly text: Cell;
  readonly ifaces: Map<number, Cell>;
}

/** Prints records as text. One object per trace: it remembers widths, times and names. */
export class TextPrinter {
  /** lines printed, without the header */
  printed = 0;
  readonly #sink: LineSink;
  readonly #options: TextOptions;
  readonly #names: Names;
  readonly #interfaces: InterfaceNames;
  readonly #tuple = new Tuple();
  readonly #probes = new Map<number, ProbeCell>();
  readonly #places = new Map<number, { high: number; text: Cell }>();
  readonly #processes = new Map<number, ProcessCell>();
  readonly #namespaces = new Map<number, NetnsCell>();
  #generation = 0;
  #longestTuple = 0;
  readonly #clock: EventClock;

  constructor(sink: LineSink, options: TextOptions, names: Names, interfaces: InterfaceNames) {
    this.#sink = sink;
    this.#options = options;
    this.#names = names;
    this.#interfaces = interfaces;
    this.#generation = interfaces.generation;
    this.#clock = new EventClock(options.bootOffsetNs);
  }

  /** The line of column names. */
  header(): void {
    const { timestamp, outputMeta, outputTuple } = this.#options;
    const columns = [
      timestamp === "absolute" ? `${"TIME".padEnd(TIME_WIDTH)} ` : "",
      `${"SKB".padEnd(SKB_WIDTH)} ${"CPU".padEnd(CPU_WIDTH)} ${"PROCESS".padEnd(PROCESS_WIDTH)}`,
      timestamp === "none" ? "" : ` ${"TIMESTAMP".padEnd(TIMESTAMP_WIDTH)}`,
      outputMeta
        ? ` ${"NETNS".padEnd(NETNS_WIDTH)} ${"MARK/x".padEnd(MARK_WIDTH)} ${centre("IFACE", IFACE_WIDTH)}` +
          ` PROTO  ${"MTU".padEnd(MTU_WIDTH)} ${"LEN".padEnd(LEN_WIDTH)}`
        : "",
      outputTuple ? " TUPLE" : "",
      " FUNC",
    ];
    const line = cell(columns.join(""));
    const to = putCell(this.#sink.view, this.#sink.room(line.length + 1 + SLACK), line);
    this.#sink.view.setUint8(to, NEWLINE);
    this.#sink.commit(to + 1);
  }

  /**
   * One line for the record of `packetEvent.size` bytes at `offset`. Nothing of it is kept.
   *
   * @throws {KernelError} the sink could not write
   */
  print(view: DataView, offset: number): void {
    const probe = this.#probe(view, offset);
    const drop = probe.drop;
    const name = drop === undefined ? probe.text : this.#dropName(probe, view, offset);
    const place = drop === undefined || drop.place < 0 ? NOTHING : this.#place(view, offset + drop.place);

    const sink = this.#sink, options = this.#options;
    let to = sink.room(FIXED_BYTES + TUPLE_BYTES + name.length + place.length + SLACK);
    const out = sink.view;
    const times = options.timestamp !== "none";
    if (times) {
      this.#clock.read(
        view.getUint32(offset + TIMESTAMP + 4, true),
        view.getUint32(offset + TIMESTAMP, true),
      );
      if (options.timestamp === "absolute") {
        to = this.#clock.putWallTime(out, to);
        to = putSpace(out, to);
      }
    }
    const skbLow = view.getInt32(offset + SKB, true), skbHigh = view.getInt32(offset + SKB + 4, true);
    let end = to + SKB_WIDTH;
    to = putSpaces(out, putAddress(out, to, skbHigh, skbLow), end);
    to = putSpace(out, to);
    end = to + CPU_WIDTH;
    to = putSpaces(out, putDecimal(out, to, view.getUint32(offset + CPU, true)), end);
    to = putSpace(out, to);
    to = putCell(out, to, this.#process(view, offset));
    if (times) {
      to = putSpace(out, to);
      end = to + TIMESTAMP_WIDTH;
      to = options.timestamp === "relative"
        ? this.#clock.putSince(out, to, skbHigh, skbLow)
        : this.#clock.putNanoseconds(out, to);
      to = putSpaces(out, to, end);
    }
    // Network byte order, so big-endian here.
    const protocol = view.getUint16(offset + PROTOCOL);
    if (options.outputMeta) {
      const netns = this.#netns(view.getInt32(offset + NETNS, true));
      to = putSpace(out, to);
      to = putCell(out, to, netns.text);
      to = putSpace(out, to);
      end = to + MARK_WIDTH;
      to = putSpaces(out, putHex(out, to, view.getUint32(offset + MARK, true)), end);
      to = putSpace(out, to);
      to = putCell(out, to, this.#iface(netns, view.getInt32(offset + IFINDEX, true)));
      to = putSpace(out, to);
      out.setUint16(to, HEX_PREFIX, true);
      to = putHexFour(out, to + 2, protocol);
      to = putSpace(out, to);
      end = to + MTU_WIDTH;
      to = putSpaces(out, putDecimal(out, to, view.getUint32(offset + MTU, true)), end);
      to = putSpace(out, to);
      end = to + LEN_WIDTH;
      to = putSpaces(out, putDecimal(out, to, view.getUint32(offset + LEN, true)), end);
    }
    if (options.outputTuple) {
      const bytes = view.getUint16(offset + HEADER_LENGTH, true);
      decodeTuple(view, offset + HEADERS, bytes < HEADER_ROOM ? bytes : HEADER_ROOM, protocol, this.#tuple);
      to = putSpace(out, to);
      const from = to;
      to = putTuple(out, to, view, this.#tuple);
      if (to - from > this.#longestTuple) this.#longestTuple = to - from;
      else to = putSpaces(out, to, from + this.#longestTuple);
    }
    to = putSpace(out, to);
    to = putCell(out, to, name);
    if (place.length > 0) {
      to = putSpace(out, to);
      to = putCell(out, to, place);
    }
    out.setUint8(to, NEWLINE);
    sink.commit(to + 1);
    this.printed++;
  }

  #probe(view: DataView, offset: number): ProbeCell {
    // The low word tells kernel functions apart; the high one settles what is left.
    const low = view.getInt32(offset + ADDRESS, true), high = view.getInt32(offset + ADDRESS + 4, true);
    const known = this.#probes.get(low);
    if (known !== undefined && known.high === high) return known;
    const address = view.getBigUint64(offset + ADDRESS, true);
    const name = this.#names.probe(address) ?? `0x${address.toString(16)}`;
    const drops = this.#options.tracepoints ? TRACEPOINT_DROPS : FUNCTION_DROPS;
    const drop = Object.hasOwn(drops, name) ? drops[name] : undefined;
    return keep(this.#probes, low, { high, name, text: cell(name), drop, reasons: new Map() });
  }

  /** `kfree_skb_reason(SKB_DROP_REASON_NO_SOCKET)`, or `kfree_skb_reason (N)` for a reason without a name. */
  #dropName(probe: ProbeCell, view: DataView, offset: number): Cell {
    // A tracepoint of a kernel without drop reasons has no such argument.
    if (this.#options.tracepoints && this.#names.dropReasons.size === 0) return probe.text;
    // The parameter is a 32-bit enum; what the upper half of its register holds is anybody's guess.
    const reason = view.getUint32(offset + probe.drop!.reason, true);
    const known = probe.reasons.get(reason);
    if (known !== undefined) return known;
    const name = this.#names.dropReasons.get(reason);
    return keep(
      probe.reasons,
      reason,
      cell(`${probe.name}${name === undefined ? ` (${reason})` : `(${name})`}`),
    );
  }

  #place(view: DataView, offset: number): Cell {
    const low = view.getInt32(offset, true), high = view.getInt32(offset + 4, true);
    if (low === 0 && high === 0) return NOTHING;
    const known = this.#places.get(low);
    if (known !== undefined && known.high === high) return known.text;
    const name = this.#names.place(view.getBigUint64(offset, true));
    return keep(this.#places, low, { high, text: cell(name ?? "") }).text;
  }

  /** `comm:pid`, from the name that the task had when it was seen. */
  #process(view: DataView, offset: number): Cell {
    const pid = view.getUint32(offset + PID, true), at = offset + COMM;
    const a = view.getInt32(at, true), b = view.getInt32(at + 4, true);
    const c = view.getInt32(at + 8, true), d = view.getInt32(at + 12, true);
    const known = this.#processes.get(pid);
    if (known !== undefined) {
      const comm = known.comm;
      if (comm[0] === a && comm[1] === b && comm[2] === c && comm[3] === d) return known.text;
    }
    const bytes = new Uint8Array(view.buffer, view.byteOffset + at, 16);
    const nul = bytes.indexOf(0);
    const name = new TextDecoder().decode(bytes.slice(0, nul < 0 ? 16 : nul));
    const text = tail(`${printable(name)}:${pid}`, PROCESS_WIDTH).padEnd(PROCESS_WIDTH);
    return keep(this.#processes, pid, { comm: [a, b, c, d] as const, text: cell(text) }).text;
  }

  #netns(key: number): NetnsCell {
    if (this.#interfaces.generation !== this.#generation) {
      this.#generation = this.#interfaces.generation;
      this.#namespaces.clear();
    }
    const known = this.#namespaces.get(key);
    if (known !== undefined) return known;
    const inode = key >>> 0;
    return keep(this.#namespaces, key, {
      inode,
      text: cell(`${inode}`.padEnd(NETNS_WIDTH)),
      ifaces: new Map<number, Cell>(),
    });
  }

  /** `name:ifindex` in the middle of its column; the bare number of an interface without a name. */
  #iface(netns: NetnsCell, ifindex: number): Cell {
    const known = netns.ifaces.get(ifindex);
    if (known !== undefined) return known;
    const name = ifindex === 0 ? undefined : this.#interfaces.nameOf(netns.inode, ifindex);
    const text = name === undefined ? `${ifindex}` : tail(`${printable(name)}:${ifindex}`, IFACE_WIDTH);
    const centred = cell(centre(text, IFACE_WIDTH));
    return name === undefined && ifindex !== 0 ? centred : keep(netns.ifaces, ifindex, centred);
  }
}

function keep<V>(cache: Map<number, V>, key: number, value: V): V {
  if (cache.size >= CACHE_LIMIT) cache.clear();
  cache.set(key, value);
  return value;
}

/** The time of one event at a time, as seconds and nanoseconds: together they exceed 2^53 after 104 days. */
class EventClock {
  #seconds = 0;
  #nanoseconds = 0;
  readonly #offsetSeconds: number;
  readonly #offsetNanoseconds: number;
  /** `YYYY-MM-DDTHH:MM:SS.` of `#wallSecond` */
  #wallText = NOTHING;
  #wallSecond = NaN;
  /** times below are counted from the first event's second, to stay exact */
  #firstSecond = NaN;
  readonly #last = new Map<number, number>();

  constructor(bootOffsetNs: bigint) {
    // Floored, so that the nanoseconds are never negative.
    const second = 1_000_000_000n;
    const rest = ((bootOffsetNs % second) + second) % second;
    this.#offsetSeconds = Number((bootOffsetNs - rest) / second);
    this.#offsetNanoseconds = Number(rest);
  }

  /** Takes a u64 in nanoseconds. Long division by 16 bits at a time: no step leaves the exact integers. */
  read(high: number, low: number): void {
    let rest = high % 1e9;
    let quotient = (high - rest) / 1e9;
    for (let shift = 16; shift >= 0; shift -= 16) {
      const part = rest * 65_536 + ((low >>> shift) & 0xffff);
      rest = part % 1e9;
      quotient = quotient * 65_536 + (part - rest) / 1e9;
    }
    this.#seconds = quotient;
    this.#nanoseconds = rest;
  }

  /** CLOCK_MONOTONIC in nanoseconds. */
  putNanoseconds(out: DataView, at: number): number {
    if (this.#seconds === 0) return putDecimal(out, at, this.#nanoseconds);
    return putNineDigits(out, putDecimal(out, at, this.#seconds), this.#nanoseconds);
  }

  /** Nanoseconds since the last event with this address; 0 for the first, negative when they came out of order. */
  putSince(out: DataView, at: number, high: number, low: number): number {
    if (Number.isNaN(this.#firstSecond)) this.#firstSecond = this.#seconds;
    const time = (this.#seconds - this.#firstSecond) * 1e9 + this.#nanoseconds;
    // Kernel addresses agree in their top 11 bits; the other 53 are exact in a number.
    const key = (high & 0x1f_ffff) * 2 ** 32 + (low >>> 0);
    const last = this.#last.get(key) ?? time;
    keep(this.#last, key, time);
    if (time >= last) return putDecimal(out, at, time - last);
    out.setUint8(at, MINUS);
    return putDecimal(out, at + 1, last - time);
  }

  /** Local time `YYYY-MM-DDTHH:MM:SS.mmm` at which the kernel saw the packet. */
  putWallTime(out: DataView, at: number): number {
    let second = this.#seconds + this.#offsetSeconds,
      nanosecond = this.#nanoseconds + this.#offsetNanoseconds;
    if (nanosecond >= 1e9) {
      second++;
      nanosecond -= 1e9;
    }
    if (second !== this.#wallSecond) {
      this.#wallSecond = second;
      this.#wallText = cell(`${localTime(new Date(second * 1000))}.`);
    }
    return putThreeDigits(out, putCell(out, at, this.#wallText), Math.floor(nanosecond / 1e6));
  }
}

function localTime(date: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  return `${String(date.getFullYear()).padStart(4, "0")}-${two(date.getMonth() + 1)}-${two(date.getDate())}` +
    `T${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}
