/**
 * Lines per second of the printers on one core: from a full ring buffer of 16 MiB, which a file stands for, read and
 * decoded as a trace does it, to /dev/null, and to files that rotate; events per second that a summary takes in.
 *
 * Run: taskset -c 1 bun bench/format.ts [PATTERN]; PATTERN selects by name.
 *
 * Time is that of the processor, of all threads of the process and of the kernel for it: what else the machine does
 * takes caches and clock from us, but no time. The best of many rounds is told.
 */
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HEADER_BYTES, packetEvent, type RecordLayout, recordLayout } from "../bpf-programs/events.ts";
import { RingBuffer } from "../lib/maps/ring_buffer.ts";
import { RotatingFile } from "../lib/output/file.ts";
import { type FormatOptions, makePrinter } from "../lib/output/open.ts";
import type { InterfaceNames, Names } from "../lib/output/printer.ts";
import { Outcomes } from "../lib/verdict/outcomes.ts";
import { BatchWriter, type ByteTarget, descriptor } from "../lib/output/writer.ts";
import { pageSize } from "../lib/sys/ffi.ts";
import { Mapping, PROT_READ, PROT_WRITE } from "../lib/sys/mmap.ts";

const wanted = new RegExp(process.argv[2] ?? "");
const RING_BYTES = 16 * 2 ** 20, ROUNDS = 40;
/** What a trace takes out of its ring before it looks at signals, and flushes. */
const BATCH_RECORDS = 8192;
const STACK_DEPTH = 20;

/** A file as a ring buffer map shows itself, and a producer that makes the same records come again. */
class PreparedRing implements Disposable {
  /** in the ring */
  readonly records: number;
  readonly ring: RingBuffer;
  readonly view: DataView;
  readonly #produced: Mapping;
  readonly #position: BigUint64Array;

  constructor(
    directory: string,
    layout: RecordLayout,
    fill: (view: DataView, at: number, i: number) => void,
  ) {
    const stride = layout.size + 8, data = new DataView(new ArrayBuffer(RING_BYTES));
    this.records = Math.floor(RING_BYTES / stride) - 1;
    for (let i = 0; i < this.records; i++) {
      data.setUint32(i * stride, layout.size, true);
      fill(data, i * stride + 8, i);
    }
    // What is left is one record that was discarded.
    const end = this.records * stride;
    data.setUint32(end, (RING_BYTES - end - 8 | 0x4000_0000) >>> 0, true);

    const path = join(directory, "ring"), fd = openSync(path, "w+");
    rmSync(path);
    const positions = new Uint8Array(2 * pageSize);
    for (const bytes of [positions, new Uint8Array(data.buffer), new Uint8Array(data.buffer)]) {
      if (writeSync(fd, bytes) !== bytes.length) throw new Error("Cannot write the ring");
    }
    this.ring = RingBuffer.open({ fd, spec: { maxEntries: RING_BYTES } });
    this.view = new DataView(this.ring.bytes.buffer);
    this.#produced = new Mapping(fd, pageSize, PROT_READ | PROT_WRITE, pageSize);
    this.#position = new BigUint64Array(this.#produced.buffer, 0, 1);
  }

  /** The producer goes once around. */
  refill(): void {
    this.#position[0]! += BigInt(RING_BYTES);
  }

  [Symbol.dispose](): void {
    this.ring[Symbol.dispose]();
    this.#produced[Symbol.dispose]();
  }
}

/** Records as a busy host gives them: 512 packets, 40 functions, 24 processes, 8 interfaces. */
function records(ipv6: boolean, layout: RecordLayout = recordLayout()): PreparedRing {
  const comm = new Uint8Array(16), { caller, stack, stackBytes } = layout.fields;
  return new PreparedRing(directory, layout, (view, at, i) => {
    const flow = (i >> 6) % 512;
    const headers = new Uint8Array(HEADER_BYTES), header = new DataView(headers.buffer);
    if (ipv6) {
      headers.set([0x60, 0, 0, 0, 0, 20, 6, 64, 0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
      headers.set([0x20, 1, 0xd, 0xb8, 0, 1, 0, 3, 0, 0, 0, 0, 0, 0, flow >> 8, flow & 255], 24);
      header.setUint16(40, 32_768 + flow);
      header.setUint16(42, 443);
    } else {
      headers.set([0x45, 0, 0, 60, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 244, flow >> 8, flow & 255, 10, 0, 2, 15]);
      header.setUint16(20, 32_768 + flow);
      header.setUint16(22, 8080);
    }
    new TextEncoder().encodeInto(`worker-${flow % 24}\0`, comm);
    packetEvent.encode(view, at, {
      timestamp: 45_557_282_884_169n + BigInt(i) * 1830n,
      skb: 0xffff_8880_052a_4e00n + BigInt(flow * 256),
      address: 0xffff_ffff_8100_0000n + BigInt((i % 40) * 4096),
      netns: 4026531840 + flow % 4,
      ifindex: 1 + flow % 8,
      mtu: 1500,
      len: 60 + flow,
      pid: 1000 + flow % 24,
      cpu: flow % 16,
      protocol: ipv6 ? 0xdd86 : 0x0008,
      headerBytes: HEADER_BYTES,
      comm,
      headers,
    });
    caller?.type.encode(view, at + caller.offset, 0xffff_ffff_8200_0000n + BigInt(i % 80));
    stackBytes?.type.encode(view, at + stackBytes.offset, STACK_DEPTH * 8);
    for (let frame = 0; stack !== undefined && frame < STACK_DEPTH; frame++) {
      const address = 0xffff_ffff_8300_0000n + BigInt((i % 7) * 1000 + frame);
      view.setBigUint64(at + stack.offset + frame * 8, address, true);
    }
  });
}

const directory = mkdtempSync(join(tmpdir(), "pwru-bench-"));
const devNull = descriptor(openSync("/dev/null", "w"));

/** Functions of a packet's way through a node, to its end. */
const way =
  "__ip_local_out ip_output __dev_queue_xmit dev_hard_start_xmit netif_rx_internal ip_rcv ip_forward " +
  "ip_output __dev_queue_xmit dev_hard_start_xmit netif_rx_internal ip_rcv ip_local_deliver tcp_v4_rcv " +
  "tcp_rcv_established skb_copy_datagram_iter __kfree_skb skb_release_data kfree_skbmem";
const functions = way.split(" ");
const names: Names = {
  probe: (address) => functions[Number(address >> 12n & 0xfffn) % functions.length],
  symbol: (address) => ({ name: `symbol_${address & 0xfffffn}`, offset: 16 }),
  dropReasons: new Map(),
  reasonArgument: () => undefined,
};
const interfaces: InterfaceNames = { nameOf: (_, ifindex) => `eth${ifindex}`, generation: 0 };

function measure(
  name: string,
  prepared: PreparedRing,
  changes: Partial<FormatOptions> = {},
  target: ByteTarget = devNull,
  rounds = ROUNDS,
): void {
  const writer = new BatchWriter(target);
  const options: FormatOptions = {
    outputMeta: true,
    outputTuple: true,
    outputTcpFlags: false,
    outputNetnsNames: false,
    netnsNamesMaxLength: 16,
    outputJson: false,
    silent: false,
    timestamp: "none",
    tracepoints: false,
    bootOffsetNs: 1_700_000_000_000_000_000n,
    ...changes,
  };
  const printer = makePrinter(writer, options, {
    names,
    interfaces,
    netnsNames: { nameOf: (netns) => netns % 4 === 0 ? undefined : `netns-${netns}`, generation: 0 },
  });
  const { view } = prepared;
  report(name, prepared, (offset) => printer.print(view, offset), () => void writer.flush(), rounds);
}

function report(
  name: string,
  prepared: PreparedRing,
  see: (offset: number) => void,
  flush: () => void,
  rounds = ROUNDS,
): void {
  if (!wanted.test(name)) return;
  const { ring, records } = prepared;
  let best = Infinity;
  for (let round = 0; round < rounds; round++) {
    let seen = 0;
    prepared.refill();
    const start = process.cpuUsage();
    for (let count; (count = ring.drain(see, BATCH_RECORDS)) > 0; flush()) seen += count;
    const { user, system } = process.cpuUsage(start);
    best = Math.min(best, user + system);
    if (seen !== records) throw new Error(`${name}: ${seen} of ${records} records came`);
  }
  const perSecond = records / best * 1e6;
  console.log(
    `${name.padEnd(28)} ${(perSecond / 1e6).toFixed(2)} M lines/s  ${(1e9 / perSecond).toFixed(0)} ns/line`,
  );
}

const record = recordLayout({ caller: true, stack: true });
const ipv4 = records(false), ipv6 = records(true), stacks = records(false, record);
Bun.gc(true);
writeFileSync("/proc/self/clear_refs", "5"); // the peak of memory is from now on
report("records alone", ipv4, () => {}, () => {});
measure("IPv4", ipv4);
measure("IPv6", ipv6);
measure("IPv4, relative time", ipv4, { timestamp: "relative" });
measure("IPv4, absolute time", ipv4, { timestamp: "absolute" });
measure("IPv4, no meta, no tuple", ipv4, { outputMeta: false, outputTuple: false });
measure("IPv4, flags, netns names", ipv4, { outputTcpFlags: true, outputNetnsNames: true });
measure("JSON, IPv4", ipv4, { outputJson: true });
measure("JSON, IPv6", ipv6, { outputJson: true });
measure("JSON, IPv4, absolute time", ipv4, { outputJson: true, timestamp: "absolute" });
measure("JSON, all fields", ipv4, {
  outputJson: true,
  timestamp: "relative",
  outputTcpFlags: true,
  outputNetnsNames: true,
});

measure("IPv4, caller, stack of 20", stacks, { record }, devNull, 20);
measure("JSON, caller, stack of 20", stacks, { record, outputJson: true }, devNull, 20);

for (const [name, prepared] of [["summary, IPv4", ipv4], ["summary, IPv6", ipv6]] as const) {
  const outcomes = new Outcomes(names, interfaces), { view } = prepared;
  report(name, prepared, (offset) => outcomes.see(view, offset), () => {});
}

const limits = { maxBytes: 32 * 2 ** 20, maxBackups: 1, maxAgeDays: 0, compress: false };
const file = new RotatingFile(join(directory, "text"), limits);
measure("IPv4, to files of 32 MiB", ipv4, {}, file, 20);
await file.close();
const jsonFile = new RotatingFile(join(directory, "json"), limits);
measure("JSON, IPv4, to such files", ipv4, { outputJson: true }, jsonFile, 20);
await jsonFile.close();
rmSync(directory, { recursive: true });

const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1];
console.log(`peak resident memory ${(Number(peak) / 1024).toFixed(0)} MiB while measuring`);
