// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * The programs that see packets: decide first, collect later.
 *
 * One body serves every hook. A hook's prologue puts the sk_buff into r6 and the context into its slot;
 * the body decides with as few loads as the filter needs, and only a packet that matches pays for the
 * rest: counting, reserving a record, filling it. Code for an option that is off is not emitted.
 *
 * Registers: r6 the sk_buff's view (while the packet filter runs: the packet's length), r7 and r8 the
 * filter's A and X, r9 the packet. While collecting: r6 the view, r7 a pointer being followed, r8 the
 * record, r9 the counters.
 */
import { ancillary, type CbpfInsn, isAncillaryLoad, SKF_AD_OFF } from "../asm/cbpf.ts";
import { cbpfToEbpf } from "../asm/cbpf_to_ebpf.ts";
import { type Code, type KernelTypes, type Label, label, type ProgramSpec } from "../asm/code.ts";
import { withoutDeadCode } from "../asm/dead_code.ts";
import {
  add,
  and,
  and32,
  at,
  atomicAdd,
  call,
  copy,
  exit,
  fp,
  ja,
  jeq,
  jeq32,
  jge,
  jgt,
  jle,
  jlt,
  jne,
  jne32,
  jset32,
  jsgt,
  jsle,
  jslt,
  ldMap,
  ldx,
  lea,
  mov,
  mov32,
  r0,
  r1,
  r2,
  r3,
  r4,
  r6,
  r7,
  r8,
  r9,
  type Register,
  ret,
  rsh,
  st,
  stx,
  sub,
} from "../asm/insn.ts";
import { type Field, u32, u64, u8 } from "../asm/layout.ts";
import { COPY_BYTES, copyWithFragment, type MemoryMap } from "./fragments.ts";
import { HEADER_BYTES, packetEvent, traceCounters } from "./events.ts";
import type { FilterExpression } from "./expression.ts";
import type { TraceMaps } from "./maps.ts";
import type { MemoryAccess, View } from "./memory_access.ts";
import type { ProbeContext } from "./registers.ts";

/** The packet filter, compiled for both places where a packet can begin; undefined matches nothing there. */
export interface PacketFilter {
  /** from the Ethernet header on */
  readonly l2: readonly CbpfInsn[] | undefined;
  /** from the IP header on */
  readonly l3: readonly CbpfInsn[] | undefined;
}

/** Everything that shapes the programs. The same options give the same bytes. */
export interface TraceOptions {
  readonly kernel: KernelTypes;
  readonly access: MemoryAccess;
  readonly maps: TraceMaps;
  /** absent: every packet matches */
  readonly filter?: PacketFilter;
  readonly mark?: { readonly value: number; readonly mask: number };
  /** inode number of a network namespace */
  readonly netns?: number;
  readonly ifindex?: number;
  /** a question about the sk_buff */
  readonly expression?: FilterExpression;
  /** absent: headers in page fragments cannot be read, and are counted */
  readonly memory?: MemoryMap;
  /** netns, mark, interface, protocol, MTU, length */
  readonly meta: boolean;
  /** addresses and ports: copies the packet's headers */
  readonly tuple: boolean;
}

/** enum bpf_prog_type and bpf_attach_type (include/uapi/linux/bpf.h). */
export const BPF_PROG_TYPE_KPROBE = 2, BPF_PROG_TYPE_RAW_TRACEPOINT = 17, BPF_TRACE_KPROBE_MULTI = 42;

/** The stack, from fp down. */
const slot = {
  skb: -8,
  context: -16,
  view: -24,
  packet: -32,
  temp: -40,
  key: -48,
  copied: -56, // 0, or 1: constants, by which the verifier sees that the filter starts again only once
  length: -64, // of the whole packet, once it is copied
  scratch: -128, // 16 words of the packet filter, then 8 values of the expression
  skbCopy: -336, // 208 bytes
  packetCopy: -440, // 104 bytes
} as const;

/** The submit flag that spares the traced path a wake-up of ours: the reader comes by timer. */
const BPF_RB_NO_WAKEUP = 1;
const ETH_HLEN = 14;
/** More than an Ethernet header with all the tags anybody stacks: a distance beyond is a stale offset. */
const MAX_LINK_HEADER = 64;
/** sk_buff.mac_header while nobody has set it. */
const MAC_HEADER_UNSET = 0xffff;

/** A classic kprobe on functions that have the packet in `argument` (1-5). */
export function kprobeProgram(options: TraceOptions, context: ProbeContext, argument: number): ProgramSpec {
  return {
    name: `kprobe_skb_${argument}`,
    type: BPF_PROG_TYPE_KPROBE,
    license: "Dual BSD/GPL",
    code: trace(options, {
      prologue: ldx(r6, at(r1, argumentOffset(context, argument), u64)),
      // on x86-64 a breakpoint has been stepped over; lib/link knows where its probes sit
      identify: [ldx(r2, at(r1, context.instructionPointer, u64)), storeArguments(context, r2)],
    }),
  };
}

/**
 * The same for functions with different positions: `maps.positions` knows each probe's. One program for all
 * costs a look-up per hit, but every further perf event costs 0.1 s to close.
 */
export function kprobePositionsProgram(options: TraceOptions, context: ProbeContext): ProgramSpec {
  const found = label("found"), positions = [1, 2, 3, 4, 5].map((n) => label(`argument_${n}`));
  return {
    name: "kprobe_skb_any",
    type: BPF_PROG_TYPE_KPROBE,
    license: "Dual BSD/GPL",
    code: trace(options, {
      prologue: [
        mov(r6, r1), // r6 = context, kept over the call
        ldx(r2, at(r1, context.instructionPointer, u64)),
        stx(at(fp, slot.temp, u64), r2),
        ldMap(r1, options.maps.positions),
        lea(r2, at(fp, slot.temp, u64)),
        call("bpf_map_lookup_elem"),
        mov(r7, r6), // r7 = context
        mov(r6, 0),
        mov(r1, r7),
        jeq(r0, 0, found), // no position, no packet
        ldx(r2, at(r0, u64)),
        positions.map((place, index) => jeq(r2, index + 1, place)),
        ja(found),
        positions.map((place, index) => [
          place,
          ldx(r6, at(r7, argumentOffset(context, index + 1), u64)),
          ja(found),
        ]),
        found,
      ],
      identify: [ldx(r2, at(r1, context.instructionPointer, u64)), storeArguments(context, r2)],
    }),
  };
}

/** A kprobe-multi link on functions that have the packet in `argument`. Linux 5.18. */
export function kprobeMultiProgram(
  options: TraceOptions,
  context: ProbeContext,
  argument: number,
): ProgramSpec {
  return {
    name: `multi_skb_${argument}`,
    type: BPF_PROG_TYPE_KPROBE,
    expectedAttachType: BPF_TRACE_KPROBE_MULTI,
    license: "Dual BSD/GPL",
    code: trace(options, {
      prologue: ldx(r6, at(r1, argumentOffset(context, argument), u64)),
      identify: functionEntry(context),
    }),
  };
}

/** A raw tracepoint that carries a packet. Positions count from 0, as TP_PROTO does. */
export interface TracepointHook {
  readonly name: string;
  /** goes into packet_event.address */
  readonly index: number;
  readonly skb: number;
  /** enum skb_drop_reason, from Linux 5.17 */
  readonly reason?: number;
  /** the code address that freed the packet */
  readonly location?: number;
}

export function tracepointProgram(options: TraceOptions, hook: TracepointHook): ProgramSpec {
  const event = packetEvent.fields;
  const argument = (field: Field, position: number | undefined): Code =>
    position === undefined
      ? st(at(r8, field), 0)
      : [ldx(r2, at(r1, position * 8, u64)), stx(at(r8, field), r2)];
  return {
    name: `tp_${hook.name}`,
    type: BPF_PROG_TYPE_RAW_TRACEPOINT,
    license: "Dual BSD/GPL",
    code: trace(options, {
      prologue: ldx(r6, at(r1, hook.skb * 8, u64)),
      identify: [
        st(at(r8, event.address), hook.index),
        argument(event.argument2, hook.location),
        argument(event.argument3, hook.reason),
      ],
    }),
  };
}

function argumentOffset(context: ProbeContext, argument: number): number {
  const offset = context.arguments[argument - 1];
  if (offset === undefined) throw new RangeError(`A probe sees arguments 1 to 5, not ${argument}`);
  return offset;
}

/** What differs between hooks. Both parts find the context in r1. */
interface Hook {
  /** r6 = the sk_buff; may lose r0-r5 but r1 */
  readonly prologue: Code;
  /** stores address, argument2 and argument3 into the record at r8; may lose r0-r5 */
  readonly identify: Code;
}

/** record.address = r2's value, the arguments from the context in r1. */
function storeArguments(context: ProbeContext, address: Register): Code {
  const event = packetEvent.fields;
  return [
    stx(at(r8, event.address), address),
    ldx(r2, at(r1, argumentOffset(context, 2), u64)),
    stx(at(r8, event.argument2), r2),
    ldx(r2, at(r1, argumentOffset(context, 3), u64)),
    stx(at(r8, event.argument3), r2),
  ];
}

function functionEntry(context: ProbeContext): Code {
  return [
    call("bpf_get_func_ip"), // r0 = the function's entry, ENDBR or not
    ldx(r1, at(fp, slot.context, u64)),
    storeArguments(context, r0),
  ];
}

/** The stack that is left for a copy of the sk_buff. */
const SKB_COPY_BYTES = slot.scratch - slot.skbCopy;

/** The sk_buff's fields on this kernel, only those that the options need. */
function skbFields(options: TraceOptions): Field[] {
  const { kernel, access, filter, memory, mark, netns, ifindex, expression, meta, tuple } = options;
  const field = (name: string) => kernel.field("sk_buff", name);
  const headers = filter !== undefined || tuple, words = ancillaryWords(filter);
  const device = meta || netns !== undefined || ifindex !== undefined || words.has(ancillary.ifindex.offset);
  const direction = words.has(ancillary.packetType.offset);
  const wanted: Record<string, boolean> = {
    head: headers,
    data: filter !== undefined,
    tail: headers,
    mac_header: filter !== undefined,
    network_header: headers,
    data_len: filter !== undefined,
    end: filter !== undefined && memory !== undefined,
    mark: meta || mark !== undefined,
    len: meta,
    protocol: meta || tuple,
    dev: device,
    sk: meta || netns !== undefined || direction,
    _skb_refdst: meta,
    skb_iif: direction,
    vlan_tci: words.has(ancillary.vlanTag.offset),
  };
  const fields = [
    ...Object.keys(wanted).filter((name) => wanted[name]).map(field),
    ...(direction ? [bitsOf(kernel, "pkt_type").byte] : []),
    ...(words.has(ancillary.vlanTagPresent.offset) ? [tagPresence(kernel).byte] : []),
  ];
  for (const extra of expression?.fields ?? []) {
    // what has no room beside the others is read on its own
    if (access.fits([...fields, extra], SKB_COPY_BYTES)) fields.push(extra);
  }
  return fields;
}

/** Which Linux words the filter's programs load, as offsets from SKF_AD_OFF. */
function ancillaryWords(filter: PacketFilter | undefined): ReadonlySet<number> {
  const insns = [...filter?.l2 ?? [], ...filter?.l3 ?? []];
  return new Set(insns.filter(isAncillaryLoad).map(({ k }) => k - SKF_AD_OFF));
}

/** Bits of the sk_buff, read as the bytes around them: dst = (byte >> shift) & mask. */
interface SkbBits {
  readonly byte: Field;
  readonly shift: number;
  readonly mask: number;
}

function bitsOf(kernel: KernelTypes, name: string): SkbBits {
  const { struct, offset, shift, bits } = kernel.bitField("sk_buff", name);
  return { byte: { struct, name, offset, type: u8 }, shift, mask: (1 << bits) - 1 };
}

/** Whether the device took a VLAN tag off: a bit of its own until Linux 6.2, then any bit of protocol and tag. */
function tagPresence(kernel: KernelTypes): SkbBits {
  if (kernel.has("sk_buff", "vlan_present")) return bitsOf(kernel, "vlan_present");
  return { byte: kernel.field("sk_buff", "vlan_all"), shift: 0, mask: 0xffffffff };
}

/** include/uapi/linux/if_packet.h */
const PACKET_OUTGOING = 4;

/**
 * dst = what Linux knows about the packet, as a socket's filter would see it, or undefined.
 *
 * The kernel calls a packet outgoing only in the copies that it gives to sockets. Here it is one that was
 * never received and still belongs to the socket that sent it.
 */
function ancillaryWord(
  { kernel, access }: TraceOptions,
  load: LoadSkb,
  dst: Register,
  word: number,
): Code | undefined {
  const done = label("known");
  const bits = ({ byte, shift, mask }: SkbBits): Code => [
    ldx(dst, at(fp, slot.view, u64)),
    load(dst, byte, dst),
    shift === 0 ? [] : rsh(dst, shift),
    mask === 0xffffffff ? [] : and32(dst, mask),
  ];
  switch (word) {
    case ancillary.packetType.offset:
      return [
        bits(bitsOf(kernel, "pkt_type")),
        jne32(dst, 0, done),
        ldx(r1, at(fp, slot.view, u64)),
        load(r2, "skb_iif", r1),
        jne32(r2, 0, done),
        load(r2, "sk", r1),
        jeq(r2, 0, done),
        mov32(dst, PACKET_OUTGOING),
        done,
      ];
    case ancillary.ifindex.offset:
      return [
        ldx(dst, at(fp, slot.view, u64)),
        load(dst, "dev", dst),
        jeq(dst, 0, done),
        access.read(dst, dst, kernel.field("net_device", "ifindex"), slot.temp),
        done,
      ];
    case ancillary.vlanTag.offset:
      return [ldx(dst, at(fp, slot.view, u64)), load(dst, "vlan_tci", dst)];
    case ancillary.vlanTagPresent.offset: {
      const absent = label("no_tag");
      return [bits(tagPresence(kernel)), jeq32(dst, 0, absent), mov32(dst, 1), absent];
    }
    default:
      return undefined;
  }
}

/** The sk_buff's fields on this kernel; r6 is its address, and the view's pointer once it is open. */
function skbView(options: TraceOptions, gone: Label) {
  const fields = skbFields(options);
  const skb = options.access.view({
    address: r6,
    hold: r6,
    stack: slot.skbCopy,
    stackBytes: SKB_COPY_BYTES,
    fields,
    unreadable: gone, // a pointer that leads nowhere is no packet
  });
  const load: LoadSkb = (dst, field, hold) =>
    skb.load(dst, typeof field === "string" ? options.kernel.field("sk_buff", field) : field, hold);
  return { fields, skb, load };
}

/** The whole program around a hook's two parts. */
function trace(options: TraceOptions, { prologue, identify }: Hook): Code {
  const miss = label("miss"), unreadable = label("unreadable");
  const { fields, skb, load } = skbView(options, miss);
  return withoutDeadCode([
    stx(at(fp, slot.context, u64), r1),
    prologue,
    jeq(r6, 0, miss),
    stx(at(fp, slot.skb, u64), r6),
    skb.open,

    matchesMark(options, load, miss),
    matchesFilter(options, load, miss, unreadable),
    matchesDevice(options, load, miss),
    matchesExpression(options, skb, fields, miss),

    collect(options, load, identify, miss),
    miss,
    ret(0),
    unreadable,
    countUnreadable(options),
  ]);
}

/** dst = a field of the sk_buff; `hold` says where the view's pointer is, if not in its register. */
type LoadSkb = (dst: Register, field: string | Field, hold?: Register) => Code;

function matchesMark({ mark }: TraceOptions, load: LoadSkb, miss: Label): Code {
  if (mark === undefined || mark.mask === 0) return [];
  return [
    load(r1, "mark"),
    mark.mask === 0xffffffff ? [] : and32(r1, mark.mask),
    jne32(r1, (mark.value & mark.mask) >>> 0, miss),
  ];
}

/**
 * Runs the filter from the Ethernet header if the packet has one now, else from the network header.
 *
 * It has one when mac_header is set and the network header lies a link header behind it, or when the
 * driver has just set it (`data` points behind it) and nobody has set network_header yet.
 *
 * A load behind the linear part of a packet with page fragments starts the filter again, on a copy.
 */
function matchesFilter(options: TraceOptions, load: LoadSkb, miss: Label, unreadable: Label): Code {
  const { filter } = options;
  if (filter === undefined) return [];
  const l2 = label("l2"), l3 = label("l3"), fresh = label("fresh_from_driver"), matched = label("matched");
  const run = (
    program: readonly CbpfInsn[] | undefined,
    header: "mac_header" | "network_header",
    start: Register,
  ) => {
    if (program === undefined) return ja(miss);
    const begin = label("begin"), tooShort = label("too_short");
    return [
      jgt(start, r8, miss), // the header would begin behind the linear bytes
      add(r9, start), // r9 = the packet's first byte
      sub(r8, start),
      mov(r6, r8), // r6 = bytes from there to tail
      begin,
      runFilter(options, program, load, { match: matched, noMatch: miss, tooShort, unreadable }),
      tooShort,
      startAgain(options, load, header, begin, miss, unreadable),
    ];
  };
  return [
    stx(at(fp, slot.view, u64), r6),
    st(at(fp, slot.copied, u64), 0),
    load(r9, "head"),
    load(r8, "tail"), // an offset from head, as all of these
    load(r1, "mac_header"),
    load(r2, "network_header"),
    jeq32(r1, MAC_HEADER_UNSET, l3),
    mov(r3, r2),
    sub(r3, r1),
    jslt(r3, ETH_HLEN, fresh),
    jsle(r3, MAX_LINK_HEADER, l2),
    fresh,
    load(r4, "data"),
    sub(r4, r9),
    sub(r4, r1),
    jne(r4, ETH_HLEN, l3),
    l2,
    run(filter.l2, "mac_header", r1),
    l3,
    run(filter.l3, "network_header", r2),
    matched,
    ldx(r6, at(fp, slot.view, u64)),
  ];
}

/** The filter on the packet whose first byte r9 has the address of, and r6 bytes of which can be read. */
function runFilter(
  options: TraceOptions,
  program: readonly CbpfInsn[],
  load: LoadSkb,
  ends: { match: Label; noMatch: Label; tooShort: Label; unreadable: Label },
): Code {
  return cbpfToEbpf(program, {
    access: options.access.packet({
      base: r9,
      spill: slot.packet,
      stack: slot.packetCopy,
      stackBytes: slot.skbCopy - slot.packetCopy,
      unreadable: ends.unreadable,
    }),
    a: r7,
    x: r8,
    length: r6,
    wireLength: (dst) => {
      const original = label("original"), known = label("length_known");
      return [
        ldx(dst, at(fp, slot.copied, u64)),
        jeq(dst, 0, original),
        ldx(dst, at(fp, slot.length, u64)),
        ja(known),
        original,
        ldx(dst, at(fp, slot.view, u64)),
        load(dst, "data_len", dst),
        add(dst, r6),
        known,
      ];
    },
    ancillary: (dst, word) => ancillaryWord(options, load, dst, word),
    scratch: slot.scratch,
    ...ends,
  });
}

/** A filter as it stands in the programs, for people to read. */
export interface FilterFragment {
  readonly code: Code;
  /** ways out: each is one `exit` behind the fragment, in place of what the programs do there */
  readonly ends: readonly Label[];
}

/** r9 is the packet, r6 its bytes in reach, r7 and r8 are the filter's A and X. */
export function filterFragment(
  options: Omit<TraceOptions, "filter">,
  program: readonly CbpfInsn[],
): FilterFragment {
  const match = label("match"), noMatch = label("no_match"), tooShort = label("too_short");
  const unreadable = label("unreadable"), ends = { match, noMatch, tooShort, unreadable };
  const whole = { ...options, filter: { l2: program, l3: undefined } };
  const fragment = runFilter(whole, program, skbView(whole, noMatch).load, ends);
  const exits = Object.values(ends).map((end) => [end, exit()]);
  return { code: withoutDeadCode([fragment, exits]), ends: Object.values(ends) };
}

/**
 * After a load behind the linear bytes: a packet that has no more bytes does not match; of one that has, a copy
 * is made and the filter runs again from `begin`. A load that is behind the copy too leaves the filter
 * without a verdict.
 */
function startAgain(
  options: TraceOptions,
  load: LoadSkb,
  header: "mac_header" | "network_header",
  begin: Label,
  miss: Label,
  unreadable: Label,
): Code {
  const { kernel, access, memory, maps } = options, second = label("second_time");
  const whole: Code = [
    ldx(r1, at(fp, slot.copied, u64)),
    jne(r1, 0, second),
    ldx(r6, at(fp, slot.view, u64)),
    load(r2, "data_len"),
    jeq(r2, 0, miss),
  ];
  const again: Code = memory === undefined ? ja(unreadable) : [
    load(r1, header),
    load(r8, "tail"),
    sub(r8, r1), // r8 = linear bytes
    load(r7, "head"),
    add(r7, r1), // r7 = the packet's first byte
    add(r2, r8),
    stx(at(fp, slot.length, u64), r2),
    st(at(fp, slot.copied, u64), 1),
    jge(r8, COPY_BYTES, unreadable),
    copyWithFragment({
      kernel,
      access,
      memory,
      scratch: maps.scratch,
      key: slot.key,
      temp: slot.temp,
      loadSharedInfo: [
        ldx(r1, at(fp, slot.view, u64)),
        load(r8, "head", r1),
        load(r2, "end", r1),
        add(r8, r2),
      ],
      unreadable,
    }),
    ja(begin),
  ];
  return [whole, again, second, ldx(r1, at(fp, slot.length, u64)), jlt(r6, r1, unreadable), ja(miss)];
}

/** dst = inode number of the network namespace whose `struct net *` is the `field` of r7, or 0. */
function namespaceOf({ kernel, access }: TraceOptions, dst: Register, field: Field): Code {
  const none = label("no_net");
  return [
    access.read(r1, r7, field, slot.temp),
    copy(dst, r1),
    jeq(r1, 0, none),
    access.read(dst, r1, kernel.field("net", "ns.inum"), slot.temp),
    none,
  ];
}

/** r1 = inode number of the packet's network namespace: the device's, else the socket's, else 0. Loses r7. */
function packetNamespace(options: TraceOptions, load: LoadSkb): Code {
  const { kernel } = options, noDevice = label("no_device"), known = label("netns_known");
  return [
    load(r7, "dev"),
    jeq(r7, 0, noDevice),
    namespaceOf(options, r1, kernel.field("net_device", "nd_net.net")),
    jne(r1, 0, known),
    noDevice,
    load(r7, "sk"),
    mov(r1, r7),
    jeq(r7, 0, known),
    namespaceOf(options, r1, kernel.field("sock", "__sk_common.skc_net.net")),
    known,
  ];
}

function matchesDevice(options: TraceOptions, load: LoadSkb, miss: Label): Code {
  const { netns, ifindex, access, kernel } = options;
  return [
    netns === undefined ? [] : [packetNamespace(options, load), jne32(r1, netns, miss)],
    ifindex === undefined ? [] : [
      load(r7, "dev"),
      jeq(r7, 0, miss),
      access.read(r1, r7, kernel.field("net_device", "ifindex"), slot.temp),
      jne32(r1, ifindex, miss),
    ],
  ];
}

/** Goes to `miss` where the expression is false or has no value. Loses r7-r9. */
function matchesExpression(
  { access, expression }: TraceOptions,
  skb: View,
  fields: readonly Field[],
  miss: Label,
): Code {
  if (expression === undefined) return [];
  return expression.code({
    access,
    root: (dst) => ldx(dst, at(fp, slot.skb, u64)),
    rootField: (dst, field) => fields.includes(field) ? skb.load(dst, field) : undefined,
    registers: [r7, r8, r9],
    temp: slot.temp,
    spill: slot.scratch,
    spillBytes: 64,
    failed: miss,
  }, miss);
}

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

function countUnreadable(options: TraceOptions): Code {
  const gone = label("no_counters");
  return [
    counters(options, gone),
    mov(r1, 1),
    atomicAdd(at(r0, traceCounters.fields.unreadable), r1),
    gone,
    ret(0),
  ];
}

/** Counts the match, reserves a record, fills and submits it; a full ring is counted. Ends the program. */
function collect(options: TraceOptions, load: LoadSkb, identify: Code, miss: Label): Code {
  const { maps, meta, tuple } = options, event = packetEvent.fields, counter = traceCounters.fields;
  const full = label("full");
  return [
    counters(options, miss),
    mov(r9, r0), // r9 = this CPU's counters
    mov(r1, 1),
    atomicAdd(at(r9, counter.matched), r1),

    ldMap(r1, maps.events),
    mov(r2, packetEvent.size),
    mov(r3, 0),
    call("bpf_ringbuf_reserve"), // r0 = record, or NULL when the ring is full
    jeq(r0, 0, full),
    mov(r8, r0), // r8 = record

    call("bpf_ktime_get_ns"),
    stx(at(r8, event.timestamp), r0),
    ldx(r1, at(fp, slot.skb, u64)),
    stx(at(r8, event.skb), r1),
    ldx(r1, at(fp, slot.context, u64)),
    identify,
    call("bpf_get_current_pid_tgid"),
    rsh(r0, 32),
    stx(at(r8, event.pid), r0),
    call("bpf_get_smp_processor_id"),
    stx(at(r8, event.cpu), r0),
    lea(r1, fieldAddress(event.comm)),
    mov(r2, event.comm.type.size),
    call("bpf_get_current_comm"),
    meta || tuple ? [load(r1, "protocol"), stx(at(r8, event.protocol), r1)] : st(at(r8, event.protocol), 0),
    meta ? collectMeta(options, load) : zeroMeta(),
    tuple ? collectHeaders(load) : st(at(r8, event.headerBytes), 0),

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
  const noDevice = label("no_device"), done = label("device_known");
  return [
    load(r1, "mark"),
    stx(at(r8, event.mark), r1),
    load(r1, "len"),
    stx(at(r8, event.len), r1),
    packetNamespace(options, load),
    stx(at(r8, event.netns), r1),
    load(r7, "dev"),
    jeq(r7, 0, noDevice),
    access.read(r1, r7, kernel.field("net_device", "ifindex"), slot.temp),
    stx(at(r8, event.ifindex), r1),
    access.read(r1, r7, kernel.field("net_device", "mtu"), slot.temp),
    stx(at(r8, event.mtu), r1),
    ja(done),
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
function routeMtu({ kernel, access }: TraceOptions, load: LoadSkb): Code {
  const none = label("no_route"), known = label("mtu_known");
  const dst = (name: string) => kernel.field("dst_entry", name);
  return [
    load(r7, "_skb_refdst"),
    and(r7, ~1), // SKB_DST_NOREF
    jeq(r7, 0, none),
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

/**
 * Copies the packet from its network header on. A fixed number of bytes: what lies behind `tail` is still
 * inside the buffer (skb_shared_info follows `end`), and headerBytes says where the packet stops.
 */
function collectHeaders(load: LoadSkb): Code {
  const event = packetEvent.fields, some = label("some"), fits = label("fits"), done = label("headers_done");
  return [
    load(r1, "network_header"),
    load(r2, "tail"),
    sub(r2, r1), // r2 = linear bytes from the network header on, perhaps negative
    jsgt(r2, 0, some),
    mov(r2, 0),
    some,
    jle(r2, HEADER_BYTES, fits),
    mov(r2, HEADER_BYTES),
    fits,
    stx(at(r8, event.headerBytes), r2),
    load(r3, "head"),
    add(r3, r1),
    lea(r1, fieldAddress(event.headers)),
    mov32(r2, HEADER_BYTES),
    call("bpf_probe_read_kernel"),
    jeq(r0, 0, done),
    st(at(r8, event.headerBytes), 0),
    done,
  ];
}
