/**
 * Who speaks to whom, from the first bytes of a packet's network header: IPv4 (RFC 791), IPv6 with its extension
 * headers (RFC 8200), then what tells one conversation between two hosts from another: the ports of TCP, UDP,
 * SCTP, DCCP and UDP-Lite, the identifier of an ICMP echo, a GRE key (RFC 2890), the SPI of ESP and AH.
 *
 * The bytes come from the wire, so nothing is believed: no field is read beyond the bytes we have, and what
 * cannot be read stays 0 or -1. Omitted: the call number of PPTP's GRE, MPLS. tuple_text.ts writes it.
 */

export const ETH_P_IP = 0x0800, ETH_P_IPV6 = 0x86dd;
const ETH_P_8021Q = 0x8100, ETH_P_8021AD = 0x88a8;
/** Smaller values of sk_buff.protocol are no EtherTypes (ETH_P_802_3_MIN in uapi/linux/if_ether.h). */
const FIRST_ETHER_TYPE = 0x0600;

export const IPPROTO_ICMP = 1, IPPROTO_TCP = 6, IPPROTO_UDP = 17, IPPROTO_GRE = 47, IPPROTO_ESP = 50;
export const IPPROTO_AH = 51, IPPROTO_ICMPV6 = 58;
const IPPROTO_HOPOPTS = 0, IPPROTO_DCCP = 33, IPPROTO_ROUTING = 43, IPPROTO_FRAGMENT = 44;
const IPPROTO_DSTOPTS = 60, IPPROTO_SCTP = 132, IPPROTO_UDPLITE = 136, IPPROTO_HIP = 139, IPPROTO_SHIM6 = 140;

/** Of GRE's first word: a key follows; there is a checksum in front of it; the version that has them. */
const GRE_KEY = 0x2000, GRE_CHECKSUM = 0x8000, GRE_VERSION = 7;

/** More extension headers than any real packet has; the walk ends there. */
const MAX_EXTENSION_HEADERS = 8;

/** What was found; one object is filled again and again. */
export class Tuple {
  /** ETH_P_IP or ETH_P_IPV6; 0: no IP header here, and nothing else is valid */
  etherType = 0;
  /** IP protocol of the transport header, behind all extension headers */
  protocol = 0;
  /** where in the view the addresses start: 4 bytes each, or 16 */
  source = 0;
  destination = 0;
  /** host byte order; 0 where the protocol has none or they are not in this packet */
  sourcePort = 0;
  destinationPort = 0;
  /** the flags byte of a TCP header, CWR to FIN */
  tcpFlags = 0;
  /** -1 where the packet is no ICMP message */
  icmpType = -1;
  icmpCode = -1;
  /** identifier and sequence number of an echo request or reply, else -1 */
  icmpId = -1;
  icmpSequence = -1;
  /** what a receiver tells tunnels and associations apart by: a GRE key, the SPI of ESP or AH; -1: none */
  key = -1;
  /** place of this fragment's payload, in bytes; 0 for the first fragment and for whole packets */
  fragmentOffset = 0;

  clear(): void {
    this.etherType =
      this.protocol =
      this.source =
      this.destination =
        0;
    this.sourcePort =
      this.destinationPort =
      this.tcpFlags =
      this.fragmentOffset =
        0;
    this.icmpType =
      this.icmpCode =
      this.icmpId =
      this.icmpSequence =
      this.key =
        -1;
  }
}

/**
 * Reads `length` bytes of `view` from `start`, the network header on, into `into`.
 *
 * @param protocol sk_buff.protocol in host byte order. An IP EtherType must agree with the header's version;
 *   below 0x0600, as in packets that are still being built, the version alone decides
 * @returns `into.etherType !== 0`
 */
export function decodeTuple(
  view: DataView,
  start: number,
  length: number,
  protocol: number,
  into: Tuple,
): boolean {
  into.clear();
  const end = start + length;
  if (protocol === ETH_P_8021Q || protocol === ETH_P_8021AD) {
    // Received: the tag's last four bytes precede the IP header. Sent, once the tag is written in front of
    // the MAC header: the network header is IP already, and only its bytes can tell.
    let at = start;
    for (let tags = 0; tags < 2 && at + 5 <= end; tags++) {
      const inner = view.getUint16(at + 2);
      at += 4;
      if (decodeIp(view, at, end, inner, into)) return true;
      if (inner !== ETH_P_8021Q) break;
    }
    return decodeIp(view, start, end, 0, into);
  }
  if (protocol >= FIRST_ETHER_TYPE && protocol !== ETH_P_IP && protocol !== ETH_P_IPV6) return false;
  return decodeIp(view, start, end, protocol, into);
}

function decodeIp(view: DataView, at: number, end: number, protocol: number, into: Tuple): boolean {
  if (at >= end) return false;
  const version = view.getUint8(at) >> 4;
  const any = protocol < FIRST_ETHER_TYPE;
  if (version === 4 && (any || protocol === ETH_P_IP)) return decodeIpv4(view, at, end, into);
  if (version === 6 && (any || protocol === ETH_P_IPV6)) return decodeIpv6(view, at, end, into);
  return false;
}

function decodeIpv4(view: DataView, at: number, end: number, into: Tuple): boolean {
  if (at + 20 > end) return false;
  into.etherType = ETH_P_IP;
  into.protocol = view.getUint8(at + 9);
  into.source = at + 12;
  into.destination = at + 16;
  into.fragmentOffset = (view.getUint16(at + 6) & 0x1fff) * 8;
  const headerBytes = (view.getUint8(at) & 15) * 4;
  // Below 20 the header contradicts itself; no transport header can be found.
  if (headerBytes >= 20 && into.fragmentOffset === 0) decodeTransport(view, at + headerBytes, end, into);
  return true;
}

function decodeIpv6(view: DataView, at: number, end: number, into: Tuple): boolean {
  if (at + 40 > end) return false;
  into.etherType = ETH_P_IPV6;
  into.source = at + 8;
  into.destination = at + 24;
  into.protocol = view.getUint8(at + 6);
  at += 40;
  for (let headers = 0; isExtension(into.protocol); headers++) {
    if (headers === MAX_EXTENSION_HEADERS || at + 8 > end) return true;
    const header = into.protocol;
    into.protocol = view.getUint8(at);
    if (header === IPPROTO_FRAGMENT) {
      into.fragmentOffset = view.getUint16(at + 2) & 0xfff8;
      if (into.fragmentOffset !== 0) return true;
      at += 8;
    } else {
      // An authentication header counts 4-byte units and leaves out two, the others 8-byte units but one.
      const units = view.getUint8(at + 1);
      at += header === IPPROTO_AH ? (units + 2) * 4 : (units + 1) * 8;
    }
  }
  decodeTransport(view, at, end, into);
  return true;
}

function isExtension(header: number): boolean {
  switch (header) {
    case IPPROTO_HOPOPTS:
    case IPPROTO_ROUTING:
    case IPPROTO_FRAGMENT:
    case IPPROTO_AH:
    case IPPROTO_DSTOPTS:
    case IPPROTO_HIP:
    case IPPROTO_SHIM6:
      return true;
    default:
      return false;
  }
}

function decodeTransport(view: DataView, at: number, end: number, into: Tuple): void {
  switch (into.protocol) {
    case IPPROTO_TCP:
    case IPPROTO_UDP:
    case IPPROTO_SCTP:
    case IPPROTO_DCCP:
    case IPPROTO_UDPLITE:
      if (at + 4 > end) return;
      into.sourcePort = view.getUint16(at);
      into.destinationPort = view.getUint16(at + 2);
      if (into.protocol === IPPROTO_TCP && at + 14 <= end) into.tcpFlags = view.getUint8(at + 13);
      return;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6: {
      if (at + 2 > end) return;
      into.icmpType = view.getUint8(at);
      into.icmpCode = view.getUint8(at + 1);
      const echo = into.protocol === IPPROTO_ICMP
        ? into.icmpType === 8 || into.icmpType === 0
        : into.icmpType === 128 || into.icmpType === 129;
      if (!echo || at + 8 > end) return;
      into.icmpId = view.getUint16(at + 4);
      into.icmpSequence = view.getUint16(at + 6);
      return;
    }
    case IPPROTO_GRE: {
      if (at + 4 > end) return;
      const flags = view.getUint16(at), key = at + ((flags & GRE_CHECKSUM) === 0 ? 4 : 8);
      if ((flags & GRE_KEY) === 0 || (flags & GRE_VERSION) !== 0 || key + 4 > end) return;
      into.key = view.getUint32(key);
      return;
    }
    case IPPROTO_ESP:
      if (at + 4 <= end) into.key = view.getUint32(at);
      return;
    case IPPROTO_AH: // of IPv4: in IPv6 it is one of the extension headers
      if (at + 8 <= end) into.key = view.getUint32(at + 4);
  }
}
