/**
 * What packets came to, from streams that tracers have shown in virtual machines of Linux 5.10 to 7.3: 10.9.2.2
 * speaks to 10.9.1.2 through a node (tests/vm/scenarios/story.ts and protocols.ts).
 */
import { describe, expect, test } from "bun:test";
import { recorded, short, type Step, Stream } from "./streams.ts";

function outcomes(steps: readonly Step[], withReasons = true): string[] {
  const stream = new Stream({ withReasons });
  for (const step of steps) stream.see(step);
  return stream.finish().map(short);
}

/** The same stream with the tracepoint that `--summary` adds: where a last reference goes, before the release. */
function withTracepoint(steps: readonly Step[], func: string, place: string): Step[] {
  return steps.flatMap((step, i) =>
    step.func === "skb_release_head_state" && /^(kfree_skb|sk_skb_reason_drop)/.test(steps[i - 1]?.func ?? "")
      ? [{ ...step, func, place }, step]
      : [step]
  );
}

describe("functions only: the end, its reason, and who had the packet last", () => {
  test.each<[name: string, rows: string[]]>([
    ["mtu-5.10", ["1 dropped skb_copy_and_csum_bits"]],
    ["mtu-6.1", ["1 dropped skb_copy_and_csum_bits PKT_TOO_BIG"]],
    ["mtu-6.12", ["1 dropped skb_copy_and_csum_bits PKT_TOO_BIG"]],
    ["udp-open-5.10", ["1 delivered skb_consume_udp socat:174"]],
    ["udp-open-6.12", ["1 delivered skb_consume_udp socat:236"]],
    ["udp-open-7.3", ["1 delivered skb_consume_udp socat:190"]],
    ["udp-closed-6.12", ["1 dropped skb_copy_and_csum_bits NO_SOCKET"]],
    // The reset that answers it arrives.
    ["tcp-closed-6.12", ["1 delivered tcp_reset", "1 dropped bpf_lsm_xfrm_decode_session NO_SOCKET"]],
    // The request is answered; of the reply ping's raw socket gets a clone, and nobody wants the rest.
    ["echo-6.12", [
      "1 consumed skb_copy_and_csum_bits",
      "1 delivered skb_free_datagram ping:377",
      "1 dropped ping_lookup NO_SOCKET",
    ]],
    ["bridge-6.12", ["1 dropped nf_hook_slow NETFILTER_DROP"]],
  ])("%s", (name, rows) => {
    expect(outcomes(recorded(name), !name.endsWith("-5.10"))).toEqual(rows);
  });

  test("a TCP connection: eight packets in six addresses, two of them used twice", () => {
    const steps = recorded("tcp-open-6.12");
    expect(new Set(steps.map(({ skb }) => skb)).size).toBe(6);
    expect(outcomes(steps)).toEqual([
      "2 delivered tcp_data_queue",
      "1 delivered __skb_datagram_iter socat:335",
      "1 delivered tcp_ack",
      "1 delivered tcp_queue_rcv",
      "1 delivered tcp_try_fastopen",
      "1 delivered tcp_urg",
      "1 dropped tcp_queue_rcv QUEUE_PURGE",
    ]);
  });
});

describe("with the tracepoint: the place as well", () => {
  test.each<[name: string, tracepoint: string, place: string, row: string]>([
    ["mtu-5.10", "tp:kfree_skb", "ip_forward+0x3a6", "1 dropped ip_forward+0x3a6"],
    [
      "mtu-6.12",
      "tp:kfree_skb(PKT_TOO_BIG)",
      "ip_forward+0x3a6",
      "1 dropped ip_forward+0x3a6 PKT_TOO_BIG",
    ],
    [
      "bridge-6.12",
      "tp:kfree_skb(NETFILTER_DROP)",
      "nf_hook_slow+0xb2",
      "1 dropped nf_hook_slow+0xb2 NETFILTER_DROP",
    ],
  ])("%s", (name, tracepoint, place, row) => {
    const steps = withTracepoint(recorded(name), tracepoint, place);
    expect(steps.length).toBe(recorded(name).length + 1);
    expect(outcomes(steps, !name.endsWith("-5.10"))).toEqual([row]);
  });
});

describe("streams that stop early", () => {
  const until = (name: string, func: string) => {
    const steps = recorded(name);
    return steps.slice(0, steps.findLastIndex((step) => step.func === func) + 1);
  };

  test.each<[name: string, last: string, row: string]>([
    ["udp-open-6.12", "ip_forward", "1 lost-from-view ip_forward"],
    ["udp-open-6.12", "__dev_queue_xmit", "1 lost-from-view __dev_queue_xmit"],
    ["udp-open-6.12", "dev_hard_start_xmit", "1 forwarded dev_hard_start_xmit eth0:2 4026531840"],
    ["udp-open-6.12", "skb_clone_tx_timestamp", "1 forwarded skb_clone_tx_timestamp eth0:2 4026531840"],
    ["udp-open-6.12", "enqueue_to_backlog", "1 lost-from-view enqueue_to_backlog"],
    ["udp-open-6.12", "__udp_enqueue_schedule_skb", "1 delivered __udp_enqueue_schedule_skb"],
    ["mtu-6.12", "dev_hard_start_xmit", "1 sent dev_hard_start_xmit eth0:2 4026532167"],
    ["mtu-6.12", "sk_skb_reason_drop(PKT_TOO_BIG)", "1 dropped skb_copy_and_csum_bits PKT_TOO_BIG"],
  ])("%s, %s", (name, last, row) => {
    expect(outcomes(until(name, last))).toEqual([row]);
  });
});
