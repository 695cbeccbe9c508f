// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * What all parts of a tracing program share: the options that shape it, the stack, the view of the sk_buff.
 */
import { ancillary, type CbpfInsn } from "../asm/cbpf.ts";
import { type Code, type KernelTypes, type Label, label } from "../asm/code.ts";
import {
  add,
  and,
  at,
  copy,
  fp,
  jeq,
  jne,
  ldx,
  mov,
  r1,
  r2,
  r6,
  r7,
  type Register,
  rsh,
} from "../asm/insn.ts";
import { type Field, u64 } from "../asm/layout.ts";
import { ancillaryWords, bitsOf, tagPresence } from "./ancillary.ts";
import type { Additions } from "./events.ts";
import { type RecordLayout, recordLayout } from "./events.ts";
import type { ExpressionFrame, FilterExpression } from "./expression.ts";
import type { MemoryMap } from "./fragments.ts";
import type { TraceMaps } from "./maps.ts";
import type { MemoryAccess, View, ViewPlace } from "./memory_access.ts";
import type { Tracking } from "./tracking.ts";
import type { TunnelFilter } from "./tunnel.ts";

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
  /** what a tunnel has to carry */
  readonly tunnel?: TunnelFilter;
  readonly mark?: { readonly value: number; readonly mask: number };
  /** inode number of a network namespace */
  readonly netns?: number;
  readonly ifindex?: number;
  /** a question about the sk_buff */
  readonly expression?: FilterExpression;
  /** absent: headers in page fragments cannot be read, and are counted */
  readonly memory?: MemoryMap;
  /** absent: every function decides on its own, and nobody knows which packet is which */
  readonly tracking?: Tracking;
  /** netns, mark, interface, protocol, MTU, length */
  readonly meta: boolean;
  /** addresses and ports: copies the packet's headers */
  readonly tuple: boolean;
  readonly additions?: Additions;
}

/**
 * The stack, from fp down: what most programs use comes first. With 64 bytes and more Linux 6.13 gives a program a stack of
 * its own, and whoever calls it pays for that.
 */
export const slot = {
  skb: -8,
  context: -16,
  packet: -24,
  temp: -32,
  key: -40,
  copied: -48, // 0, or 1: constants, by which the verifier sees that the filter starts again only once
  length: -56, // of the whole packet, once it is copied
  child: -64, // of a packet, where it gets one
  scratch: -128, // 16 words of the packet filter, then 8 values of the expression
  skbCopy: -336, // 208 bytes
  packetCopy: -440, // 104 bytes
  stamp: -448, // of the packet, when packets are tracked
  callerFrame: -456, // on entry of the traced function, when stacks are
  stack: -464, // the key of its stack
  link: -512, // 48 bytes: what is noted about it
} as const;

/** What its records hold. */
export function recordOf({ additions, tracking }: TraceOptions): RecordLayout {
  return recordLayout({ ...additions, stamp: tracking?.ids === true });
}

/** The stack that is left for a copy of the sk_buff. */
export const SKB_COPY_BYTES = slot.scratch - slot.skbCopy;

/** The sk_buff's fields on this kernel, only those that the options need. */
interface SkbFields {
  /** for the mark, the packet filter and the tunnel filter: whether a packet matches is mostly known by these */
  readonly first: readonly Field[];
  /** these, and what the other conditions and the record need */
  readonly all: readonly Field[];
}

function skbFields(options: TraceOptions): SkbFields {
  const { kernel, access, filter, mark, netns, ifindex, expression, meta, tuple, tunnel } = options;
  const sharedInfo = (options.additions?.sharedInfoBytes ?? 0) > 0,
    inner = options.additions?.tunnel === true;
  const field = (name: string) => kernel.field("sk_buff", name);
  const bytes = filter !== undefined || tunnel !== undefined;
  const headers = bytes || tuple, words = ancillaryWords(filter);
  const device = meta || netns !== undefined || ifindex !== undefined || words.has(ancillary.ifindex.offset);
  const direction = words.has(ancillary.packetType.offset);
  const chosen = (wanted: Record<string, boolean>) =>
    Object.keys(wanted).filter((name) => wanted[name]).map(field);
  const first = [
    ...chosen({
      head: bytes,
      data: filter !== undefined,
      tail: bytes,
      mac_header: filter !== undefined,
      network_header: bytes,
      inner_network_header: tunnel !== undefined,
      inner_mac_header: tunnel?.l2 !== undefined,
      mark: mark !== undefined,
      dev: words.has(ancillary.ifindex.offset),
      sk: direction,
      skb_iif: direction,
      vlan_tci: words.has(ancillary.vlanTag.offset),
    }),
    ...(direction ? [bitsOf(kernel, "pkt_type").byte] : []),
    ...(words.has(ancillary.vlanTagPresent.offset) ? [tagPresence(kernel).byte] : []),
  ];
  const fields = [
    ...first,
    ...chosen({
      head: headers || sharedInfo || inner || options.tracking?.frames === true,
      tail: headers || inner,
      network_header: headers || inner,
      inner_network_header: inner,
      end: sharedInfo,
      mark: meta,
      len: meta,
      protocol: meta || tuple,
      dev: device,
      sk: meta || netns !== undefined,
      _skb_refdst: meta,
    }),
  ];
  const values = options.additions?.values ?? [];
  for (const extra of [...(expression?.fields ?? []), ...values.flatMap((value) => value.fields)]) {
    // what has no room beside the others is read on its own
    if (access.fits([...fields, extra], SKB_COPY_BYTES)) fields.push(extra);
  }
  return { first, all: fields };
}

/** The sk_buff, to be looked at. */
export interface SkbView {
  /** those that it holds */
  readonly fields: readonly Field[];
  readonly skb: View;
  readonly load: LoadSkb;
  /** each register = its field; r6 is the view's pointer */
  loadAll(wanted: readonly (readonly [dst: Register, field: string])[]): Code;
  /** dst = a field, whether the view holds it or not, and where its pointer is lost. Loses r0-r5. */
  read(dst: Register, field: string): Code;
}

/** What an expression over the sk_buff finds in a program. Loses `registers`. */
export function skbExpressionFrame(
  { access }: TraceOptions,
  { skb, fields }: SkbView,
  registers: readonly Register[],
  failed: Label,
): ExpressionFrame {
  return {
    access,
    root: (dst) => ldx(dst, at(fp, slot.skb, u64)),
    rootField: (dst, field) => fields.includes(field) ? skb.load(dst, field) : undefined,
    registers,
    temp: slot.temp,
    spill: slot.scratch,
    spillBytes: 64,
    failed,
  };
}

/** Where a program has the sk_buff. */
interface SkbPlace extends Pick<ViewPlace, "address" | "hold"> {
  /** dst = its address, when no register may have it any more; touches no other register */
  reload(dst: Register): Code;
}
const wholePlace: SkbPlace = { address: r6, hold: r6, reload: (dst) => ldx(dst, at(fp, slot.skb, u64)) };

/**
 * The sk_buff's fields on this kernel. In whole programs r6 is its address, and the view's pointer once it is open.
 *
 * @param gone where a pointer leads nowhere: it is no packet
 */
export function skbView(
  options: TraceOptions,
  gone: Label,
  { address, hold, reload }: SkbPlace = wholePlace,
): SkbView {
  const { kernel, access } = options, { first, all: fields } = skbFields(options);
  const skb = access.view({
    address,
    hold,
    stack: slot.skbCopy,
    stackBytes: SKB_COPY_BYTES,
    fields,
    first,
    reload,
    unreadable: gone,
  });
  const field = (name: string) => kernel.field("sk_buff", name);
  const load: LoadSkb = (dst, wanted, hold) =>
    skb.load(dst, typeof wanted === "string" ? field(wanted) : wanted, hold);
  return {
    fields,
    skb,
    load,
    loadAll: (wanted) => skb.loadAll(wanted.map(([dst, name]) => [dst, field(name)])),
    read: (dst, name) => [reload(dst), access.read(dst, dst, field(name), slot.temp)],
  };
}

/** dst = a field of the sk_buff; `hold` says where the view's pointer is, if not in its register. */
export type LoadSkb = (dst: Register, field: string | Field, hold?: Register) => Code;

/**
 * r7 = the packet's device, or to `none`. While a packet is in a UDP socket's queue it has lengths and flags in that
 * place: no address of the kernel, and to look there is a fault, which takes longer than the rest of the program.
 */
export function deviceOf(load: LoadSkb, none: Label): Code {
  return [load(r7, "dev"), mov(r1, r7), rsh(r1, 60), jne(r1, 0xf, none)];
}

/** dst = inode number of the network namespace whose `struct net *` is the `field` of r7, or 0. */
export function namespaceOf({ kernel, access }: TraceOptions, dst: Register, field: Field): Code {
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
export function packetNamespace(options: TraceOptions, load: LoadSkb): Code {
  const { kernel } = options, noDevice = label("no_device"), known = label("netns_known");
  return [
    deviceOf(load, noDevice),
    namespaceOf(options, r1, kernel.field("net_device", "nd_net.net")),
    jne(r1, 0, known),
    noDevice,
    socketNamespace(options, load),
    known,
  ];
}

/** r1 = inode number of the network namespace of the packet's socket, or 0. Loses r7. */
export function socketNamespace(options: TraceOptions, load: LoadSkb): Code {
  const { kernel } = options, none = label("no_socket");
  return [
    load(r7, "sk"),
    mov(r1, r7),
    jeq(r7, 0, none),
    namespaceOf(options, r1, kernel.field("sock", "__sk_common.skc_net.net")),
    none,
  ];
}

/**
 * Goes to `tree` where the packet is in one of TCP's trees (struct rb_node) and another one beneath it: that is then what its
 * place for the device leads to. What is beneath it knows it as its parent. Loses r7.
 */
export function leaveTree({ kernel, access }: TraceOptions, load: LoadSkb, tree: Label): Code {
  const none = label("in_no_tree");
  return [
    deviceOf(load, none),
    access.read(r1, r7, kernel.field("rb_node", "__rb_parent_color"), slot.temp),
    and(r1, ~3), // the node's colour
    ldx(r2, at(fp, slot.skb, u64)),
    jeq(r1, r2, tree),
    none,
  ];
}

/** Goes to `list` where r7, the packet's route, is not one but its place in TCP's list of what was sent. Loses r1, r2. */
export function leaveList({ kernel, access }: TraceOptions, list: Label): Code {
  return [
    access.read(r1, r7, kernel.field("list_head", "prev"), slot.temp),
    ldx(r2, at(fp, slot.skb, u64)),
    add(r2, kernel.field("sk_buff", "_skb_refdst").offset),
    jeq(r1, r2, list),
  ];
}
