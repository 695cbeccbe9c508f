/** Paths out of lines, and where they part. */
import { expect, test } from "bun:test";
import { commonSteps, endOf, type Step, stepsOf } from "../../lib/demo/paths.ts";
import { recording } from "../../lib/demo/recording.ts";

const step = (where: string, func: string, reason: string | null = null): Step => ({
  where,
  iface: "",
  func,
  location: null,
  reason,
  mtu: 1500,
  len: 100,
});
const [a, b, c] = [step("dns", "a"), step("node", "b"), step("node", "c")] as const;

test.each<[name: string, left: Step[], right: Step[], common: number]>([
  ["the same", [a, b], [a, b], 2],
  ["one goes on", [a, b, c], [a, b], 2],
  ["another function", [a, b], [a, c], 1],
  ["the same function elsewhere", [a, b], [a, step("pod", "b")], 1],
  ["nothing in common", [a], [b], 0],
  ["nothing at all", [], [], 0],
])("%s", (_, left, right, common) => {
  expect(commonSteps(left, right)).toBe(common);
  expect(commonSteps(right, left)).toBe(common);
});

test("the end is the last step with a reason", () => {
  const [early, late] = [step("node", "x", "EARLY"), step("node", "y", "LATE")];
  expect(endOf([a, early, b, late, c])).toBe(late);
  expect(endOf([a, b])).toBeUndefined();
});

test("lines of the JSON output become steps", () => {
  const lines = `\
{"schema":1,"type":"kprobe","skb":"0x1","cpu":1,"process":"a:1","func":"ip_forward","netns":7,"mark":0,"iface":"dnsveth:3","proto":2048,"mtu":9001,"len":2379,"tuple":{}}
{"schema":1,"type":"tracepoint","skb":"0x1","cpu":1,"process":"a:1","func":"kfree_skb(SKB_DROP_REASON_PKT_TOO_BIG)","reason":"SKB_DROP_REASON_PKT_TOO_BIG","reason_code":71,"location":"ip_forward+0x2c0","netns":8,"mark":0,"iface":"0","proto":2048,"mtu":0,"len":2379,"tuple":{}}
`;
  expect(stepsOf(lines, (inode) => inode === 7 ? "node" : undefined)).toEqual([
    {
      where: "node",
      iface: "dnsveth",
      func: "ip_forward",
      location: null,
      reason: null,
      mtu: 9001,
      len: 2379,
    },
    {
      where: "",
      iface: "",
      func: "kfree_skb(SKB_DROP_REASON_PKT_TOO_BIG)",
      location: "ip_forward+0x2c0",
      reason: "SKB_DROP_REASON_PKT_TOO_BIG",
      mtu: 0,
      len: 2379,
    },
  ]);
  expect(stepsOf("", () => undefined)).toEqual([]);
});

test("the recording tells the story", async () => {
  const { kernel, backend, attached, passages: [big, small] } = await recording();
  expect({ kernel, backend }).toEqual({ kernel: expect.stringMatching(/^6\.12\./), backend: "kprobe-multi" });
  expect(attached).toBeGreaterThan(1000);
  expect([big.mtu, big.arrived, small.mtu, small.arrived]).toEqual([9001, true, 1500, false]);
  const common = commonSteps(big.steps, small.steps);
  expect(small.steps[common - 1]).toMatchObject({ where: "node", func: "ip_forward", len: 2379 });
  expect(small.steps[common]?.func).toBe("__icmp_send");
  expect(endOf(small.steps)?.reason).toBe("SKB_DROP_REASON_PKT_TOO_BIG");
  expect(big.steps.map(({ where }) => where)).toContain("pod");
  const places = new Set([...big.steps, ...small.steps].map(({ where }) => where));
  expect([...places].sort()).toEqual(["", "dns", "node", "pod"]);
});
