/**
 * Whether two looks at one address show the same packet: by what routers, NAT and GRO leave alone. Addresses,
 * ports, lengths and checksums they do not.
 */
import { decodeTuple, ETH_P_IP, IPPROTO_TCP, Tuple } from "../output/tuple.ts";

const IPPROTO_ICMP = 1, IPPROTO_UDP = 17, IPPROTO_ICMPV6 = 58;
/** Headers that another one follows: IPIP, IPv6 in IPv4, GRE, ESP, AH. */
const TUNNELS: readonly number[] = [4, 41, 47, 50, 51];
/** UDP ports of VXLAN (IANA's and Linux's), GENEVE, GTP-U, ESP in UDP, FOU and MPLS. */
const TUNNEL_PORTS: readonly number[] = [4789, 8472, 6081, 2152, 4500, 5555, 6635];

/** What `identify` found; one object is filled again and again. */
export class Identity {
  /** of nothing we know: 0 */
  hash = 0;
  /** the packet carries another one, or may: what is inside has an identity of its own */
  wraps = false;
  readonly #tuple = new Tuple();

  /** Of the packet whose network header begins at `start`; `protocol` is sk_buff.protocol in host byte order. */
  read(view: DataView, start: number, length: number, protocol: number): void {
    const tuple = this.#tuple;
    this.hash = 0;
    this.wraps = false;
    if (!decodeTuple(view, start, length, protocol, tuple)) return;
    const version4 = tuple.etherType === ETH_P_IP, ip = tuple.protocol;
    const header = tuple.source - (version4 ? 12 : 8), end = start + length;
    this.wraps = TUNNELS.includes(ip) || (ip === IPPROTO_UDP &&
      (TUNNEL_PORTS.includes(tuple.sourcePort) || TUNNEL_PORTS.includes(tuple.destinationPort)));
    let hash = ip << 24 | (version4 ? 1 << 16 | view.getUint16(header + 4) : 2 << 16);
    if (tuple.fragmentOffset !== 0) hash = mix(hash, tuple.fragmentOffset);
    else if (ip === IPPROTO_TCP || ip === IPPROTO_ICMP || ip === IPPROTO_ICMPV6) {
      // TCP's sequence number; ICMP's identifier and sequence number, or whatever an error has there.
      const transport = version4 ? header + (view.getUint8(header) & 15) * 4 : header + 40;
      const direct = version4 || view.getUint8(header + 6) === ip;
      if (direct && transport + 8 <= end) hash = mix(hash, view.getInt32(transport + 4));
    }
    this.hash = hash === 0 ? 1 : hash;
  }
}

function mix(a: number, b: number): number {
  return Math.imul(a ^ b, 0x9e37_79b1) ^ (b >>> 15);
}
