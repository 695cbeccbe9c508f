/** Expressions that use every part of the language once, for tests that are to stay quick, and what they compile to. */
import type { CbpfInsn } from "../../asm/cbpf.ts";
import { FilterSyntaxError } from "../../lib/errors.ts";
import type { LinkType } from "../../lib/pcap_filter/codegen/state.ts";
import { compileFilter } from "../../lib/pcap_filter/compile.ts";
import { noNames } from "../../lib/pcap_filter/names.ts";

// deno-fmt-ignore
export const expressions = [
  "", "ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "sctp", "not ip", "stp", "isis", "llc s", "ipx",
  "host 10.0.0.1", "src host 1.2.3.4", "dst host 10.0.0.2 and tcp", "host 2001:db8::1", "src host fe80::1",
  "net 10.0.0.0/8", "dst net 2001:db8::/32", "net 10 or 192.168", "ether host 00:11:22:33:44:55",
  "ether broadcast", "multicast", "ip multicast", "ip6 multicast",
  "port 53", "tcp port 80", "udp src port 53", "dst port 443 or 80", "portrange 20-90", "tcp dst portrange 1-1023",
  "host 10.0.0.1 and tcp port 80 and not port 22", "proto 6", "ip proto 17", "ip6 proto 44", "ether proto 0x88a8",
  "ip protochain 6", "ip6 protochain 17", "protochain 6", "protochain 51",
  "ip[8] = 64", "ip[0] & 0xf > 5", "ip[6:2] & 0x1fff != 0", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
  "tcp[(tcp[12] & 0xf0) >> 2] = 1", "udp[4:2] - 8 > 4", "icmp[icmptype] = icmp-echo", "ether[12:2] = 0x800",
  "ip[2:2] = len - 14", "ip[ip[1]] = 0x45", "ip[8] / ip[1] = 0", "ip[8] % ip[9] = 4", "ip[9] << ip[8] = 0",
  "link[0:4] & 0xffffffff != 0", "tcp[0:2] * 3 + 7 ^ tcp[2:2] | 1 = 3", "-ip[8] & 0xff = 0xc0",
  "ip[65535] = 0", "ip[0x7fffffff] = 0", "ether[100] = 0", "ether[0xffffffff] = 1", "ether[0xfffff004:4] = 1", "ether[300:4] = 1", "tcp[tcp[4:4]:2] = 0",
  "less 60", "greater 100", "len > 40", "byte 12 = 8",
  "vlan", "vlan 5", "vlan 100 and vlan 5", "tcp port 80 or (vlan and tcp port 80)", "vlan and vlan and udp port 53",
  "mpls", "mpls 1000 and host 1.2.3.4", "mpls and mpls and ip6", "pppoes", "pppoes 7 and udp port 53",
  "vxlan", "vxlan 5 and tcp port 80", "vxlan and vxlan and ip", "host 172.16.0.1 and vxlan and arp",
  "geneve", "geneve 7 and icmp", "geneve and geneve and tcp", "geneve or ip", "not vxlan and ip",
] as const;

/** `expression` both ways, or nothing where it has no meaning for `linkType`. */
export function programsOf(expression: string, linkType: LinkType): readonly (readonly CbpfInsn[])[] {
  try {
    return [true, false].map((optimize) =>
      compileFilter(expression, { linkType, names: noNames, optimize }).insns
    );
  } catch (error) {
    if (error instanceof FilterSyntaxError) return [];
    throw error;
  }
}
