// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * What happens to a packet that matched: it is counted, and a record of it is reserved, filled and submitted.
 */
import { type Code, type Label, label } from "../asm/code.ts";
import {
  add,
  and,
  at,
  atomicAdd,
  call,
  exit,
  fp,
  ja,
  jeq,
  jle,
  jne,
  jset32,
  jsgt,
  ldMap,
  ldMapValue,
  ldx,
  lea,
  lsh,
  mov,
  mov32,
  r0,
  r1,
  r2,
  r3,
  r7,
  r8,
  r9,
  ret,
  rsh,
  st,
  stx,
  sub,
} from "../asm/insn.ts";
import { type Field, u32, u64 } from "../asm/layout.ts";
import { collectAdditions } from "./additions.ts";
import {
  HEADER_BYTES,
  LOOK_SLOTS,
  LOOK_STRIDE,
  packetEvent,
  type RecordLayout,
  traceCounters,
} from "./events.ts";
import {
  deviceOf,
  leaveList,
  leaveTree,
  type LoadSkb,
  packetNamespace,
  recordOf,
  type SkbView,
  slot,
  socketNamespace,
  type TraceOptions,
} from "./frame.ts";

/** The submit flag that spares the traced path a wake-up of ours: the reader comes by timer. */
const BPF_RB_NO_WAKEUP = 1;
/** r0 = this CPU's traceCounters; to `gone` if there are none, which the verifier wants handled. */
function counters({ maps }: TraceOptions, gone: Label): Code {
  return [
    st(at(fp, slot.key, u32), 0),
    ldMap(r1, maps.counters),
    lea(r2, at(fp, slot.key, u32)),
    call("bpf_map_lookup_elem"),
    jeq(r0, 0, gone),
  ];
}

/** Loses r0-r5. A look that an interrupt's own look falls into may not be counted. */
export function countLook({ maps }: TraceOptions): Code {
  return [
    call("bpf_get_smp_processor_id"),
    and(r0, LOOK_SLOTS - 1),
    lsh(r0, Math.log2(LOOK_STRIDE)),
    ldMapValue(r1, maps.looks),
    add(r1, r0),
    ldx(r2, at(r1, u64)),
    add(r2, 1),
    stx(at(r1, u64), r2),
  ];
}

export function countUnreadable(options: TraceOptions): Code {
  const gone = label("no_counters");
  return [
    counters(options, gone),
    mov(r1, 1),
    atomicAdd(at(r0, traceCounters.fields.unreadable), r1),
    gone,
    ret(0),
  ];
}

/** What only the hook knows. Its code finds the context in r1 and may lose r0-r5. */
export interface HookStores {
  /** stores address, argument2 and argument3 into the record at r8 */
  readonly identify: Code;
  /** stores the address that the traced function returns to there; absent where there is no such thing */
  readonly caller?: (field: Field) => Code;
  /** fills in what map the function is about; absent: none. May lose r7 and r9 */
  readonly mapOperation?: (layout: RecordLayout) => Code;
  /** where its context has the return address, if that is in a register; absent: on the stack, or there is none */
  readonly linkRegister?: number;
}

/**
 * How a record about one kind of packet is filled: each part stores into the record at r8 and keeps r8. A part that
 * is not wanted is not asked for: its fields may be in no view.
 */
export interface RecordParts {
  /** packetEvent.protocol */
  protocol(): Code;
  /** netns, mark, ifindex, mtu, len */
  meta(): Code;
  /** headers, headerBytes */
  headers(): Code;
  /** what lies behind the packetEvent */
  additions(): Code;
}

/** Counts the match, reserves a record, fills and submits it; a full ring is counted. Ends the program. */
export function collect(options: TraceOptions, view: SkbView, hook: HookStores, miss: Label): Code {
  const { load } = view, layout = recordOf(options), { stamp } = layout.fields;
  return collectParts(options, hook, {
    protocol: () => [load(r1, "protocol"), stx(at(r8, packetEvent.fields.protocol), r1)],
    meta: () => collectMeta(options, load),
    headers: () => collectHeaders(load),
    additions: () => [
      stamp === undefined ? [] : collectStamp(stamp),
      collectAdditions(options, layout, view, hook),
    ],
  }, miss);
}

/** The same for a packet that is no sk_buff; its identity is at fp + slot.skb. */
export function collectParts(options: TraceOptions, hook: HookStores, parts: RecordParts, miss: Label): Code {
  const { maps, meta, tuple } = options, event = packetEvent.fields;
  const counter = traceCounters.fields, layout = recordOf(options);
  const full = label("full");
  return [
    counters(options, miss),
    mov(r9, r0), // r9 = this CPU's counters
    mov(r1, 1),
    atomicAdd(at(r9, counter.matched), r1),

    ldMap(r1, maps.events),
    mov(r2, layout.size),
    mov(r3, 0),
    call("bpf_ringbuf_reserve"), // r0 = record, or NULL when the ring is full
    jeq(r0, 0, full),
    mov(r8, r0), // r8 = record

    call("bpf_ktime_get_ns"),
    stx(at(r8, event.timestamp), r0),
    ldx(r1, at(fp, slot.skb, u64)),
    stx(at(r8, event.skb), r1),
    ldx(r1, at(fp, slot.context, u64)),
    hook.identify,
    call("bpf_get_current_pid_tgid"),
    rsh(r0, 32),
    stx(at(r8, event.pid), r0),
    call("bpf_get_smp_processor_id"),
    stx(at(r8, event.cpu), r0),
    lea(r1, fieldAddress(event.comm)),
    mov(r2, event.comm.type.size),
    call("bpf_get_current_comm"),
    meta || tuple ? parts.protocol() : st(at(r8, event.protocol), 0),
    meta ? parts.meta() : zeroMeta(),
    tuple ? parts.headers() : st(at(r8, event.headerBytes), 0),
    parts.additions(),
    layout.fields.mapHas === undefined
      ? []
      : hook.mapOperation?.(layout) ?? st(at(r8, layout.fields.mapHas), 0),

    mov(r1, r8),
    mov(r2, BPF_RB_NO_WAKEUP),
    call("bpf_ringbuf_submit"),
    ret(0),

    full,
    mov(r1, 1),
    atomicAdd(at(r9, counter.lost), r1),
    mov(r0, 0),
    exit(),
  ];
}

function collectStamp(field: Field): Code {
  return [ldx(r1, at(fp, slot.stamp, u64)), stx(at(r8, field), r1)];
}

/** Where a field of the record lies, whatever its size. */
function fieldAddress(field: Field) {
  return at(r8, field.offset, u64);
}

const metaFields = ["netns", "mark", "ifindex", "mtu", "len"] as const;

function zeroMeta(): Code {
  return metaFields.map((name) => st(at(r8, packetEvent.fields[name]), 0));
}

function collectMeta(options: TraceOptions, load: LoadSkb): Code {
  const { kernel, access } = options, event = packetEvent.fields;
  const tree = label("tree"), noDevice = label("no_device"), done = label("device_known");
  return [
    load(r1, "mark"),
    stx(at(r8, event.mark), r1),
    load(r1, "len"),
    stx(at(r8, event.len), r1),
    leaveTree(options, load, tree),
    packetNamespace(options, load),
    stx(at(r8, event.netns), r1),
    deviceOf(load, noDevice),
    access.read(r1, r7, kernel.field("net_device", "ifindex"), slot.temp),
    stx(at(r8, event.ifindex), r1),
    access.read(r1, r7, kernel.field("net_device", "mtu"), slot.temp),
    stx(at(r8, event.mtu), r1),
    ja(done),
    tree,
    socketNamespace(options, load),
    stx(at(r8, event.netns), r1),
    noDevice,
    st(at(r8, event.ifindex), 0),
    routeMtu(options, load),
    stx(at(r8, event.mtu), r1),
    done,
  ];
}

/** Tells a route from tunnel metadata that uses its place (include/net/dst.h). */
const DST_METADATA = 0x80;
/** metrics[RTAX_MTU - 1] (include/uapi/linux/rtnetlink.h). */
const MTU_METRIC: Field<number> = {
  struct: "dst_metrics",
  name: "metrics[RTAX_MTU - 1]",
  offset: 4,
  type: u32,
};

/** r1 = the MTU of the packet's route: the route's own, else its device's, else 0. Loses r7. */
function routeMtu(options: TraceOptions, load: LoadSkb): Code {
  const { kernel, access } = options;
  const none = label("no_route"), known = label("mtu_known");
  const dst = (name: string) => kernel.field("dst_entry", name);
  return [
    load(r7, "_skb_refdst"),
    and(r7, ~1), // SKB_DST_NOREF
    jeq(r7, 0, none),
    leaveList(options, none),
    access.read(r1, r7, dst("flags"), slot.temp),
    jset32(r1, DST_METADATA, none),
    access.read(r1, r7, dst("_metrics"), slot.temp),
    and(r1, ~3), // DST_METRICS_FLAGS
    jeq(r1, 0, none),
    access.read(r1, r1, MTU_METRIC, slot.temp),
    jne(r1, 0, known),
    access.read(r7, r7, dst("dev"), slot.temp),
    jeq(r7, 0, none),
    access.read(r1, r7, kernel.field("net_device", "mtu"), slot.temp),
    ja(known),
    none,
    mov(r1, 0),
    known,
  ];
}

function collectHeaders(load: LoadSkb): Code {
  const { headers, headerBytes } = packetEvent.fields;
  return copyHeaders(load, "network_header", headers, headerBytes);
}

/**
 * Copies the packet from one of its headers on. A fixed number of bytes: what lies behind `tail` is still
 * inside the buffer (skb_shared_info follows `end`), and `length` says where the packet stops.
 *
 * @param to a field of HEADER_BYTES
 */
export function copyHeaders(
  load: LoadSkb,
  from: "network_header" | "inner_network_header",
  to: Field,
  length: Field,
): Code {
  const some = label("some"), fits = label("fits"), none = label("no_header"), done = label("headers_done");
  return [
    load(r1, from),
    jeq(r1, 0, none), // nobody has set it
    load(r2, "tail"),
    sub(r2, r1), // r2 = linear bytes from the header on, perhaps negative
    jsgt(r2, 0, some),
    mov(r2, 0),
    some,
    jle(r2, HEADER_BYTES, fits),
    mov(r2, HEADER_BYTES),
    fits,
    stx(at(r8, length), r2),
    load(r3, "head"),
    add(r3, r1),
    lea(r1, fieldAddress(to)),
    mov32(r2, HEADER_BYTES),
    call("bpf_probe_read_kernel"),
    jeq(r0, 0, done),
    none,
    st(at(r8, length), 0),
    done,
  ];
}
