/**
 * JSON with every pair of options, by function probes: each line as the schema says, with the fields that were asked
 * for and no others. The rows that tracepoints can do are tried on the machine's own kernel in tests/kernel/.
 */
import { expect } from "bun:test";
import {
  expectFields,
  expectFrame,
  isOfFrame,
  isOfMap,
  rowsOfFunctions,
  wordsOf,
} from "../../output/json_options.ts";
import { validLine } from "../../output/schema.ts";
import { compiled } from "../compiled.ts";
import type { Run, Scenario } from "../scenario.ts";

const names = rowsOfFunctions.map((_, i) => `pair${i}`);
const start = (name: string) => {
  const words = wordsOf(rowsOfFunctions[names.indexOf(name)]!).map((word) => `'${word}'`).join(" ");
  return `start ${name} ${words} --filter-func '^(__netif_receive_skb_one_core|ip_rcv|ip_output|tcp_v4_rcv|kfree_skb_reason|sk_skb_reason_drop)$' \\
      'host 10.9.1.2 and (icmp or tcp)'`;
};

export const pairs: Scenario = {
  name: "pairs",
  kernels: [],
  longKernels: ["5.10", "6.12"],
  limitSeconds: 600,
  files: (machine, folder) => [compiled("bpf_programs", machine, folder)],
  script: `
    topo 1500
    modprobe -qa sch_ingress cls_bpf
    # Not beneath /sys: ip mounts another one there in a namespace.
    mkdir -p /tmp/bpf; mount -t bpf bpf /tmp/bpf; pins=/tmp/bpf/pairs; mkdir $pins
    BUN_JSC_useDFGJIT=0 ./bpf_programs pin $pins pass_frame:xdp:2 count_in:tc:0:context:count
    traffic() { echo_request dns 10.9.1.2; say dns TCP4:10.9.1.2:81; }
    start zero --output-json --timestamp relative --filter-func ip_rcv icmp
    (taskset -p 1 $BASHPID > /dev/null; echo_request dns 10.9.1.2); settle zero; stop zero
    ip link set dev dnsveth xdpgeneric pinned $pins/pass_frame
    tc qdisc add dev dnsveth clsact
    tc filter add dev dnsveth ingress bpf da pinned $pins/count_in
    ${names.map((name) => `${start(name)}; traffic; settle ${name}; stop ${name}`).join("\n    ")}
    ip link set dev dnsveth xdpgeneric off
    rm -r $pins; umount /tmp/bpf
    untopo
  `,
  checks: {},
  oursOnly: {
    "what is zero is there: CPU, mark, ports, time since the line before"(run) {
      expect(run.facts("zero")).toMatchObject({ ready: true, gone: true, status: 0 });
      const lines = run.text("zero.out").trimEnd().split("\n").map(validLine);
      expect(lines.pop()).toMatchObject({ type: "end", lost: 0 });
      // Echo and reply, each on the node and where it arrives.
      expect(lines.map(({ cpu, mark, time }) => ({ cpu, mark, first: time === 0 }))).toEqual(
        [true, false, true, false].map((first) => ({ cpu: 0, mark: 0, first })),
      );
      for (const { tuple } of lines) expect(tuple).toMatchObject({ sport: 0, dport: 0, icmp_code: 0 });
    },
    ...Object.fromEntries(rowsOfFunctions.map((row, i) => [
      `row ${i}: ${wordsOf(row).join(" ")}`,
      (run: Run) => {
        expect(run.facts(names[i]!)).toMatchObject({ ready: true, gone: true, status: 0 });
        const lines = run.text(`${names[i]}.out`).trimEnd().split("\n").map(validLine), end = lines.pop();
        const events = lines.filter(({ type }) => type === "kprobe");
        expect(end).toMatchObject({ type: "end", probes: "function", shown: events.length, lost: 0 });
        expect(events.length).toBeGreaterThan(8);
        expect(events.some(isOfFrame)).toBe(row["output-xdp-metadata"] === "on");
        expect(events.some(isOfMap)).toBe(row["output-bpfmap"] === "on");
        for (const event of events) (isOfFrame(event) ? expectFrame : expectFields)(row, event);
      },
    ])),
  },
};
