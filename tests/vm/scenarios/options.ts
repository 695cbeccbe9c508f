/**
 * One start per option: what it selects, and that nothing else is printed.
 */
import { expect } from "bun:test";
import type { TraceLine } from "../lines.ts";
import { atLeast, type Checks, type Run, type Scenario } from "../scenario.ts";

/** A start with some words while the same traffic passes: an echo from dns to pod, one of them marked. */
interface Option {
  readonly name: string;
  readonly words: string;
  /** "icmp" unless the option is about the filter */
  readonly filter?: string;
  readonly holds: (lines: readonly TraceLine[], run: Run) => void;
}

const values = (
  lines: readonly TraceLine[],
  key: keyof TraceLine,
) => [...new Set(lines.map((line) => line[key]))];

const options: readonly Option[] = [
  {
    name: "filter-func",
    words: "--filter-func '^ip_(rcv|forward)$'",
    holds: (lines) => expect(values(lines, "func").sort()).toEqual(["ip_forward", "ip_rcv"]),
  },
  {
    name: "filter-netns",
    words: "--filter-netns /run/netns/pod --filter-func '^ip_rcv$'",
    holds: (lines, run) => expect(values(lines, "netns")).toEqual([Number(run.text("pod.inode"))]),
  },
  {
    name: "filter-netns-inode",
    words: "--filter-netns \"inode:$(stat -L -c %i /run/netns/pod)\" --filter-func '^ip_rcv$'",
    holds: (lines, run) => expect(values(lines, "netns")).toEqual([Number(run.text("pod.inode"))]),
  },
  {
    name: "filter-ifname",
    words: "--filter-ifname podveth --filter-func '^ip_(rcv|finish_output2)$'",
    holds: (lines) => expect(values(lines, "iface")).toEqual(["podveth"]),
  },
  {
    name: "filter-mark",
    words: "--filter-mark 0x2a --filter-func '^ip_output$'",
    holds: (lines) => expect(values(lines, "mark")).toEqual([0x2a]),
  },
  {
    name: "kernel-btf",
    words: "--kernel-btf /sys/kernel/btf/vmlinux --filter-func '^ip_rcv$'",
    holds: (lines) => expect(values(lines, "func")).toEqual(["ip_rcv"]),
  },
  {
    name: "backend-kprobe",
    words: "--backend kprobe --filter-func '^ip_rcv$'",
    holds: (lines) => expect(values(lines, "func")).toEqual(["ip_rcv"]),
  },
  {
    name: "timestamp-current",
    words: "--timestamp current --filter-func '^ip_rcv$'",
    holds(lines) {
      const times = lines.map((line) => line.timestamp ?? 0);
      expect(times.every((time) => time > 1e9)).toBe(true);
    },
  },
  {
    name: "timestamp-relative",
    words: "--timestamp relative --filter-func '^ip_(rcv|forward|output)$'",
    holds: (lines) => expect(lines[0]?.timestamp).toBe(0),
  },
  {
    name: "pcap-words",
    words: "--filter-func '^ip_rcv$'",
    filter: "src host 10.9.2.2 and icmp",
    holds: (lines) => expect(values(lines, "tuple")).toEqual(["10.9.2.2:0->10.9.1.2:0(icmp)"]),
  },
];

/** pwru 1.0.5 knows no mask. */
const maskOption: Option = {
  name: "filter-mark-mask",
  words: "--filter-mark 0x8/0x8 --filter-func '^ip_output$'",
  holds: (lines) => expect(values(lines, "mark")).toEqual([0x2a]),
};

const checkOption = ({ name, holds }: Option) => (run: Run) => {
  expect(run.facts(name)).toMatchObject({ ready: true, gone: true, status: 0 });
  const lines = run.lines(`${name}.out`);
  expect(lines.length).toBeGreaterThan(0);
  holds(lines, run);
};

const startOf = ({ name, words, filter = "icmp" }: Option) =>
  `start ${name} --output-meta --output-tuple ${words} ${filter}; traffic; settle ${name}; stop ${name}`;

export const selection: Scenario = {
  name: "options",
  boot: "apart",
  kernels: [],
  longKernels: ["6.12"],
  limitSeconds: 600,
  script: `
    topo 1500
    stat -L -c %i /run/netns/pod > "$OUT/pod.inode"
    traffic() {
      echo_request dns 10.9.1.2
      ip netns exec dns ping -q -c1 -W2 -m 42 10.9.1.2 > /dev/null
    }
    ${options.map(startOf).join("\n    ")}

    # Ends by itself after three events.
    start limit --output-limit-lines 3 --filter-func '^ip_rcv$' icmp
    traffic
    reap limit $NOW 10000

    # Columns that were not asked for.
    start plain --output-meta=false --output-tuple=false --filter-func '^ip_rcv$' icmp
    traffic; settle plain; stop plain

    [ "$PWRU" = "$PEER" ] || { ${startOf(maskOption)}; }
    [ "$PWRU" = "$PEER" ] || [ ! -e /sys/kernel/btf/veth ] || {
      start kmods --kmods veth --filter-func '^veth_xmit$' icmp; traffic; settle kmods; stop kmods; }
    untopo
  `,
  checks: {
    ...Object.fromEntries(options.map((option) => [`--${option.name}`, checkOption(option)])) as Checks,
    "--output-limit-lines ends the run by itself"(run) {
      expect(run.facts("limit")).toMatchObject({ ready: true, gone: true, status: 0 });
      expect(run.lines("limit.out").length).toBe(3);
    },
    "--output-meta=false --output-tuple=false"(run) {
      const [first] = run.lines("plain.out");
      expect(first).toMatchObject({ func: "ip_rcv" });
      expect(first?.netns).toBeUndefined();
      expect(first?.tuple).toBeUndefined();
    },
  },
  oursOnly: {
    "--filter-mark-mask": checkOption(maskOption),
    "--kmods traces functions of a module"(run) {
      if (!atLeast(run.kernel, "6.1")) return; // 5.10 has no BTF of modules
      expect(values(run.lines("kmods.out"), "func")).toEqual(["veth_xmit[veth]"]);
    },
  },
};
