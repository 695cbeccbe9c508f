/** What expressions mean, told by the packets they match: both programs are run, optimised and not. */
import { describe, expect, test } from "bun:test";
import { runCbpf } from "../../asm/cbpf_run.ts";
import { compileFilter, type LinkType } from "../../lib/pcap_filter/compile.ts";
import { type Names, noNames } from "../../lib/pcap_filter/names.ts";
import { type Bytes, type FrameName, frames, rawPackets } from "./packets.ts";

const names: Names = {
  service: (name) => ({ http: { tcp: 80 }, domain: { tcp: 53, udp: 53 }, biff: { udp: 512, tcp: 80 } })[name],
  protocol: (name) => ({ tcp: 6, udp: 17, icmp: 1 })[name],
  host: (name) => ({ router: ["10.0.0.2"], dual: ["fe80::1", "10.0.0.2"], six: ["2001:db8::1"] })[name],
  ethers: (name) => ({ router: "0:11:22:33:44:55" })[name],
  network: (name) => ({ lab: 10, home: 0x0a000002 })[name],
};

const everything = Object.keys(frames).join(" ");
/** Everything but the frames named. */
function allBut(names: string): string {
  const missing = names.split(" ");
  return everything.split(" ").filter((name) => !missing.includes(name)).join(" ");
}
const ip4 = "syn synack options dns late ping group assoc vxlan geneve bare short";
const ip6 = "syn6 frag6 hop6 solicit6 vxlan6";

// deno-fmt-ignore
const ethernetRows: readonly (readonly [expression: string, matching: string])[] = [
  // the empty expression, protocols
  ["", everything],
  ["   ", everything],
  ["ip", ip4],
  ["ip6", ip6],
  ["arp", "who"],
  ["rarp", "rarp"],
  ["tcp", "syn synack options syn6 short"],
  ["udp", "dns late group frag6 vxlan vxlan6 geneve bare"],
  ["ip and udp", "dns late group vxlan geneve bare"],
  ["sctp", "assoc"],
  ["icmp", "ping"],
  ["icmp6", "solicit6"],
  ["stp", "stp"],
  ["iso", "isis"],
  ["isis", "isis"],
  ["l1", "isis"],
  ["l2", ""],
  ["snp", ""],
  ["iih", "isis"],
  ["proto 6", "syn synack options syn6 short"],
  ["ip proto 17", "dns late group vxlan geneve bare"],
  ["ip6 proto 17", "frag6 vxlan6"], // looks through one fragment header
  ["ip6 proto 0", "hop6"],
  ["ip proto \\tcp", "syn synack options short"],
  ["ether proto \\arp", "who"],
  ["ether proto 0x0806", "who"],
  ["link proto 0x42", "stp"],
  ["ip protochain 6", "syn synack options short"],
  ["ip6 protochain 17", "frag6 hop6 vxlan6"],
  ["llc", "stp isis"],
  ["llc u", "stp isis"],
  ["llc s", ""],
  ["llc i", ""],
  ["llc ui", "stp isis"],
  // hosts and networks
  ["host 1.2.3.4", "syn synack late ping assoc"],
  ["src host 1.2.3.4", "synack"],
  ["src 1.2.3.4", "synack"],
  ["dst 1.2.3.4", "syn late ping assoc"],
  ["src and dst 10.0.0.9", "rarp"],
  ["src or dst 10.0.0.2", "options who"],
  ["host 10.0.0.2", "options who"],
  ["arp host 10.0.0.2", "who"],
  ["rarp host 10.0.0.9", "rarp"],
  ["ip host 10.0.0.2", "options"],
  ["host 10.0.0.2 and ip", "options"],
  ["host 172.16", "vxlan geneve bare"],
  ["net 172.16", "vxlan geneve bare"],
  ["net 172.16.0.0/12", "vxlan geneve bare"],
  ["net 8.8.8.0/24", "dns"],
  ["net 8", "dns"],
  ["net 8.0.0.0 mask 255.0.0.0", "dns"],
  ["dst net 224.0.0.0/4", "group"],
  ["host 0x08080808", "dns"],
  ["host 8.8.8.8 or 224.0.0.5", "dns group"],
  ["host (8.8.8.8 or 224.0.0.5)", "dns group"],
  ["not host 8.8.8.8 and udp and ip", "late group vxlan geneve bare"],
  ["net 0.0.0.0/0", `${ip4} who rarp`],
  ["host fe80::1", "syn6 frag6 hop6 vxlan6"],
  ["dst host ff02::1", "solicit6"],
  ["src net 2001:db8::/32", ip6],
  ["net ::/0", ip6],
  ["ip6 host 2001:db8::1", ip6],
  ["host router", "options who"],
  ["ip host router", "options"],
  ["host dual", "options syn6 frag6 hop6 who vxlan6"],
  ["ip6 host six", ip6],
  ["net lab", "syn synack options dns late ping group assoc who rarp short"],
  ["net home", "options who"],
  // MAC addresses
  ["ether host 66:77:88:99:aa:bb", allBut("group solicit6 who rarp stp")],
  ["ether dst 01:00:5e:00:00:05", "group"],
  ["ether src 66-77-88-99-aa-bb", "synack"],
  ["ether src 6677.8899.aabb", "synack"],
  ["ether src 66778899aabb", "synack"],
  ["ether src and dst 66:77:88:99:aa:bb", ""],
  ["ether host router", everything],
  ["broadcast", "who rarp"],
  ["ether broadcast", "who rarp"],
  ["multicast", "group solicit6 who rarp stp"],
  ["ip multicast", "group"],
  ["ip6 multicast", "solicit6"],
  ["gateway router", allBut("options who short")],
  // ports
  ["port 80", "syn synack"],
  ["src port 80", "synack"],
  ["dst port 80", "syn"],
  ["tcp port 80", "syn synack"],
  ["udp port 80", ""],
  ["port 53", "dns"],
  ["src port 5353 and dst port 53", "dns"],
  ["src and dst port 5000", "group"],
  ["sctp port 36412", "assoc"],
  ["port 443", "syn6"],
  ["port http", "syn synack"],
  ["port biff", "syn synack"], // different ports for tcp and udp: tcp's
  ["port domain", "dns"],
  ["portrange 70-90", "syn synack"],
  ["portrange 90-70", "syn synack"],
  ["portrange 80", "syn synack"],
  ["portrange http-0x5a", "syn synack"],
  ["src portrange 1000-2000", "syn syn6"],
  ["port 80 or 443", "syn synack syn6"],
  ["port (80 or 443)", "syn synack syn6"],
  ["tcp port 80 or udp port 53", "syn synack dns"],
  ["tcp port 22", "options"], // behind IP options
  // lengths and bytes
  ["greater 60", "options syn6 frag6 hop6 tag6 labels ppp6 vxlan vxlan6 geneve bare"],
  ["less 30", "short"],
  ["len = 30", "short"],
  ["len - 20 = 10", "short"],
  ["byte 0 = 1", "group stp"],
  ["byte 12 & 0x80 ", "rarp syn6 frag6 hop6 solicit6 tag5 tag6 qinq label labels ppp ppp6 vxlan6"],
  ["byte 12 < 6", "stp isis"],
  ["byte 0 > 254", "who rarp"],
  ["ether[0] & 1 = 1", "group solicit6 who rarp stp"],
  ["ether[12:2] = 0x88a8", "qinq"],
  // arithmetic on headers
  ["ip[8] = 1", "options"],
  ["ip[0] & 0xf > 5", "options"],
  ["ip[6:2] & 0x1fff != 0", "late"],
  ["tcp[tcpflags] & tcp-syn != 0", "syn synack"],
  ["tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", "syn"],
  ["tcp[13] = 0x12", "synack"],
  ["tcp[0:2] + 1 = tcp[2:2]", ""],
  ["tcp[2:2] - 1154 = 80 or tcp[0:2] = 22", "synack options"],
  ["icmp[icmptype] = icmp-echo", "ping"],
  ["icmp6[icmp6type] == icmp6-neighborsolicit", "solicit6"],
  ["ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) != 0 and tcp", "options"],
  ["udp[4:2] > 8", "dns vxlan geneve bare"],
  ["ip6[6] = 44", "frag6"],
  ["arp[6:2] = 1", "who"],
  ["- ip[8] = 0xffffffff", "options"],
  ["10 % 4 * 3 = 10", everything], // % takes everything to its right: 10 % 12
  ["1 = 1", everything],
  ["0xffffffff + 1 = 0", everything],
  ["1 << 31 = 2147483648", everything],
  ["5 / 2 = 2 and arp", "who"],
  ["7 ^ 1 | 2 = 4", everything], // 7 ^ (1 | 2)
  ["ip[8] / ip[1] = 0", ""], // divides by zero
  // logic
  ["not ip", allBut(`${ip4} short`)],
  ["! ip", allBut(`${ip4} short`)],
  ["not not arp", "who"],
  ["arp or rarp", "who rarp"],
  ["arp || rarp && rarp", "rarp"], // one precedence, left to right
  ["arp or (rarp and rarp)", "who rarp"],
  ["not tcp and not udp and ip", "ping assoc"],
  ["not (tcp or udp) and ip", "ping assoc"],
  // encapsulation
  ["vlan", "tag5 tag6 qinq"],
  ["vlan 5", "tag5"],
  ["vlan 6", "tag6"],
  ["vlan (6)", "tag6"],
  ["vlan 100 and vlan 5", "qinq"],
  ["vlan and tcp port 80", "tag5"],
  ["vlan and vlan and udp port 53", "qinq"],
  ["tcp port 80 or (vlan and tcp port 80)", "syn synack tag5"],
  ["mpls", "label labels"],
  ["mpls 1000", "label"],
  ["mpls 3 and mpls 1000", "labels"],
  ["mpls and tcp", "label"],
  ["mpls and mpls and ip6", "labels"],
  ["mpls and host 1.2.3.4", "label"],
  ["pppoes", "ppp ppp6"],
  ["pppoes 7", "ppp"],
  ["pppoes and ip", "ppp"],
  ["pppoes and tcp port 443", "ppp6"],
  ["pppoes and ether[0:2] = 0x57", "ppp6"],
  ["vxlan", "vxlan vxlan6"],
  ["vxlan 5", "vxlan"],
  ["vxlan and tcp port 80", "vxlan"],
  ["vxlan and ip", "vxlan"],
  ["vxlan and arp", "vxlan6"],
  ["vxlan and ether src 02:00:00:00:00:02", "vxlan"],
  ["vxlan 6 and not ip", "vxlan6"],
  ["geneve", "geneve bare"],
  ["geneve 7 and icmp", "geneve"],
  ["geneve and icmp", "geneve bare"],
  ["geneve and ether dst 66:77:88:99:aa:bb", "geneve"],
  ["host 172.16.0.1 and vxlan and host 1.2.3.4", "vxlan"],
];

// deno-fmt-ignore
const rawRows: readonly (readonly [expression: string, matching: string])[] = [
  ["ip", "syn dns late vxlan bare"],
  ["ip6", "syn6"],
  ["tcp", "syn syn6"],
  ["tcp port 80", "syn"],
  ["port 443", "syn6"],
  ["host 8.8.8.8", "dns"],
  ["net 172.16", "vxlan bare"],
  ["arp or udp port 53", "dns"],
  ["not arp", "syn dns late syn6 vxlan bare"],
  ["ip[9] = 17", "dns late vxlan bare"],
  ["link[0] & 0xf0 = 0x60", "syn6"],
  ["vxlan and tcp port 80", "vxlan"],
  ["geneve and icmp", "bare"],
  ["ip6 host fe80::1", "syn6"],
  ["len = 28", "late"],
];

describe("EN10MB", () => check("EN10MB", frames, ethernetRows));
describe("RAW", () => check("RAW", rawPackets, rawRows));

function check(
  linkType: LinkType,
  packets: Readonly<Record<string, Bytes>>,
  table: readonly (readonly [expression: string, matching: string])[],
): void {
  const all = Object.entries(packets).map(([name, bytes]) => [name, Uint8Array.from(bytes)] as const);
  test.each([...table])("%s", (expression, matching) => {
    const wanted = matching.split(" ").filter((name) => name !== "").toSorted();
    for (const optimize of [true, false]) {
      const { insns } = compileOrNothing(expression, linkType, optimize);
      const found = all.filter(([, bytes]) => runCbpf(insns, bytes) > 0).map(([name]) => name);
      expect({ optimize, found: found.toSorted() }).toEqual({ optimize, found: wanted });
    }
  });
}

/** "expression rejects all packets" is an answer too. */
function compileOrNothing(expression: string, linkType: LinkType, optimize: boolean) {
  try {
    return compileFilter(expression, { linkType, names, optimize });
  } catch (error) {
    if (error instanceof Error && error.message === "expression rejects all packets") {
      return { insns: [{ code: 6, jt: 0, jf: 0, k: 0 }] };
    }
    throw error;
  }
}

test("options that expressions depend on", () => {
  const broadcast = compileFilter("ip broadcast", {
    linkType: "EN10MB",
    names: noNames,
    netmask: 0xffffff00,
  });
  const to = (last: number) => Uint8Array.from([...frames.syn.slice(0, 33), last, ...frames.syn.slice(34)]);
  expect([255, 0, 4].map((last) => runCbpf(broadcast.insns, to(last)) > 0)).toEqual([true, true, false]);
  expect(runCbpf(compileFilter("tcp", { linkType: "EN10MB", names, snaplen: 96 }).insns, to(4))).toBe(96);
  expect(() => compileFilter("tcp", { linkType: "EN10MB", names, snaplen: 0 })).toThrow(RangeError);
  expect(() => compileFilter("byte 0xfffff004 = 4", { linkType: "EN10MB", names, ancillary: true }))
    .toThrow("byte offset 4294963204 greater than maximum 2147483647");
});

describe("ancillary data of a live Linux socket", () => {
  type Case = readonly [expression: string, frame: FrameName, ancillary: object, matches: boolean];
  // deno-fmt-ignore
  const cases: readonly Case[] = [
    ["inbound", "syn", { packetType: 0 }, true],
    ["inbound", "syn", { packetType: 4 }, false],
    ["outbound", "syn", { packetType: 4 }, true],
    ["outbound and tcp", "dns", { packetType: 4 }, false],
    ["ifindex 3", "syn", { ifindex: 3 }, true],
    ["ifindex 3", "syn", { ifindex: 2 }, false],
    ["vlan", "syn", {}, false],
    ["vlan", "syn", { vlanTag: 5 }, true],
    ["vlan", "tag5", {}, true],
    ["vlan 5", "syn", { vlanTag: 0xe005 }, true],
    ["vlan 5", "syn", { vlanTag: 6 }, false],
    ["vlan 5", "tag5", {}, true],
    ["vlan 6", "tag5", {}, false],
    ["vlan and tcp port 80", "syn", { vlanTag: 5 }, true],
    ["vlan and tcp port 80", "tag5", {}, true],
    ["vlan and tcp port 80", "dns", { vlanTag: 5 }, false],
    ["vlan 100 and vlan 5 and udp port 53", "qinq", {}, true],
    ["vlan 100 and vlan 5 and tcp", "tag5", { vlanTag: 100 }, true],
    ["vlan and ip[8] = 64 and tcp[13] = 2", "tag5", {}, true],
    ["tcp port 22 or vlan and host 1.2.3.4", "syn", { vlanTag: 5 }, true],
  ];
  test.each([...cases])("%s on %s with %o: %s", (expression, frame, ancillary, matches) => {
    for (const optimize of [true, false]) {
      const { insns } = compileFilter(expression, { linkType: "EN10MB", names, optimize, ancillary: true });
      expect(runCbpf(insns, Uint8Array.from(frames[frame]), { ancillary }) > 0).toBe(matches);
    }
  });
});
