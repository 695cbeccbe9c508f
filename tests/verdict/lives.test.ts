/** Which records belong to one packet: addresses are used again, references are shared, memory is bounded. */
import { describe, expect, test } from "bun:test";
import { short, type Step, Stream } from "./streams.ts";

const A = 0xffff888000001000n;

/** IPv4 header with this identification, protocol and the eight bytes behind it. */
const ipv4 = (id: number, protocol = 6, transport = "9f0e 1f90 00000001") =>
  `45 00 0028 ${id.toString(16).padStart(4, "0")} 4000 40 ${
    protocol.toString(16).padStart(2, "0")
  } 0000 0a000001 0a000002 ${transport}`;

/** `func[@netns[/ifindex]]`, all at one address. */
function steps(text: string, values: Partial<Step> = {}): Step[] {
  return text.split(" ").map((word) => {
    const [func = "", where = "1"] = word.split("@"), [netns, ifindex = 2] = where.split("/").map(Number);
    return { func, skb: A, netns: netns ?? 0, ifindex, ...values };
  });
}

function rows(all: readonly Step[], stream = new Stream()): string[] {
  for (const step of all) stream.see(step);
  return stream.finish().map(short);
}

describe("one packet or two", () => {
  const received = "tp:netif_receive_skb@1";
  test.each<[title: string, steps: Step[], rows: string[]]>([
    ["freed by a tracepoint, used again", [
      ...steps("tp:net_dev_queue tp:kfree_skb(NO_SOCKET)"),
      ...steps("tp:net_dev_queue tp:kfree_skb(NO_SOCKET)"),
    ], ["2 dropped net_dev_queue NO_SOCKET"]],
    ["what frees it says so several times", [
      ...steps(
        "ip_rcv kfree_skb_reason(NO_SOCKET) tp:kfree_skb(NO_SOCKET) __kfree_skb skb_release_head_state",
      ),
      ...steps("skb_release_data skb_free_head kfree_skbmem kfree_skb"),
    ], ["1 dropped ip_rcv NO_SOCKET"]],
    ["a reference is given up, another one lives on", [
      ...steps("ip_rcv kfree_skb_reason(NO_SOCKET) ip_local_deliver consume_skb skb_release_data"),
    ], ["1 consumed ip_local_deliver"]],
    ["an inner change gives memory back, not the packet", [
      ...steps("ip_forward pskb_expand_head skb_release_data skb_headers_offset_update ip_output"),
    ], ["1 lost-from-view ip_output"]],
    ["a destructor runs when a packet changes hands", [
      ...steps("netif_rx sock_wfree ip_rcv __kfree_skb"),
    ], ["1 consumed ip_rcv"]],
    ["a node sends on what it received", [
      ...steps(`${received} tp:net_dev_queue@1 tp:net_dev_start_xmit@1/3`, { headers: ipv4(7) }),
    ], ["1 forwarded net_dev_start_xmit eth1:3 1"]],
    ["sent, received in another namespace, sent on there", [
      ...steps("tp:net_dev_queue@2 tp:net_dev_start_xmit@2 tp:netif_rx_entry@1 tp:netif_receive_skb@1", {
        headers: ipv4(7),
      }),
      ...steps("tp:net_dev_queue@1 tp:net_dev_start_xmit@1/3", { headers: ipv4(7) }),
    ], ["1 forwarded net_dev_start_xmit eth1:3 1"]],
    ["an end that nobody saw: sent where it was not received", [
      ...steps(received, { headers: ipv4(0) }),
      ...steps("tp:net_dev_queue@2 tp:net_dev_start_xmit@2", { headers: ipv4(0) }),
    ], ["1 lost-from-view netif_receive_skb", "1 sent net_dev_start_xmit eth0:2 2"]],
    ["an end that nobody saw: another identification", [
      ...steps(`tp:net_dev_queue tp:net_dev_start_xmit`, { headers: ipv4(7) }),
      ...steps(`tp:net_dev_queue tp:net_dev_start_xmit`, { headers: ipv4(8) }),
    ], ["2 sent net_dev_start_xmit eth0:2 1"]],
    ["an end that nobody saw: another TCP sequence number", [
      ...steps("tp:netif_receive_skb_entry tp:tcp_probe", { headers: ipv4(7) }),
      ...steps("tp:netif_receive_skb_entry tp:tcp_probe", { headers: ipv4(7, 6, "9f0e 1f90 00000002") }),
    ], ["2 delivered tcp_probe"]],
    ["other addresses and ports: NAT", [
      ...steps(received, { headers: ipv4(7) }),
      ...steps("tp:net_dev_queue@1 tp:net_dev_start_xmit@1", {
        headers: ipv4(7, 6, "0001 0002 00000001").replace("0a000001", "c0000201"),
      }),
    ], ["1 forwarded net_dev_start_xmit eth0:2 1"]],
    ["into a tunnel: another header, the same packet", [
      ...steps("tp:net_dev_queue tp:net_dev_start_xmit@1/3", { headers: ipv4(7) }),
      ...steps("tp:net_dev_queue tp:net_dev_start_xmit@1/2", { headers: ipv4(900, 4) }),
    ], ["1 sent net_dev_start_xmit eth0:2 1"]],
    ["out of a tunnel", [
      ...steps("tp:netif_receive_skb", { headers: ipv4(900, 17, "1234 12b5 00640000") }),
      ...steps("tp:netif_receive_skb tp:tcp_probe", { headers: ipv4(7) }),
    ], ["1 delivered tcp_probe"]],
    ["two packets whose addresses differ in the upper half only", [
      { func: "ip_rcv", skb: 0xffff888100001000n },
      { func: "ip_output", skb: 0xffff888200001000n },
    ], ["1 lost-from-view ip_output", "1 lost-from-view ip_rcv"]],
    ["the end of something that never was there", steps("skb_release_data skb_free_head sock_rfree"), []],
    ["a copy that was made and thrown away", steps("tp:consume_skb skb_release_head_state kfree_skbmem"), []],
    ["a copy that nobody saw, dropped where a packet has been", [
      ...steps("ip_rcv consume_skb tp:consume_skb kfree_skbmem"),
      ...steps("kfree_skb_reason(NO_SOCKET) tp:kfree_skb(NO_SOCKET) __kfree_skb kfree_skbmem"),
    ], ["1 consumed ip_rcv", "1 dropped kfree_skb NO_SOCKET"]],
    ["a drop is a drop, wherever it comes from", steps("tp:kfree_skb(NO_SOCKET) skb_release_head_state"), [
      "1 dropped kfree_skb NO_SOCKET",
    ]],
  ])("%s", (_, all, expected) => {
    expect(rows(all)).toEqual(expected);
  });
});

test.each(["kfree_skb_list_reason", "__tcf_kfree_skb_list"])(
  "a list of a queue's is thrown away by %s: who had it matters, not that",
  (name) => {
    const stream = new Stream(), way = `dev_qdisc_enqueue ${name}`;
    for (const step of steps(way)) stream.see(step);
    for (const step of steps("tp:kfree_skb(NOT_SPECIFIED)", { place: `${name}+0x1e` })) stream.see(step);
    expect(stream.finish()).toMatchObject([
      { outcome: "dropped", func: "dev_qdisc_enqueue", location: `${name}+0x1e` },
    ]);
  },
);

describe("outcomes", () => {
  const socat = { comm: "socat", pid: 7 };
  test.each<[title: string, steps: Step[], rows: string[]]>([
    ["read through a tracepoint", [
      ...steps("tp:netif_receive_skb tp:skb_copy_datagram_iovec", socat),
      ...steps("tp:consume_skb", { place: "skb_defer_free_flush+0x70", comm: "ksoftirqd/0", pid: 3 }),
    ], ["1 delivered skb_defer_free_flush+0x70 socat:7"]],
    ["read, as the place of its end says", [
      ...steps("tp:netif_receive_skb"),
      ...steps("tp:consume_skb", { place: "skb_consume_udp+0x5a", ...socat }),
    ], ["1 delivered skb_consume_udp+0x5a socat:7"]],
    ["read, and left for another CPU to free", [
      ...steps("tp:netif_receive_skb"),
      ...steps("tp:consume_skb", { place: "skb_defer_free_flush+0x70" }),
    ], ["1 delivered skb_defer_free_flush+0x70"]],
    ["sent, and left for another CPU to free", [
      ...steps("tp:net_dev_queue tp:net_dev_start_xmit"),
      ...steps("tp:consume_skb", { place: "skb_defer_free_flush+0x70" }),
    ], ["1 sent skb_defer_free_flush+0x70 eth0:2 1"]],
    ["the kernel is done with it", [
      ...steps("tp:netif_receive_skb"),
      ...steps("tp:consume_skb", { place: "icmp_rcv+0x259" }),
    ], ["1 consumed icmp_rcv+0x259"]],
    ["a drop that is none", steps("tp:netif_receive_skb tp:kfree_skb(SKB_CONSUMED)"), [
      "1 consumed netif_receive_skb",
    ]],
    ["read, and thrown away without a reason", [
      ...steps("ip_rcv skb_copy_datagram_iter", socat),
      ...steps("kfree_skb_reason(NOT_SPECIFIED) kfree_skbmem", socat),
    ], ["1 delivered skb_copy_datagram_iter socat:7"]],
    ["peeked at, and thrown away for a reason", [
      ...steps("ip_rcv skb_copy_datagram_iter", socat),
      ...steps("kfree_skb_reason(QUEUE_PURGE) kfree_skbmem", socat),
    ], ["1 dropped skb_copy_datagram_iter QUEUE_PURGE"]],
    ["dropped without a reason by whoever got it: that is a drop", [
      ...steps("dev_hard_start_xmit tp:kfree_skb(NOT_SPECIFIED)"),
    ], ["1 dropped dev_hard_start_xmit NOT_SPECIFIED"]],
    ["a list, dropped for a reason", steps("ip_rcv kfree_skb_list_reason(PKT_TOO_BIG) kfree_skbmem"), [
      "1 dropped ip_rcv PKT_TOO_BIG",
    ]],
    ["freed by one that knows no reason: who had it", [
      ...steps("dev_queue_xmit tp:kfree_skb(NOT_SPECIFIED)", { place: "kfree_skb_list+0x1c" }),
    ], ["1 dropped kfree_skb_list+0x1c NOT_SPECIFIED"]],
    ["sent, and freed by a helper", [
      ...steps("tp:net_dev_queue tp:net_dev_start_xmit"),
      ...steps("tp:consume_skb", { place: "dev_kfree_skb_any_reason+0x3d" }),
    ], ["1 sent net_dev_start_xmit eth0:2 1"]],
    ["a device without a name", steps("tp:net_dev_queue tp:net_dev_start_xmit@9/77"), [
      "1 sent net_dev_start_xmit 77 9",
    ]],
  ])("%s", (_, all, expected) => {
    expect(rows(all)).toEqual(expected);
  });

  const sees = { queues: true, sockets: true };
  test.each<[title: string, steps: Step[], row: string]>([
    [
      "handed to a queue",
      steps("__dev_queue_xmit qdisc_pkt_len_init@1/3"),
      "queued qdisc_pkt_len_init eth0:2 1",
    ],
    [
      "taken out of it again",
      steps("__dev_queue_xmit dev_hard_start_xmit@1/3"),
      "sent dev_hard_start_xmit eth1:3 1",
    ],
    ["received from there", steps("__dev_queue_xmit netif_rx"), "lost-from-view netif_rx"],
    [
      "dropped there",
      steps("__dev_queue_xmit tp:kfree_skb(NO_SOCKET)"),
      "dropped __dev_queue_xmit NO_SOCKET",
    ],
    ["in a socket's queue", steps("udp_rcv __udp_enqueue_schedule_skb"), "queued __udp_enqueue_schedule_skb"],
    [
      "thrown away with the socket",
      steps("__udp_enqueue_schedule_skb tp:kfree_skb(QUEUE_PURGE)"),
      "dropped __udp_enqueue_schedule_skb QUEUE_PURGE",
    ],
    [
      "read",
      steps("__udp_enqueue_schedule_skb skb_copy_datagram_iter", socat),
      "delivered skb_copy_datagram_iter socat:7",
    ],
  ])("still waiting or not: %s", (_, all, row) => {
    expect(rows(all, new Stream({ sees }))).toEqual([`1 ${row}`]);
    const unseen = row.startsWith("queued __udp")
      ? "delivered __udp_enqueue_schedule_skb"
      : row.replace(/^queued (\S+).*/, "lost-from-view $1");
    expect(rows(all, new Stream())).toEqual([`1 ${unseen}`]);
  });

  test("a reason that no enum names keeps its number", () => {
    const stream = new Stream();
    for (const step of steps("tp:netif_receive_skb tp:kfree_skb(4660)")) stream.see(step);
    expect(stream.finish()).toMatchObject([{
      outcome: "dropped",
      reason: null,
      reasonCode: 4660,
      packets: 1,
    }]);
  });

  test("a kernel without reasons: the register is not taken for one", () => {
    expect(rows(steps("ip_rcv kfree_skb kfree_skbmem"), new Stream({ withReasons: false }))).toEqual([
      "1 dropped ip_rcv",
    ]);
  });
});

test("what came before all probes were there is left out", () => {
  const stream = new Stream();
  stream.outcomes.from = 3000; // the stream has a step every 1000 ns
  for (const step of steps("ip_rcv ip_rcv ip_local_deliver ip_local_deliver")) stream.see(step);
  expect(stream.finish().map(short)).toEqual(["1 lost-from-view ip_local_deliver"]);
  expect(stream.outcomes.seen).toBe(2);
});

describe("memory is bounded", () => {
  const at = (number: number): bigint => A + BigInt(number) * 256n;

  test("packets that are on their way for too many others are forgotten, and counted", () => {
    const stream = new Stream({ limit: 64 });
    for (let i = 0; i < 1000; i++) stream.see({ func: "ip_rcv", skb: at(i) });
    const counted = stream.finish().reduce((sum, { packets }) => sum + packets, 0);
    expect(stream.outcomes.forgotten).toBeGreaterThan(900);
    expect(counted).toBeLessThanOrEqual(64);
    expect(stream.outcomes.forgotten + counted).toBe(1000);
  });

  test("packets that ended take no room, however many there were", () => {
    const stream = new Stream({ limit: 64 });
    for (let i = 0; i < 1000; i++) {
      stream.see({ func: "ip_rcv", skb: at(i) });
      stream.see({ func: "tp:kfree_skb(NO_SOCKET)", skb: at(i) });
    }
    expect(stream.finish().map(short)).toEqual(["1000 dropped ip_rcv NO_SOCKET"]);
    expect(stream.outcomes.forgotten).toBe(0);
  });

  test("one that was not seen for seconds is settled: it counts by what is known", () => {
    const stream = new Stream({ limit: 64, settledAfter: 5 });
    for (let i = 0; i < 60; i++) stream.see({ func: "ip_rcv", skb: at(i) });
    stream.wait(4);
    stream.see({ func: "ip_local_deliver", skb: at(0) });
    stream.wait(2);
    for (let i = 100; i < 140; i++) stream.see({ func: "ip_output", skb: at(i) });
    expect(stream.finish().map(short)).toEqual([
      "59 lost-from-view ip_rcv",
      "40 lost-from-view ip_output",
      "1 lost-from-view ip_local_deliver",
    ]);
    expect(stream.outcomes.forgotten).toBe(0);
  });

  test("too many distinct outcomes share a row, and none is lost", () => {
    const stream = new Stream({ rows: 3 });
    for (let i = 0; i < 10; i++) stream.see({ func: `function_${i}`, skb: at(i) });
    const all = stream.finish();
    expect(all.map(({ outcome, packets }) => [outcome, packets])).toEqual([
      ["other", 7],
      ["lost-from-view", 1],
      ["lost-from-view", 1],
      ["lost-from-view", 1],
    ]);
    expect(all[0]).toMatchObject({ func: null, location: null, process: null });
  });
});

test("functions without a packet are no places where it is", () => {
  const stream = new Stream({ packetless: new Set(["kmem_cache_free"]) });
  const path = "tp:netif_receive_skb@1 ip_rcv kmem_cache_free kfree_skb_reason(NO_SOCKET) kmem_cache_free " +
    "tp:kfree_skb(NO_SOCKET) kfree_skbmem kmem_cache_free kmem_cache_free[other]";
  expect(rows(steps(path), stream)).toEqual(["1 dropped ip_rcv NO_SOCKET"]);
});
