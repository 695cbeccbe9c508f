/**
 * TCP keeps what is not acknowledged, and what came too early, in trees: a segment's pointer to its device is then
 * one to another segment. Every third segment is lost here, so that some are sent again from the midst of the tree.
 */
import { expect } from "bun:test";
import type { Scenario } from "../scenario.ts";

export const retransmission: Scenario = {
  name: "retransmission",
  kernels: ["6.12"],
  longKernels: ["5.10", "7.3"],
  limitSeconds: 120,
  script: `
    topo 1500
    modprobe -qa nf_tables nft_numgen
    nft -f - <<'RULES'
      table ip loss {
        chain through { type filter hook forward priority 0;
          ip daddr 10.9.1.2 tcp dport 9100 ip length > 1000 numgen inc mod 3 == 0 drop; }
      }
RULES
    ip -n dns link set eth0 gso_max_segs 1
    stat -L -c %i /proc/self/ns/net /run/netns/pod /run/netns/dns > "$OUT/namespaces"

    start queues --output-meta --output-tuple --filter-func '.*tcp_.*|__kfree_skb|kfree_skbmem'
    ip netns exec pod socat -u TCP4-LISTEN:9100 /dev/null & listener=$!
    until_true 10 sh -c 'ip netns exec pod ss -ltn | grep -q :9100'
    head -c 300000 /dev/zero | ip netns exec dns socat -u - TCP4:10.9.1.2:9100
    wait $listener
    settle queues
    stop queues
    nft delete table ip loss
    untopo
  `,
  checks: {},
  oursOnly: {
    "segments of the trees are in a network namespace that there is, or in none that is known"(run) {
      const lines = run.lines("queues.out"), known = run.text("namespaces").trim().split("\n").map(Number);
      const again = lines.filter(({ func }) => func === "__tcp_retransmit_skb");
      expect(again.length).toBeGreaterThan(20);
      const elsewhere = lines.filter(({ netns }) => netns !== 0 && !known.includes(netns!));
      expect(elsewhere.map(({ func, netns, iface, ifindex, mtu }) => ({ func, netns, iface, ifindex, mtu })))
        .toEqual([]);
    },
    "nor is their place in a list taken for a route"(run) {
      const mtus = new Set(run.lines("queues.out").map(({ mtu }) => mtu));
      expect([...mtus.difference(new Set([0, 1500, 9001, 65536]))]).toEqual([]);
    },
    "and have the name of an interface where they have one"(run) {
      const lines = run.lines("queues.out");
      expect(lines.filter(({ iface, ifindex }) => ifindex !== 0 && iface === "")).toEqual([]);
    },
  },
};
