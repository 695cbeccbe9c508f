/**
 * Programs as `tcpdump -d` prints them, kept in tests/golden/pcap_filter.txt so that a change shows in review.
 * UPDATE_GOLDEN=1 writes the file anew.
 */
import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { formatCbpf } from "../../asm/cbpf_text.ts";
import { compileFilter, type LinkType } from "../../lib/pcap_filter/compile.ts";
import { noNames } from "../../lib/pcap_filter/names.ts";

const golden = join(import.meta.dir, "../golden/pcap_filter.txt");

/** Optimised unless it says otherwise. */
type Row = readonly [
  linkType: LinkType,
  expression: string,
  options?: { optimize?: false; ancillary?: true },
];

// deno-fmt-ignore
const rows: readonly Row[] = [
  ["EN10MB", ""], ["EN10MB", "ip"], ["EN10MB", "not ip"], ["EN10MB", "tcp"], ["EN10MB", "icmp"], ["EN10MB", "icmp6"],
  ["EN10MB", "arp or rarp"], ["EN10MB", "host 10.0.0.1"], ["EN10MB", "src net 10.0.0.0/8"], ["EN10MB", "host fe80::1"],
  ["EN10MB", "net fe80::/10"], ["EN10MB", "ether host 00:11:22:33:44:55"], ["EN10MB", "tcp port 80"],
  ["EN10MB", "port 53"], ["EN10MB", "udp portrange 5000-6000"], ["EN10MB", "tcp dst port 443 and host 1.2.3.4"],
  ["EN10MB", "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn"],
  ["EN10MB", "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)"],
  ["EN10MB", "ip[6:2] & 0x1fff = 0"], ["EN10MB", "len > 100 and byte 0 & 1"], ["EN10MB", "vlan 5 and ip"],
  ["EN10MB", "mpls 1000 and udp"], ["EN10MB", "pppoes 7 and ip6"], ["EN10MB", "vxlan 5 and arp"],
  ["EN10MB", "geneve 7 and icmp"], ["EN10MB", "ip6 protochain 58"], ["EN10MB", "stp"], ["EN10MB", "ipx"],
  ["EN10MB", "llc s"], ["EN10MB", "lsp"], ["EN10MB", "decnet src 1.5"], ["EN10MB", "ip multicast or broadcast"],
  ["EN10MB", "tcp port 80", { optimize: false }], ["EN10MB", "ip[0] + 1 = tcp[2]", { optimize: false }],
  ["EN10MB", "inbound and ifindex 3", { ancillary: true }], ["EN10MB", "vlan 5 and ip", { ancillary: true }],
  ["RAW", "ip"], ["RAW", "tcp port 80"], ["RAW", "host 10.0.0.1"], ["RAW", "not arp"], ["RAW", "udp[0:2] = 53"],
  ["RAW", "arp", { optimize: false }],
];

function list([linkType, expression, options = {}]: Row): string {
  const { insns } = compileFilter(expression, { linkType, names: noNames, ...options });
  const words = [linkType, ...Object.entries(options).map(([name, value]) => `${name}=${value}`)];
  return `# ${words.join(" ")}: ${expression}\n${formatCbpf(insns)}\n`;
}

test("listings", () => {
  const text = rows.map(list).join("");
  if (process.env["UPDATE_GOLDEN"]) writeFileSync(golden, text);
  expect(text.split("\n\n")).toEqual(readFileSync(golden, "utf8").split("\n\n"));
});
