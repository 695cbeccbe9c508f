/** A tuple as text, in pwru's form; addresses and flags also for what else shows them. */
import { namedConstants } from "../pcap_filter/tables.ts";
import { type Cell, cell, putCell, putDecimal, putHex, putOctet, RecentTexts } from "./bytes.ts";
import {
  ETH_P_IP,
  ETH_P_IPV6,
  IPPROTO_AH,
  IPPROTO_ESP,
  IPPROTO_GRE,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_TCP,
  IPPROTO_UDP,
  type Tuple,
} from "./tuple.ts";

/** From bit 0 of a TCP header's flags byte up. */
const TCP_FLAGS = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];

/** `SYN|ACK`; "" without flags. */
export function tcpFlagNames(flags: number): string {
  return TCP_FLAGS.filter((_, bit) => flags & 1 << bit).join("|");
}

/** By IP protocol: pwru's names, and in what it leaves empty those of the filter language. */
const PROTOCOL_NAMES: Readonly<Record<number, string>> = {
  [IPPROTO_ICMP]: "icmp",
  2: "igmp",
  4: "ipencap",
  [IPPROTO_TCP]: "tcp",
  [IPPROTO_UDP]: "udp",
  33: "dccp",
  41: "ipv6",
  [IPPROTO_GRE]: "gre",
  [IPPROTO_ESP]: "esp",
  [IPPROTO_AH]: "ah",
  [IPPROTO_ICMPV6]: "icmp6",
  89: "ospf",
  103: "pim",
  112: "vrrp",
  115: "l2tp",
  132: "sctp",
  136: "udplite",
};
const nameOf = (protocol: number) => PROTOCOL_NAMES[protocol] ?? `${protocol}`;
const PLAIN: readonly Cell[] = Array.from({ length: 256 }, (_, protocol) => cell(`(${nameOf(protocol)})`));
/** A packet without an IP header. */
const NO_PROTOCOL = cell("()");

/** What has more to say than its protocol: the name, to be followed by colon and commas. */
const OPEN: readonly Cell[] = Array.from({ length: 256 }, (_, protocol) => cell(`(${nameOf(protocol)}`));
const CODE = cell(",code="), ID = cell(",id="), SEQUENCE = cell(",seq=");
const FRAGMENT = cell(":frag="), KEY = cell(":key=0x"), SPI = cell(":spi=0x"), CLOSE = cell(")");

/** `:echo` by the type of a message, as the filter language calls it in `icmp[icmptype] = icmp-echo`; else its number. */
const icmpTypes = (prefix: string): readonly Cell[] => {
  const names = new Map(
    [...namedConstants].filter(([name]) => name.startsWith(prefix)).map(([name, type]) =>
      [type, name.slice(prefix.length)] as const
    ),
  );
  return Array.from({ length: 256 }, (_, type) => cell(`:${names.get(type) ?? `type=${type}`}`));
};
const ICMP_TYPES = icmpTypes("icmp-"), ICMPV6_TYPES = icmpTypes("icmp6-");

/** TCP by its flags. */
const TCP_WITH_FLAGS: readonly Cell[] = Array.from(
  { length: 256 },
  (_, flags) => cell(flags === 0 ? "(tcp)" : `(tcp:${tcpFlagNames(flags)})`),
);

const COLON = 0x3a;
const ARROW = 0x3e2d; // "->", little endian

/** `[ffff:...]:0->[ffff:...]:0(icmp6:ineighbordiscoveryadvert,code=255,id=65535,seq=65535)` and some room. */
export const TUPLE_BYTES = 192;

/** Tuples that were written last, with what they were made of: kind, ports and both addresses in 32-bit words. */
const RECENT_TUPLES = 512, TUPLE_WORDS = 10;
const recentTuples = new RecentTexts(RECENT_TUPLES, TUPLE_BYTES);
const tupleWords = new Int32Array(RECENT_TUPLES * TUPLE_WORDS);

/**
 * `10.0.2.15:40718->1.0.0.1:8080(tcp)`, `10.0.2.15:0->1.0.0.1:0(icmp:echo,id=7,seq=1)`, `...(gre:key=0x2a)`,
 * `...(esp:spi=0xc0ffee)`, `...(udp:frag=1480)` for a later fragment; `:0->:0()` when there is no IP header.
 *
 * @param flags shows those of TCP: `(tcp:SYN|ACK)`
 */
export function putTuple(out: DataView, at: number, view: DataView, tuple: Tuple, flags = false): number {
  const { etherType, protocol, source, destination } = tuple;
  // Most packets come by many times, and their neighbours have the same addresses.
  if (etherType === 0 || tuple.icmpType >= 0 || tuple.key >= 0 || tuple.fragmentOffset > 0) {
    return putNewTuple(out, at, view, tuple, flags);
  }
  const kind = etherType << 16 | protocol << 8 | (flags ? tuple.tcpFlags : 0);
  const ports = tuple.sourcePort << 16 | tuple.destinationPort;
  const v6 = etherType === ETH_P_IPV6, last = v6 ? 12 : 0;
  const a = view.getInt32(source + last), b = view.getInt32(destination + last);
  const place = Math.imul(a ^ b ^ ports ^ kind, 0x9e37_79b1) >>> 23, at0 = place * TUPLE_WORDS;
  if (
    recentTuples.has(place) && tupleWords[at0] === kind && tupleWords[at0 + 1] === ports &&
    tupleWords[at0 + 2] === a && tupleWords[at0 + 3] === b && (!v6 || sameStarts(view, tuple, at0 + 4))
  ) return recentTuples.put(out, at, place);
  const end = putNewTuple(out, at, view, tuple, flags);
  recentTuples.keep(out, at, end, place);
  tupleWords[at0] = kind;
  tupleWords[at0 + 1] = ports;
  tupleWords[at0 + 2] = a;
  tupleWords[at0 + 3] = b;
  for (let i = 0; v6 && i < 3; i++) {
    tupleWords[at0 + 4 + i] = view.getInt32(source + 4 * i);
    tupleWords[at0 + 7 + i] = view.getInt32(destination + 4 * i);
  }
  return end;
}

/** Whether the first 12 bytes of both IPv6 addresses are those that are kept there. */
function sameStarts(view: DataView, { source, destination }: Tuple, at: number): boolean {
  for (let i = 0; i < 3; i++) {
    if (tupleWords[at + i] !== view.getInt32(source + 4 * i)) return false;
    if (tupleWords[at + 3 + i] !== view.getInt32(destination + 4 * i)) return false;
  }
  return true;
}

function putNewTuple(out: DataView, at: number, view: DataView, tuple: Tuple, flags: boolean): number {
  const { etherType, protocol } = tuple;
  if (etherType === ETH_P_IP) at = putIpv4(out, at, view, tuple.source);
  else if (etherType === ETH_P_IPV6) at = putIpv6(out, at, view, tuple.source);
  out.setUint8(at, COLON);
  at = putDecimal(out, at + 1, tuple.sourcePort);
  out.setUint16(at, ARROW, true);
  at += 2;
  if (etherType === ETH_P_IP) at = putIpv4(out, at, view, tuple.destination);
  else if (etherType === ETH_P_IPV6) at = putIpv6(out, at, view, tuple.destination);
  out.setUint8(at, COLON);
  at = putDecimal(out, at + 1, tuple.destinationPort);
  if (etherType === 0) return putCell(out, at, NO_PROTOCOL);
  if (tuple.icmpType >= 0) return putIcmp(out, putCell(out, at, OPEN[protocol]!), tuple);
  if (tuple.key >= 0) {
    at = putCell(out, putCell(out, at, OPEN[protocol]!), protocol === IPPROTO_GRE ? KEY : SPI);
    return putCell(out, putHex(out, at, tuple.key), CLOSE);
  }
  if (tuple.fragmentOffset > 0) {
    at = putCell(out, putCell(out, at, OPEN[protocol]!), FRAGMENT);
    return putCell(out, putDecimal(out, at, tuple.fragmentOffset), CLOSE);
  }
  const withFlags = flags && protocol === IPPROTO_TCP;
  return putCell(out, at, withFlags ? TCP_WITH_FLAGS[tuple.tcpFlags]! : PLAIN[protocol]!);
}

function putIcmp(out: DataView, at: number, tuple: Tuple): number {
  at = putCell(out, at, (tuple.protocol === IPPROTO_ICMP ? ICMP_TYPES : ICMPV6_TYPES)[tuple.icmpType]!);
  if (tuple.icmpCode !== 0) at = putDecimal(out, putCell(out, at, CODE), tuple.icmpCode);
  if (tuple.icmpId >= 0) {
    at = putDecimal(out, putCell(out, at, ID), tuple.icmpId);
    at = putDecimal(out, putCell(out, at, SEQUENCE), tuple.icmpSequence);
  }
  return putCell(out, at, CLOSE);
}

/** Dotted quad of four bytes. */
export function putIpv4(out: DataView, at: number, view: DataView, from: number): number {
  at = putOctet(out, at, view.getUint8(from));
  at = putOctet(out, at, view.getUint8(from + 1));
  at = putOctet(out, at, view.getUint8(from + 2));
  return putOctet(out, at, view.getUint8(from + 3)) - 1;
}

/** Bracketed addresses that were written last, by a hash of their bits. */
const RECENT = 1024;
const recentBits = new Int32Array(RECENT * 4);
const recentCells: (Cell | undefined)[] = new Array(RECENT).fill(undefined);

/** Bracketed text of the IPv6 address in 16 bytes. */
export function putIpv6(out: DataView, at: number, view: DataView, from: number): number {
  const a = view.getInt32(from), b = view.getInt32(from + 4);
  const c = view.getInt32(from + 8), d = view.getInt32(from + 12);
  const slot = (Math.imul(a ^ b ^ c ^ d, 0x9e37_79b1) >>> 22) & (RECENT - 1), bits = slot * 4;
  let text = recentCells[slot];
  if (
    text === undefined || recentBits[bits] !== a || recentBits[bits + 1] !== b ||
    recentBits[bits + 2] !== c ||
    recentBits[bits + 3] !== d
  ) {
    recentBits.set([a, b, c, d], bits);
    text = recentCells[slot] = cell(`[${ipv6Text(view, from)}]`);
  }
  return putCell(out, at, text);
}

/**
 * Canonical text of 16 bytes (RFC 5952): the longest run of two or more zero groups, the first of equals,
 * becomes "::". An IPv4-mapped address is a bare dotted quad, as Go prints it and so pwru does.
 */
export function ipv6Text(view: DataView, from: number): string {
  const groups = Array.from({ length: 8 }, (_, group) => view.getUint16(from + group * 2));
  let start = 0, length = 1;
  for (let first = 0; first < 8; first++) {
    let end = first;
    while (groups[end] === 0) end++;
    if (end - first > length) [start, length] = [first, end - first];
  }
  if (start === 0 && length === 5 && groups[5] === 0xffff) {
    return [12, 13, 14, 15].map((at) => view.getUint8(from + at)).join(".");
  }
  const text = (part: number[]) => part.map((group) => group.toString(16)).join(":");
  return length === 1
    ? text(groups)
    : `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}
