import { describe, expect, test } from "bun:test";
import { MemorySink } from "../../lib/output/writer.ts";
import type { OutcomeRow } from "../../lib/verdict/outcomes.ts";
import { printOutcomes } from "../../lib/verdict/print.ts";
import { framedTable, plainTable } from "../../lib/verdict/table.ts";
import { validLine } from "../output/schema.ts";

const nothing = {
  func: null,
  location: null,
  reason: null,
  reasonCode: null,
  process: null,
  iface: null,
  netns: null,
} as const;
const rows: OutcomeRow[] = [
  {
    ...nothing,
    outcome: "dropped",
    packets: 1200,
    func: "ip_forward",
    location: "ip_forward+0x3a6",
    reason: "SKB_DROP_REASON_PKT_TOO_BIG",
    reasonCode: 42,
  },
  { ...nothing, outcome: "dropped", packets: 20, func: "veth_xmit[veth]", reasonCode: 0x30001 },
  { ...nothing, outcome: "delivered", packets: 9, func: "skb_consume_udp", process: "Web Content:7" },
  { ...nothing, outcome: "delivered", packets: 8, func: "tcp_data_queue" },
  {
    ...nothing,
    outcome: "forwarded",
    packets: 3,
    func: "dev_hard_start_xmit",
    iface: "eth0:2",
    netns: 4026531840,
  },
  { ...nothing, outcome: "dropped", packets: 4, func: "__dev_queue_xmit", location: "kfree_skb_list+0x1c" },
  { ...nothing, outcome: "queued", packets: 3, func: "tcp_queue_rcv" },
  { ...nothing, outcome: "queued", packets: 2, func: "ip_output", iface: "eth0:2", netns: 7 },
  { ...nothing, outcome: "lost-from-view", packets: 2, func: "ip_rcv" },
  { ...nothing, outcome: "other", packets: 1 },
];

test("plain columns", () => {
  expect(plainTable(rows)).toBe(`\
PACKETS  OUTCOME         AT                                          REASON                       TO
   1200  dropped         ip_forward+0x3a6                            SKB_DROP_REASON_PKT_TOO_BIG  -
     20  dropped         after veth_xmit[veth]                       196609                       -
      9  delivered       skb_consume_udp                             -                            Web Content:7
      8  delivered       tcp_data_queue                              -                            a socket
      3  forwarded       dev_hard_start_xmit                         -                            eth0:2 netns 4026531840
      4  dropped         kfree_skb_list+0x1c after __dev_queue_xmit  -                            -
      3  queued          after tcp_queue_rcv                         -                            a socket
      2  queued          after ip_output                             -                            eth0:2 netns 7
      2  lost-from-view  after ip_rcv                                -                            -
      1  other           -                                           -                            -
`);
  expect(plainTable([])).toBe("PACKETS  OUTCOME  AT  REASON  TO\n");
});

describe("a frame for terminals", () => {
  test("has every cell and no colour", async () => {
    const text = await framedTable(rows.slice(0, 3));
    expect(text).toBe(`\
┌─────────┬───────────┬───────────────────────┬─────────────────────────────┬───────────────┐
│ PACKETS │ OUTCOME   │ AT                    │ REASON                      │ TO            │
├─────────┼───────────┼───────────────────────┼─────────────────────────────┼───────────────┤
│    1200 │ dropped   │ ip_forward+0x3a6      │ SKB_DROP_REASON_PKT_TOO_BIG │               │
├─────────┼───────────┼───────────────────────┼─────────────────────────────┼───────────────┤
│      20 │ dropped   │ after veth_xmit[veth] │ 196609                      │               │
├─────────┼───────────┼───────────────────────┼─────────────────────────────┼───────────────┤
│       9 │ delivered │ skb_consume_udp       │                             │ Web Content:7 │
└─────────┴───────────┴───────────────────────┴─────────────────────────────┴───────────────┘
`);
  });

  test("goes out as whole lines of UTF-8", async () => {
    const sink = new MemorySink();
    await printOutcomes(sink, rows, "frame");
    expect(sink.take()).toBe(await framedTable(rows));
  });
});

test("a name that would move a terminal's cursor does not", async () => {
  const hostile: OutcomeRow[] = [{
    ...nothing,
    outcome: "delivered",
    packets: 1,
    func: "x",
    process: "a\x1b[2J\u202e\n:7",
  }];
  for (const text of [plainTable(hostile), await framedTable(hostile)]) {
    expect(text).toContain("a?[2J??:7");
    // deno-lint-ignore no-control-regex
    expect(text).not.toMatch(/[\x00-\x09\x0b-\x1f\u202e]/);
  }
});

test("JSON: an object a row, with all fields, as the schema says", async () => {
  const sink = new MemorySink();
  await printOutcomes(sink, [...rows, { ...rows[2]!, process: 'ü"\n:7' }], "json");
  const objects = sink.take().trimEnd().split("\n").map(validLine);
  expect(objects.length).toBe(rows.length + 1);
  expect(objects[0]).toEqual({
    schema: 1,
    type: "outcome",
    outcome: "dropped",
    packets: 1200,
    func: "ip_forward",
    location: "ip_forward+0x3a6",
    reason: "SKB_DROP_REASON_PKT_TOO_BIG",
    reason_code: 42,
    process: null,
    iface: null,
    netns: null,
  });
  expect(objects.at(-1)).toMatchObject({ outcome: "delivered", process: 'ü"\n:7' });
});
