/** The demonstration as it is printed. */
import { describe, expect, test } from "bun:test";
import { demoJson, demoText, pathsText, whyText } from "../../lib/cli/demo.ts";
import type { Demonstration, Step } from "../../lib/demo/paths.ts";
import { recording } from "../../lib/demo/recording.ts";
import { expectGolden } from "../golden.ts";

const steps = (...funcs: string[]): Step[] =>
  funcs.map((func) => ({
    where: "node",
    iface: "dnsveth",
    func,
    location: null,
    reason: /\((.*)\)/.exec(func)?.[1] ?? null,
    mtu: 9001,
    len: 2379,
  }));

const story = (left: Step[], right: Step[]): Demonstration => ({
  kernel: "6.12.0",
  backend: "kprobe",
  attached: 40,
  passages: [{ mtu: 9001, arrived: true, steps: left }, { mtu: 1500, arrived: false, steps: right }],
});

const short = story(
  steps("ip_rcv", "ip_forward", "ip_output", "dev_queue_xmit"),
  steps("ip_rcv", "ip_forward", "__icmp_send", "kfree_skb_reason(SKB_DROP_REASON_PKT_TOO_BIG)"),
);

test("side by side, the first difference marked", () => {
  expect(pathsText(short, false)).toBe(`\
   MTU 9001: delivered          | MTU 1500: never arrives
   node dnsveth ip_rcv          | node dnsveth ip_rcv
   node dnsveth ip_forward      | node dnsveth ip_forward
-> node dnsveth ip_output       | node dnsveth __icmp_send
   node dnsveth dev_queue_xmit  | node dnsveth kfree_skb_reason(PKT_TOO_BIG)
`);
});

test("one that ends where the other goes on", () => {
  expect(pathsText(story(steps("a", "b"), steps("a")), false)).toBe(`\
   MTU 9001: delivered  | MTU 1500: never arrives
   node dnsveth a       | node dnsveth a
-> node dnsveth b       |
`);
});

describe("long paths", () => {
  const numbered = (letter: string, count: number) =>
    Array.from({ length: count }, (_, index) => `${letter}${index}`);
  const long = story(
    steps(...numbered("c", 20), ...numbered("l", 30)),
    steps(...numbered("c", 20), ...numbered("r", 12), "free(WHY)", "gone"),
  );

  test("are shown where they begin, part and end, and what is left out is counted", () => {
    const rows = pathsText(long, false).split("\n").slice(1, -1)
      .map((row) => row.replaceAll("node dnsveth ", "").replace(/ +\|/, " |").replace(/^ +/, ""));
    expect(rows).toEqual([
      "c0 | c0",
      "c1 | c1",
      "... 14 more | ... 14 more",
      "c16 | c16",
      "c17 | c17",
      "c18 | c18",
      "c19 | c19",
      "-> l0 | r0",
      "l1 | r1",
      "l2 | r2",
      "l3 | r3",
      "l4 | r4",
      "l5 | r5",
      "... 6 more | ... 6 more",
      "l12 | free(WHY)",
      "... 15 more | ... 1 more",
      "l28 |",
      "l29 |",
    ]);
  });

  test("are shown whole when asked for", () => {
    expect(pathsText(long, true).split("\n").length).toBe(1 + 50 + 1);
  });
});

describe("why", () => {
  const gone = (location: string | null) =>
    story(short.passages[0].steps as Step[], [
      ...short.passages[1].steps.slice(0, 3),
      { ...steps("kfree_skb(SKB_DROP_REASON_PKT_TOO_BIG)")[0] as Step, location },
    ]);
  const parting =
    "They part behind ip_forward in node: one goes on to ip_output, the other to __icmp_send.\n";
  const rest =
    ": the answer has 2379 bytes with its headers and may not be fragmented, the pod's link takes 1500.\n";

  test.each<[name: string, demonstration: Demonstration, text: string]>([
    ["a reason", short, `${parting}The kernel's reason is SKB_DROP_REASON_PKT_TOO_BIG${rest}`],
    [
      "a reason and a place",
      gone("ip_forward+0x2c0"),
      `${parting}The kernel's reason is SKB_DROP_REASON_PKT_TOO_BIG, at ip_forward+0x2c0${rest}`,
    ],
    [
      "no reason",
      story(short.passages[0].steps as Step[], steps("ip_rcv", "ip_forward", "__icmp_send", "kfree_skb")),
      `${parting}This kernel names no reasons (Linux 5.17 is the first that does)${rest}`,
    ],
    [
      "the wrong one arrives",
      { ...short, passages: [{ ...short.passages[0], arrived: false }, short.passages[1]] },
      "This is not what should happen: both answers are seen, the first arrives, the second does not\n",
    ],
    [
      "nothing is seen",
      story([], []),
      "This is not what should happen: both answers are seen, the first arrives, the second does not\n",
    ],
  ])("%s", (_, demonstration, text) => {
    expect(whyText(demonstration)).toBe(text);
  });
});

test("the whole text, of the recording", async () => {
  const demonstration = await recording();
  expectGolden("demo.txt", demoText({ demonstration, reason: "this process lacks CAP_BPF" }, false));
});

test("live, it does not say that it is a recording", () => {
  const text = demoText({ demonstration: short, reason: undefined }, false);
  expect(text).toContain("Seen just now on Linux 6.12.0, by kprobe at 40 functions:");
  expect(text).not.toContain("recording");
});

test("JSON", () => {
  expect(JSON.parse(demoJson({ demonstration: short, reason: undefined }))).toEqual({
    ...short,
    recorded: false,
    reason: null,
  });
  expect(JSON.parse(demoJson({ demonstration: short, reason: "why" }))).toMatchObject({
    recorded: true,
    reason: "why",
  });
});
