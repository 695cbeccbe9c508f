/**
 * Few among many: a million small packets of a thousand other flows pass while a thousand are followed. The kernel's own
 * packet generator sends them from the pod through the node to dns.
 */
import { expect } from "bun:test";
import type { TraceLine } from "../lines.ts";
import { isOver, livesOf, packetsOf } from "../paths.ts";
import type { Run, Scenario } from "../scenario.ts";

const OTHERS = Number(process.env["PWRU_VM_OTHERS"] ?? 1_000_000), FOLLOWED = 1000, BATCHES = 20;
const gateway = "02:00:00:00:01:01";

const flow = [
  ...["clone_skb 0", "pkt_size 60", "delay 0", "src_min 10.9.1.2", "src_max 10.9.1.2", "dst 10.9.2.2"],
  ...[`dst_mac ${gateway}`, "udp_dst_min 9", "udp_dst_max 9", "udp_src_min 1024", "udp_src_max 2023"],
  ...["flag UDPSRC_RND", `count ${OTHERS}`],
];

export const multitude: Scenario = {
  name: "multitude",
  boot: "apart",
  kernels: [],
  longKernels: ["6.12"],
  limitSeconds: 3000,
  script: `
    topo 1500
    modprobe -q pktgen
    ip link set podveth address ${gateway}
    ip -n pod neigh flush dev eth0
    echo_request pod 10.9.2.2
    keep_neighbours pod dns
    ip netns exec dns nft -f - <<'RULES'
      table ip multitude {
        counter others {}
        chain in { type filter hook input priority 0; udp dport 9 counter name others drop; }
      }
RULES
    start one --debug --filter-track-skb --output-packet-id 'icmp[icmptype] == icmp-echo and src host 10.9.1.2'
    ip netns exec pod bash -c '
      tell() { echo "$2" > /proc/net/pktgen/$1; }
      tell kpktgend_0 rem_device_all
      tell kpktgend_0 "add_device eth0"
      ${flow.map((words) => `tell eth0 "${words}"`).join("; ")}
      tell pgctrl start
      cat /proc/net/pktgen/eth0 > "$OUT/generator"' &
    generator=$!
    # The echoes are spread over the others: so many more when so many of those have left.
    cat > /tmp/echoes.sh <<'ECHOES'
      . /lib/guest/tracer.sh
      passed() {
        local line
        while read -r line; do [[ ! $line =~ pkts-sofar:.([0-9]+) ]] || break; done < /proc/net/pktgen/eth0
        nap 0.2
        [ "\${BASH_REMATCH[1]:-0}" -ge "$1" ]
      }
      for ((n = 0; n < ${BATCHES}; n++)); do
        until_true 600 passed $((n * ${OTHERS / BATCHES} + 1)) || echo "multitude: the generator is late" >&2
        ping -q -c ${FOLLOWED / BATCHES} -i 0.01 10.9.2.2
      done
ECHOES
    ip netns exec pod bash /tmp/echoes.sh > "$OUT/ping"
    now; echo $NOW > "$OUT/last_echo"
    wait $generator
    now; echo $NOW > "$OUT/last_other"
    settle one
    stop one
    ip netns exec dns nft list counter ip multitude others > "$OUT/others"
    untopo
  `,
  checks: {},
  oursOnly: {
    "all of them passed"(run) {
      expect(run.text("generator")).toContain(`pkts-sofar: ${OTHERS} `);
      expect([...run.text("ping").matchAll(/\d+ packets transmitted, \d+ received/g)].map(([text]) => text))
        .toEqual(
          Array.from(
            { length: BATCHES },
            () => `${FOLLOWED / BATCHES} packets transmitted, ${FOLLOWED / BATCHES} received`,
          ),
        );
      expect(run.text("stderr")).not.toContain("late");
      const [lastEcho = 0, lastOther = 0] = ["echo", "other"].map((last) => Number(run.text(`last_${last}`)));
      expect(lastOther).toBeGreaterThan(lastEcho);
      const arrived = Number(/packets (\d+)/.exec(run.text("others"))?.[1]);
      console.log(
        `${arrived} of ${OTHERS} other packets arrived; ${
          run.text("one.err").split("\n").slice(-4).join(" ")
        }`,
      );
      expect(arrived).toBeGreaterThan(OTHERS / 2);
    },
    "every packet that matches is there, and no other"(run) {
      const packets = packetsOf(run.lines("one.out"));
      expect(packets.size).toBe(FOLLOWED);
      expect(packets.has(0)).toBe(false);
      const flows = new Set(run.lines("one.out").map(({ tuple }) => tuple));
      expect([...flows]).toEqual(["10.9.1.2:0->10.9.2.2:0(icmp)"]);
    },
    "each path is complete, but for what the closing lines count"(run) {
      const paths = [...packetsOf(run.lines("one.out")).values()];
      const usual = usualPath(paths);
      const absent = paths.map((path) =>
        isComplete(path, usual) ? 0 : Math.max(1, usual.length - path.length)
      );
      const sum = absent.reduce((a, b) => a + b, 0);
      console.log(
        `${absent.filter((count) => count > 0).length} paths lack ${sum} lines; ${escaped(run)} are reported`,
      );
      expect(sum).toBeLessThanOrEqual(escaped(run));
    },
    "nothing is followed any more, but for ends that were missed"(run) {
      const left = Number(/Still followed packets=(\d+)/.exec(run.text("one.err"))?.[1]);
      expect(left).toBeLessThanOrEqual(escaped(run));
    },
  },
};

/** Lines that are reported not to be there. */
function escaped(run: Run): number {
  const counted = /Counted in the kernel .* lost=(\d+) .* missed=(\d+)/.exec(run.text("one.err"));
  return Number(counted?.[1]) + Number(counted?.[2]);
}

const functionsOf = (path: readonly TraceLine[]) => path.map(({ func }) => func);

/** The path that most take. */
function usualPath(paths: readonly TraceLine[][]): string[] {
  const alike = Map.groupBy(paths, (path) => functionsOf(path).join(" "));
  const [most] = [...alike].sort(([, a], [, b]) => b.length - a.length);
  return most?.[0].split(" ") ?? [];
}

/** It is the usual one, or ends with a reason on the way. */
function isComplete(path: readonly TraceLine[], usual: readonly string[]): boolean {
  const functions = functionsOf(path), dropped = path.findIndex(({ reason }) => reason !== undefined);
  if (dropped < 0) return functions.join(" ") === usual.join(" ");
  return livesOf(path).every(isOver) && functions.slice(0, dropped).every((name, at) => name === usual[at]);
}
