/**
 * An Open vSwitch that drops what IPv4 comes in from a device, through generic netlink (include/uapi/linux/openvswitch.h,
 * genetlink.h): one datapath, one port, one flow without an action.
 */
import { readFileSync } from "node:fs";
import { scope } from "../../lib/sys/arena.ts";
import { OwnedFd } from "../../lib/sys/fd.ts";
import { kernelError, syscall } from "../../lib/sys/ffi.ts";
import {
  attribute,
  cString,
  encodeRequest,
  joined,
  nlmsghdr,
  word,
} from "../../lib/sys/rtnetlink_message.ts";
import { parseAcknowledgement } from "../../lib/sys/rtnetlink.ts";

const AF_NETLINK = 16, SOCK_RAW = 3, NETLINK_GENERIC = 16, ANSWER_BYTES = 4096;
const GENL_ID_CTRL = 16, CTRL_CMD_GETFAMILY = 3, CTRL_ATTR_FAMILY_ID = 1, CTRL_ATTR_FAMILY_NAME = 2;
const CMD_NEW = 1, DATAPATH_VERSION = 2, NETDEV = 1, PORT = 1;
const DP_NAME = 1, DP_UPCALL_PID = 2, VPORT_NO = 1, VPORT_TYPE = 2, VPORT_NAME = 3, VPORT_UPCALL_PID = 5;
const FLOW_KEY = 1, FLOW_ACTIONS = 2, FLOW_MASK = 7;
const KEY_IN_PORT = 3, KEY_ETHERNET = 4, KEY_ETHERTYPE = 6, KEY_IPV4 = 7;
const HEADERS = nlmsghdr.size + 4;

/** Sends one request; returns the first answer: what was asked for, or the acknowledgement. */
function ask(type: number, command: number, version: number, ...body: Uint8Array[]): DataView {
  using socket = new OwnedFd(syscall("socket", AF_NETLINK, SOCK_RAW, NETLINK_GENERIC));
  using memory = scope();
  const message = joined(Uint8Array.of(command, version, 0, 0), ...body);
  const question = memory.copy(encodeRequest({ call: "netlink", type, flags: 0, body: message }, 1));
  syscall("sendto", socket.fd, question.address, question.bytes.length, 0, 0, 0);
  const answer = memory.alloc(ANSWER_BYTES);
  const length = syscall("recvfrom", socket.fd, answer.address, ANSWER_BYTES, 0, 0, 0);
  return new DataView(answer.bytes.slice(0, length).buffer);
}

function familyOf(name: string): number {
  const answer = ask(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1, attribute(CTRL_ATTR_FAMILY_NAME, cString(name)));
  for (let at = HEADERS; at + 4 <= answer.byteLength;) {
    const length = answer.getUint16(at, true), type = answer.getUint16(at + 2, true);
    if (type === CTRL_ATTR_FAMILY_ID) return answer.getUint16(at + 4, true);
    at += Math.max(4, (length + 3) & ~3);
  }
  throw new Error(`There is no ${name}: is the module loaded?`);
}

/** @throws {KernelError} it was refused */
function create(family: string, version: number, datapath: number, ...attributes: Uint8Array[]): void {
  const answer = ask(familyOf(family), CMD_NEW, version, word(datapath), ...attributes);
  const error = parseAcknowledgement(answer, answer.byteLength);
  if (error !== 0) throw kernelError(`netlink(${family})`, error, { doing: "Cannot set up a switch" });
}

export function dropEverythingFrom(device: string): void {
  create(
    "ovs_datapath",
    DATAPATH_VERSION,
    0,
    attribute(DP_NAME, cString("ovs0")),
    attribute(DP_UPCALL_PID, word(0)),
  );
  const datapath = Number(readFileSync("/sys/class/net/ovs0/ifindex", "utf8"));
  create(
    "ovs_vport",
    1,
    datapath,
    attribute(VPORT_NO, word(PORT)),
    attribute(VPORT_TYPE, word(NETDEV)),
    attribute(VPORT_NAME, cString(device)),
    attribute(VPORT_UPCALL_PID, word(0)),
  );
  const any = new Uint8Array(12), ipv4 = Uint8Array.of(8, 0);
  create(
    "ovs_flow",
    1,
    datapath,
    attribute(
      FLOW_KEY,
      attribute(KEY_IN_PORT, word(PORT)),
      attribute(KEY_ETHERNET, any),
      attribute(KEY_ETHERTYPE, ipv4),
      attribute(KEY_IPV4, any),
    ),
    attribute(
      FLOW_MASK,
      attribute(KEY_IN_PORT, word(0xffffffff)),
      attribute(KEY_ETHERNET, any),
      attribute(KEY_ETHERTYPE, Uint8Array.of(0xff, 0xff)),
      attribute(KEY_IPV4, any),
    ),
    attribute(FLOW_ACTIONS),
  );
}
