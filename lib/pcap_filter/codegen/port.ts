/** Ports of TCP, UDP and SCTP, by number, by name and as ranges. */
import type { Qualifiers } from "../ast.ts";
import { and, anyOf, compare, jge, jgt, not, or, type Test } from "../graph.ts";
import { parseNumber } from "../lexer.ts";
import { etherTypes, ipProtocols } from "../tables.ts";
import { linkType } from "./link.ts";
import { type Base, equals, load, noneSet } from "./load.ts";
import { ip4ProtocolOffset, ip6NextHeaderOffset } from "./protocol.ts";
import { checkMaximum, fail, invalidQualifier, type State } from "./state.ts";

type Transport = "tcp" | "udp" | "sctp";
type PortType = "port" | "portrange";
/** Ports from `low` to `high`; a service may belong to one transport only. */
interface Ports {
  readonly low: number;
  readonly high: number;
  readonly transport?: Transport;
}

/** Offset and mask of the IPv4 fragment offset. */
const ip4FragmentOffset = 6, ip4FragmentMask = 0x1fff;

/** `port N`, `portrange N` */
export function portNumber(state: State, port: number, type: PortType, qualifiers: Qualifiers): Test {
  const transport = transportOf(state, type, qualifiers);
  checkMaximum(state, "port number", port, 0xffff);
  return ports(state, { low: port, high: port, ...transport }, type, qualifiers);
}

/** `port NAME` */
export function portName(state: State, name: string, qualifiers: Qualifiers): Test {
  const wanted = transportOf(state, "port", qualifiers);
  const service = state.names.service(name);
  const found = service === undefined ? undefined : servicePort(service);
  if (found === undefined) fail(state, `unknown port '${name}'`);
  refuseOtherTransport(state, `port '${name}'`, wanted.transport, found.transport);
  return ports(state, { low: found.port, high: found.port, ...found, ...wanted }, "port", qualifiers);
}

/** `portrange A-B` */
export function portRangeName(state: State, name: string, qualifiers: Qualifiers): Test {
  const wanted = transportOf(state, "portrange", qualifiers);
  const ends = name.split("-");
  if (ends.length < 2) fail(state, `port range '${name}' contains no hyphen`);
  if (ends.length > 2) fail(state, `port range '${name}' contains more than one hyphen`);
  const [first, last] = ends.map((end) => rangeEnd(state, end)) as [RangeEnd, RangeEnd];
  const transport = first.transport === last.transport ? first.transport : undefined;
  refuseOtherTransport(state, `port in range '${name}'`, wanted.transport, transport);
  return ports(
    state,
    {
      low: Math.min(first.port, last.port),
      high: Math.max(first.port, last.port),
      ...(transport === undefined ? {} : { transport }),
      ...wanted,
    },
    "portrange",
    qualifiers,
  );
}

interface RangeEnd {
  readonly port: number;
  readonly transport?: Transport;
}

function rangeEnd(state: State, text: string): RangeEnd {
  if (/^[0-9]+$/.test(text) || /^0[xX][0-9a-fA-F]+$/.test(text)) {
    // What is no valid octal number (080) is still a decimal one to the system's service lookup.
    const literal = parseNumber(text);
    const value = typeof literal === "number"
      ? literal
      : /^[0-9]{1,5}$/.test(text)
      ? Number(text)
      : undefined;
    if (value === undefined) fail(state, `'${text}' is not a valid port`);
    checkMaximum(state, "port number", value, 0xffff);
    return { port: value };
  }
  const service = state.names.service(text);
  const found = service === undefined ? undefined : servicePort(service);
  return found ?? fail(state, `'${text}' is not a valid port`);
}

/** Equal ports for both transports restrict nothing; different ones mean the tcp port. */
function servicePort({ tcp, udp }: { tcp?: number; udp?: number }): RangeEnd | undefined {
  if (tcp !== undefined) return tcp === udp ? { port: tcp } : { port: tcp, transport: "tcp" };
  return udp === undefined ? undefined : { port: udp, transport: "udp" };
}

function refuseOtherTransport(
  state: State,
  what: string,
  wanted: Transport | undefined,
  found: Transport | undefined,
): void {
  if (wanted !== undefined && found !== undefined && wanted !== found) fail(state, `${what} is ${found}`);
}

function transportOf(state: State, type: PortType, { protocol }: Qualifiers): { transport?: Transport } {
  switch (protocol) {
    case undefined:
      return {};
    case "tcp":
    case "udp":
    case "sctp":
      return { transport: protocol };
    default:
      invalidQualifier(state, protocol, type);
  }
}

/** IPv4 is generated first but tested last. */
function ports(state: State, wanted: Ports, type: PortType, qualifiers: Qualifiers): Test {
  const ip4 = ip4Ports(state, wanted, type, qualifiers);
  return or(ip6Ports(state, wanted, type, qualifiers), ip4);
}

function ip4Ports(state: State, wanted: Ports, type: PortType, qualifiers: Qualifiers): Test {
  const ip = linkType(state, etherTypes.ip);
  const carried = and(ip, carries(state, ip4ProtocolOffset, wanted.transport));
  const first = and(carried, firstFragment(state));
  return and(first, portAtEnd(state, "ip4 payload", wanted, type, qualifiers));
}

function ip6Ports(state: State, wanted: Ports, type: PortType, qualifiers: Qualifiers): Test {
  const ip6 = linkType(state, etherTypes.ip6);
  const carried = and(ip6, carries(state, ip6NextHeaderOffset, wanted.transport));
  return and(carried, portAtEnd(state, "ip6 payload", wanted, type, qualifiers));
}

/** The packet is whole, or the fragment that has the transport header. */
export function firstFragment(state: State): Test {
  return noneSet(state, "network", ip4FragmentOffset, 2, ip4FragmentMask);
}

function carries(state: State, offset: number, transport: Transport | undefined): Test {
  const is = (name: Transport) => equals(state, "network", offset, 1, ipProtocols[name]);
  return transport === undefined ? anyOf(is("tcp"), is("udp"), is("sctp")) : is(transport);
}

function portAtEnd(state: State, base: Base, wanted: Ports, type: PortType, { direction }: Qualifiers): Test {
  const source = () => portAt(state, base, 0, wanted);
  const destination = () => portAt(state, base, 2, wanted);
  switch (direction) {
    case "src":
      return source();
    case "dst":
      return destination();
    case "src and dst":
      return and(source(), destination());
    case undefined:
    case "src or dst":
      return or(source(), destination());
    default:
      invalidQualifier(state, direction, type);
  }
}

function portAt(state: State, base: Base, offset: number, { low, high }: Ports): Test {
  if (low === high) return equals(state, base, offset, 2, low);
  const atLeast = compare(load(state, base, offset, 2), jge, low);
  return and(atLeast, not(compare(load(state, base, offset, 2), jgt, high)));
}

/** One IP version of `udp dst port N`, for tunnels. */
export function udpDestination(state: State, version: "ip" | "ip6", port: number): Test {
  const wanted: Ports = { low: port, high: port, transport: "udp" };
  const generate = version === "ip" ? ip4Ports : ip6Ports;
  return generate(state, wanted, "port", { direction: "dst" });
}
