/**
 * How long typical filter expressions take to compile, and how many instructions come out; beside them what the
 * tcpdump of this machine makes of them. Run with `bun bench/filter_compile.ts`.
 */
import { parseCbpfNumbers } from "../asm/cbpf_text.ts";
import { compileFilter } from "../lib/pcap_filter/compile.ts";
import { fileNames } from "../lib/pcap_filter/names_files.ts";

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

console.log("median µs  insns  tcpdump  expression");
for (const source of expressions) {
  const { insns } = compileFilter(source, { linkType: "EN10MB", names });
  const columns = [medianMicros(source).toFixed(0).padStart(9), String(insns.length).padStart(5)];
  console.log(`${columns.join("  ")}  ${theirCount(source).padStart(7)}  ${source}`);
}
console.log(`first compilation in this process: ${first.toFixed(1)} ms`);
