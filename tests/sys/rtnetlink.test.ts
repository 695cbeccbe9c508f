import { describe, expect, test } from "bun:test";
import { type NetworkLink, parseLinks } from "../../lib/sys/rtnetlink.ts";
import { fromHex } from "../output/records.ts";

/** One attribute, padded to four bytes. */
function attribute(type: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + ((value.length + 3) & ~3)), view = new DataView(bytes.buffer);
  view.setUint16(0, 4 + value.length, true);
  view.setUint16(2, type, true);
  bytes.set(value, 4);
  return bytes;
}

function named(type: number, name: string): Uint8Array {
  return attribute(type, new TextEncoder().encode(`${name}\0`));
}

/** nlmsghdr and body, of sequence 7. */
function message(type: number, body: Uint8Array[], flags = 2, sequence = 7): Uint8Array {
  const length = 16 + body.reduce((sum, part) => sum + part.length, 0);
  const bytes = new Uint8Array(length), view = new DataView(bytes.buffer);
  view.setUint32(0, length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(8, sequence, true);
  let at = 16;
  for (const part of body) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const link = (ifindex: number, ...attributes: Uint8Array[]) => {
  const info = new Uint8Array(16);
  new DataView(info.buffer).setInt32(4, ifindex, true);
  return message(16, [info, ...attributes]);
};
const DONE = message(3, [new Uint8Array(4)]);

function parse(bytes: Uint8Array): { done: boolean; disturbed: boolean; links: NetworkLink[] } {
  const links: NetworkLink[] = [];
  const end = parseLinks(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), bytes.length, 7, links);
  return { ...end, links };
}

const join = (...parts: Uint8Array[]) => new Uint8Array(parts.flatMap((part) => [...part]));

test("names and alternative names", () => {
  const alt = attribute(
    0x8000 | 52,
    join(named(53, "lan"), named(53, "a-name-of-more-than-fifteen-letters")),
  );
  const bytes = join(
    link(1, named(3, "lo")),
    link(70000, attribute(1, fromHex("0102")), named(3, "eth0"), alt),
    DONE,
  );
  expect(parse(bytes)).toEqual({
    done: true,
    disturbed: false,
    links: [
      { ifindex: 1, name: "lo", altNames: [] },
      { ifindex: 70000, name: "eth0", altNames: ["lan", "a-name-of-more-than-fifteen-letters"] },
    ],
  });
});

test("a dump goes on in the next datagram, and what is not of it is skipped", () => {
  const old = message(16, [new Uint8Array(16), named(3, "old")], 2, 6);
  expect(parse(join(old, link(1, named(3, "lo")), link(2)))).toEqual({
    done: false,
    disturbed: false,
    links: [{ ifindex: 1, name: "lo", altNames: [] }],
  });
});

test("a dump that was disturbed says so", () => {
  expect(parse(message(3, [new Uint8Array(4)], 0x12))).toEqual({ done: true, disturbed: true, links: [] });
});

describe("errors", () => {
  test.each<[name: string, bytes: Uint8Array, message: string]>([
    ["EPERM", message(2, [fromHex("ffffffff")]), "netlink(RTM_GETLINK): EPERM"],
    ["error without a number", message(2, []), "netlink(RTM_GETLINK): EBADMSG"],
    [
      "message longer than the datagram",
      link(1, named(3, "lo")).slice(0, -4),
      "netlink(RTM_GETLINK): EBADMSG",
    ],
    [
      "message shorter than its header",
      fromHex("0f000000 1000 0000 07000000 00000000"),
      "netlink(RTM_GETLINK): EBADMSG",
    ],
    ["link without a body", message(16, [new Uint8Array(8)]), "netlink(RTM_GETLINK): EBADMSG"],
    ["attribute beyond the message", link(1, fromHex("0900 0300 6c6f0000")), "netlink(RTM_GETLINK): EBADMSG"],
    ["attribute of no length", link(1, fromHex("0000 0300 6c6f0000")), "netlink(RTM_GETLINK): EBADMSG"],
  ])("%s", (_, bytes, text) => {
    expect(() => parse(bytes)).toThrow(text);
  });
});
