/**
 * Requests that set up a network, as bytes: veth pairs, addresses, routes (rtnetlink(7), include/uapi/linux/
 * rtnetlink.h, if_link.h, if_addr.h, veth.h). Pure; netns and sockets are elsewhere.
 *
 *   | nlmsghdr | ifinfomsg, ifaddrmsg or rtmsg | attributes, each rtattr and value, padded to four bytes |
 */
import { s32, struct, u16, u32, u8 } from "../../asm/layout.ts";

export const nlmsghdr = struct("nlmsghdr", {
  nlmsg_len: u32,
  nlmsg_type: u16,
  nlmsg_flags: u16,
  nlmsg_seq: u32,
  nlmsg_pid: u32,
});
export const ifinfomsg = struct("ifinfomsg", {
  ifi_family: u8,
  __ifi_pad: u8,
  ifi_type: u16,
  ifi_index: s32,
  ifi_flags: u32,
  ifi_change: u32,
});
export const rtattr = struct("rtattr", { rta_len: u16, rta_type: u16 });
const ifaddrmsg = struct("ifaddrmsg", {
  ifa_family: u8,
  ifa_prefixlen: u8,
  ifa_flags: u8,
  ifa_scope: u8,
  ifa_index: u32,
});
const rtmsg = struct("rtmsg", {
  rtm_family: u8,
  rtm_dst_len: u8,
  rtm_src_len: u8,
  rtm_tos: u8,
  rtm_table: u8,
  rtm_protocol: u8,
  rtm_scope: u8,
  rtm_type: u8,
  rtm_flags: u32,
});

const NLM_F_REQUEST = 1, NLM_F_ACK = 4, NLM_F_EXCL = 0x200, NLM_F_CREATE = 0x400;
const RTM_NEWLINK = 16, RTM_SETLINK = 19, RTM_NEWADDR = 20, RTM_NEWROUTE = 24;
const IFLA_IFNAME = 3, IFLA_MTU = 4, IFLA_LINKINFO = 18, IFLA_AF_SPEC = 26, IFLA_NET_NS_FD = 28;
const IFLA_INFO_KIND = 1, IFLA_INFO_DATA = 2, VETH_INFO_PEER = 1;
const IFLA_INET_CONF = 1, IPV4_DEVCONF_FORWARDING = 1;
const IFA_ADDRESS = 1, IFA_LOCAL = 2, RTA_GATEWAY = 5;
const RT_TABLE_MAIN = 254, RTPROT_BOOT = 3, RTN_UNICAST = 1;
const AF_INET = 2, IFF_UP = 1;

/** Four bytes, as the network orders them. */
export type Ipv4 = readonly [number, number, number, number];

/** What the kernel is asked; `call` names it in errors. */
export interface RouteRequest {
  readonly call: string;
  readonly type: number;
  /** beside NLM_F_REQUEST and NLM_F_ACK */
  readonly flags: number;
  /** what follows the nlmsghdr */
  readonly body: Uint8Array;
}

/** The bytes to send; the kernel answers each with one acknowledgement. */
export function encodeRequest({ type, flags, body }: RouteRequest, sequence: number): Uint8Array {
  const header = encoded(nlmsghdr, {
    nlmsg_len: nlmsghdr.size + body.length,
    nlmsg_type: type,
    nlmsg_flags: NLM_F_REQUEST | NLM_F_ACK | flags,
    nlmsg_seq: sequence,
  });
  return joined(header, body);
}

/** A veth pair: one end here, the other, with its own name, in the namespace of an open file. */
export function vethPair(
  here: { readonly name: string; readonly mtu: number },
  there: { readonly name: string; readonly mtu: number; readonly netnsFd: number },
): RouteRequest {
  const peer = joined(
    encoded(ifinfomsg, {}),
    attribute(IFLA_IFNAME, cString(there.name)),
    attribute(IFLA_MTU, word(there.mtu)),
    attribute(IFLA_NET_NS_FD, word(there.netnsFd)),
  );
  const body = joined(
    encoded(ifinfomsg, {}),
    attribute(IFLA_IFNAME, cString(here.name)),
    attribute(IFLA_MTU, word(here.mtu)),
    attribute(
      IFLA_LINKINFO,
      attribute(IFLA_INFO_KIND, cString("veth")),
      attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer)),
    ),
  );
  return { call: "netlink(RTM_NEWLINK)", type: RTM_NEWLINK, flags: NLM_F_CREATE | NLM_F_EXCL, body };
}

export function linkUp(ifindex: number): RouteRequest {
  return setLink({ ifi_index: ifindex, ifi_flags: IFF_UP, ifi_change: IFF_UP });
}

export function linkMtu(ifindex: number, mtu: number): RouteRequest {
  return setLink({ ifi_index: ifindex }, attribute(IFLA_MTU, word(mtu)));
}

/** Lets IPv4 packets that come in here go out elsewhere. What sysctl does, for where /proc/sys is read-only. */
export function forwardFrom(ifindex: number): RouteRequest {
  const conf = attribute(IFLA_INET_CONF, attribute(IPV4_DEVCONF_FORWARDING, word(1)));
  return setLink({ ifi_index: ifindex }, attribute(IFLA_AF_SPEC, attribute(AF_INET, conf)));
}

function setLink(link: Parameters<typeof ifinfomsg.encode>[2], ...attributes: Uint8Array[]): RouteRequest {
  const body = joined(encoded(ifinfomsg, link), ...attributes);
  return { call: "netlink(RTM_SETLINK)", type: RTM_SETLINK, flags: 0, body };
}

export function addAddress(ifindex: number, address: Ipv4, prefix: number): RouteRequest {
  const body = joined(
    encoded(ifaddrmsg, { ifa_family: AF_INET, ifa_prefixlen: prefix, ifa_index: ifindex }),
    attribute(IFA_LOCAL, Uint8Array.from(address)),
    attribute(IFA_ADDRESS, Uint8Array.from(address)),
  );
  return { call: "netlink(RTM_NEWADDR)", type: RTM_NEWADDR, flags: NLM_F_CREATE | NLM_F_EXCL, body };
}

export function defaultRoute(gateway: Ipv4): RouteRequest {
  const body = joined(
    encoded(rtmsg, {
      rtm_family: AF_INET,
      rtm_table: RT_TABLE_MAIN,
      rtm_protocol: RTPROT_BOOT,
      rtm_type: RTN_UNICAST,
    }),
    attribute(RTA_GATEWAY, Uint8Array.from(gateway)),
  );
  return { call: "netlink(RTM_NEWROUTE)", type: RTM_NEWROUTE, flags: NLM_F_CREATE | NLM_F_EXCL, body };
}

function encoded<
  S extends typeof nlmsghdr | typeof ifinfomsg | typeof ifaddrmsg | typeof rtmsg | typeof rtattr,
>(
  layout: S,
  members: Parameters<S["encode"]>[2],
): Uint8Array {
  const bytes = new Uint8Array(layout.size);
  (layout.encode as (view: DataView, offset: number, value: unknown) => void)(
    new DataView(bytes.buffer),
    0,
    members,
  );
  return bytes;
}

/** rtattr, then the parts of its value one after the other, padded. */
export function attribute(type: number, ...value: Uint8Array[]): Uint8Array {
  const content = joined(...value), length = rtattr.size + content.length;
  const padded = new Uint8Array((length + 3) & ~3);
  padded.set(encoded(rtattr, { rta_len: length, rta_type: type }));
  padded.set(content, rtattr.size);
  return padded;
}

export function word(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

export function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
