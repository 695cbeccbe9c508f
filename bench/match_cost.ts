/**
 * What a program takes to say no, without the probe that calls it: bun bench/match_cost.ts [WINDOWS]
 *
 * The tracer's own programs, as raw tracepoints that BPF_PROG_TEST_RUN calls with a packet of our making, timed by
 * the kernel (BPF_ENABLE_STATS). Of many short windows the fastest counts: whatever else a machine does only adds.
 * "ns" is above an empty program, which shows the clock alone. Needs root and Linux 5.10; compiled, it runs in a guest.
 */
import type { ProgramSpec } from "../asm/code.ts";
import { ret } from "../asm/insn.ts";
import { BPF_PROG_TYPE_RAW_TRACEPOINT } from "../asm/uapi.ts";
import { traceCounters } from "../bpf-programs/events.ts";
import type { TraceOptions } from "../bpf-programs/frame.ts";
import { traceMaps } from "../bpf-programs/maps.ts";
import { tracepointProgram } from "../bpf-programs/tracepoint_program.ts";
import { loadKernelBtf } from "../lib/btf/load.ts";
import { BtfTypes } from "../lib/btf/types.ts";
import { readCounters } from "../lib/maps/bpf_map.ts";
import { Maps } from "../lib/maps/maps.ts";
import { columns } from "../lib/output/columns.ts";
import { bpfEnableStats, bpfProgTestRun } from "../lib/sys/bpf.ts";
import { OwnedFd } from "../lib/sys/fd.ts";
import { readMemoryMap } from "../lib/sys/memory_map.ts";
import { raiseLockedMemory } from "../lib/sys/process.ts";
import { loadProgram, type Program } from "../lib/sys/program.ts";
import { noNames } from "../lib/pcap_filter/names.ts";
import { compilePacketFilter } from "../lib/trace/filter.ts";
import { addressOf, regionOf } from "../tests/kernel/kernel_region.ts";
import { memoryAccesses } from "../tests/kernel/filter_lab.ts";

/** The packet's Ethernet header, from the start of its buffer; IPv4 and UDP behind it. */
const MAC_HEADER = 64, ETH_HLEN = 14, NETNS = 4026531840;
const RUNS = 500;

/** A UDP datagram from port 4000 to 10, with 40 bytes of payload. */
const frame = Uint8Array.from([
  ...[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0],
  ...[0x45, 0, 0, 68, 0, 1, 0x40, 0, 64, 17, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1],
  ...[0x0f, 0xa0, 0, 10, 0, 48, 0, 0],
  ...new Array(40).fill(0),
]);

const region = regionOf(1 << 14);
/** Where in the region lies what: an sk_buff per place that a packet can be in, then what they lead to. */
const places = { sent: 0, received: 1 << 10, device: 1 << 11, net: 3 << 12, head: 7 << 11 };
type Packet = "sent" | "received";

/** Packets in kernel memory; the address of that memory. */
function makePackets(types: BtfTypes, maps: Maps): bigint {
  const map = maps.get(region);
  const base = addressOf(region, maps);
  const bytes = new Uint8Array(region.valueSize);
  const put = (at: number, struct: string, name: string, value: bigint) => {
    const { offset, type: { size } } = types.field(struct, name);
    for (let i = 0; i < size; i++) bytes[at + offset + i] = Number(value >> BigInt(8 * i) & 0xffn);
  };
  const pointer = (place: keyof typeof places) => base + BigInt(places[place]);
  const skb = (at: number, macHeader: number) => {
    const values: Record<string, bigint> = {
      head: pointer("head"),
      data: pointer("head") + BigInt(MAC_HEADER + ETH_HLEN),
      mac_header: BigInt(macHeader),
      network_header: BigInt(MAC_HEADER + ETH_HLEN),
      tail: BigInt(MAC_HEADER + frame.length),
      end: 512n,
      len: BigInt(frame.length - ETH_HLEN),
      dev: pointer("device"),
    };
    for (const [name, value] of Object.entries(values)) put(at, "sk_buff", name, value);
  };
  skb(places.sent, 0xffff);
  skb(places.received, MAC_HEADER);
  put(places.device, "net_device", "nd_net.net", pointer("net"));
  put(places.device, "net_device", "ifindex", 1n);
  put(places.net, "net", "ns.inum", BigInt(NETNS));
  bytes.set(frame, places.head + MAC_HEADER);
  map.update(0, bytes);
  return base;
}

type Wish = Partial<Pick<TraceOptions, "mark" | "netns" | "ifindex" | "tracking" | "filter">>;
const filter = (text: string) => ({ filter: compilePacketFilter(text, noNames) });
const udp = filter("udp and dst port 9"), mask = 0xffffffff;
/** All of them say no. */
const wishes: Readonly<Record<string, Wish>> = {
  "udp and dst port 9": udp,
  "tcp": filter("tcp"),
  "host 10.0.0.1 and port 53": filter("host 10.0.0.1 and port 53"),
  "--filter-mark": { ...udp, mark: { value: 77, mask } },
  "--filter-netns": { ...udp, netns: NETNS + 1 },
  "--filter-netns that passes": { ...udp, netns: NETNS },
  "--filter-ifname": { ...udp, ifindex: 2 },
  "--filter-track-skb": { ...udp, tracking: { follow: true, ids: true } },
};

const empty: ProgramSpec = {
  name: "empty",
  type: BPF_PROG_TYPE_RAW_TRACEPOINT,
  license: "GPL",
  code: ret(0),
};

raiseLockedMemory();
const types = new BtfTypes(loadKernelBtf()), windows = Number(process.argv[2] ?? 60);
using maps = new Maps();
using _stats = new OwnedFd(bpfEnableStats());
const base = makePackets(types, maps), memory = readMemoryMap(types.sizeOf("page"));
const shared = traceMaps(1 << 20);
const contextOf = (packet: Packet) => new Uint8Array(BigUint64Array.of(base + BigInt(places[packet])).buffer);

/** A program under the clock. */
class Timed {
  readonly program: Program;
  readonly #context: Uint8Array;
  fastest = Infinity;
  constructor(spec: ProgramSpec, packet: Packet) {
    this.program = loadProgram(spec, { maps });
    this.#context = contextOf(packet);
  }
  window(): void {
    const before = this.program.info();
    for (let run = 0; run < RUNS; run++) bpfProgTestRun(this.program.fd, { ctx_in: this.#context });
    const after = this.program.info();
    const ns = Number(after.run_time_ns - before.run_time_ns) / Number(after.run_cnt - before.run_cnt);
    this.fastest = Math.min(this.fastest, ns);
  }
}

const rows = memoryAccesses(types).flatMap(([access, reads]) =>
  Object.entries(wishes).map(([name, wish]) => {
    const options: TraceOptions = {
      kernel: types,
      access: reads,
      maps: shared,
      ...(memory === undefined ? {} : { memory }),
      ...wish,
      meta: true,
      tuple: true,
    };
    const spec = tracepointProgram(options, { name: "bench", index: 0, skb: 0 });
    return { access, name, sent: new Timed(spec, "sent"), received: new Timed(spec, "received") };
  })
);
const nothing = new Timed(empty, "sent");
const all = [nothing, ...rows.flatMap(({ sent, received }) => [sent, received])];
for (let window = 0; window < windows; window++) for (const timed of all) timed.window();

console.log(`an empty program shows ${nothing.fastest.toFixed(1)} ns; the rest is above that`);
const above = ({ fastest }: Timed) => (fastest - nothing.fastest).toFixed(1);
console.log(columns([
  ["reads", "says no to", "sent, ns", "received, ns", "JIT bytes"],
  ...rows.map(({ access, name, sent, received }) => [
    access,
    name,
    above(sent),
    above(received),
    String(sent.program.info().jited_prog_len),
  ]),
], [2, 3, 4]));
const matched = readCounters(maps.get(shared.counters))[traceCounters.fields.matched.offset / 8];
if (matched !== 0n) {
  console.error(
    `${matched} packets matched that no filter should let pass: what was measured is not the miss`,
  );
  process.exit(1);
}
