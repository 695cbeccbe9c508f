/** Messages of refused expressions, and the words that a caret would stand under. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { FilterSyntaxError } from "../../lib/errors.ts";
import { compileFilter, type LinkType } from "../../lib/pcap_filter/compile.ts";
import { noNames } from "../../lib/pcap_filter/names.ts";
import { maxNesting, maxSourceLength } from "../../lib/pcap_filter/parser.ts";

setDefaultTimeout(120_000); // busy machines

const names = { ...noNames, service: (name: string) => ({ http: { tcp: 80 }, tftp: { udp: 69 } })[name] };
const syntax = "can't parse filter expression: syntax error";
const rejectsAll = "expression rejects all packets";

/** `at` is the marked part of the expression; "" is its end. */
type Row = readonly [expression: string, message: string, at: string];

// deno-fmt-ignore
const ethernetRows: readonly Row[] = [
  // syntax
  ["foo", syntax, "foo"],
  ["80", syntax, ""],
  ["tcp 80", syntax, "80"],
  ["tcp and", syntax, ""],
  ["and tcp", syntax, "and"],
  ["tcp udp", syntax, "udp"],
  ["(tcp", syntax, ""],
  ["tcp)", syntax, ")"],
  ["()", syntax, ")"],
  ["host", syntax, ""],
  ["src tcp port 80", syntax, "tcp"],
  ["port src 80", syntax, "src"],
  ["src proto 6", syntax, "proto"],
  ["src or host 10.0.0.1", syntax, "host"],
  ["net 10/8", syntax, "/"],
  ["host fe80::1%eth0", syntax, "%"],
  ["tcp & udp", syntax, "&"],
  ["tcp \u00e9", syntax, "\u00e9"],
  ["tcp \\", syntax, "\\"],
  ["ip[0] = ", syntax, ""],
  ["ip[0] = 1 = 1", syntax, "="],
  ["ip[0", syntax, ""],
  ["ip[0:]", syntax, "]"],
  ["ip[0:len] = 1", syntax, "len"],
  ["1 / (1-1)", syntax, "1-1"],
  ["(1 + 1)", syntax, ""],
  ["port (80 443)", syntax, "443"],
  ["port ((80 or 443) or 22)", syntax, "or"],
  ["port ((1.2.3.4))", syntax, "1.2.3.4"],
  ["tcp port 80 or (443 or udp port 53)", syntax, "udp"],
  ["tcp port 80 or 443 foo", syntax, "foo"],
  ["vlan (5 or 6)", syntax, "or"],
  ["vlan -1", syntax, "-"],
  ["byte 0 != 1", syntax, "!="],
  ["less (40)", syntax, "("],
  ["subtype 5", syntax, "5"],
  // numbers and addresses that are none
  ["ip[8] = 4294967296", "decimal number 4294967296 overflows 32 bits", "4294967296"],
  ["ip[8] = 0x1ffffffff", "hexadecimal number 0x1ffffffff overflows 32 bits", "0x1ffffffff"],
  ["ip[8] = 08", "number 08 contains non-octal digit", "08"],
  ["ip[8] = 00777777777777", "octal number 00777777777777 overflows 32 bits", "00777777777777"],
  ["host 1.2.3.256", "invalid IPv4 address '1.2.3.256'", "1.2.3.256"],
  ["host 0x1.2", "invalid IPv4 address '0x1.2'", "0x1.2"],
  ["host ::1.2.3.256", "invalid IPv6 address ::1.2.3.256", "::1.2.3.256"],
  ["ether host 1:2:3:4:5:", "invalid Ethernet address 1:2:3:4:5:", "1:2:3:4:5:"],
  ["net 10.1.1.0/33", "netmask length 33 greater than maximum 32", "10.1.1.0/33"],
  ["net fe80::/129", "mask length must be <= 128", "fe80::/129"],
  ["net 10.1.1.1/24", 'non-network bits set in "10.1.1.1/24"', "10.1.1.1/24"],
  ["net 10.1.1.1/0x8", 'non-network bits set in "10.1.1.1/8"', "10.1.1.1/0x8"],
  ["net 10.1.1.1  mask  255.0.0.0", 'non-network bits set in "10.1.1.1 mask 255.0.0.0"', "10.1.1.1  mask  255.0.0.0"],
  ["net fe80::1/64", 'non-network bits set in "fe80::1/64"', "fe80::1/64"],
  ["decnet host 64.1", "invalid DECnet address '64.1'", "64.1"],
  // names
  ["host nowhere", "unknown host 'nowhere'", "nowhere"],
  ["host \\nowhere", "unknown host 'nowhere'", "\\nowhere"],
  ["ether host nowhere", "unknown Ethernet-like host 'nowhere'", "nowhere"],
  ["net nowhere", "unknown network 'nowhere'", "nowhere"],
  ["port nothing", "unknown port 'nothing'", "nothing"],
  ["udp port http", "port 'http' is tcp", "http"],
  ["sctp port http", "port 'http' is tcp", "http"],
  ["tcp portrange tftp-tftp", "port in range 'tftp-tftp' is udp", "tftp-tftp"],
  ["portrange http", "port range 'http' contains no hyphen", "http"],
  ["portrange 1-2-3", "port range '1-2-3' contains more than one hyphen", "1-2-3"],
  ["portrange 1-x", "'x' is not a valid port", "1-x"],
  ["portrange 1-70000", "port number 70000 greater than maximum 65535", "1-70000"],
  ["proto nothing", "unknown 'proto' value 'nothing'", "nothing"],
  ["ip6 protochain nothing", "unknown 'ip6 protochain' value 'nothing'", "nothing"],
  ["ether proto nothing", "unknown 'link proto' value 'nothing'", "nothing"],
  ["llc nothing", 'unknown LLC type name "nothing"', "nothing"],
  // qualifiers
  ["tcp host 10.0.0.1", "'tcp' is not a valid qualifier for 'host <IPv4 address>'", "10.0.0.1"],
  ["udp net 10", "'udp' is not a valid qualifier for 'net <IPv4 address>'", "10"],
  ["arp host ::1", "'arp' is not a valid qualifier for 'host <IPv6 address>'", "::1"],
  ["src 10.0.0.0/8", "'<invalid type 0>' is not a valid qualifier for '10.0.0.0/8'", "10.0.0.0/8"],
  ["host 10.0.0.0/8", "'host' is not a valid qualifier for '10.0.0.0/8'", "10.0.0.0/8"],
  ["gateway 10", "'gateway' is not a valid qualifier for '10'", "10"],
  ["icmp port 80", "'icmp' is not a valid qualifier for 'port'", "80"],
  ["ra port 80", "'ra' is not a valid qualifier for 'port'", "80"],
  ["addr2 10.0.0.1", "'addr2' is valid for 802.11 syntax only", "10.0.0.1"],
  ["arp proto 6", "'arp' is not a valid qualifier for 'proto'", "6"],
  ["port 1.2.3.4", "'port' qualifier applied to IPv4 address", "1.2.3.4"],
  ["proto fe80::/10", "'proto' qualifier applied to IPv6 address and prefix length ", "fe80::/10"],
  ["tcp broadcast", "'tcp' is not a valid qualifier for 'broadcast'", "broadcast"],
  ["host 00:11:22:33:44:55", "Ethernet address used in non-ether expression", "00:11:22:33:44:55"],
  ["ether host 10.0.0.1", "illegal link-layer address '10.0.0.1'", "10.0.0.1"],
  ["ether", "'link' cannot be used as an abbreviation", "ether"],
  ["stp[0] = 1", "'stp' does not support the index operation", "stp[0]"],
  ["tcp[0:3] = 1", "data size must be 1, 2, or 4", "tcp[0:3]"],
  ["tcp or 80", "syntax error in filter expression", "80"],
  ["(tcp port 80) or 443", "syntax error in filter expression", "443"],
  ["vlan 5 or 6", "syntax error in filter expression", "6"],
  ["tcp and $5", "'<invalid dir 255>' is valid for 802.11 syntax only", "$5"],
  // limits
  ["vlan 4096", "VLAN tag 4096 greater than maximum 4095", "vlan 4096"],
  ["mpls 1048576", "MPLS label 1048576 greater than maximum 1048575", "mpls 1048576"],
  ["pppoes (65536)", "PPPoE session number 65536 greater than maximum 65535", "pppoes (65536)"],
  ["vxlan 16777216", "VXLAN VNI 16777216 greater than maximum 16777215", "vxlan 16777216"],
  ["port 65536", "port number 65536 greater than maximum 65535", "65536"],
  ["ip proto 256", "protocol number 256 greater than maximum 255", "256"],
  ["ether proto 65536", "EtherType 65536 greater than maximum 65535", "65536"],
  ["byte 0 = 256", "byte argument 256 greater than maximum 255", "byte 0 = 256"],
  ["1+1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1+(1)))))))))))))))) = 1".replaceAll("+", " + "), "too many registers needed to evaluate expression", "(1)"],
  // link types
  ["inbound", "not a live capture, 'inbound' not supported on DLT_EN10MB (Ethernet)", "inbound"],
  ["ip broadcast", "netmask not known, so 'ip broadcast' not supported", "broadcast"],
  ["mpls and arp", "unsupported protocol over mpls", "arp"],
  ["mpls and vlan", "no VLAN match after MPLS", "vlan"],
  ["pppoes and vlan", "'vlan' not supported on DLT_PPP (Point-to-Point Protocol)", "vlan"],
  ["geneve and protochain 6", "'protochain' not supported with variable length headers", "6"],
  ["type mgt", "'type/subtype' not supported on DLT_EN10MB (Ethernet)", "type"],
  ["type 16", "invalid 802.11 type value 0x10", "16"],
  ["lane", "'lane' supported only on SUNATM", "lane"],
  ["opc > 5", "'opc' supported only on SS7", "opc"],
  ["on eth0", "'ifname' supported only on PFLOG linktype", "on"],
  ["reason nothing", 'unknown PF reason "nothing"', "reason"],
  // arithmetic that cannot be
  ["ip[8] / 0 = 1", "division by zero", "/"],
  ["ip[8] % 0 = 1", "modulus by zero", "%"],
  ["1 << 32 = 1", "shift by more than 31 bits", "<<"],
  ["ip[8] / (1 - 1) = 1", "division by zero", "ip[8] / (1 - 1) = 1"],
  ["ip and arp", rejectsAll, "ip and arp"],
  ["1 = 2", rejectsAll, "1 = 2"],
  // the first complete part that is wrong is reported, whatever comes after it
  ["host 1.2.3.256 and (", "invalid IPv4 address '1.2.3.256'", "1.2.3.256"],
  ["ip proto 300 089", "protocol number 300 greater than maximum 255", "300"],
  ["host 1.2.3.256 089", "number 089 contains non-octal digit", "089"],
  ["port 70000 foo", "port number 70000 greater than maximum 65535", "70000"],
  ["port (70000 foo)", "port number 70000 greater than maximum 65535", "70000"],
  ["tcp port 80 or 70000 foo", syntax, "foo"],
  ["tcp or 80 )", "syntax error in filter expression", "80"],
  ["(tcp and 80", "syntax error in filter expression", "80"],
  ["radio foo", syntax, "foo"],
  ["radio )", "'radio' cannot be used as an abbreviation", "radio"],
  ["vlan 4096 vlan", "VLAN tag 4096 greater than maximum 4095", "vlan 4096"],
];

// deno-fmt-ignore
const rawRows: readonly Row[] = [
  ["vlan vlan", "'vlan' not supported on DLT_RAW (Raw IPv4/IPv6)", "vlan"],
  ["mpls", "'mpls' not supported on DLT_RAW (Raw IPv4/IPv6)", "mpls"],
  ["llc", "'llc' not supported on DLT_RAW (Raw IPv4/IPv6)", "llc"],
  ["broadcast", "'broadcast' not supported on DLT_RAW (Raw IPv4/IPv6)", "broadcast"],
  ["ether host 00:11:22:33:44:55", "'link host XX:XX:XX:XX:XX:XX' not supported on DLT_RAW (Raw IPv4/IPv6)", "00:11:22:33:44:55"],
  ["arp", rejectsAll, "arp"],
  ["pppoes and ether proto 70000", "PPP protocol 70000 greater than maximum 65535", "70000"],
];

describe("EN10MB", () => check("EN10MB", ethernetRows));
describe("RAW", () => check("RAW", rawRows));

function check(linkType: LinkType, table: readonly Row[]): void {
  test.each([...table])("%s: %s", (expression, message, at) => {
    const error = refusal(expression, linkType);
    const marked = expression.slice(error.offset, error.offset + error.length);
    expect({ message: error.message, at: marked }).toEqual({ message, at });
    expect(error.source).toBe(expression);
    if (at === "") expect(error.offset).toBe(expression.length);
  });
}

function refusal(expression: string, linkType: LinkType): FilterSyntaxError {
  try {
    compileFilter(expression, { linkType, names });
  } catch (error) {
    if (error instanceof FilterSyntaxError) return error;
    throw error;
  }
  throw new Error(`"${expression}" was accepted`);
}

describe("limits of our own", () => {
  test("length", () => {
    const longest = `tcp${" ".repeat(maxSourceLength - 3)}`;
    expect(compileFilter(longest, { linkType: "RAW", names }).insns.length).toBeGreaterThan(0);
    expect(refusal(`${longest} `, "RAW").message)
      .toBe("filter expression is too long: 65537 characters, the maximum is 65536");
  });

  type Nest = readonly [what: string, nest: (levels: number) => string];
  test.each<Nest>([
    ["parentheses", (levels) => `${"(".repeat(levels)}tcp${")".repeat(levels)}`],
    ["negations", (levels) => `${"not ".repeat(levels)}tcp`],
    ["minus signs", (levels) => `${"- ".repeat(levels)}1 = 1`],
    ["numbers in parentheses", (levels) => `port ${"(".repeat(levels)}80${")".repeat(levels)}`],
    ["ids that are negated", (levels) => `host ${"not ".repeat(levels)}10.0.0.1`],
  ])("nesting of %s", (_, nest) => {
    expect(() => compileFilter(nest(maxNesting), { linkType: "RAW", names })).not.toThrow();
    expect(refusal(nest(maxNesting + 1), "RAW").message)
      .toBe("filter expression is nested too deeply: the maximum is 500 levels");
    expect(refusal(nest(20_000).slice(0, maxSourceLength), "RAW").message).toMatch(/too deeply/);
  });

  test("operators that group to the right", () => {
    expect(refusal(`1${" % 1".repeat(5000)} = 1`, "RAW").message).toMatch(/too deeply|too many registers/);
  });
});
