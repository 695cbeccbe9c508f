/**
 * The story this tool exists for: a DNS answer that never arrives.
 *
 * A server answers a pod with one UDP datagram of 2351 bytes, DF set. While the pod's link has an MTU of 1500
 * the node must drop it and say so by ICMP; with 9001 it arrives.
 */
import { expect } from "bun:test";
import { validLine } from "../../output/schema.ts";
import { sumMisses } from "../../../lib/link/probe_definition.ts";
import { peerStandsIn } from "../lab.ts";
import { arm64Kernels, type KernelName, machineFor, type Series, seriesOf } from "../images.ts";
import { only, type Scenario, withReason } from "../scenario.ts";

/** How a kernel frees a packet that is too big, in the tracer's words; 5.10 knows no reasons. */
const frees: Record<Series, string> = {
  "5.10": "kfree_skb",
  "6.1": "kfree_skb_reason(PKT_TOO_BIG)",
  "6.12": "sk_skb_reason_drop(PKT_TOO_BIG)",
  "6.18": "sk_skb_reason_drop(PKT_TOO_BIG)",
  "7.3": "sk_skb_reason_drop(PKT_TOO_BIG)",
};
const freeOn = (kernel: KernelName): string => frees[seriesOf(kernel)];
/** pwru 1.0.5 reads no reason from sk_skb_reason_drop. */
const expectedFree = (kernel: KernelName): string =>
  peerStandsIn() ? freeOn(kernel).replace(/(sk_skb_reason_drop).*/, "$1") : freeOn(kernel);
/** Where a datagram was read: where consume_skb returns to. On x86-64 skb_consume_udp ends in a jump to that. */
const consumerOn = (kernel: KernelName): string =>
  machineFor(kernel).arch === "x64" ? "udp_recvmsg" : "skb_consume_udp";
const functionOf = (free: string): string => free.replace(/\(.*/, "");

export const tuple = "10.9.2.2:9053->10.9.1.2:40053(udp)";

/** Stations of the packet that are functions of their own on every kernel we test. */
const stations = ["ip_output", "ip_forward", "__icmp_send", "ip_local_deliver", "udp_rcv", "skb_consume_udp"];

export const story: Scenario = {
  name: "story",
  longKernels: arm64Kernels,
  limitSeconds: 300,
  script: `
    topo 1500
    start tracer --output-meta --output-tuple 'udp and src port 9053'
    answer small
    chapter tracer small
    pod_mtu 9001
    answer big
    chapter tracer big
    stop tracer

    # verdict NAME WORD...: how both answers end
    verdict() {
      local name=$1
      shift
      pod_mtu 1500
      start $name --summary "$@" 'udp and src port 9053'
      answer $name-small
      pod_mtu 9001
      answer $name-big
      cat /sys/kernel/tracing/kprobe_profile > "$OUT/$name.profile"
      stop $name
    }
    case "$PWRU $(uname -r)" in "$PEER "*) ;; *" 6.12."*)
      verdict multi
      verdict classic --backend kprobe --filter-func '(ip|udp)_.*' --output-json
    esac
    untopo
  `,
  checks: {
    "starts, ends with status 0 and prints nothing but its header and records"(run) {
      expect(run.facts("tracer")).toMatchObject({ ready: true, gone: true, status: 0 });
      expect(run.lines("tracer.out").flatMap((line) => line.below)).toEqual([]);
    },
    "only the answer is printed, from one skb"(run) {
      for (const part of ["small.lines", "big.lines"]) {
        expect([...new Set(run.lines(part).map((line) => line.tuple))]).toEqual([tuple]);
        expect(new Set(run.lines(part).map((line) => line.skb)).size).toBe(1);
      }
    },
    "MTU 1500: forwarded, answered by ICMP, freed"(run) {
      const free = functionOf(freeOn(run.kernel));
      expect(only(run.lines("small.lines"), [...stations, free]))
        .toEqual(["ip_output", "ip_forward", "__icmp_send", free]);
      expect(run.text("small.received").length).toBe(0);
    },
    "MTU 1500: the free names the reason"(run) {
      const free = run.lines("small.lines").filter((line) => line.func === functionOf(freeOn(run.kernel)));
      expect(free.map(withReason)).toEqual([expectedFree(run.kernel)]);
    },
    "MTU 1500: the node saw it come in through dnsveth"(run) {
      const at = (name: string) => run.lines("small.lines").find((line) => line.func === name);
      const inNode = { iface: "dnsveth", proto: 0x0800, mtu: 9001, len: 2379, mark: 0, tuple };
      expect(at("ip_forward")).toMatchObject(inNode);
      expect(at("__icmp_send")).toMatchObject(inNode);
      expect(at(functionOf(freeOn(run.kernel)))).toMatchObject(inNode);
      // No device yet: ours shows the route's MTU, Debian's pwru 0.
      expect(at("ip_output")).toMatchObject({ mtu: peerStandsIn() ? 0 : 9001, len: 2379, ifindex: 0 });
      expect(at("ip_output")?.netns).not.toBe(at("ip_forward")?.netns);
    },
    "MTU 1500: nothing follows the free but the free itself"(run) {
      const funcs = run.lines("small.lines").map((line) => line.func);
      const after = funcs.slice(funcs.indexOf(functionOf(freeOn(run.kernel))) + 1);
      expect(after.filter((func) => !/^(__)?k?free_skb|^skb_(release|free)|^skb_/.test(func))).toEqual([]);
    },
    "MTU 9001: forwarded and delivered, no ICMP"(run) {
      // socat looks at the datagram before it takes it: two visits to skb_consume_udp.
      expect(only(run.lines("big.lines"), [...stations, functionOf(freeOn(run.kernel))])).toEqual([
        "ip_output",
        "ip_forward",
        "ip_output",
        "ip_local_deliver",
        "udp_rcv",
        "skb_consume_udp",
        "skb_consume_udp",
      ]);
      expect(run.text("big.received").length).toBe(2351);
    },
    "MTU 9001: headers come off on the way up"(run) {
      const at = (name: string) => run.lines("big.lines").find((line) => line.func === name);
      expect(at("ip_forward")).toMatchObject({ iface: "dnsveth", mtu: 9001, len: 2379 });
      expect(at("ip_local_deliver")).toMatchObject({ mtu: 9001, len: 2379 });
      expect(at("udp_rcv")).toMatchObject({ mtu: 9001, len: 2359 });
      expect(at("skb_consume_udp")).toMatchObject({ len: 2351 });
    },
  },
  oursOnly: {
    "--summary: one answer dropped, why and where; one delivered, to whom"(run) {
      if (seriesOf(run.kernel) !== "6.12") return; // one will do: streams of the others are in tests/verdict
      const [head = "", ...rows] = run.text("multi.out").trimEnd().split("\n").map((line) =>
        line.trim().split(/ {2,}/)
      );
      expect(head).toEqual(["PACKETS", "OUTCOME", "AT", "REASON", "TO"]);
      expect(rows).toEqual([
        [
          "1",
          "delivered",
          expect.stringMatching(new RegExp(`^${consumerOn(run.kernel)}\\+0x`)),
          "-",
          expect.stringMatching(/^socat:\d+$/),
        ],
        ["1", "dropped", expect.stringMatching(/^ip_forward\+0x/), "SKB_DROP_REASON_PKT_TOO_BIG", "-"],
      ]);
    },
    "--summary with classic kprobes, in JSON"(run) {
      if (seriesOf(run.kernel) !== "6.12") return;
      const [delivered, dropped, end, ...more] = run.text("classic.out").trimEnd().split("\n").map(validLine);
      expect(delivered).toMatchObject({ outcome: "delivered", packets: 1, func: consumerOn(run.kernel) });
      expect(dropped).toMatchObject({
        outcome: "dropped",
        packets: 1,
        func: "ip_forward",
        reason: "SKB_DROP_REASON_PKT_TOO_BIG",
      });
      expect(dropped?.["location"]).toMatch(/^ip_forward\+0x/);
      expect(end).toMatchObject({ type: "end", probes: "function", lost: 0, shown: 0, forgotten: 0 });
      expect(more).toEqual([]);
      // Where the end's misses come from: the kernel's table is as we read it, and our probes are in it.
      const profile = run.text("classic.profile"), lines = profile.trimEnd().split("\n");
      const events = new Set(lines.map((line) => line.trim().split(/ +/)[0] ?? ""));
      expect(lines.length).toBeGreaterThan(20);
      expect([...events].filter((event) => !/^e\d+_\d+$/.test(event))).toEqual([]);
      expect(sumMisses(profile.replace(/ \d+$/gm, " 1"), events)).toBe(BigInt(lines.length));
    },
  },
};
