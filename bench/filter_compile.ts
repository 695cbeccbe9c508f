/**
 * How long typical filter expressions take to compile, and how many instructions come out; beside them what the
 * tcpdump of this machine makes of them. eBPF is counted for each way to read memory: cast to void, cast to a
 * struct, bulk; the filter alone, from an Ethernet header.
 *
 * Run: bun bench/filter_compile.ts [KERNEL]
 *
 * With a kernel (6.12), that one is booted under QEMU and asked how many instructions its verifier walked to accept
 * our program, and Debian's pwru's for the same expression.
 */
import { writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { assemble } from "../asm/assemble.ts";
import type { CbpfInsn } from "../asm/cbpf.ts";
import { TemporaryFolder } from "../build/host.ts";
import type { Label } from "../asm/code.ts";
import { parseCbpfNumbers } from "../asm/cbpf_text.ts";
import { compileFilter } from "../lib/pcap_filter/compile.ts";
import { fileNames } from "../lib/pcap_filter/names_files.ts";
import { traceMaps } from "../bpf-programs/maps.ts";
import { bulkAccess, directAccess } from "../bpf-programs/memory_access.ts";
import { filterFragment } from "../bpf-programs/match.ts";
import { fixtureTypes } from "../tests/fixtures/kernel_types.ts";
import { boot } from "../tests/vm/boot.ts";
import type { FilterLoad } from "../tests/vm/filter_load.ts";
import { machineFor } from "../tests/vm/images.ts";
import { isKernelName, prepare, testedBinary } from "../tests/vm/lab.ts";
import { Run } from "../tests/vm/scenario.ts";
import { filterFiles, filterRow } from "../tests/vm/scenarios/filters.ts";

const expressions = [
  "",
  "ip",
  "tcp",
  "arp or icmp or icmp6",
  "host 10.0.0.1",
  "src net 10.0.0.0/8 and not dst net 192.168.0.0/16",
  "ip6 host 2001:db8::1",
  "port 53",
  "tcp port http",
  "tcp dst port 443 and host 1.2.3.4",
  "udp portrange 5000-6000",
  "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
  "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)",
  "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply",
  "ether host 00:11:22:33:44:55",
  "vlan 5 and tcp port 80",
  "mpls 1000 and host 10.0.0.1",
  "vxlan 5 and tcp port 80",
  "host 10.0.0.1 or 10.0.0.2 or 10.0.0.3 or 10.0.0.4 and not port 22",
  "(tcp port 80 or 443 or 8080) and (src net 10 or 192.168) and not (icmp or arp)",
];
const rounds = 200;
const names = fileNames();
const tcpdump = Bun.which("tcpdump");

function medianMicros(source: string): number {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    compileFilter(source, { linkType: "EN10MB", names });
    times.push(performance.now() - start);
  }
  return times.toSorted((a, b) => a - b)[rounds >> 1]! * 1000;
}

function theirCount(source: string): string {
  if (tcpdump === null) return "-";
  const { stdout, exitCode } = Bun.spawnSync([tcpdump, "-ddd", "-y", "EN10MB", source], { stderr: "ignore" });
  return exitCode === 0 ? String(parseCbpfNumbers(stdout.toString()).length) : "-";
}

const start = performance.now();
compileFilter("tcp port 80", { linkType: "EN10MB", names });
const first = performance.now() - start;
for (const source of expressions) medianMicros(source); // warm

/** Slots of the filter in a program, for each way to read memory. */
function ebpfCounts(insns: readonly CbpfInsn[]): number[] {
  return (["void", "struct", "none"] as const).map((casts) => {
    const kernel = fixtureTypes(casts), access = directAccess(kernel) ?? bulkAccess();
    const options = { kernel, access, maps: traceMaps(1 << 20), meta: false, tuple: false };
    const { code, ends } = filterFragment(options, insns);
    return assemble(code).labels.get(ends[0] as Label) as number;
  });
}

console.log("median µs  insns  tcpdump  void  struct  bulk  expression");
for (const source of expressions) {
  const { insns } = compileFilter(source, { linkType: "EN10MB", names });
  const [castToVoid = 0, castToStruct = 0, bulk = 0] = ebpfCounts(insns);
  const columns = [
    medianMicros(source).toFixed(0).padStart(9),
    String(insns.length).padStart(5),
    theirCount(source).padStart(7),
    String(castToVoid).padStart(4),
    String(castToStruct).padStart(6),
    String(bulk).padStart(4),
  ];
  console.log(`${columns.join("  ")}  ${source}`);
}
console.log(`first compilation in this process: ${first.toFixed(1)} ms`);

/** In the guest: ours by filter_load, the peer's from /proc, one start of it per expression. */
const script = `
  BUN_JSC_useDFGJIT=0 ./filter_load filters.jsonl each > "$OUT/ours"
  TRACER=$PEER
  number=0
  while IFS= read -r filter; do
    start "peer$number" --filter-func '^ip_rcv$' \${filter:+"$filter"}
    grep -h ^verified_insns /proc/\${pid_of[peer$number]}/fdinfo/* > "$OUT/verified$number"
    stop "peer$number"
    number=$((number + 1))
  done < expressions
`;

async function verified(kernel: string): Promise<void> {
  if (!isKernelName(kernel)) throw new RangeError(`There is no kernel "${kernel}" to boot`);
  using made = new TemporaryFolder(tmpdir());
  const [list = "", loader = ""] = filterFiles(
    expressions.map((source) => filterRow(source, names)),
    machineFor(kernel),
    made.path,
  );
  const texts = join(made.path, "expressions");
  writeFileSync(texts, expressions.map((source) => `${source}\n`).join(""));
  const job = { name: "verified", script, limitSeconds: 900, files: [list, loader, texts] };
  const booted = await boot(prepare(kernel, console.error), [job], { binary: testedBinary(kernel) });
  const outcome = booted.outcomes.get(job.name);
  if (outcome?.status !== 0) throw new Error(outcome?.read("stderr") ?? booted.console);
  const run = new Run(kernel, outcome);
  const ours = run.text("ours").trim().split("\n").map((line) => JSON.parse(line) as Partial<FilterLoad>);
  console.log(`\nInstructions verified by Linux ${kernel}: one of our programs, the largest of pwru's`);
  const accesses = [...new Set(ours.map(({ access }) => access as string))];
  console.log([...accesses, "pwru", "expression"].join("  "));
  for (const [index, source] of expressions.entries()) {
    const counts = run.text(`verified${index}`).trim().split("\n").map((line) =>
      Number(line.split(/\s+/)[1])
    );
    const mine = accesses.map((access) =>
      String(ours.find((row) => row.filter === source && row.access === access)?.verified ?? "-")
        .padStart(access.length)
    );
    const theirs = counts.some(Number.isFinite) ? String(Math.max(...counts.filter(Number.isFinite))) : "-";
    console.log([...mine, theirs.padStart(4), source].join("  "));
  }
}

const [kernel] = process.argv.slice(2);
if (kernel !== undefined) await verified(kernel);
