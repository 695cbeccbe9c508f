/** Builds packets from their parts, as plain lists of bytes, and names some that tests like to ask about. */

export type Bytes = readonly number[];

/** Big endian. */
export function u16(value: number): Bytes {
  return [(value >> 8) & 0xff, value & 0xff];
}

export function u32(value: number): Bytes {
  return [...u16(value >>> 16), ...u16(value)];
}

/** `10.0.0.1` */
export function dotted(text: string): Bytes {
  return text.split(".").map(Number);
}

/** `2001:db8::1`, always with `::` */
export function colons(text: string): Bytes {
  const [head = "", tail = ""] = text.split("::");
  const bytes = (part: string): Bytes =>
    part === ""
      ? []
      : part.split(":").flatMap((group) => group.includes(".") ? dotted(group) : u16(parseInt(group, 16)));
  const before = bytes(head), after = bytes(tail);
  return [...before, ...zeros(16 - before.length - after.length), ...after];
}

export function mac(text: string): Bytes {
  return text.split(":").map((group) => parseInt(group, 16));
}

export function zeros(count: number): Bytes {
  return Array.from({ length: count }, () => 0);
}

/** Destination, source and everything from the type field on. */
export function ethernet(payload: Bytes, to = "66:77:88:99:aa:bb", from = "00:11:22:33:44:55"): Bytes {
  return [...mac(to), ...mac(from), ...payload];
}

export const ip4Type = u16(0x0800), ip6Type = u16(0x86dd), arpType = u16(0x0806), rarpType = u16(0x8035);

export function vlan(tag: number, payload: Bytes, type = 0x8100): Bytes {
  return [...u16(type), ...u16(tag), ...payload];
}

/** MPLS labels, the last one at the bottom of the stack. */
export function mpls(labels: readonly number[], payload: Bytes): Bytes {
  const entries = labels.flatMap((label, index) =>
    u32(((label << 12) | (index === labels.length - 1 ? 0x100 : 0) | 64) >>> 0)
  );
  return [...u16(0x8847), ...entries, ...payload];
}

/** A PPPoE session frame; `type` is the PPP protocol: 0x21 for IPv4, 0x57 for IPv6. */
export function pppoe(session: number, type: number, payload: Bytes): Bytes {
  return [...u16(0x8864), 0x11, 0, ...u16(session), ...u16(payload.length + 2), ...u16(type), ...payload];
}

export interface Ip4 {
  readonly from?: string;
  readonly to?: string;
  readonly ttl?: number;
  /** flags and fragment offset */
  readonly fragment?: number;
  /** header length in words, as the header says */
  readonly words?: number;
}

export function ip4(
  [protocol, payload]: readonly [protocol: number, payload: Bytes],
  { from = "10.0.0.1", to = "1.2.3.4", ttl = 64, fragment = 0, words = 5 }: Ip4 = {},
): Bytes {
  const options = Array.from({ length: Math.max(0, words - 5) * 4 }, () => 1);
  const length = 20 + options.length + payload.length;
  const id = 0x1234;
  return [
    ...[0x40 | words, 0, ...u16(length), ...u16(id), ...u16(fragment), ttl, protocol, 0, 0],
    ...dotted(from),
    ...dotted(to),
    ...options,
    ...payload,
  ];
}

export function ip6(
  [next, payload]: readonly [next: number, payload: Bytes],
  { from = "2001:db8::1", to = "fe80::1", ttl = 64 }: { from?: string; to?: string; ttl?: number } = {},
): Bytes {
  return [
    ...[0x60, 0, 0, 0, ...u16(payload.length), next, ttl],
    ...colons(from),
    ...colons(to),
    ...payload,
  ];
}

/** An IPv6 extension header of eight bytes in front of something. */
export function extension(type: number, [next, payload]: readonly [number, Bytes]): readonly [number, Bytes] {
  return [type, [next, ...zeros(7), ...payload]];
}

export function tcp(from: number, to: number, flags: number, data: Bytes = []): readonly [number, Bytes] {
  return [6, [
    ...u16(from),
    ...u16(to),
    ...u32(1),
    ...u32(2),
    0x50,
    flags,
    ...u16(0x2000),
    ...u32(0),
    ...data,
  ]];
}

export function udp(from: number, to: number, data: Bytes = []): readonly [number, Bytes] {
  return [17, [...u16(from), ...u16(to), ...u16(data.length + 8), 0, 0, ...data]];
}

export function sctp(from: number, to: number, data: Bytes = []): readonly [number, Bytes] {
  return [132, [...u16(from), ...u16(to), ...u32(0), ...u32(0), ...data]];
}

export function icmp(type: number, data: Bytes = []): readonly [number, Bytes] {
  return [1, [type, 0, 0, 0, ...data]];
}

export function icmp6(type: number, data: Bytes = []): readonly [number, Bytes] {
  return [58, [type, 0, 0, 0, ...data]];
}

export function arp(operation: number, from: string, to: string): Bytes {
  return [
    ...[0, 1, ...ip4Type, 6, 4, ...u16(operation)],
    ...mac("00:11:22:33:44:55"),
    ...dotted(from),
    ...zeros(6),
    ...dotted(to),
  ];
}

/** `inner` is a whole Ethernet frame. */
export function vxlan(vni: number, inner: Bytes): readonly [number, Bytes] {
  return udp(40000, 4789, [8, 0, 0, 0, ...u32(vni << 8), ...inner]);
}

/** `options` counts words; `type` is the EtherType of `inner`, 0x6558 for an Ethernet frame. */
export function geneve(vni: number, options: number, type: number, inner: Bytes): readonly [number, Bytes] {
  return udp(40000, 6081, [options, 0, ...u16(type), ...u32(vni << 8), ...zeros(options * 4), ...inner]);
}

const syn = 0x02, synAck = 0x12, ack = 0x10;

/** Frames by name, for tables of expectations. */
// deno-fmt-ignore
export const frames = {
  syn: ethernet([...ip4Type, ...ip4(tcp(1234, 80, syn))]),
  synack: ethernet([...ip4Type, ...ip4(tcp(80, 1234, synAck), { from: "1.2.3.4", to: "10.0.0.1" })], "00:11:22:33:44:55", "66:77:88:99:aa:bb"),
  options: ethernet([...ip4Type, ...ip4(tcp(22, 4000, ack, [1, 2, 3, 4]), { from: "10.0.0.2", to: "10.0.0.1", words: 6, ttl: 1 })]),
  dns: ethernet([...ip4Type, ...ip4(udp(5353, 53, [0, 1, 2, 3]), { to: "8.8.8.8" })]),
  late: ethernet([...ip4Type, ...ip4(udp(5353, 53), { fragment: 0x0008 })]), // a later fragment: no ports
  ping: ethernet([...ip4Type, ...ip4(icmp(8))]),
  group: ethernet([...ip4Type, ...ip4(udp(5000, 5000), { to: "224.0.0.5" })], "01:00:5e:00:00:05"),
  assoc: ethernet([...ip4Type, ...ip4(sctp(36412, 36412))]),
  syn6: ethernet([...ip6Type, ...ip6(tcp(1234, 443, syn))]),
  frag6: ethernet([...ip6Type, ...ip6(extension(44, udp(5353, 53)))]),
  hop6: ethernet([...ip6Type, ...ip6(extension(0, udp(5353, 53)))]),
  solicit6: ethernet([...ip6Type, ...ip6(icmp6(135), { to: "ff02::1" })], "33:33:00:00:00:01"),
  who: ethernet([...arpType, ...arp(1, "10.0.0.2", "10.0.0.1")], "ff:ff:ff:ff:ff:ff"),
  rarp: ethernet([...rarpType, ...arp(3, "10.0.0.9", "10.0.0.9")], "ff:ff:ff:ff:ff:ff"),
  tag5: ethernet(vlan(5, [...ip4Type, ...ip4(tcp(1234, 80, syn))])),
  tag6: ethernet(vlan(0xe006, [...ip6Type, ...ip6(tcp(1234, 443, syn))])), // priority 7
  qinq: ethernet(vlan(100, vlan(5, [...ip4Type, ...ip4(udp(5353, 53))]), 0x88a8)),
  label: ethernet(mpls([1000], ip4(tcp(1234, 80, syn)))),
  labels: ethernet(mpls([3, 1000], ip6(udp(5353, 53)))),
  ppp: ethernet(pppoe(7, 0x21, ip4(udp(5353, 53)))),
  ppp6: ethernet(pppoe(8, 0x57, ip6(tcp(1234, 443, syn)))),
  vxlan: ethernet([...ip4Type, ...ip4(vxlan(5, ethernet([...ip4Type, ...ip4(tcp(1234, 80, syn))], "02:00:00:00:00:01", "02:00:00:00:00:02")), { from: "172.16.0.1", to: "172.16.0.2" })]),
  vxlan6: ethernet([...ip6Type, ...ip6(vxlan(6, ethernet([...arpType, ...arp(1, "10.0.0.2", "10.0.0.1")])))]),
  geneve: ethernet([...ip4Type, ...ip4(geneve(7, 2, 0x6558, ethernet([...ip4Type, ...ip4(icmp(8))])), { from: "172.16.0.1", to: "172.16.0.2" })]),
  bare: ethernet([...ip4Type, ...ip4(geneve(8, 0, 0x0800, ip4(icmp(0))), { from: "172.16.0.1", to: "172.16.0.2" })]),
  stp: ethernet([...u16(38), 0x42, 0x42, 0x03, ...zeros(35)], "01:80:c2:00:00:00"),
  isis: ethernet([...u16(60), 0xfe, 0xfe, 0x03, 0x83, 27, 1, 0, 15, 1, 0, 0, ...zeros(20)]),
  short: ethernet([...ip4Type, ...ip4(tcp(1234, 80, syn))]).slice(0, 30),
} as const satisfies Record<string, Bytes>;

export type FrameName = keyof typeof frames;

/** The same without a link-layer header. */
export const rawPackets = {
  syn: frames.syn.slice(14),
  dns: frames.dns.slice(14),
  late: frames.late.slice(14),
  syn6: frames.syn6.slice(14),
  vxlan: frames.vxlan.slice(14),
  bare: frames.bare.slice(14),
} as const satisfies Partial<Record<FrameName, Bytes>>;
