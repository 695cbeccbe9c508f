/** Hosts and networks: IPv4, IPv6 and MAC addresses, their names, and gateways. */
import { parseIpv4, parseIpv6, parseMac, prefixMask } from "../addresses.ts";
import type { IdNode, Qualifiers } from "../ast.ts";
import { allOf, and, anyOf, constantTest, not, type Test } from "../graph.ts";
import { etherTypes, type IdType, type Protocol } from "../tables.ts";
import { decnetId } from "./decnet.ts";
import { eitherEnd, linkType, macHost } from "./link.ts";
import { equals } from "./load.ts";
import { fail, invalidQualifier, type State, unsupported } from "./state.ts";

type Ipv4Node = Extract<IdNode, { kind: "ipv4" }>;
type Ipv6Node = Extract<IdNode, { kind: "ipv6" }>;

/** Where a protocol keeps its IPv4 addresses, from the network header. */
const ip4Addresses = {
  ip: { type: etherTypes.ip, source: 12, destination: 16 },
  arp: { type: etherTypes.arp, source: 14, destination: 24 },
  rarp: { type: etherTypes.rarp, source: 14, destination: 24 },
} as const;

/** A dotted number, alone or with a prefix length or mask. */
export function ipv4Id(state: State, node: Ipv4Node, qualifiers: Qualifiers | undefined): Test {
  const { text, prefix, mask } = node;
  const hasMask = prefix !== undefined || mask !== undefined;
  const form = prefix !== undefined
    ? "IPv4 address and prefix length"
    : mask !== undefined
    ? "IPv4 address and netmask"
    : "IPv4 address";
  refuseAddressType(state, qualifiers, form);
  if (!hasMask && qualifiers === undefined) fail(state, "syntax error in filter expression");
  if (qualifiers?.protocol === "decnet") return decnetId(state, node, qualifiers);

  const { address, bits } = ipv4(state, text);
  if (hasMask) return ipv4Prefix(state, node, address, qualifiers);
  switch (qualifiers?.type) {
    case undefined:
    case "host":
    case "net": {
      if (qualifiers?.protocol === "link") fail(state, `illegal link-layer address '${text}'`);
      const context = qualifiers?.type === "net" ? "net <IPv4 address>" : "host <IPv4 address>";
      return ipv4Host(state, address, prefixMask(bits), qualifiers ?? {}, context);
    }
    default:
      invalidQualifier(state, qualifiers?.type, text);
  }
}

function ipv4Prefix(
  state: State,
  { text, prefix, mask: maskText }: Ipv4Node,
  address: number,
  qualifiers: Qualifiers | undefined,
): Test {
  if (prefix !== undefined && prefix > 32) {
    fail(state, `netmask length ${prefix} greater than maximum 32`);
  }
  const mask = maskText === undefined ? prefixMask(prefix ?? 32) : ipv4(state, maskText).address;
  const whole = maskText === undefined ? `${text}/${prefix}` : `${text} mask ${maskText}`;
  if ((address & ~mask) !== 0) fail(state, `non-network bits set in "${whole}"`);
  if (qualifiers?.type !== "net") invalidQualifier(state, typeWord(qualifiers), whole);
  return ipv4Host(state, address, mask, qualifiers, "net <IPv4 prefix>");
}

function ipv4(state: State, text: string): { address: number; bits: number } {
  return parseIpv4(text) ?? fail(state, `invalid IPv4 address '${text}'`);
}

/** How messages name the type of an id that inherited nothing, or that has none. */
function typeWord(qualifiers: Qualifiers | undefined): string {
  if (qualifiers === undefined) return "<invalid type 255>";
  return qualifiers.type ?? "<invalid type 0>";
}

/** Ports and protocols are no addresses. */
function refuseAddressType(state: State, qualifiers: Qualifiers | undefined, form: string): void {
  const type = qualifiers?.type;
  if (type === "port" || type === "portrange" || type === "proto" || type === "protochain") {
    // The reference's message about "proto" and an IPv6 prefix ends in a blank.
    const blank = type === "proto" && form === "IPv6 address and prefix length" ? " " : "";
    fail(state, `'${type}' qualifier applied to ${form}${blank}`);
  }
}

/** The address, masked, is at the wanted ends of an IP, ARP or RARP packet. */
export function ipv4Host(
  state: State,
  address: number,
  mask: number,
  { protocol, direction }: Qualifiers,
  context: string,
): Test {
  const of = (name: keyof typeof ip4Addresses): Test => {
    const { type, source, destination } = ip4Addresses[name];
    const carried = linkType(state, type);
    return and(
      carried,
      eitherEnd(
        state,
        direction,
        () => equals(state, "network", source, 4, address, mask),
        () => equals(state, "network", destination, 4, address, mask),
      ),
    );
  };
  switch (protocol) {
    case undefined:
      return state.mplsDepth > 0 ? of("ip") : anyOf(of("ip"), of("arp"), of("rarp"));
    case "ip":
    case "arp":
    case "rarp":
      return of(protocol);
    default:
      invalidQualifier(state, protocol, context);
  }
}

/** An IPv6 address, alone or with a prefix length. */
export function ipv6Id(state: State, { text, prefix }: Ipv6Node, qualifiers: Qualifiers | undefined): Test {
  refuseAddressType(
    state,
    qualifiers,
    prefix === undefined ? "IPv6 address" : "IPv6 address and prefix length",
  );
  const address = parseIpv6(text);
  const length = prefix ?? 128;
  if (length > 128) fail(state, "mask length must be <= 128");
  const mask = [0, 1, 2, 3].map((word) => prefixMask(Math.min(32, Math.max(0, length - 32 * word))));
  if (address.some((word, index) => (word & ~mask[index]!) !== 0)) {
    fail(state, `non-network bits set in "${text}/${length}"`);
  }
  const type = qualifiers?.type;
  const whole = prefix === undefined ? text : `${text}/${prefix}`;
  if (qualifiers === undefined || type === "gateway") invalidQualifier(state, typeWord(qualifiers), whole);
  if (type !== "net" && length !== 128) invalidQualifier(state, type ?? "<invalid type 0>", whole);
  return ipv6Host(
    state,
    address,
    mask,
    qualifiers,
    type === "host" ? "host <IPv6 address>" : "net <IPv6 prefix>",
  );
}

function ipv6Host(
  state: State,
  address: readonly number[],
  mask: readonly number[],
  { protocol, direction }: Qualifiers,
  context: string,
): Test {
  if (protocol !== undefined && protocol !== "ip6") invalidQualifier(state, protocol, context);
  const carried = linkType(state, etherTypes.ip6);
  const at = (offset: number): Test =>
    allOf(
      constantTest(true),
      ...address.map((word, index) => equals(state, "network", offset + 4 * index, 4, word, mask[index])),
    );
  return and(carried, eitherEnd(state, direction, () => at(8), () => at(24)));
}

/** A plain number where an address is meant: `host 10` is 0.0.0.10, `net 10` is 10.0.0.0/8. */
export function numberAddress(state: State, value: number, qualifiers: Qualifiers): Test {
  const { protocol, type } = qualifiers;
  if (protocol === "decnet") {
    if (type === "net") invalidQualifier(state, "decnet", "net");
    fail(state, `invalid DECnet address '${value}'`);
  }
  if (protocol === "link") fail(state, `illegal link-layer address '${value}'`);
  if (type !== "net") return ipv4Host(state, value, 0xffffffff, qualifiers, "host <IPv4 address>");
  const { address, mask } = leftAlign(value);
  return ipv4Host(state, address, mask, qualifiers, "net <IPv4 address>");
}

/** Moves a network number up until its top byte is in use, the mask along with it. */
function leftAlign(value: number): { address: number; mask: number } {
  let address = value, mask = 0xffffffff;
  while (address !== 0 && address < 0x01000000) {
    address = (address << 8) >>> 0;
    mask = (mask << 8) >>> 0;
  }
  return { address, mask };
}

/** A MAC address needs the word `link` in front of it. */
export function macId(state: State, text: string, qualifiers: Qualifiers | undefined): Test {
  const { protocol, type, direction } = qualifiers ?? {};
  if (protocol !== "link" || (type !== undefined && type !== "host")) {
    fail(state, "Ethernet address used in non-ether expression");
  }
  return macHost(state, parseMac(text), direction);
}

/** ARCnet addresses, which none of our link types has. */
export function aidId(state: State, qualifiers: Qualifiers | undefined): Test {
  if (qualifiers === undefined) fail(state, "'<invalid dir 255>' is valid for 802.11 syntax only");
  const { protocol, type } = qualifiers;
  if (type !== undefined && type !== "host") invalidQualifier(state, type, "$XX");
  if (protocol !== "link") fail(state, "'link' is the only valid proto qualifier for 'host $XX'");
  unsupported(state, "link host $XX");
}

/** `host NAME`, `src NAME`, `ether host NAME` */
export function hostName(state: State, name: string, qualifiers: Qualifiers): Test {
  const { protocol, direction, type } = qualifiers;
  if (protocol === "decnet") invalidQualifier(state, "decnet", type ?? "host");
  if (protocol === "link") return macHost(state, ethers(state, name), direction);
  const addresses = state.names.host(name) ?? [];
  if (addresses.length === 0) fail(state, `unknown host '${name}'`);
  const ip4s = addresses.filter((text) => !text.includes(":")).flatMap((text) => parseIpv4(text) ?? []);
  const ip6s = addresses.filter((text) => text.includes(":")).map((text) => parseIpv6(text));
  const context = "host <Internet hostname>";
  const tests: Test[] = [];
  if (protocol !== "ip6") {
    for (const [address = 0] of ascending(ip4s.map(({ address }) => [address]))) {
      tests.push(ipv4Host(state, address, 0xffffffff, qualifiers, context));
    }
  }
  if (protocol === undefined || protocol === "ip6") {
    const mask = [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff];
    for (const address of ascending(ip6s)) tests.push(ipv6Host(state, address, mask, qualifiers, context));
  }
  const [first, ...others] = tests;
  if (first === undefined) fail(state, `unknown host '${name}' for specified address family`);
  return anyOf(first, ...others);
}

/** In ascending order, each once. */
function ascending(addresses: readonly (readonly number[])[]): readonly (readonly number[])[] {
  const order = (a: readonly number[], b: readonly number[]) => {
    const index = a.findIndex((word, at) => word !== b[at]);
    return index < 0 ? 0 : a[index]! - b[index]!;
  };
  const sorted = addresses.toSorted(order);
  return sorted.filter((address, at) => at === 0 || order(sorted[at - 1]!, address) !== 0);
}

function ethers(state: State, name: string): Uint8Array {
  const mac = state.names.ethers(name);
  return mac === undefined ? fail(state, `unknown Ethernet-like host '${name}'`) : parseMac(mac);
}

/** `net NAME` */
export function networkName(state: State, name: string, qualifiers: Qualifiers): Test {
  if (qualifiers.protocol === "decnet") invalidQualifier(state, "decnet", "net");
  const number = state.names.network(name) ?? 0;
  if (number === 0) fail(state, `unknown network '${name}'`);
  const { address, mask } = leftAlign(number);
  return ipv4Host(state, address, mask, qualifiers, "net <IPv4 network name>");
}

/** `gateway NAME`: sent to or by the router's MAC address, but not to or by the router itself. */
export function gateway(state: State, name: string, qualifiers: Qualifiers): Test {
  const { protocol } = qualifiers;
  if (protocol !== undefined && protocol !== "ip" && protocol !== "arp" && protocol !== "rarp") {
    invalidQualifier(state, protocol, "gateway");
  }
  if (state.mplsDepth > 0) fail(state, "'gateway' cannot be used within MPLS");
  if (state.encapsulated) fail(state, "'gateway' cannot be used within VXLAN or Geneve");
  if (state.link !== "EN10MB") unsupported(state, "gateway");
  const mac = ethers(state, name);
  const addresses = state.names.host(name)?.flatMap((text) => parseIpv4(text) ?? []);
  if (addresses === undefined || addresses.length === 0) fail(state, `unknown host '${name}'`);
  const link = macHost(state, mac, undefined);
  const [first, ...others] = addresses.map(({ address }) =>
    ipv4Host(state, address, 0xffffffff, qualifiers, "gateway")
  );
  return and(link, not(anyOf(first!, ...others)));
}

/** Which words in front of an id ask for an IP host by name: what a caller may want to resolve beforehand. */
export function asksForHost({ protocol, type }: { protocol?: Protocol; type?: IdType }): boolean {
  if (type === "gateway") return true;
  return (type === undefined || type === "host") && protocol !== "link" && protocol !== "decnet";
}
