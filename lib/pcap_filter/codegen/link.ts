/** Questions to the link layer: which protocol a frame carries, MAC addresses, LLC, what Linux says about it. */
import { ancillary, cbpf, SKF_AD_OFF } from "../../../asm/cbpf.ts";
import { compareMasked, equals, equalsBytes, load, loadWordToX, noneSet, type Size } from "./load.ts";
import {
  allOf,
  and,
  anyOf,
  compare,
  constantTest,
  jeq,
  jgt,
  jset,
  not,
  or,
  statement,
  type Test,
} from "../graph.ts";
import {
  type Direction,
  etherTypes,
  llcTypes,
  maxLength802_3,
  pppProtocols,
  type Protocol,
  serviceAccessPoints as sap,
} from "../tables.ts";
import { checkMaximum, fail, invalidQualifier, linkDescriptions, type State, unsupported } from "./state.ts";

/** The frame carries `type`, an EtherType or (up to 1500) an LLC service access point. */
export function linkType(state: State, type: number): Test {
  if (state.mplsDepth > 0) return linkTypeInMpls(state, type);
  switch (state.link) {
    case "EN10MB":
      return linkTypeOnEthernet(state, type);
    case "PPP":
      checkMaximum(state, "PPP protocol", type, 0xffff);
      return equals(state, "link type", 0, 2, pppProtocols.get(type) ?? type);
    case "RAW":
      if (type === etherTypes.ip) return equals(state, "network", 0, 1, 0x40, 0xf0);
      if (type === etherTypes.ip6) return equals(state, "network", 0, 1, 0x60, 0xf0);
      return constantTest(false);
  }
}

/** Nothing in a label names the protocol: look for the bottom of the stack and the version nibble. */
function linkTypeInMpls(state: State, type: number): Test {
  if (type !== etherTypes.ip && type !== etherTypes.ip6) fail(state, "unsupported protocol over mpls");
  const bottom = compare(load(state, "network", -2, 1), jset, 1);
  return and(bottom, equals(state, "network", 0, 1, type === etherTypes.ip ? 0x40 : 0x60, 0xf0));
}

function linkTypeOnEthernet(state: State, type: number): Test {
  const etherType = (value: number) => equals(state, "link type", 0, 2, value);
  switch (type) {
    case sap.iso:
    case sap.ip:
    case sap.netbeui:
      return and(is802_3(state), equals(state, "link payload", 0, 2, type * 0x101));
    case sap.ipx: { // Ethernet II, SNAP, LLC and the raw frames that start with a checksum of all ones
      const ethernet2 = etherType(etherTypes.ipx);
      const length = is802_3(state);
      const snapFrame = snap(state, 0, etherTypes.ipx);
      const llcFrame = equals(state, "link payload", 0, 1, sap.ipx);
      const rawFrame = equals(state, "link payload", 0, 2, 0xffff);
      return or(ethernet2, and(length, anyOf(snapFrame, llcFrame, rawFrame)));
    }
    case etherTypes.atalk:
      return or(etherType(type), and(is802_3(state), snap(state, 0x080007, type)));
    case etherTypes.aarp:
      return or(etherType(type), and(is802_3(state), snap(state, 0, type)));
    default:
      if (type > maxLength802_3) {
        checkMaximum(state, "EtherType", type, 0xffff);
        return etherType(type);
      }
      checkMaximum(state, "LLC DSAP", type, 0xff);
      return and(is802_3(state), equals(state, "link type", 2, 1, type));
  }
}

/** The type field is a length, so an LLC header follows. */
function is802_3(state: State): Test {
  return not(compareMasked(state, "link type", 0, 2, jgt, maxLength802_3));
}

/** An LLC header for SNAP with this organisation and protocol. */
function snap(state: State, organisation: number, protocol: number): Test {
  const header = new Uint8Array(8);
  const view = new DataView(header.buffer);
  view.setUint32(0, 0xaaaa0300 | (organisation >>> 16));
  view.setUint32(4, (((organisation & 0xffff) << 16) | protocol) >>> 0);
  const [first, ...others] = equalsBytes(state, "link payload", 0, header);
  return allOf(first!, ...others);
}

/** `link [dir] host MAC` */
export function macHost(state: State, mac: Uint8Array, direction: Direction | undefined): Test {
  requireMac(state, "link host XX:XX:XX:XX:XX:XX");
  const inner = innerEthernetPresent(state);
  const address = (offset: number): Test => {
    const [first, ...others] = equalsBytes(state, "link header", offset, mac);
    return allOf(first!, ...others);
  };
  const test = eitherEnd(state, direction, () => address(6), () => address(0));
  return inner === undefined ? test : and(inner, test);
}

/** Source, destination or both, in the order in which the reference tests them. */
export function eitherEnd(
  state: State,
  direction: Direction | undefined,
  source: () => Test,
  destination: () => Test,
): Test {
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
      fail(state, `'${direction}' is valid for 802.11 syntax only`);
  }
}

/** Refuses link types without MAC addresses. */
function requireMac(state: State, keyword: string): void {
  if (state.link !== "EN10MB") unsupported(state, keyword);
}

/** Inside geneve and vxlan: is there an Ethernet header at all? Its start then differs from its end. */
function innerEthernetPresent(state: State): Test | undefined {
  const { linkHeader, linkPayload } = state;
  if (!state.encapsulated || linkHeader.word === undefined || linkPayload.word === undefined) {
    return undefined;
  }
  return not(compare(
    [statement(cbpf.ldMem, linkHeader.word), loadWordToX(linkPayload.word)],
    cbpf.jeq.x,
    0,
  ));
}

/** `[link|ip] broadcast` */
export function broadcast(state: State, protocol: Protocol | undefined): Test {
  switch (protocol) {
    case undefined:
    case "link": {
      requireMac(state, "broadcast");
      return macHost(state, new Uint8Array(6).fill(0xff), "dst");
    }
    case "ip": {
      const { netmask } = state;
      if (netmask === undefined) fail(state, "netmask not known, so 'ip broadcast' not supported");
      const hostBits = ~netmask >>> 0;
      const ip = linkType(state, etherTypes.ip);
      const zeros = equals(state, "network", 16, 4, 0, hostBits);
      const ones = equals(state, "network", 16, 4, hostBits, hostBits);
      return and(ip, or(zeros, ones));
    }
    default:
      invalidQualifier(state, protocol, "broadcast");
  }
}

/** `[link|ip|ip6] multicast` */
export function multicast(state: State, protocol: Protocol | undefined): Test {
  switch (protocol) {
    case undefined:
    case "link": {
      requireMac(state, "multicast");
      const inner = innerEthernetPresent(state);
      const group = compare(load(state, "link header", 0, 1), jset, 1);
      return inner === undefined ? group : and(inner, group);
    }
    case "ip":
      return and(linkType(state, etherTypes.ip), equals(state, "network", 16, 1, 0xe0, 0xf0));
    case "ip6":
      return and(linkType(state, etherTypes.ip6), equals(state, "network", 24, 1, 0xff));
    default:
      invalidQualifier(state, protocol, "multicast");
  }
}

/** `llc [NAME]`: an LLC header, with a control field of this kind. */
export function llc(state: State, name: string | undefined): Test {
  const kind = name?.toLowerCase();
  const row = kind === undefined ? undefined : llcTypes.get(kind);
  if (kind !== undefined && kind !== "i" && row === undefined) fail(state, `unknown LLC type name "${name}"`);
  if (state.link !== "EN10MB") unsupported(state, "llc");
  const header = and(is802_3(state), not(equals(state, "link payload", 0, 2, 0xffff)));
  if (kind === undefined) return header;
  if (row === undefined) return and(header, noneSet(state, "link payload", 2, 1, 1));
  return and(header, equals(state, "link payload", 2, 1, row.value, row.mask));
}

/** The packet type that Linux gives to what it sends (PACKET_OUTGOING, include/uapi/linux/if_packet.h). */
const packetOutgoing = 4;

/** `inbound`, `outbound`, `ifindex N`: answered by Linux, not by the packet. */
export function liveOnly(
  state: State,
  keyword: "inbound" | "outbound" | "ifindex",
  index: number | undefined,
): Test {
  if (!state.ancillary) {
    fail(state, `not a live capture, '${keyword}' not supported on ${linkDescriptions[state.link]}`);
  }
  if (index !== undefined) return equalsAncillary("ifindex", 4, index);
  const outgoing = equalsAncillary("packetType", 2, packetOutgoing);
  return keyword === "outbound" ? outgoing : not(outgoing);
}

export function equalsAncillary(word: keyof typeof ancillary, size: Size, value: number): Test {
  const code = cbpf.ldAbs[size];
  return compare([statement(code, SKF_AD_OFF + ancillary[word].offset)], jeq, value);
}
