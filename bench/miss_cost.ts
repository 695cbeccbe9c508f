/**
 * What a packet that does not match costs, beside Debian's pwru: bun bench/miss_cost.ts [KERNEL...]
 *
 * One boot per kernel under QEMU. The kernel itself measures each run of a program (kernel.bpf_stats_enabled), while a
 * flood of UDP datagrams passes that no filter matches; both tracers hook the same functions. Times are those of an
 * emulated machine, where a helper call costs more than natively: read them as ratios.
 */
import { columns } from "../lib/output/columns.ts";
import { boot } from "../tests/vm/boot.ts";
import { type KernelName, kernelNames, x64Kernels } from "../tests/vm/images.ts";
import { isKernelName, prepare, testedBinary } from "../tests/vm/lab.ts";

/** One way to start a tracer; pwru has them all but those that are ours alone. */
interface Case {
  readonly name: string;
  readonly words: string;
  readonly oursOnly?: boolean;
}

const filter = "udp and dst port 9";
const cases: readonly Case[] = [
  { name: "filter", words: `'${filter}'` },
  { name: "netns", words: `--filter-netns inode:$((netns + 1)) '${filter}'` },
  { name: "mark", words: `--filter-mark 77 '${filter}'` },
  { name: "track", words: `--filter-track-skb '${filter}'`, oursOnly: true },
];
const tracers = ["ours", "peer"] as const;
type Tracer = (typeof tracers)[number];

const DATAGRAMS = 5000;

/** Function by function pwru takes minutes to attach; there both hook fewer. */
const functionsOf = (kernel: KernelName) => kernel === "5.10" || kernel === "6.1" ? "ip_.*" : "";

const script = (kernel: KernelName) => `
  netns=$(stat -L -c %i /proc/self/ns/net)
  ip link set lo up
  head -c ${DATAGRAMS * 16} /dev/zero > /tmp/zeros
  socat -u UDP4-RECV:10 /dev/null & receiver=$!
  until_true 10 bound $receiver udp 10
  # flood NAME: how long the datagrams take, in microseconds
  flood() {
    local begin
    now; begin=$NOW
    socat -u -b 16 OPEN:/tmp/zeros UDP4-SENDTO:127.0.0.1:10
    now; echo $((NOW - begin)) >> "$OUT/$1.flood"
  }
  # measure NAME WORD...: with $TRACER
  measure() {
    local name=$1
    shift
    start $name --filter-func '${functionsOf(kernel)}' "$@"
    flood $name.warm
    flood $name; flood $name; flood $name
    sysctl -qw kernel.bpf_stats_enabled=1
    bpftool -j prog show > "$OUT/$name.before"
    flood $name.counted
    bpftool -j prog show > "$OUT/$name.after"
    sysctl -qw kernel.bpf_stats_enabled=0
    stop $name INT 60000
  }
  flood bare.warm; flood bare; flood bare; flood bare
  ${
  cases.flatMap(({ name, words, oursOnly }) =>
    tracers.filter((tracer) => tracer === "ours" || oursOnly !== true).map((tracer) =>
      `TRACER=$${tracer === "ours" ? "PWRU" : "PEER"} measure ${tracer}.${name} ${words}`
    )
  ).join("\n  ")
}
  kill $receiver
`;

interface ProgramRow {
  readonly id: number;
  readonly type: string;
  readonly name?: string;
  readonly run_time_ns?: number;
  readonly run_cnt?: number;
}

/** Runs of the programs that see every packet, and ns per run. */
function costOf(before: string, after: string): { runs: number; ns: number } {
  const rows = (text: string) =>
    (text === "" ? [] : JSON.parse(text) as ProgramRow[])
      .filter(({ type, name = "" }) => type === "kprobe" && /_skb/.test(name));
  const known = new Map(rows(before).map((row) => [row.id, row]));
  let runs = 0, time = 0;
  for (const { id, run_cnt = 0, run_time_ns = 0 } of rows(after)) {
    runs += run_cnt - (known.get(id)?.run_cnt ?? 0);
    time += run_time_ns - (known.get(id)?.run_time_ns ?? 0);
  }
  return { runs, ns: time / runs };
}

const wanted = process.argv.slice(2), unknown = wanted.filter((word) => !isKernelName(word));
if (unknown.length > 0) {
  console.error(`Unknown kernel "${unknown.join(" ")}": there are ${kernelNames.join(", ")}`);
  process.exit(2);
}
for (const kernel of wanted.length === 0 ? x64Kernels : wanted.filter(isKernelName)) {
  const image = prepare(kernel, console.error);
  const job = { name: "miss_cost", script: script(kernel), limitSeconds: 600 };
  const booted = await boot(image, [job], { binary: testedBinary(kernel) });
  const outcome = booted.outcomes.get(job.name);
  console.log(`\nLinux ${kernel} (${image.package}), functions "${functionsOf(kernel)}"`);
  if (outcome?.status !== 0) {
    console.log(`status ${outcome?.status ?? "none"}\n${outcome?.read("stderr") ?? booted.console}`);
    if (outcome === undefined) continue;
  }
  const flood = (name: string) =>
    Math.min(...outcome.read(`${name}.flood`).trim().split("\n").map(Number)) / 1000;
  const cost = (tracer: Tracer, name: string) =>
    costOf(outcome.read(`${tracer}.${name}.before`), outcome.read(`${tracer}.${name}.after`));
  const bare = flood("bare"),
    rows = [["case", "tracer", "runs", "ns/run", "of pwru's", "flood ms", "of bare"]];
  rows.push(["no tracer", "", "", "", "", bare.toFixed(0), ""]);
  for (const { name } of cases) {
    const theirs = cost("peer", name).ns;
    for (const tracer of tracers) {
      const { runs, ns } = cost(tracer, name), ms = flood(`${tracer}.${name}`);
      if (Number.isNaN(ns)) continue;
      const share = tracer === "ours" && !Number.isNaN(theirs) ? (ns / theirs).toFixed(2) : "";
      rows.push([name, tracer, String(runs), ns.toFixed(0), share, ms.toFixed(0), (ms / bare).toFixed(2)]);
    }
  }
  console.log(columns(rows, [2, 3, 4, 5, 6]));
}
