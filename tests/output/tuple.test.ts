import { expect, test } from "bun:test";
import { decodeTuple, ETH_P_IP, ETH_P_IPV6, Tuple } from "../../lib/output/tuple.ts";
import { SLACK } from "../../lib/output/bytes.ts";
import { putTuple, TUPLE_BYTES } from "../../lib/output/tuple_text.ts";
import { MemorySink } from "../../lib/output/writer.ts";
import { fromHex, TCP_IPV4 } from "./records.ts";

const VLAN = 0x8100, QINQ = 0x88a8, ARP = 0x0806;

const A = "20010db8 00000000 00000000 00000001", B = "20010db8 00000000 00010000 00000002";
const PORTS = "9f0e 1f90";
/** An IPv6 packet with this next header and these bytes behind the fixed header. */
const ipv6 = (next: string, rest: string) => `60000000 0000 ${next} 40 ${A} ${B} ${rest}`;
const AB = (ports: string, proto: string) => {
  const [from, to] = ports.split(" ");
  return `[2001:db8::1]:${from}->[2001:db8::1:0:0:2]:${to}(${proto})`;
};
/** An IPv4 packet with this fragment word, protocol and bytes behind the header. */
const ipv4 = (fragment: string, protocol: string, rest: string) =>
  `45 00 0000 0000 ${fragment} 40 ${protocol} 0000 0a000001 0a000002 ${rest}`;
const V4 = (ports: string, proto: string) =>
  `10.0.0.1:${ports.split(" ")[0]}->10.0.0.2:${ports.split(" ")[1]}(${proto})`;
const NONE = ":0->:0()";

function text(headers: Uint8Array, protocol: number): string {
  const view = new DataView(headers.buffer, headers.byteOffset, headers.length);
  const tuple = new Tuple(), sink = new MemorySink();
  decodeTuple(view, 0, headers.length, protocol, tuple);
  sink.commit(putTuple(sink.view, sink.room(TUPLE_BYTES + SLACK), view, tuple));
  return sink.take();
}

test.each<[name: string, protocol: number, headers: string, text: string]>([
  ["tcp", ETH_P_IP, TCP_IPV4, "10.0.2.15:40718->1.0.0.1:8080(tcp)"],
  ["udp", ETH_P_IP, ipv4("0000", "11", "0035 ffff"), V4("53 65535", "udp")],
  ["sctp", ETH_P_IP, ipv4("0000", "84", PORTS), V4("40718 8080", "sctp")],
  ["dccp", ETH_P_IP, ipv4("0000", "21", PORTS), V4("40718 8080", "dccp")],
  ["udp-lite", ETH_P_IP, ipv4("0000", "88", PORTS), V4("40718 8080", "udplite")],
  ["icmp", ETH_P_IP, ipv4("0000", "01", "08 00 0000 1234 0001"), V4("0 0", "icmp:echo,id=4660,seq=1")],
  ["icmp, an error", ETH_P_IP, ipv4("0000", "01", "03 04 0000 0000 05dc"), V4("0 0", "icmp:unreach,code=4")],
  ["icmp, a type without a name", ETH_P_IP, ipv4("0000", "01", "4d 03"), V4("0 0", "icmp:type=77,code=3")],
  [
    "icmp, cut off in its sequence number",
    ETH_P_IP,
    ipv4("0000", "01", "00 00 0000 1234 00"),
    V4("0 0", "icmp:echoreply"),
  ],
  ["icmp, nothing of it", ETH_P_IP, ipv4("0000", "01", "08"), V4("0 0", "icmp")],
  ["gre", ETH_P_IP, ipv4("0000", "2f", "0000 0800 0000002a"), V4("0 0", "gre")],
  ["gre with a key", ETH_P_IP, ipv4("0000", "2f", "2000 0800 0000002a"), V4("0 0", "gre:key=0x2a")],
  ["gre with a key of 0", ETH_P_IP, ipv4("0000", "2f", "2000 6558 00000000"), V4("0 0", "gre:key=0x0")],
  [
    "gre, a checksum before the key",
    ETH_P_IP,
    ipv4("0000", "2f", "b000 0800 12340000 ffffffff 7"),
    V4("0 0", "gre:key=0xffffffff"),
  ],
  ["gre, the key cut off", ETH_P_IP, ipv4("0000", "2f", "a000 0800 12340000 ffffff"), V4("0 0", "gre")],
  [
    "gre of PPTP has a call number there",
    ETH_P_IP,
    ipv4("0000", "2f", "2001 880b 00040007"),
    V4("0 0", "gre"),
  ],
  ["esp", ETH_P_IP, ipv4("0000", "32", "00c0ffee 00000001"), V4("0 0", "esp:spi=0xc0ffee")],
  ["esp cut off", ETH_P_IP, ipv4("0000", "32", "00c0ff"), V4("0 0", "esp")],
  ["ah", ETH_P_IP, ipv4("0000", "33", "06 04 0000 00c0ffee 00000001"), V4("0 0", "ah:spi=0xc0ffee")],
  ["a protocol by its name", ETH_P_IP, ipv4("0000", "59", "0201"), V4("0 0", "ospf")],
  ["a protocol by its number", ETH_P_IP, ipv4("0000", "c8", "0201"), V4("0 0", "200")],
  ["first fragment", ETH_P_IP, ipv4("2000", "11", PORTS), V4("40718 8080", "udp")],
  ["later fragment: payload is no port", ETH_P_IP, ipv4("20b9", "11", PORTS), V4("0 0", "udp:frag=1480")],
  [
    "options",
    ETH_P_IP,
    `46 00 0000 0000 0000 40 06 0000 0a000001 0a000002 01010100 ${PORTS}`,
    V4("40718 8080", "tcp"),
  ],
  [
    "header length 16",
    ETH_P_IP,
    `44 00 0000 0000 0000 40 06 0000 0a000001 0a000002 ${PORTS}`,
    V4("0 0", "tcp"),
  ],
  ["ports cut off", ETH_P_IP, ipv4("0000", "06", "9f0e 1f"), V4("0 0", "tcp")],
  ["header cut off", ETH_P_IP, ipv4("0000", "06", "").slice(0, -2), NONE],
  ["nothing", ETH_P_IP, "", NONE],
  ["version 6 under the IPv4 EtherType", ETH_P_IP, ipv6("06", PORTS), NONE],
  ["version 4 under the IPv6 EtherType", ETH_P_IPV6, TCP_IPV4, NONE],
  ["still being built: the version decides", 0, TCP_IPV4, "10.0.2.15:40718->1.0.0.1:8080(tcp)"],
  ["still being built, IPv6", 0, ipv6("06", PORTS), AB("40718 8080", "tcp")],
  ["arp", ARP, "0001 0800 06 04 0001 000000000000 0a000001 000000000000 0a000002", NONE],
  ["no IP that looks like it", ARP, TCP_IPV4, NONE],

  ["tag", VLAN, `0064 0800 ${TCP_IPV4}`, "10.0.2.15:40718->1.0.0.1:8080(tcp)"],
  ["tag with priority 2", VLAN, `4064 86dd ${ipv6("06", PORTS)}`, AB("40718 8080", "tcp")],
  ["tag already in front of the MAC header", VLAN, TCP_IPV4, "10.0.2.15:40718->1.0.0.1:8080(tcp)"],
  ["two tags", QINQ, `0064 8100 0065 0800 ${TCP_IPV4}`, "10.0.2.15:40718->1.0.0.1:8080(tcp)"],
  ["tagged arp", VLAN, "0064 0806 0001 0800 06 04 0001", NONE],
  ["tag that contradicts the version", VLAN, `0064 86dd ${TCP_IPV4}`, NONE],
  ["tag and nothing", VLAN, "0064 0800", NONE],
  ["half a tag", VLAN, "0064", NONE],

  ["tcp6", ETH_P_IPV6, ipv6("06", PORTS), AB("40718 8080", "tcp")],
  ["icmp6", ETH_P_IPV6, ipv6("3a", "80 00 0000 0102 0001"), AB("0 0", "icmp6:echo,id=258,seq=1")],
  ["icmp6, a neighbour", ETH_P_IPV6, ipv6("3a", "87 00 0000 00000000"), AB("0 0", "icmp6:neighborsolicit")],
  ["hop-by-hop", ETH_P_IPV6, ipv6("00", `06 00 000000000000 ${PORTS}`), AB("40718 8080", "tcp")],
  [
    "routing of 24 bytes, destination options",
    ETH_P_IPV6,
    ipv6("2b", `3c 02 ${"00".repeat(22)} 11 00 000000000000 ${PORTS}`),
    AB("40718 8080", "udp"),
  ],
  [
    "authentication of 24 bytes",
    ETH_P_IPV6,
    ipv6("33", `06 04 ${"00".repeat(22)} ${PORTS}`),
    AB("40718 8080", "tcp"),
  ],
  ["first fragment6", ETH_P_IPV6, ipv6("2c", `11 00 0001 00000007 ${PORTS}`), AB("40718 8080", "udp")],
  ["later fragment6", ETH_P_IPV6, ipv6("2c", `11 00 05a9 00000007 ${PORTS}`), AB("0 0", "udp:frag=1448")],
  ["esp", ETH_P_IPV6, ipv6("32", "00000001 00000001"), AB("0 0", "esp:spi=0x1")],
  ["no next header", ETH_P_IPV6, ipv6("3b", PORTS), AB("0 0", "59")],
  ["extension cut off", ETH_P_IPV6, ipv6("00", "06 00 0000"), AB("0 0", "0")],
  [
    "extension longer than the packet",
    ETH_P_IPV6,
    ipv6("00", `06 ff 000000000000 ${PORTS}`),
    AB("0 0", "tcp"),
  ],
  [
    "eight extensions",
    ETH_P_IPV6,
    ipv6("3c", `${"3c 00 000000000000".repeat(7)} 06 00 000000000000 ${PORTS}`),
    AB("40718 8080", "tcp"),
  ],
  ["nine extensions", ETH_P_IPV6, ipv6("3c", `${"3c 00 000000000000".repeat(9)} ${PORTS}`), AB("0 0", "60")],
])("%s", (_, protocol, headers, expected) => {
  expect(text(fromHex(headers), protocol)).toBe(expected);
});

test.each<[address: string, text: string]>([
  ["00000000 00000000 00000000 00000000", "::"],
  ["00000000 00000000 00000000 00000001", "::1"],
  ["20010db8 00000000 00000000 00000000", "2001:db8::"],
  ["20010db8 00000001 00010001 00010001", "2001:db8:0:1:1:1:1:1"],
  ["20010000 00000001 00000000 00000001", "2001:0:0:1::1"],
  ["20010db8 00000000 00010000 00000001", "2001:db8::1:0:0:1"],
  ["fe800000 00000000 0abcdeff feabcdef", "fe80::abc:deff:feab:cdef"],
  ["00000000 00000000 0000ffff 0a000001", "10.0.0.1"],
  ["00000000 00000000 00000000 0a000001", "::a00:1"],
])("IPv6 address %s", (address, expected) => {
  const headers = fromHex(`60000000 0000 3b 40 ${address} ${address}`);
  expect(text(headers, ETH_P_IPV6)).toBe(`[${expected}]:0->[${expected}]:0(59)`);
});

test.each<[headers: string, protocol: number, found: Partial<Tuple>]>([
  [ipv4("0000", "01", "08 00 0000 1234 0001"), ETH_P_IP, {
    icmpType: 8,
    icmpCode: 0,
    icmpId: 0x1234,
    icmpSequence: 1,
  }],
  [ipv4("0000", "01", "03 04 0000 1234 0001"), ETH_P_IP, { icmpType: 3, icmpCode: 4, icmpId: -1 }],
  [ipv4("0000", "01", "08 00 0000"), ETH_P_IP, { icmpType: 8, icmpCode: 0, icmpId: -1 }],
  [ipv6("3a", "81 00 0000 0102 0001"), ETH_P_IPV6, { icmpType: 129, icmpCode: 0, icmpId: 0x0102 }],
  [TCP_IPV4, ETH_P_IP, { tcpFlags: 0x02, icmpType: -1 }],
  [ipv4("20b9", "06", PORTS), ETH_P_IP, { fragmentOffset: 1480, tcpFlags: 0 }],
  [ipv6("2c", `11 00 05a9 00000007 ${PORTS}`), ETH_P_IPV6, { fragmentOffset: 1448, protocol: 17 }],
])("beside the text: %s", (headers, protocol, found) => {
  const bytes = fromHex(headers), tuple = new Tuple();
  decodeTuple(new DataView(bytes.buffer), 0, bytes.length, protocol, tuple);
  expect(tuple).toMatchObject(found);
});

test("random bytes: nothing beyond the length is read, and every line can be written", () => {
  // A small generator with a seed, so that a failure comes back.
  let state = 0x2545f491;
  const random = (below: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  const starts = [0x45, 0x46, 0x4f, 0x60, 0x6f, 0x40];
  const protocols = [0, ETH_P_IP, ETH_P_IPV6, VLAN, QINQ, ARP, 3];
  const nexts = [0, 43, 44, 51, 60, 6, 17, 58, 139, 1, 47, 50];
  const one = new Tuple(), two = new Tuple();
  for (let round = 0; round < 50_000; round++) {
    const length = random(104);
    const bytes = Uint8Array.from({ length }, () => random(256));
    const tag = random(4) === 0 ? 4 : 0;
    if (length > tag && random(8) !== 0) bytes[tag] = starts[random(starts.length)]!;
    for (let at = tag + 6; at < length; at += 8) {
      if (random(2) === 0) bytes[at] = nexts[random(nexts.length)]!;
    }
    const protocol = protocols[random(protocols.length)]!;

    // The view ends with the packet: reading on would throw.
    const exact = new DataView(bytes.buffer);
    decodeTuple(exact, 0, length, protocol, one);
    expect(text(bytes, protocol)).toMatch(
      /^[[\].:\da-f]*:\d+->[[\].:\da-f]*:\d+\(([\da-z]+(:[\da-z=,]+)?)?\)$/,
    );

    // The same packet elsewhere and with other bytes around it.
    const around = new Uint8Array(length + 64).fill(random(256));
    around.set(bytes, 16);
    decodeTuple(new DataView(around.buffer), 16, length, protocol, two);
    if (two.etherType !== 0) {
      two.source -= 16;
      two.destination -= 16;
    }
    if (!Bun.deepEquals(one, two)) expect(two).toEqual(one);
  }
}, 60_000); // on a busy machine

test("flows that come again, among more than are remembered, of which many differ in one word alone", () => {
  const four = (value: number) => value.toString(16).padStart(4, "0");
  const tcp = (from: number, to: number, flags: string) =>
    `${four(from)} ${four(to)} 00000000 00000000 50 ${flags}`;
  const flow4 = (from: number, to: number, [a, b]: readonly [number, number], flags: "02" | "10") => ({
    headers: fromHex(`45 00 0000 0000 0000 40 06 0000 0a00${four(a)} 0a00${four(b)} ${tcp(from, to, flags)}`),
    protocol: ETH_P_IP,
    text: `10.0.${a >> 8}.${a & 255}:${from}->10.0.${b >> 8}.${b & 255}:${to}`,
    flags: flags === "02" ? "SYN" : "ACK",
  });
  const flow6 = (a: readonly number[], b: readonly number[]) => ({
    headers: fromHex(
      `60000000 0014 06 40 ${a.map(four).join("")} ${b.map(four).join("")} ${tcp(1, 2, "02")}`,
    ),
    protocol: ETH_P_IPV6,
    text: `[${a.map((word) => word.toString(16)).join(":")}]:1->[${
      b.map((word) => word.toString(16)).join(":")
    }]:2`,
    flags: "SYN",
  });
  const one = [0x2001, 2, 3, 4, 5, 6, 7, 8],
    flows = [
      ...Array.from({ length: 2000 }, (_, i) => flow4(1000 + i, 443, [1, 2], "02")),
      ...Array.from({ length: 2000 }, (_, i) => flow4(1000, 443, [i, 2], "02")),
      ...Array.from({ length: 2000 }, (_, i) => flow4(1000, 443, [1, i], i % 2 === 0 ? "02" : "10")),
      // The last words are the same: nothing tells their places apart.
      ...Array.from({ length: 60 }, (_, i) => flow6(one.with(i % 6, 100 + i), one)),
      ...Array.from({ length: 60 }, (_, i) => flow6(one, one.with(i % 6, 100 + i))),
    ];
  const tuple = new Tuple(), sink = new MemorySink(), wrong: string[] = [];
  for (let round = 0; round < 100_000; round++) {
    const { headers, protocol, text, flags } = flows[(round * 7919 + (round >> 4)) % flows.length]!;
    for (const shown of [true, false, true]) {
      decodeTuple(new DataView(headers.buffer), 0, headers.length, protocol, tuple);
      sink.commit(
        putTuple(sink.view, sink.room(TUPLE_BYTES + SLACK), new DataView(headers.buffer), tuple, shown),
      );
      const printed = sink.take(), expected = `${text}(tcp${shown ? `:${flags}` : ""})`;
      if (printed !== expected) wrong.push(`${printed} for ${expected}`);
    }
  }
  expect(wrong).toEqual([]);
});
