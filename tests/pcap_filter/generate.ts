/**
 * Random filter expressions and random packets for them, from a seed. Both draw addresses, ports and tags from
 * the same small pools, so that a random expression has a fair chance of matching a random packet.
 */
import type { LinkType } from "../../lib/pcap_filter/compile.ts";
import * as make from "./packets.ts";
import type { Bytes } from "./packets.ts";

/** A reproducible source of choices (mulberry32). */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  /** 0 <= n < limit */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 4294967296 * limit);
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)]!;
  }
  /** One of `choices`, each as often as its weight says. */
  weighted<T>(choices: readonly (readonly [weight: number, choice: T])[]): T {
    const total = choices.reduce((sum, [weight]) => sum + weight, 0);
    let at = this.below(total);
    for (const [weight, choice] of choices) if ((at -= weight) < 0) return choice;
    throw new RangeError("No choices");
  }
}

const ip4Hosts = ["10.0.0.1", "10.0.0.2", "192.168.1.7", "1.2.3.4", "224.0.0.5"];
const ip4Nets = ["10.0.0.0/8", "192.168.1.0/24", "1.2.0.0 mask 255.255.0.0", "10", "192.168", "0.0.0.0/0"];
const ip6Hosts = ["2001:db8::1", "fe80::1", "ff02::5", "::1.2.3.4"];
const ip6Nets = ["2001:db8::/32", "fe80::/10", "::/0", "2001:db8::/63"];
const macs = ["00:11:22:33:44:55", "66:77:88:99:aa:bb", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:05"];
const ports = [22, 53, 80, 443, 4789, 6081, 65535];
const vlans = [1, 5, 100];
const labels = [3, 5, 1000];
const vnis = [5, 7, 0xffffff];
const ipProtocols = [0, 1, 2, 6, 17, 43, 44, 50, 51, 58, 59, 60, 89, 103, 112, 132];

const indexable = [
  "ip",
  "ip6",
  "tcp",
  "udp",
  "icmp",
  "icmp6",
  "arp",
  "ether",
  "sctp",
  "link",
  "rarp",
  "igmp",
];
// deno-fmt-ignore
const abbreviations = [
  "ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "pim", "ah", "esp", "vrrp", "stp", "iso",
  "ipx", "netbeui", "atalk", "aarp", "decnet", "lat", "isis", "clnp", "l1", "snp",
];

/** A well-formed expression; it may still be refused for what it means. */
export function randomExpression(random: Random, depth = 4): string {
  if (depth <= 0 || random.chance(25)) return primitive(random);
  return random.weighted<() => string>([
    [
      6,
      () =>
        `${randomExpression(random, depth - 1)} ${random.pick(["and", "or", "&&", "||"])} ${
          term(random, depth - 1)
        }`,
    ],
    [3, () => `(${randomExpression(random, depth - 1)})`],
    [2, () => `not ${term(random, depth - 1)}`],
    [3, () => relation(random)],
  ])();
}

/** Few tests, repeated and negated many times over: what an optimiser finds most to do with. */
export function redundantExpression(random: Random, depth = 5): string {
  // deno-fmt-ignore
  const pool = [
    "ip", "ip6", "tcp", "src net 2001:db8::/63", "net 2001:db8::/63", "net fe80::/10", "port 80", "tcp port 80", "src port 53",
    "ip[6:2] & 0x1fff = 0", "ip[6:2] & 0x1fff != 0", "tcp[13] & 2 = 0", "tcp[13] & 2 != 0", "ether[0] & 1 = 0", "multicast",
    "ip[0] & 0xf = 5", "ip[0] - 0x45 = 0", "host 10.0.0.1", "src 10.0.0.1", "net 10", "dst net 10.0.0.0/8", "arp", "vlan", "mpls",
    "vxlan", "len > 60", "greater 61", "less 60", "proto 6", "ip proto 6", "ip6 proto 17", "udp[0:2] = tcp[0:2]", "ip[8] = ip[9]",
    "1 = 1", "2 - 1 = 2", "llc", "stp", "ip[2:2] > len - 14", "ether host 00:11:22:33:44:55", "portrange 50-90",
  ];
  const chosen = Array.from({ length: 2 + random.below(4) }, () => random.pick(pool));
  const combine = (depth: number): string => {
    const part = random.chance(30) ? "not " : "";
    if (depth === 0 || random.chance(15)) return part + random.pick(chosen);
    return `${part}(${combine(depth - 1)} ${random.pick(["and", "or"])} ${combine(depth - 1)})`;
  };
  return combine(depth);
}

function term(random: Random, depth: number): string {
  return random.chance(50) ? primitive(random) : `(${randomExpression(random, depth)})`;
}

function primitive(random: Random): string {
  const direction = () => random.pick(["", "", "src ", "dst ", "src and dst ", "src or dst "]);
  return random.weighted<() => string>([
    [6, () => random.pick(abbreviations)],
    [5, () => `${random.pick(["", "", "ip ", "arp "])}${direction()}host ${random.pick(ip4Hosts)}`],
    [3, () => `${direction()}net ${random.pick(ip4Nets)}`],
    [2, () => `${random.pick(["", "ip6 "])}${direction()}host ${random.pick(ip6Hosts)}`],
    [2, () => `${direction()}net ${random.pick(ip6Nets)}`],
    [6, () => `${random.pick(["", "tcp ", "udp ", "sctp "])}${direction()}port ${random.pick(ports)}`],
    [2, () => `port ${random.pick(ports)} or ${random.pick(ports)}`],
    [2, () => `${direction()}portrange ${random.pick(ports)}-${random.pick(ports)}`],
    [2, () => `ether ${direction()}host ${random.pick(macs)}`],
    [3, () => `${random.pick(["", "ip ", "ip6 "])}proto ${random.pick(ipProtocols)}`],
    [1, () => `ether proto ${random.pick(["0x800", "0x806", "0x86dd", "0x8100", "0x42", "\\arp"])}`],
    [1, () => `${random.pick(["", "ip ", "ip6 "])}protochain ${random.pick(ipProtocols)}`],
    [2, () => random.pick(["broadcast", "multicast", "ip multicast", "ip6 multicast", "ether multicast"])],
    [2, () => `${random.pick(["less", "greater"])} ${random.pick([40, 60, 100, 1500])}`],
    [1, () => `byte ${random.below(40)} ${random.pick(["=", "<", ">", "&", "|"])} ${random.below(256)}`],
    [1, () => `llc${random.pick(["", " i", " s", " u", " rr", " ui"])}`],
    [3, () => `vlan${random.chance(50) ? ` ${random.pick(vlans)}` : ""}`],
    [1, () => `mpls${random.chance(50) ? ` ${random.pick(labels)}` : ""}`],
    [1, () => `pppoes${random.chance(30) ? " 7" : ""}`],
    [2, () => `vxlan${random.chance(50) ? ` ${random.pick(vnis)}` : ""}`],
    [1, () => `geneve${random.chance(50) ? ` ${random.pick(vnis)}` : ""}`],
    [8, () => relation(random)],
  ])();
}

function relation(random: Random): string {
  return `${value(random, 2)} ${random.pick(["=", "!=", "<", "<=", ">", ">=", "=="])} ${value(random, 1)}`;
}

function value(random: Random, depth: number): string {
  const size = () => random.pick(["", ":1", ":2", ":4"]);
  if (depth <= 0) return String(random.weighted([[3, random.below(256)], [1, random.pick(ports)], [1, 0]]));
  return random.weighted<() => string>([
    [5, () => `${random.pick(indexable)}[${random.below(24)}${size()}]`],
    [1, () => `${random.pick(indexable)}[${value(random, depth - 1)}${size()}]`],
    [4, () => value(random, 0)],
    [1, () => "len"],
    [1, () => `tcp[tcpflags] & (tcp-syn|tcp-ack)`],
    [
      4,
      () =>
        `${value(random, depth - 1)} ${random.pick(["+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"])} ${
          value(random, depth - 1)
        }`,
    ],
    [1, () => `(${value(random, depth - 1)} & ${random.pick([0, 1, 0xf, 0xf0, 0x1fff])})`],
    [1, () => `- ${value(random, depth - 1)}`],
  ])();
}

/** A captured packet. */
export interface RandomPacket {
  readonly bytes: Uint8Array;
  /** length on the wire: the captured bytes may be fewer */
  readonly wireLength: number;
}

/** A packet that starts with the header of `linkType`; sometimes cut short, sometimes with changed bytes. */
export function randomPacket(random: Random, linkType: LinkType): RandomPacket {
  const bytes = [...(linkType === "EN10MB" ? frame(random, 3) : ip(random, 3))];
  if (random.chance(15)) {
    for (let count = 0; count < 3; count++) bytes[random.below(bytes.length)] = random.below(256);
  }
  const captured = random.chance(25) ? random.below(bytes.length + 1) : bytes.length;
  return { bytes: Uint8Array.from(bytes.slice(0, captured)), wireLength: bytes.length };
}

function frame(random: Random, depth: number): Bytes {
  return make.ethernet(etherPayload(random, depth), random.pick(macs), random.pick(macs));
}

/** An EtherType, or a length, and what follows. */
function etherPayload(random: Random, depth: number): Bytes {
  const arp = () => make.arp(random.pick([1, 2]), random.pick(ip4Hosts), random.pick(ip4Hosts));
  const tagged = () =>
    make.vlan(
      (random.below(8) << 13) | random.pick(vlans),
      etherPayload(random, depth - 1),
      random.pick([0x8100, 0x88a8, 0x9100]),
    );
  const llc = () => random.pick([[0x42, 0x42, 0x03], [0xfe, 0xfe, 0x03, 0x83], [0xaa, 0xaa, 0x03]]);
  return random.weighted<() => Bytes>([
    [8, () => [...make.ip4Type, ...ip4(random, depth)]],
    [5, () => [...make.ip6Type, ...ip6(random, depth)]],
    [2, () => [...make.arpType, ...arp()]],
    [1, () => [...make.rarpType, ...arp()]],
    [depth > 0 ? 3 : 0, tagged],
    [2, () => make.mpls(random.pick([[3], [5], [1000], [5, 1000]]), ip(random, 0))],
    [1, () => make.pppoe(random.pick([7, 8]), 0x21, ip4(random, 0))],
    [1, () => make.pppoe(7, 0x57, ip6(random, 0))],
    [2, () => [...make.u16(64), ...llc(), ...junk(random)]],
    [1, () => [...make.u16(random.below(65536)), ...junk(random)]],
  ])();
}

function ip(random: Random, depth: number): Bytes {
  return random.chance(65) ? ip4(random, depth) : ip6(random, depth);
}

function ip4(random: Random, depth: number): Bytes {
  return make.ip4(transport(random, depth), {
    from: random.pick(ip4Hosts),
    to: random.pick(ip4Hosts),
    ttl: random.pick([1, 64, 255]),
    fragment: random.weighted([[8, 0], [1, 0x2000], [1, 0x0010], [1, 0x4000]]),
    words: random.weighted([[8, 5], [2, 6], [1, 15], [1, random.below(16)]]),
  });
}

function ip6(random: Random, depth: number): Bytes {
  let payload = transport(random, depth);
  for (let count = random.weighted([[6, 0], [2, 1], [1, 2]]); count > 0; count--) {
    payload = make.extension(random.pick([0, 43, 44, 51, 60]), payload);
  }
  return make.ip6(payload, { from: random.pick(ip6Hosts), to: random.pick(ip6Hosts) });
}

/** An IP protocol number and what it carries. */
function transport(random: Random, depth: number): readonly [number, Bytes] {
  const from = random.pick(ports), to = random.pick(ports), vni = random.pick(vnis);
  const tunnelled = () => make.geneve(vni, random.below(3), 0x6558, frame(random, depth - 1));
  return random.weighted<() => readonly [number, Bytes]>([
    [6, () => make.tcp(from, to, random.below(256), junk(random))],
    [5, () => make.udp(from, to, junk(random))],
    [1, () => make.sctp(from, to, junk(random))],
    [2, () => make.icmp(random.pick([0, 3, 8]), junk(random))],
    [1, () => make.icmp6(random.pick([1, 128, 135]), junk(random))],
    [2, () => [random.pick(ipProtocols), junk(random)]],
    [depth > 0 ? 2 : 0, () => make.vxlan(vni, frame(random, depth - 1))],
    [depth > 0 ? 1 : 0, tunnelled],
    [depth > 0 ? 1 : 0, () => make.geneve(vni, 0, 0x0800, ip4(random, depth - 1))],
  ])();
}

function junk(random: Random): Bytes {
  return Array.from({ length: random.below(30) }, () => random.below(256));
}
