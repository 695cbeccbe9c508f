/**
 * What has few values among many events: function, drop reason and place, process, namespace, interface. Each
 * value becomes text once, as the format spells it, and is copied from then on.
 */
import { packetEvent } from "../../bpf-programs/events.ts";
import { type Cell, cell } from "./bytes.ts";
import type { CodeSymbol, InterfaceNames, Names, NetnsNames } from "./printer.ts";

/** How a format spells a value. */
export interface CellFormat {
  /** the function, and what it says about a drop if it is one that drops packets */
  func(name: string, drop: DropReason | undefined): Cell;
  /** the code that let go of a packet; `address` 0 is unknown */
  place(address: bigint, symbol: CodeSymbol | undefined): Cell;
  /** who called the function; `address` 0 is unknown */
  caller(address: bigint, symbol: CodeSymbol | undefined): Cell;
  /** one function on the stack */
  frame(address: bigint, symbol: CodeSymbol | undefined): Cell;
  process(comm: string, pid: number): Cell;
  netns(inode: number): Cell;
  netnsName(name: string | undefined): Cell;
  iface(name: string | undefined, ifindex: number): Cell;
}

export interface DropReason {
  readonly code: number;
  /** undefined: no enum of this kernel has the number */
  readonly name: string | undefined;
  /** it is not why a packet was dropped but what a BPF program returned */
  readonly verdict?: boolean;
}

/** Whom the cells ask, and what the addresses in records stand for. */
export interface CellSources {
  readonly names: Names;
  readonly interfaces: InterfaceNames;
  readonly netnsNames: NetnsNames;
  readonly tracepoints: boolean;
}

export const NOTHING = cell("");

/** `function+0xoffset` */
export function placeText({ name, offset }: CodeSymbol): string {
  return `${name}+0x${offset.toString(16)}`;
}

/** The same, or the address where there is no name. */
export function codeText(address: bigint, symbol: CodeSymbol | undefined): string {
  return symbol === undefined ? `0x${address.toString(16)}` : placeText(symbol);
}

/** Values a cache may hold; beyond, it starts again. Hostile input must not fill the memory. */
const CACHE_LIMIT = 65_536;

/** Where each field lies in a record, as plain numbers. */
export const offsetOf = Object.fromEntries(
  Object.values(packetEvent.fields).map((field) => [field.name, field.offset]),
) as { readonly [K in keyof typeof packetEvent.fields]: number };
const ADDRESS = offsetOf.address, PID = offsetOf.pid, COMM = offsetOf.comm;

/** Where in the record a probe's drop reason is, and the code that let go of the packet. -1: there is none. */
interface DropArguments {
  readonly reason: number;
  readonly place: number;
}

/** What the kernel passes to these, whatever the order of its own arguments. */
const TRACEPOINT_DROPS: Readonly<Record<string, DropArguments>> = {
  kfree_skb: { reason: offsetOf.argument3, place: offsetOf.argument2 },
  consume_skb: { reason: -1, place: offsetOf.argument2 },
};

/** Of a function's arguments a record has the second and the third. */
const REASON_OFFSETS: readonly (number | undefined)[] = [
  undefined,
  undefined,
  offsetOf.argument2,
  offsetOf.argument3,
];

/** What a tracepoint or function says about a drop; undefined: nothing. */
export function dropArguments(names: Names, name: string, isTracepoint: boolean): DropArguments | undefined {
  if (!isTracepoint) {
    const reason = REASON_OFFSETS[names.reasonArgument(name) ?? 0];
    return reason === undefined ? undefined : { reason, place: -1 };
  }
  const drop = Object.hasOwn(TRACEPOINT_DROPS, name) ? TRACEPOINT_DROPS[name] : undefined;
  // A kernel without drop reasons has no such argument.
  return drop === undefined || names.dropReasons.size > 0 ? drop : { ...drop, reason: -1 };
}

const PROGRAM_EXIT: DropArguments = { reason: offsetOf.argument2, place: -1 };

/** The function at one address. */
export interface Probe {
  readonly high: number;
  readonly name: string;
  readonly text: Cell;
  readonly drop: DropArguments | undefined;
  /** where a BPF program was left: what it can have returned */
  readonly verdicts: ReadonlyMap<number, string> | undefined;
  readonly reasons: Map<number, Cell>;
}

/** A place on a stack. */
interface Frame {
  readonly high: number;
  readonly text: Cell;
  /** between the tracepoint and our program: not what the packet passes */
  readonly internal: boolean;
}

/** What runs a program at a tracepoint. It is called by what the packet passes, and calls the program. */
const TRACEPOINT_INTERNALS = /^(bpf_trace_run|__bpf_trace_|__traceiter_)/;
/** The innermost frames that can be such, or the program. */
const MOST_INTERNALS = 8;

/** The process cell of one pid, valid while its name is these 16 bytes. */
interface Process {
  readonly comm: readonly [number, number, number, number];
  readonly text: Cell;
}

/** The cells of one network namespace and of its interfaces. */
export interface Netns {
  readonly inode: number;
  readonly text: Cell;
  readonly ifaces: Map<number, Cell>;
  name: Cell | undefined;
}

export class EventCells {
  readonly #format: CellFormat;
  readonly #names: Names;
  readonly #interfaces: InterfaceNames;
  readonly #netnsNames: NetnsNames;
  readonly #tracepoints: boolean;
  readonly #probes = new Map<number, Probe>();
  readonly #places = new Map<number, { high: number; text: Cell }>();
  readonly #callers = new Map<number, { high: number; text: Cell }>();
  readonly #entries = new Map<number, Frame>();
  readonly #frames = new Map<number, Frame>();
  readonly #processes = new Map<number, Process>();
  readonly #namespaces = new Map<number, Netns>();
  /** what `netns` gave last: a packet stays in one for a while */
  #lastKey = 0;
  #lastNetns: Netns | undefined;
  readonly #namelessNetns: Cell;
  #generation: number;

  constructor(format: CellFormat, { names, interfaces, netnsNames, tracepoints }: CellSources) {
    this.#format = format;
    this.#names = names;
    this.#interfaces = interfaces;
    this.#netnsNames = netnsNames;
    this.#tracepoints = tracepoints;
    this.#namelessNetns = format.netnsName(undefined);
    this.#generation = interfaces.generation + netnsNames.generation;
  }

  probe(view: DataView, offset: number): Probe {
    // The low word tells kernel functions apart; the high one settles what is left.
    const low = view.getInt32(offset + ADDRESS, true), high = view.getInt32(offset + ADDRESS + 4, true);
    const known = this.#probes.get(low);
    if (known !== undefined && known.high === high) return known;
    const address = view.getBigUint64(offset + ADDRESS, true);
    const name = this.#names.probe(address) ?? `0x${address.toString(16)}`;
    const verdicts = this.#names.verdicts?.(address);
    const drop = verdicts !== undefined ? PROGRAM_EXIT : dropArguments(this.#names, name, this.#tracepoints);
    const text = this.#format.func(name, undefined);
    return keep(this.#probes, low, { high, name, text, drop, verdicts, reasons: new Map() });
  }

  /** The function of a probe, with the drop reason if it drops packets. */
  func(probe: Probe, view: DataView, offset: number): Cell {
    if (probe.drop === undefined || probe.drop.reason < 0) return probe.text;
    // The parameter is a 32-bit enum; what the upper half of its register holds is anybody's guess.
    const code = view.getUint32(offset + probe.drop.reason, true);
    const known = probe.reasons.get(code);
    if (known !== undefined) return known;
    const name = (probe.verdicts ?? this.#names.dropReasons).get(code);
    const verdict = probe.verdicts === undefined ? {} : { verdict: true };
    return keep(probe.reasons, code, this.#format.func(probe.name, { code, name, ...verdict }));
  }

  /** The code that let go of the packet, if the probe tells. */
  place(probe: Probe, view: DataView, offset: number): Cell {
    if (probe.drop === undefined || probe.drop.place < 0) return NOTHING;
    const at = offset + probe.drop.place;
    const low = view.getInt32(at, true), high = view.getInt32(at + 4, true);
    const known = this.#places.get(low);
    if (known !== undefined && known.high === high) return known.text;
    const address = view.getBigUint64(at, true);
    const symbol = address === 0n ? undefined : this.#names.symbol(address);
    return keep(this.#places, low, { high, text: this.#format.place(address, symbol) }).text;
  }

  /** Who called the function: the address at `at` is where it returns to. */
  caller(view: DataView, at: number): Cell {
    const low = view.getInt32(at, true), high = view.getInt32(at + 4, true);
    const known = this.#callers.get(low);
    if (known !== undefined && known.high === high) return known.text;
    const address = view.getBigUint64(at, true);
    const text = this.#format.caller(address, address === 0n ? undefined : this.#returnTo(address));
    return keep(this.#callers, low, { high, text }).text;
  }

  /**
   * The stack whose `count` addresses lie at `at`, the innermost first, into `frames`. At a tracepoint it begins
   * with the function that passes it.
   */
  stack(view: DataView, at: number, count: number, frames: Cell[]): void {
    frames.length = 0;
    for (let i = 0; i < count; i++) {
      const frame = this.#frame(view, at + i * 8, i === 0);
      if (frame.internal && this.#tracepoints && i < MOST_INTERNALS) frames.length = 0;
      else frames.push(frame.text);
    }
  }

  #frame(view: DataView, at: number, innermost: boolean): Frame {
    const low = view.getInt32(at, true), high = view.getInt32(at + 4, true);
    const cache = innermost ? this.#entries : this.#frames, known = cache.get(low);
    if (known !== undefined && known.high === high) return known;
    const address = view.getBigUint64(at, true);
    const symbol = innermost ? this.#names.symbol(address) : this.#returnTo(address);
    const internal = symbol !== undefined && TRACEPOINT_INTERNALS.test(symbol.name);
    return keep(cache, low, { high, text: this.#format.frame(address, symbol), internal });
  }

  /** The call that returns to `address` lies before it, perhaps as the last of its function. */
  #returnTo(address: bigint): CodeSymbol | undefined {
    const call = this.#names.symbol(address - 1n);
    return call === undefined ? undefined : { name: call.name, offset: call.offset + 1 };
  }

  /** The process, by the name that the task had when it was seen. */
  process(view: DataView, offset: number): Cell {
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
    const comm = new TextDecoder().decode(bytes.slice(0, nul < 0 ? 16 : nul));
    const text = this.#format.process(comm, pid);
    return keep(this.#processes, pid, { comm: [a, b, c, d] as const, text }).text;
  }

  /** @param key the inode number, in 32 bits, of either sign */
  netns(key: number): Netns {
    const generation = this.#interfaces.generation + this.#netnsNames.generation;
    if (generation !== this.#generation) {
      this.#generation = generation;
      this.#namespaces.clear();
      this.#lastNetns = undefined;
    }
    if (key === this.#lastKey && this.#lastNetns !== undefined) return this.#lastNetns;
    const inode = key >>> 0;
    const netns = this.#namespaces.get(key) ?? keep<Netns>(this.#namespaces, key, {
      inode,
      text: this.#format.netns(inode),
      ifaces: new Map(),
      name: undefined,
    });
    this.#lastKey = key;
    return this.#lastNetns = netns;
  }

  netnsName(netns: Netns): Cell {
    if (netns.name !== undefined) return netns.name;
    const name = this.#netnsNames.nameOf(netns.inode);
    return name === undefined ? this.#namelessNetns : netns.name = this.#format.netnsName(name);
  }

  /** An interface without a name is asked for again. */
  iface(netns: Netns, ifindex: number): Cell {
    const known = netns.ifaces.get(ifindex);
    if (known !== undefined) return known;
    const name = ifindex === 0 ? undefined : this.#interfaces.nameOf(netns.inode, ifindex);
    const text = this.#format.iface(name, ifindex);
    return name === undefined && ifindex !== 0 ? text : keep(netns.ifaces, ifindex, text);
  }
}

/** Adds to a cache, which starts again when it is full. */
export function keep<V>(cache: Map<number, V>, key: number, value: V): V {
  if (cache.size >= CACHE_LIMIT) cache.clear();
  cache.set(key, value);
  return value;
}
