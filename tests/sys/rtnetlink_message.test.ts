/** Requests to the kernel, byte for byte: | header | family's struct | attributes |. */
import { expect, test } from "bun:test";
import { kernelError } from "../../lib/sys/ffi.ts";
import { parseAcknowledgement } from "../../lib/sys/rtnetlink.ts";
import {
  addAddress,
  defaultRoute,
  encodeRequest,
  forwardFrom,
  linkMtu,
  linkUp,
  type RouteRequest,
  vethPair,
} from "../../lib/sys/rtnetlink_message.ts";
import { socketAddress } from "../../lib/sys/udp.ts";
import { fromHex } from "../output/records.ts";

const hex = (bytes: Uint8Array) => [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const nothing = "00 00 0000 00000000 00000000 00000000"; // an ifinfomsg that names no link

test.each<[name: string, request: RouteRequest, bytes: string]>([
  [
    "veth pair",
    vethPair({ name: "podveth", mtu: 9001 }, { name: "eth0", mtu: 1500, netnsFd: 77 }),
    `78000000 1000 0506 07000000 00000000  ${nothing}
     0c00 0300 706f647665746800  0800 0400 29230000
     4400 1200
       0900 0100 7665746800 000000
       3400 0200
         3000 0100  ${nothing}
           0900 0300 6574683000 000000  0800 0400 dc050000  0800 1c00 4d000000`,
  ],
  [
    "up",
    linkUp(3),
    "20000000 1300 0500 07000000 00000000  00 00 0000 03000000 01000000 01000000",
  ],
  [
    "MTU",
    linkMtu(70000, 1500),
    "28000000 1300 0500 07000000 00000000  00 00 0000 70110100 00000000 00000000  0800 0400 dc050000",
  ],
  [
    "forwarding",
    forwardFrom(3),
    `34000000 1300 0500 07000000 00000000  00 00 0000 03000000 00000000 00000000
     1400 1a00  1000 0200  0c00 0100  0800 0100 01000000`,
  ],
  [
    "address",
    addAddress(3, [10, 9, 1, 2], 24),
    `28000000 1400 0506 07000000 00000000  02 18 00 00 03000000
     0800 0200 0a090102  0800 0100 0a090102`,
  ],
  [
    "default route",
    defaultRoute([10, 9, 1, 1]),
    `24000000 1800 0506 07000000 00000000  02 00 00 00 fe 03 00 01 00000000  0800 0500 0a090101`,
  ],
])("%s", (_, request, bytes) => {
  expect(hex(encodeRequest(request, 7))).toBe(hex(fromHex(bytes)));
});

test.each<[name: string, answer: string, errno: number]>([
  ["done", "24000000 0200 0001 01000000 00000000 00000000", 0],
  ["EPERM", "24000000 0200 0000 01000000 00000000 ffffffff", 1],
  ["EEXIST", "24000000 0200 0000 01000000 00000000 efffffff", 17],
  ["no acknowledgement", "24000000 1000 0000 01000000 00000000 00000000", 74],
  ["cut off", "24000000 0200 0000 01000000 00000000", 74],
])("an answer: %s", (_, answer, errno) => {
  const bytes = fromHex(answer);
  expect(parseAcknowledgement(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), bytes.length)).toBe(
    errno,
  );
});

test("a refusal names the request", () => {
  expect(kernelError(linkUp(1).call, 1).message).toBe("netlink(RTM_SETLINK): EPERM");
});

test("struct sockaddr_in", () => {
  expect(hex(socketAddress({ address: [10, 9, 2, 2], port: 9053 }))).toBe(
    hex(fromHex("0200 235d 0a090202 00000000 00000000")),
  );
});
