/**
 * Start and stop, beside Debian's pwru in the same boot; then both look at the same packet.
 *
 * Order matters: ours first, since the peer may take minutes to let go of its probes, so it is also not waited
 * for. The guest's clock counts instructions, so that times are the same in every run.
 */
import { expect } from "bun:test";
import { mainPath } from "../../../lib/trace/main_path.ts";
import { compiled } from "../compiled.ts";
import { hasFprobe as multi, type KernelName, type Series, seriesOf } from "../images.ts";
import { peerStandsIn } from "../lab.ts";
import type { TraceLine } from "../lines.ts";
import type { Metered, MeteredGroup } from "../meter.ts";
import { atLeast, type Checks, type Facts, type Run, type Scenario, withReason } from "../scenario.ts";
import { tuple } from "./story.ts";

/** Modules that a node of a cluster has loaded. */
const modules = "veth bridge br_netfilter nf_conntrack nf_tables nft_ct nft_nat vxlan";

/** Kernels on which the peer is waited for until it is ready, and then both look at one packet. */
const beside = (kernel: KernelName) => atLeast(kernel, "6.1");
const liveSeconds = 2;
const peerSeconds = 50, peerKmodsSeconds = 6;

/** Both start alone; then ours joins the peer for one packet, and for many that neither of them wants. */
export const startStop: Scenario = {
  name: "start",
  boot: "counting",
  kernels: ["6.12"],
  longKernels: ["5.10", "6.1"], // where the peer takes minutes
  limitSeconds: 1200, // of the host: a guest that counts its instructions takes 6 s for each of its own
  files: (machine, folder) => [compiled("meter", machine, folder)],
  script: `
    topo 1500
    modprobe -qa ${modules}
    filter='udp and src port 9053'
    # Asked now: while the peer lets go of its probes every program crawls.
    if grep -qw register_fprobe_ips /proc/kallsyms; then fprobe=yes; else fprobe=no; fi

    # With traffic: where functions are attached one by one, the first are at work before the last. Packet n, from
    # 0, leaves n times 0.1 s after something that comes before our start.
    ping -q -i 0.1 127.0.0.1 > /dev/null & pinger=$!
    start ours --output-meta --output-tuple "$filter or icmp"
    wc -l < "$OUT/ours.out" > "$OUT/ours.early"
    kill $pinger
    attached ours
    now; begin=$NOW
    stop ours
    until_true 70 swept; now
    fact ours swept_ms $(((NOW - begin) / 1000))
    RUN_PATIENCE_MS=90000 run doctor --doctor --output-json "$filter or icmp"

    if [ $fprobe = yes ]; then
      start ours-kmods --all-kmods --output-meta --output-tuple "$filter"
      attached ours-kmods
      stop ours-kmods INT 20000
    fi

    # Which is the peer's time, or less: it needs minutes where it attaches function by function.
    export TRACER=$PEER
    if [ "$(uname -r | cut -d. -f1)" -lt 6 ]; then
      PATIENCE=${peerSeconds} start peer --output-meta --output-tuple "$filter"
    else
      start peer --output-meta --output-tuple "$filter"
      attached peer
      TRACER=$PWRU start beside --output-meta --output-tuple "$filter"
      answer same
      chapter beside beside-same
      chapter peer peer-same
      if [ $fprobe = yes ]; then ./meter ours=^multi_skb peer=^kprobe_skb > "$OUT/misses.json"; fi
      TRACER=$PWRU stop beside
    fi
    # Letting go of its probes one by one would make the rest crawl, and so would its end.
    if [ $fprobe = yes ]; then stop peer INT 5000; else kill -STOP \${pid_of[peer]}; fi

    if [ $fprobe = yes ]; then
      PATIENCE=${peerKmodsSeconds} start peer-kmods --all-kmods --output-meta --output-tuple "$filter"
      kill -STOP \${pid_of[peer-kmods]}
    fi
    true
  `,
  checks: {
    "ours starts, and ends with status 0"(run) {
      expect(run.facts("ours")).toMatchObject({ ready: true, gone: true, status: 0 });
      if (multi(run.kernel)) {
        expect(run.facts("ours-kmods")).toMatchObject({ ready: true, gone: true, status: 0 });
      }
    },
    "the peer starts"(run) {
      const { ready, gone, readyMs } = run.facts("peer");
      if (beside(run.kernel)) expect(ready).toBe(true);
      else if (!ready) expect([gone, readyMs >= (peerSeconds - 1) * 1000]).toEqual([false, true]);
    },
    "both see the same functions for the same packet"(run) {
      if (beside(run.kernel)) expect(differences(run)).toEqual({ onlyOurs: [], onlyPeer: [] });
    },
    "both see the same packet in the same functions, in the same order"(run) {
      if (!beside(run.kernel)) return;
      const [ours, peer] = sameLines(run);
      expect(peer.length).toBeGreaterThan(30);
      const common = new Set(ours.map(funcOf).filter((func) => peer.some((line) => funcOf(line) === func)));
      const sequence = (lines: TraceLine[]) =>
        lines.filter((line) => common.has(funcOf(line)))
          .map((line) => {
            // Without a device the peer shows MTU 0, ours the route's.
            const mtu = line.ifindex === 0 ? "any" : line.mtu;
            return `${line.skb} ${funcOf(line)} netns=${line.netns} mtu=${mtu} len=${line.len}`;
          });
      expect(sequence(ours)).toEqual(sequence(peer));
    },
  },
  oursOnly: {
    "with all modules too"(run) {
      if (multi(run.kernel)) {
        expect(run.facts("ours-kmods")).toMatchObject({ ready: true, gone: true, status: 0 });
      }
    },
    "every function the peer hooks is hooked"(run) {
      if (!beside(run.kernel)) return;
      const hooked = (name: string) => Math.max(run.facts(name).functions, run.facts(name).kprobes);
      expect(hooked("ours")).toBeGreaterThanOrEqual(hooked("peer"));
    },
    ...gates(),
  },
};

/** Of the instructions that the peer takes per function hit. */
const MISS_SHARE = 0.15;

/** The acceptance: what of the peer's time and memory ours may take. */
function gates(): Checks {
  /** All functions live, as a share of the peer's time. */
  const share: Record<Series, number> = { "5.10": 0.2, "6.1": 0.5, "6.12": 0.5, "6.18": 0.5, "7.3": 0.5 };
  const suffix = (run: Run) => multi(run.kernel) ? "-kmods" : "";
  return {
    "shows events before the last function is attached"(run) {
      if (!multi(run.kernel)) expect(Number(run.text("ours.early"))).toBeGreaterThan(5);
    },
    "the main path is live within two seconds"(run) {
      if (multi(run.kernel)) return; // all functions at once there
      const sent = ({ detail = "" }: TraceLine) => Number(/seq=(\d+)/.exec(detail)?.[1] ?? NaN);
      const early = run.lines("ours.out").filter((line) => sent(line) <= liveSeconds / 0.1);
      // what has the packet first, and what has it behind other arguments, which is another program's
      const functions = early.map(({ func }) => func);
      expect(functions).toEqual(
        expect.arrayContaining(["ip_rcv", "icmp_rcv", "ip_output", "ip_finish_output2"]),
      );
      expect(mainPath).toContain(functions[0]!);
    },
    "is attached to every function that can be traced"(run) {
      expect(run.text("ours.err")).toMatch(/^Attached to (\d+) of \1 functions/m);
    },
    "could read every packet it looked at"(run) {
      expect(run.text("ours.err")).not.toContain("could not read");
    },
    "is ready within its share of the peer's time"(run) {
      const [ours, peer] = ["ours", "peer"].map((name) => run.facts(name + suffix(run)).readyMs) as [
        number,
        number,
      ];
      expect(ours / peer).toBeLessThanOrEqual(share[seriesOf(run.kernel)]);
    },
    "takes about as long to start as the doctor says"(run) {
      const { start_seconds } = JSON.parse(run.text("doctor.out")) as { start_seconds: number };
      const factor = start_seconds * 1000 / run.facts("ours").readyMs;
      expect(factor).toBeGreaterThan(0.4);
      expect(factor).toBeLessThan(2.5);
    },
    "the doctor finds that a miss costs something, and a match more"(run) {
      const { miss_ns, match_ns } = JSON.parse(run.text("doctor.out")) as Record<string, number>;
      expect(miss_ns).toBeGreaterThan(0);
      expect(match_ns).toBeGreaterThan(miss_ns!);
    },
    "gives the prompt back within a second"(run) {
      const stops = ["ours", "beside"].map((name) => run.facts(name).stopMs).filter((ms) => !isNaN(ms));
      expect(Math.min(...stops)).toBeLessThanOrEqual(1000);
    },
    "a packet that does not match costs a fraction of what it costs in the peer"(run) {
      if (!multi(run.kernel)) return; // bench/miss_cost.ts measures it there
      const { ours, peer } = (JSON.parse(run.text("misses.json")) as Metered).groups as Record<
        string,
        MeteredGroup
      >;
      // both are hit by every datagram, and by the same functions or nearly so
      expect(peer?.runsPerDatagram).toBeGreaterThan(40);
      expect(ours?.runsPerDatagram).toBeGreaterThan(40);
      expect(ours!.nsPerRun / peer!.nsPerRun).toBeLessThanOrEqual(MISS_SHARE);
    },
    "has its definitions swept within a minute"(run) {
      expect(run.facts("ours").sweptMs).toBeLessThan(60_000);
    },
    "takes no more memory than the peer"(run) {
      if (!multi(run.kernel)) return; // no gate there; bench/start.ts prints it
      expect(run.facts("ours").peakKib).toBeLessThanOrEqual(run.facts("peer").peakKib);
    },
  };
}

const CONST = "takes a const struct sk_buff *, which pwru does not count as a packet";
const RENAMED = "the compiler renamed it; pwru looks for the name in BTF only";

/** Functions that only ours can see, and why. */
const explained: Readonly<Record<string, string>> = {
  __skb_flow_dissect: CONST,
  __skb_flow_get_ports: CONST,
  fib_select_path: CONST,
  ip_route_output_key_hash: CONST,
  ip_route_output_key_hash_rcu: CONST,
  skb_copy_and_csum_bits: CONST,
  "icmp_route_lookup.constprop.0": RENAMED,
};

const sameLines = (run: Run): [ours: TraceLine[], peer: TraceLine[]] => [
  run.lines("beside-same.lines").filter((line) => line.tuple === tuple),
  run.lines("peer-same.lines").filter((line) => line.tuple === tuple),
];

/** pwru 1.0.5 reads no reason from sk_skb_reason_drop: compare names. */
const funcOf = (line: TraceLine): string => withReason({ ...line, below: [] }).replace(/\(.*\)$/, "");

function differences(run: Run): { onlyOurs: string[]; onlyPeer: string[] } {
  const [ours, peer] = sameLines(run).map((lines) => new Set(lines.map(funcOf))) as [
    Set<string>,
    Set<string>,
  ];
  const unexplained = (func: string) => !(func in explained);
  return {
    onlyOurs: [...ours.difference(peer)].filter(unexplained),
    onlyPeer: [...peer.difference(ours)].filter(unexplained),
  };
}

/** What the table of the benchmark shows, one row per tracer that ran. */
export interface StartRow extends Facts {
  readonly tracer: string;
}

export function startRows(run: Run): StartRow[] {
  const names: Record<string, string> = {
    "ours": peerStandsIn() ? "pwru (stand-in)" : "ours",
    "ours-kmods": peerStandsIn() ? "pwru (stand-in) --all-kmods" : "ours --all-kmods",
    "peer": "pwru 1.0.5",
    "peer-kmods": "pwru 1.0.5 --all-kmods",
  };
  return Object.entries(names).filter(([name]) => run.text(`${name}.facts`) !== "")
    .map(([name, tracer]) => ({ tracer, ...run.facts(name) }));
}
