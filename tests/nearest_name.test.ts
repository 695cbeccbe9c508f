import { expect, test } from "bun:test";
import { editDistance, nearestName } from "../lib/nearest_name.ts";

test.each<[a: string, b: string, distance: number]>([
  ["", "", 0],
  ["", "abc", 3],
  ["ip_rcv", "ip_rcv", 0],
  ["ip_rcv", "ip_rvc", 1],
  ["ip_rcv", "ip6_rcv", 1],
  ["kitten", "sitting", 3],
])("%p and %p are %p apart", (a, b, distance) => {
  expect([editDistance(a, b), editDistance(b, a)]).toEqual([distance, distance]);
});

test("the first of the closest is named, and nothing far away", () => {
  expect(nearestName("ip_rcvv", ["tcp_rcv", "ip_rcv", "ip_rcvw"])).toBe("ip_rcv");
  expect(nearestName("kfree", ["schedule", "skb_clone"])).toBeUndefined();
  expect(nearestName("a", [])).toBeUndefined();
});
