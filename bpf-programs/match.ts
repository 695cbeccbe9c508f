// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * The decision: does this packet match? Every part goes on where it does and to `miss` where it does not.
 */
import { type CbpfInsn } from "../asm/cbpf.ts";
import { cbpfToEbpf } from "../asm/cbpf_to_ebpf.ts";
import { type Code, type Label, label } from "../asm/code.ts";
import { withoutDeadCode } from "../asm/dead_code.ts";
import { withinReach } from "../asm/far_jumps.ts";
import {
  add,
  and32,
  at,
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
  ldx,
  mov,
  r1,
  r2,
  r3,
  r6,
  r7,
  r8,
  r9,
  type Register,
  st,
  stx,
  sub,
} from "../asm/insn.ts";
import { u64 } from "../asm/layout.ts";
import { ancillaryWord } from "./ancillary.ts";
import { COPY_BYTES, copyWithFragment } from "./fragments.ts";
import {
  deviceOf,
  type LoadSkb,
  packetNamespace,
  skbExpressionFrame,
  type SkbView,
  skbView,
  slot,
  type TraceOptions,
} from "./frame.ts";

const ETH_HLEN = 14;
/** More than an Ethernet header with all the tags anybody stacks: a distance beyond is a stale offset. */
const MAX_LINK_HEADER = 64;
/** sk_buff.mac_header while nobody has set it. */
const MAC_HEADER_UNSET = 0xffff;

export function matchesMark({ mark }: TraceOptions, load: LoadSkb, miss: Label): Code {
  if (mark === undefined || mark.mask === 0) return [];
  return [
    load(r1, "mark"),
    mark.mask === 0xffffffff ? [] : and32(r1, mark.mask),
    jne32(r1, (mark.value & mark.mask) >>> 0, miss),
  ];
}

/**
 * Loads where the packet's headers are, as offsets from `head`, and goes to `l2`, or falls through to it, if it has an
 * Ethernet header now, else to `l3`.
 *
 * It has one when mac_header is set and the network header lies a link header behind it, or when the
 * driver has just set it (`data` points behind it) and nobody has set network_header yet.
 */
export function headerOf(
  { load, loadAll }: Pick<SkbView, "load" | "loadAll">,
  { head, mac, network, tail, temp }: Readonly<
    Record<"head" | "mac" | "network" | "tail" | "temp", Register>
  >,
  l2: Label,
  l3: Label,
): Code {
  return [
    load(head, "head"),
    loadAll([[mac, "mac_header"], [network, "network_header"], [tail, "tail"]]),
    mov(temp, network),
    sub(temp, mac),
    sub(temp, ETH_HLEN),
    jle(temp, MAX_LINK_HEADER - ETH_HLEN, l2), // unsigned: not in front of it either
    jeq32(mac, MAC_HEADER_UNSET, l3),
    load(temp, "data"),
    sub(temp, head),
    sub(temp, mac),
    jne(temp, ETH_HLEN, l3),
  ];
}

/**
 * Runs the filter from the Ethernet header if the packet has one now, else from the network header.
 *
 * A load behind the linear part of a packet with page fragments starts the filter again, on a copy.
 */
export function matchesFilter(options: TraceOptions, view: SkbView, miss: Label, unreadable: Label): Code {
  const { filter } = options;
  if (filter === undefined) return [];
  const l2 = label("l2"), l3 = label("l3"), matchedL3 = label("matched_l3"), matched = label("matched");
  return [
    headerOf(view, { head: r9, mac: r1, network: r2, tail: r8, temp: r3 }, l2, l3),
    l2,
    filter.l2 === undefined ? ja(miss) : [
      runFrom(options, filter.l2, view, { name: "mac_header", offset: r1 }, matched, miss, unreadable),
    ],
    l3,
    filter.l3 === undefined ? ja(miss) : [
      runFrom(options, filter.l3, view, { name: "network_header", offset: r2 }, matchedL3, miss, unreadable),
      matchedL3,
      view.skb.again(r6),
      view.load(r1, "network_header"),
      jeq(r1, 0, miss), // nobody has set it: a message of a Unix socket, or a packet that has no headers yet
    ],
    matched,
    view.skb.again(r6),
  ];
}

/** Where a packet may begin: a place in sk_buff, from head. */
export type Header = "mac_header" | "network_header" | "inner_mac_header" | "inner_network_header";

/**
 * Runs one filter from `header` on and falls through where it matches. In and out: r6 the view's pointer. Loses all
 * other registers.
 */
export function matchesFrom(
  options: TraceOptions,
  program: readonly CbpfInsn[],
  view: SkbView,
  header: Header,
  miss: Label,
  unreadable: Label,
): Code {
  const matched = label("matched");
  return [
    view.load(r9, "head"),
    view.load(r8, "tail"),
    view.load(r1, header),
    runFrom(options, program, view, { name: header, offset: r1 }, matched, miss, unreadable),
    matched,
    view.skb.again(r6),
  ];
}

/** In: r9 head, r8 tail, the header's offset from head in its register. Loses all registers. */
function runFrom(
  options: TraceOptions,
  program: readonly CbpfInsn[],
  view: SkbView,
  { name, offset }: { readonly name: Header; readonly offset: Register },
  match: Label,
  noMatch: Label,
  unreadable: Label,
): Code {
  const begin = label("begin"), tooShort = label("too_short");
  return [
    jgt(offset, r8, noMatch), // the header would begin behind the linear bytes
    add(r9, offset), // r9 = the packet's first byte
    sub(r8, offset), // r8 = bytes from there to tail
    st(at(fp, slot.copied, u64), 0),
    begin,
    runFilter(options, program, view, { match, noMatch, tooShort, unreadable }),
    tooShort,
    startAgain(options, view, name, begin, noMatch, unreadable),
  ];
}

/** The filter on the packet whose first byte r9 has the address of, and r8 bytes of which can be read. */
function runFilter(
  options: TraceOptions,
  program: readonly CbpfInsn[],
  view: SkbView,
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
    x: r6,
    length: r8,
    wireLength: (dst) => {
      const original = label("original"), known = label("length_known");
      return [
        ldx(dst, at(fp, slot.copied, u64)),
        jeq(dst, 0, original),
        ldx(dst, at(fp, slot.length, u64)),
        ja(known),
        original,
        view.read(dst, "data_len"),
        add(dst, r8),
        known,
      ];
    },
    ancillary: (dst, word) => ancillaryWord(options, view, dst, word),
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

/** r9 is the packet, r8 its bytes in reach, r7 and r6 are the filter's A and X. */
export function filterFragment(
  options: Omit<TraceOptions, "filter">,
  program: readonly CbpfInsn[],
): FilterFragment {
  const match = label("match"), noMatch = label("no_match"), tooShort = label("too_short");
  const unreadable = label("unreadable"), ends = { match, noMatch, tooShort, unreadable };
  const whole = { ...options, filter: { l2: program, l3: undefined } };
  const fragment = runFilter(whole, program, skbView(whole, noMatch), ends);
  const exits = Object.values(ends).map((end) => [end, exit()]);
  return { code: withinReach(withoutDeadCode([fragment, exits])), ends: Object.values(ends) };
}

/**
 * After a load behind the linear bytes: a packet that has no more bytes does not match; of one that has, a copy
 * is made and the filter runs again from `begin`. A load that is behind the copy too leaves the filter
 * without a verdict.
 */
function startAgain(
  options: TraceOptions,
  view: SkbView,
  header: Header,
  begin: Label,
  miss: Label,
  unreadable: Label,
): Code {
  const { kernel, access, memory, maps } = options, second = label("second_time");
  const whole: Code = [
    ldx(r1, at(fp, slot.copied, u64)),
    jne(r1, 0, second),
    view.read(r7, "data_len"),
    jeq(r7, 0, miss),
  ];
  const again: Code = memory === undefined ? ja(unreadable) : [
    view.skb.again(r6),
    view.load(r1, header),
    view.load(r8, "tail"), // anew: what the filter's own checks say of r8 contradicts itself on ways that are never gone
    sub(r8, r1), // r8 = linear bytes
    add(r7, r8),
    stx(at(fp, slot.length, u64), r7),
    st(at(fp, slot.copied, u64), 1),
    view.load(r7, "head"),
    add(r7, r1), // r7 = the packet's first byte
    jge(r8, COPY_BYTES, unreadable),
    copyWithFragment({
      kernel,
      access,
      memory,
      scratch: maps.scratch,
      key: slot.key,
      temp: slot.temp,
      loadSharedInfo: [
        view.read(r8, "end"),
        view.skb.again(r1),
        view.load(r2, "head", r1),
        add(r8, r2),
      ],
      unreadable,
    }),
    mov(r8, r6), // r8 = bytes of the copy
    ja(begin),
  ];
  return [whole, again, second, ldx(r1, at(fp, slot.length, u64)), jlt(r8, r1, unreadable), ja(miss)];
}

export function matchesDevice(options: TraceOptions, load: LoadSkb, miss: Label): Code {
  const { netns, ifindex, access, kernel } = options;
  return [
    netns === undefined ? [] : [packetNamespace(options, load), jne32(r1, netns, miss)],
    ifindex === undefined ? [] : [
      deviceOf(load, miss),
      access.read(r1, r7, kernel.field("net_device", "ifindex"), slot.temp),
      jne32(r1, ifindex, miss),
    ],
  ];
}

/** Goes to `miss` where the expression is false or has no value. Loses r7-r9. */
export function matchesExpression(options: TraceOptions, view: SkbView, miss: Label): Code {
  const { expression } = options;
  if (expression === undefined) return [];
  return expression.code(skbExpressionFrame(options, view, [r7, r8, r9], miss), miss);
}
