/**
 * A million events through a pipe into a file, with the ring as it is by default: none is lost while the reader keeps
 * up, and each function on the way has as many lines as packets passed it. The kernel's own counter says how many that
 * were. Echoes come in rounds, which the ring has room for, each when the lines of the one before are in the file: on
 * one processor that is what keeping up means.
 */
import { expect } from "bun:test";
import type { Run, Scenario } from "../scenario.ts";

const rounds = 29, echoesPerRound = 800, echoes = rounds * echoesPerRound;
/** On the way of an echo and its reply from a namespace to itself, each so many times for one echo. */
const functions =
  "ip_rcv ip_local_deliver ip_protocol_deliver_rcu icmp_rcv ip_output ip_finish_output2 ip_local_out " +
  "__ip_local_out __dev_queue_xmit dev_hard_start_xmit loopback_xmit netif_rx_internal enqueue_to_backlog " +
  "__netif_receive_skb __netif_receive_skb_one_core ip_rcv_core ip_local_deliver_finish eth_type_trans " +
  "validate_xmit_skb skb_release_data skb_release_head_state __kfree_skb kfree_skbmem";

/** Function and number of its lines. */
const counts = (run: Run) =>
  run.text("counts").trim().split("\n").map((line) => line.split(" ")).map(([name = "", count]) =>
    [name, Number(count)] as const
  );

export const million: Scenario = {
  name: "million",
  kernels: [],
  longKernels: ["6.12"],
  limitSeconds: 500,
  script: `
    topo 1500
    received() { ip netns exec pod awk '$1 == "Icmp:" && $2 ~ /^[0-9]/ { print $2 }' /proc/net/snmp; }
    mkfifo "$OUT/million.out"
    cat "$OUT/million.out" > /tmp/million.lines &
    reader=$!
    start million --filter-func '${functions.replaceAll(" ", "|")}' --filter-netns /run/netns/pod icmp
    before=$(received)
    # Until the file has stopped growing.
    written() {
      local before=-1 size=0
      while [ $size != $before ]; do before=$size; nap 0.5; size=$(stat -c %s /tmp/million.lines); done
    }
    for ((i = 0; i < ${rounds}; i++)); do
      ip netns exec pod ping -q -f -c ${echoesPerRound} 10.9.1.2 >> "$OUT/ping"
      written
    done
    echo $(($(received) - before)) > "$OUT/passed"
    stop million
    wait $reader
    rm "$OUT/million.out"
    awk 'NR > 1 { lines[$NF]++ } END { for (name in lines) print name, lines[name] }' /tmp/million.lines > "$OUT/counts"
    rm /tmp/million.lines
    untopo
  `,
  checks: {},
  oursOnly: {
    "a million and more were printed, none lost, in bounded memory"(run) {
      expect(run.facts("million")).toMatchObject({ ready: true, gone: true, status: 0 });
      const total = counts(run).reduce((sum, [, count]) => sum + count, 0);
      expect(total).toBeGreaterThan(1_000_000);
      expect(run.text("million.err")).toContain(`showed ${total} events, lost none`);
      expect(run.facts("million").peakKib).toBeLessThan(200 * 1024);
    },
    "each function as often as packets passed it"(run) {
      const passed = Number(run.text("passed"));
      expect(passed).toBe(2 * echoes);
      for (const [name, count] of counts(run)) {
        const perEcho = count / echoes;
        expect({ name, perEcho }).toEqual({ name, perEcho: Math.max(1, Math.round(perEcho)) });
      }
    },
  },
};
