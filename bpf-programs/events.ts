// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * Every record that crosses from the kernel to us, declared once: the programs store through
 * `.fields`, the reader decodes with the same offsets.
 */
import {
  bytes,
  type Decoded,
  type Field,
  s32,
  type Struct,
  struct,
  type Type,
  u16,
  u32,
  u64,
} from "../asm/layout.ts";
import type { ValueExpression } from "./expression.ts";

/** Bytes copied from the network header on: the longest IPv4 header with TCP's flags, or IPv6 and 64 more. */
export const HEADER_BYTES = 104;

/** One packet seen by one function. */
export const packetEvent = struct("packet_event", {
  /** ns, CLOCK_MONOTONIC: bpf_ktime_get_ns() */
  timestamp: u64,
  /** struct sk_buff *, an identity: user space never dereferences it */
  skb: u64,
  /** where the probe sits: the function's entry or the place behind it; for tracepoints an index of ours */
  address: u64,
  /** kprobes: the function's second argument; tracepoints: the code address that freed the packet, or 0 */
  argument2: u64,
  /** kprobes: the function's third argument; tracepoints: the drop reason, or 0 */
  argument3: u64,
  /** inode number of the network namespace, of the device or else of the socket; 0 unknown */
  netns: u32,
  /** sk_buff.mark */
  mark: u32,
  /** net_device.ifindex; 0 while the packet has no device */
  ifindex: u32,
  /** bytes: of the device, or of the route while the packet has no device; 0 unknown */
  mtu: u32,
  /** bytes, sk_buff.len: with what page fragments hold */
  len: u32,
  /** thread group of the task that was running */
  pid: u32,
  cpu: u32,
  /** sk_buff.protocol: EtherType in network byte order */
  protocol: u16,
  /** how many of `headers` are the packet's linear bytes; the rest is whatever lies behind them */
  headerBytes: u16,
  /** name of the running task at that moment, NUL-terminated */
  comm: bytes(16),
  /** the packet from its network header on */
  headers: bytes(HEADER_BYTES),
});
export type PacketEvent = Decoded<typeof packetEvent>;

/** Frames of a kernel stack that a record holds: those next to the packet. */
export const STACK_FRAMES = 50;

/** What options add to each record, behind its packetEvent. */
export interface Additions {
  /** which packet it is about, when packets are numbered */
  readonly stamp?: boolean;
  /** who called the traced function; tracepoints cannot tell */
  readonly caller?: boolean;
  /** the kernel's stack */
  readonly stack?: boolean;
  /** struct qdisc_skb_cb.data in sk_buff.cb, which is __sk_buff.cb to programs */
  readonly controlBlock?: boolean;
  /** sizeof(struct sk_buff): a copy of it */
  readonly skbBytes?: number;
  /** sizeof(struct skb_shared_info): a copy of it */
  readonly sharedInfoBytes?: number;
  /** the packet once more, from the inner network header on */
  readonly tunnel?: boolean;
  /** which map a function on one is about, key and value */
  readonly mapOperation?: boolean;
  /** numbers that an sk_buff leads to, at most MAX_VALUES */
  readonly values?: readonly ValueExpression[];
  /** numbers that an xdp_buff leads to, likewise; a record has the one or the other */
  readonly xdpValues?: readonly ValueExpression[];
}

/** A bit each says whether they have a value. */
export const MAX_VALUES = 32;

/** Bytes of a key, and of a value, that a record holds. */
export const MAP_BYTES = 256;

/** Bits of `mapHas`: there is a map, its key, its value; or nothing was found there. */
export const MAP_HAS = { map: 1, key: 2, value: 4, nothing: 8 } as const;

export type AdditionName =
  | "mapHas"
  | "mapId"
  | "mapName"
  | "mapKeySize"
  | "mapValueSize"
  | "mapKey"
  | "mapValue"
  | "stamp"
  | "caller"
  | "values"
  | "stack"
  | "skb"
  | "sharedInfo"
  | "tunnel"
  | "stackBytes"
  | "controlBlock"
  | "missing"
  | "valueless"
  | "ofFrame"
  | "tunnelBytes";

/** Bits of `missing`: copies that failed. */
export const MISSING = { skb: 1, sharedInfo: 2, controlBlock: 4 } as const;

/** u32 each */
export const CONTROL_BLOCK_WORDS = 5;

/** A record: a packetEvent at its start, then what was asked for. */
export interface RecordLayout {
  readonly size: number;
  readonly fields: { readonly [K in AdditionName]?: Field };
}

/** Without additions a record is a packetEvent and no byte more. */
export function recordLayout(additions: Additions = {}): RecordLayout {
  const { stamp, caller, stack, controlBlock, skbBytes = 0, sharedInfoBytes = 0, tunnel } = additions;
  const { mapOperation } = additions;
  const values = Math.max(additions.values?.length ?? 0, additions.xdpValues?.length ?? 0);
  if (values > MAX_VALUES) throw new RangeError(`A record holds ${MAX_VALUES} values, not ${values}`);
  const members: Record<string, Type> = { packet: packetEvent };
  const add = (name: AdditionName, type: Type) => void (members[name] = type);
  // what needs an even place comes first
  /** the same for all of a packet's life, and for its clones, copies and segments; 0 unknown */
  if (stamp) add("stamp", u64);
  /** the address that the traced function returns to; 0 unknown */
  if (caller) add("caller", u64);
  if (mapOperation) {
    add("mapKey", bytes(MAP_BYTES));
    add("mapValue", bytes(MAP_BYTES));
    /** NUL-terminated */
    add("mapName", bytes(16));
    for (const name of ["mapHas", "mapId", "mapKeySize", "mapValueSize"] as const) add(name, u32);
  }
  /** u64 each */
  if (values > 0) add("values", bytes(values * 8));
  /** addresses, the innermost first */
  if (stack) add("stack", bytes(STACK_FRAMES * 8));
  if (skbBytes > 0) add("skb", bytes(skbBytes));
  if (sharedInfoBytes > 0) add("sharedInfo", bytes(sharedInfoBytes));
  if (tunnel) add("tunnel", bytes(HEADER_BYTES));
  /** how many bytes of `stack` are addresses; negative: the kernel could not tell */
  if (stack) add("stackBytes", s32);
  if (controlBlock) add("controlBlock", bytes(CONTROL_BLOCK_WORDS * 4));
  if (controlBlock || skbBytes > 0 || sharedInfoBytes > 0) add("missing", u32);
  /** a bit for each of `values` that has none: NULL on the way, or a division by zero */
  if (values > 0) add("valueless", u32);
  /** 1: the values are those of an xdp_buff; 0: of an sk_buff */
  if (values > 0) add("ofFrame", u16);
  /** how many of `tunnel` are the packet's linear bytes; 0 for a packet that is in no tunnel */
  if (tunnel) add("tunnelBytes", u16);
  const { size, fields } = struct("packet_record", members, { packed: true });
  return { size: Math.ceil(size / 8) * 8, fields };
}

/** What each CPU counts; user space adds the CPUs up. `matched` = records submitted + `lost`. */
export const traceCounters: Struct<{ matched: typeof u64; lost: typeof u64; unreadable: typeof u64 }> =
  struct(
    "trace_counters",
    {
      /** packets that passed every filter, once per function */
      matched: u64,
      /** of these, how many found the ring buffer full */
      lost: u64,
      /** packets whose bytes could not be read: no verdict was possible */
      unreadable: u64,
    },
  );

/**
 * Where hits are counted that looked at a packet, matching or not: a slot per CPU, which more CPUs than slots share, each
 * on a cache line of its own. That is 2 ns, and nothing where CPUs meet; the look-up of a map is another helper call on
 * Linux before 6.10.
 */
export const LOOK_SLOTS = 256, LOOK_STRIDE = 64;
