/**
 * The network interfaces of a namespace, asked from the kernel: an RTM_GETLINK dump over a netlink socket
 * (rtnetlink(7), include/uapi/linux/rtnetlink.h, if_link.h). Omitted: everything but names. And requests that
 * change something, one at a time (rtnetlink_message.ts).
 */
import { struct, u32 } from "../../asm/layout.ts";
import { scope } from "./arena.ts";
import { OwnedFd } from "./fd.ts";
import { kernelError, syscall } from "./ffi.ts";
import { encodeRequest, ifinfomsg, nlmsghdr, type RouteRequest, rtattr } from "./rtnetlink_message.ts";

const AF_NETLINK = 16, SOCK_RAW = 3, SOCK_CLOEXEC = 0x80000, NETLINK_ROUTE = 0, MSG_DONTWAIT = 0x40;
const NLMSG_ERROR = 2, NLMSG_DONE = 3, RTM_NEWLINK = 16, RTM_GETLINK = 18;
const NLM_F_REQUEST = 1, NLM_F_DUMP = 0x300, NLM_F_DUMP_INTR = 0x10;
const IFLA_IFNAME = 3, IFLA_EXT_MASK = 29, IFLA_PROP_LIST = 52, IFLA_ALT_IFNAME = 53, NLA_TYPE_MASK = 0x3fff;
/** Counters make a dump several times as long; nobody here reads them (Linux 4.9; older kernels send them). */
const RTEXT_FILTER_SKIP_STATS = 8;

const dumpRequest = struct("getlink_request", {
  header: nlmsghdr,
  link: ifinfomsg,
  attribute: rtattr,
  mask: u32,
});

/** One network interface. */
export interface NetworkLink {
  readonly ifindex: number;
  readonly name: string;
  /** other names it answers to (Linux 5.5) */
  readonly altNames: readonly string[];
}

/** A netlink socket; it stays in the namespace that the thread was in when it was made. */
export function routeSocket(): OwnedFd {
  return new OwnedFd(syscall("socket", AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
}

/** The kernel answers with as much of the request as it got, so with at least its own header and an errno. */
const ACKNOWLEDGEMENT_BYTES = 4096;

/**
 * Has the kernel do something, in the namespace of the socket; it is done when this returns.
 *
 * @throws {KernelError} it was refused
 */
export function request(socket: OwnedFd, wanted: RouteRequest): void {
  using memory = scope();
  const question = memory.copy(encodeRequest(wanted, 1));
  syscall("sendto", socket.fd, question.address, question.bytes.length, 0, 0, 0);
  const answer = memory.alloc(ACKNOWLEDGEMENT_BYTES);
  const length = syscall("recvfrom", socket.fd, answer.address, ACKNOWLEDGEMENT_BYTES, MSG_DONTWAIT, 0, 0);
  const error = parseAcknowledgement(answer.view, length);
  if (error !== 0) throw kernelError(wanted.call, error);
}

/** The errno in an answer to a request; 0 is success, EBADMSG an answer that is none. */
export function parseAcknowledgement(view: DataView, length: number): number {
  if (length < nlmsghdr.size + 4) return EBADMSG;
  if (nlmsghdr.decode(view, 0).nlmsg_type !== NLMSG_ERROR) return EBADMSG;
  return 0 - view.getInt32(nlmsghdr.size, true);
}

/** Longer than any message the kernel makes of one link; a dump fills it with as many as fit. */
const RECEIVE_BYTES = 64 * 1024;

/** A dump during which links came or went is asked for again, this often at most. */
const ATTEMPTS = 3;

/** @throws {KernelError} the kernel refused, or its answer contradicts itself (EBADMSG) */
export function dumpLinks(socket: OwnedFd): NetworkLink[] {
  let links: NetworkLink[] = [];
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    links = [];
    if (!dumpOnce(socket, attempt, links)) break;
  }
  return links;
}

/** Returns whether the dump was disturbed. */
function dumpOnce(socket: OwnedFd, sequence: number, into: NetworkLink[]): boolean {
  using memory = scope();
  const question = memory.struct(dumpRequest, {
    header: {
      nlmsg_len: dumpRequest.size,
      nlmsg_type: RTM_GETLINK,
      nlmsg_flags: NLM_F_REQUEST | NLM_F_DUMP,
      nlmsg_seq: sequence,
      nlmsg_pid: 0,
    },
    attribute: { rta_len: rtattr.size + 4, rta_type: IFLA_EXT_MASK },
    mask: RTEXT_FILTER_SKIP_STATS,
  });
  syscall("sendto", socket.fd, question.address, dumpRequest.size, 0, 0, 0);
  const answer = memory.alloc(RECEIVE_BYTES);
  let disturbed = false;
  while (true) {
    // The kernel has answered by the time sendto returns, so nothing is waited for.
    const length = syscall("recvfrom", socket.fd, answer.address, RECEIVE_BYTES, MSG_DONTWAIT, 0, 0);
    const part = parseLinks(answer.view, length, sequence, into);
    disturbed ||= part.disturbed;
    if (part.done) return disturbed;
  }
}

/**
 * Reads one datagram of a dump.
 *
 * @returns `done`: this was the last one; `disturbed`: links changed meanwhile
 * @throws {KernelError} the message carries an error, or is malformed
 */
export function parseLinks(
  view: DataView,
  length: number,
  sequence: number,
  into: NetworkLink[],
): { done: boolean; disturbed: boolean } {
  let disturbed = false;
  for (let at = 0; at + nlmsghdr.size <= length;) {
    const header = nlmsghdr.decode(view, at);
    if (header.nlmsg_len < nlmsghdr.size || at + header.nlmsg_len > length) throw malformed();
    const body = at + nlmsghdr.size, end = at + header.nlmsg_len;
    // Left over from a dump that was given up.
    const ours = header.nlmsg_seq === sequence;
    if (ours && header.nlmsg_flags & NLM_F_DUMP_INTR) disturbed = true;
    if (ours && header.nlmsg_type === NLMSG_DONE) return { done: true, disturbed };
    if (ours && header.nlmsg_type === NLMSG_ERROR) {
      if (body + 4 > end) throw malformed();
      throw kernelError("netlink(RTM_GETLINK)", -view.getInt32(body, true));
    }
    if (ours && header.nlmsg_type === RTM_NEWLINK) {
      if (body + ifinfomsg.size > end) throw malformed();
      const { ifi_index } = ifinfomsg.decode(view, body);
      const names: string[] = [], altNames: string[] = [];
      readNames(view, body + ifinfomsg.size, end, names, altNames);
      const name = names[0];
      if (name !== undefined) into.push({ ifindex: ifi_index, name, altNames });
    }
    at += align(header.nlmsg_len);
  }
  return { done: false, disturbed };
}

function readNames(view: DataView, at: number, end: number, names: string[], altNames: string[]): void {
  while (at + rtattr.size <= end) {
    const { rta_len, rta_type } = rtattr.decode(view, at);
    if (rta_len < rtattr.size || at + rta_len > end) throw malformed();
    const from = at + rtattr.size, to = at + rta_len;
    switch (rta_type & NLA_TYPE_MASK) {
      case IFLA_IFNAME:
        names.push(text(view, from, to));
        break;
      case IFLA_ALT_IFNAME:
        altNames.push(text(view, from, to));
        break;
      case IFLA_PROP_LIST:
        readNames(view, from, to, [], altNames);
    }
    at += align(rta_len);
  }
}

function text(view: DataView, from: number, to: number): string {
  const bytes = new Uint8Array(view.buffer, view.byteOffset + from, to - from);
  const nul = bytes.indexOf(0);
  return new TextDecoder().decode(bytes.slice(0, nul < 0 ? bytes.length : nul));
}

/** Messages and attributes start at multiples of four (NLMSG_ALIGNTO, RTA_ALIGNTO). */
function align(length: number): number {
  return (length + 3) & ~3;
}

const EBADMSG = 74;

function malformed(): Error {
  return kernelError("netlink(RTM_GETLINK)", EBADMSG);
}
