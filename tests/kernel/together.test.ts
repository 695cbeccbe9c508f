/** Options that were made apart and share records, programs and the end: all at once, by tracepoints. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { validLine } from "../output/schema.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { rawTraceWhile, sh, VethPair } from "./tracer.ts";

setDefaultTimeout(60_000);

const CONTENTS = [
  ...["--output-stack", "--output-skb", "--output-skb-shared-info", "--output-skb-cb", "--output-tunnel"],
  ...["--output-skb-metadata", "skb->len,skb->dev->ifindex", "--output-packet-id"],
];
const TRACKING = ["--filter-track-skb"], FILTER = "udp and dst port 4091";

async function objects(words: readonly string[]) {
  using pair = new VethPair("together");
  const say = () => void sh(`ip netns exec ${pair.a} bash -c 'echo hello > /dev/udp/10.77.0.2/4091'`);
  say(); // resolves the neighbour
  const all = ["--backend", "tracepoint", "--output-json", ...words, FILTER];
  const { stdout, stderr, status } = await rawTraceWhile(all, () => {
    say();
    say();
  });
  expect({ stderr, status }).toMatchObject({ status: 0 });
  const lines = stdout.trimEnd().split("\n").map(validLine);
  const ofType = (type: string) => lines.filter((line) => line["type"] === type);
  return { events: ofType("tracepoint"), outcomes: ofType("outcome"), ends: ofType("end"), stderr };
}

const dropped = {
  outcome: "dropped",
  packets: 2,
  reason: "SKB_DROP_REASON_NO_SOCKET",
  location: expect.stringMatching(/udp.*\+0x/),
};

describe.skipIf(!isRoot || !isAtLeast(5, 17))("options together (needs root, Linux 5.17)", () => {
  test("everything about each event, numbers of packets, and how they ended", async () => {
    const { events, outcomes, ends } = await objects([
      "--summary=lines",
      "--strict",
      ...TRACKING,
      ...CONTENTS,
    ]);
    expect(events.length).toBeGreaterThan(6);
    for (const { stack, sk_buff, skb_shared_info, cb, tunnel_tuple, skb_metadata, len } of events) {
      expect((stack as string[]).length).toBeGreaterThan(3);
      expect(sk_buff).toContain(`.len = (unsigned int)${len},`);
      expect(skb_shared_info).toContain(".dataref = ");
      expect(cb).toBeArrayOfSize(5);
      expect(tunnel_tuple).toEqual({});
      expect(skb_metadata).toMatchObject({ "skb->len": len });
    }
    // Two packets, one after the other, each with one number from first to last.
    const numbers = events.map(({ packet }) => packet);
    expect(new Set(numbers)).toEqual(new Set([1, 2]));
    const last = (number: number) => events.filter(({ packet }) => packet === number).at(-1)?.["func"];
    expect([last(1), last(2)]).toEqual(Array(2).fill("kfree_skb(SKB_DROP_REASON_NO_SOCKET)"));
    expect(outcomes).toMatchObject([dropped]);
    expect(ends).toMatchObject([{ shown: events.length, summed_up: events.length, lost: 0, untracked: 0 }]);
  });

  test("the ends of packets that are followed, though only one tracepoint is shown", async () => {
    const narrow = ["--filter-func", "net_dev_queue", "--debug"];
    const { events, outcomes, ends, stderr } = await objects([
      ...["--summary=lines", ...narrow],
      ...TRACKING,
      ...CONTENTS,
    ]);
    expect(events.map(({ func, packet }) => [func, packet])).toEqual([["net_dev_queue", 1], [
      "net_dev_queue",
      2,
    ]]);
    expect(outcomes).toMatchObject([dropped]);
    expect(ends).toMatchObject([{ found: 1, attached: 1, shown: 2, summed_up: 4 }]);
    expect(stderr).toContain("Still followed packets=0");
  });

  test("no lines: nothing is collected that only they would show", async () => {
    const { events, outcomes, ends } = await objects([
      "--summary",
      "--output-caller",
      ...TRACKING,
      ...CONTENTS,
    ]);
    expect([events, outcomes]).toMatchObject([[], [dropped]]);
    expect(ends).toMatchObject([{ shown: 0 }]);
  });
});
