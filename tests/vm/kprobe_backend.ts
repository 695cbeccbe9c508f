/**
 * Attaches classic kprobes to all functions that take an skb, or the first LIMIT of them, and counts what fires, until SIGINT or SIGTERM. Run in
 * a virtual machine by kprobe_backend.sh, as a compiled program, since the helper starts this file again.
 *
 *     kprobe_backend [LIMIT]      one JSON object a line on stdout
 */
import { writeFileSync, writeSync } from "node:fs";
import type { MapSpec, ProgramSpec } from "../../asm/code.ts";
import { label } from "../../asm/code.ts";
import {
  add,
  at,
  atomicAdd,
  call,
  fp,
  jeq,
  ldMap,
  ldx,
  mov,
  r0,
  r1,
  r2,
  r3,
  r4,
  r6,
  ret,
  st,
  stx,
  sub,
} from "../../asm/insn.ts";
import { u64 } from "../../asm/layout.ts";
import { BPF_MAP_TYPE_HASH, BPF_PROG_TYPE_KPROBE } from "../../asm/uapi.ts";
import { helperWords } from "../../lib/link/helper.ts";
import { openKprobes, runHelper } from "../../lib/link/kprobe.ts";
import type { KprobeTarget } from "../../lib/link/kprobe_backend.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { raiseOpenFiles } from "../../lib/sys/process.ts";
import { loadProgram } from "../../lib/sys/program.ts";
import { readFunctionSources, selectFunctions } from "../../lib/trace/functions.ts";

/** On the way of nearly every packet: attached first. */
const mainPath = new Set(
  `netif_receive_skb __netif_receive_skb_core netif_rx netif_rx_internal enqueue_to_backlog ip_rcv ip_rcv_core
  ip_rcv_finish ip_local_deliver ip_local_deliver_finish ip_forward ip_output ip_finish_output ip_finish_output2
  ip_send_skb ip_push_pending_frames ip_local_out __ip_local_out tcp_v4_rcv udp_rcv icmp_rcv __udp4_lib_rcv
  udp_queue_rcv_skb tcp_rcv_established __tcp_transmit_skb __dev_queue_xmit dev_hard_start_xmit loopback_xmit
  veth_xmit nf_hook_slow kfree_skb kfree_skb_reason consume_skb __kfree_skb sock_queue_rcv_skb ipv6_rcv ip6_output`
    .split(/\s+/),
);

/** Hits by probe address, from the instruction pointer behind the breakpoint. */
const hits: MapSpec = { name: "hits", type: BPF_MAP_TYPE_HASH, keySize: 8, valueSize: 8, maxEntries: 8192 };

/** kprobe: counts by address. Offset of pt_regs.ip on x86-64. */
function countProgram(): ProgramSpec {
  const first = label("first");
  return {
    name: "count",
    type: BPF_PROG_TYPE_KPROBE,
    license: "GPL",
    code: [
      ldx(r6, at(r1, 128, u64)),
      sub(r6, 1),
      stx(at(fp, -8, u64), r6),
      ldMap(r1, hits),
      mov(r2, fp),
      add(r2, -8),
      call("bpf_map_lookup_elem"),
      jeq(r0, 0, first),
      mov(r1, 1),
      atomicAdd(at(r0, u64), r1),
      ret(0),

      first,
      st(at(fp, -16, u64), 1),
      ldMap(r1, hits),
      mov(r2, fp),
      add(r2, -8),
      mov(r3, fp),
      add(r3, -16),
      mov(r4, 0),
      call("bpf_map_update_elem"),
      ret(0),
    ],
  };
}

function say(facts: Record<string, unknown>): void {
  writeSync(1, `${JSON.stringify(facts)}\n`);
}

/** Creates the file that the script waits for. */
function ready(suffix: string): void {
  const file = process.env["READY"];
  if (file !== undefined) writeFileSync(`${file}${suffix}`, "");
}

/** The main path's functions first, then the others. */
function readTargets(limit: number): { targets: KprobeTarget[]; recordAddresses: boolean } {
  const sources = readFunctionSources({
    kernel: loadKernelBtf(),
    useFtrace: process.env["FTRACE_LIST"] !== "no",
  });
  const { functions, recordAddresses } = selectFunctions(sources);
  const main = functions.filter(({ name }) => mainPath.has(name));
  const targets = [...main, ...functions.filter(({ name }) => !mainPath.has(name))].slice(0, limit);
  return { targets, recordAddresses };
}

async function run(limit: number): Promise<void> {
  const execAt = Date.now() - performance.now();
  const since = () => Math.round(Date.now() - execAt);
  const stop = new AbortController();
  let signals = 0, stopAt = 0;
  const skip = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      if (signals++ > 0) return skip.abort();
      stopAt = since();
      stop.abort();
    });
  }
  raiseOpenFiles(65536);
  const { targets, recordAddresses } = readTargets(limit), selectedMs = since();
  using maps = new Maps();
  const one = process.env["PROGRAMS"] === "1" ? loadProgram(countProgram(), { maps }).fd : undefined;
  const programs = new Map([1, 2, 3, 4, 5].map((n) => [n, one ?? loadProgram(countProgram(), { maps }).fd]));
  const { backend, fallback, sweepDeadOwners } = openKprobes();
  if (fallback !== undefined) say({ fallback: fallback.message, hint: fallback.hint });
  const batches = [targets.slice(0, 40), targets.slice(40)].filter((batch) => batch.length > 0);

  let lagMs = 0, last = performance.now();
  const timer = setInterval(() => {
    lagMs = Math.max(lagMs, performance.now() - last - 5);
    last = performance.now();
  }, 5);
  const openAt = since(), batchMs: number[] = [];
  const result = await backend.attach(batches, programs, {
    signal: stop.signal,
    recordAddresses,
    onBatch(number) {
      batchMs.push(since());
      if (number === 0) ready(".first");
    },
  });
  clearInterval(timer);
  say({
    backend: backend.name,
    pid: process.pid,
    selectedMs,
    openAt,
    batchMs,
    readyMs: since(),
    targets: targets.length,
    attached: result.attached,
    interrupted: result.interrupted,
    lagMs: Math.round(lagMs),
    failed: result.failed.map(({ target: { name }, code }) => `${name} ${code}`),
    places: Object.fromEntries(
      [-4, 0, 5, 9].map((
        n,
      ) => [n, [...backend.probes].filter(([p, t]) => Number(p - t.address) === n).length]),
    ),
  });
  sweepDeadOwners();
  ready("");
  const idle = setInterval(() => {}, 1000);
  if (!stop.signal.aborted) await new Promise((resolve) => stop.signal.addEventListener("abort", resolve));
  clearInterval(idle);

  const closeAt = performance.now();
  backend.close();
  const closedMs = performance.now() - closeAt;
  const map = maps.get(hits), fired = new Map<bigint, bigint>();
  for (const key of map.keys()) {
    const address = new DataView(key.buffer, key.byteOffset).getBigUint64(0, true);
    fired.set(address, map.lookup(key)?.getBigUint64(0, true) ?? 0n);
  }
  const unknown = [...fired.keys()].filter((address) => !backend.probes.has(address));
  await backend.release({ say: (sentence) => say({ sentence }), signal: skip.signal });
  say({
    closedMs: Math.round(closedMs),
    signalToEndMs: since() - stopAt,
    functionsHit: fired.size,
    unknown: unknown.length,
    events: [...fired.values()].reduce((sum, n) => sum + n, 0n).toString(),
    top: [...fired].sort(([, a], [, b]) => Number(b - a)).slice(0, 5).map(([address, n]) =>
      `${backend.probes.get(address)?.name} ${n}`
    ),
  });
}

const words = helperWords();
if (words !== undefined) await runHelper(words);
else await run(Number(process.argv[2] ?? Infinity));
process.exit(0);
