/**
 * Lines per second of the printers on one core, from prepared records to /dev/null, and to files that rotate;
 * events per second that a summary takes in.
 *
 * Run: bun bench/format.ts
 */
import { mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HEADER_BYTES, packetEvent, type RecordLayout, recordLayout } from "../bpf-programs/events.ts";
import { RotatingFile } from "../lib/output/file.ts";
import { type FormatOptions, makePrinter } from "../lib/output/open.ts";
import type { InterfaceNames, Names } from "../lib/output/printer.ts";
import { Outcomes } from "../lib/verdict/outcomes.ts";
import { BatchWriter, type ByteTarget, descriptor } from "../lib/output/writer.ts";

const RECORDS = 32_768, ROUNDS = 60;
const STACK_DEPTH = 20;

/** Records as a busy host gives them: 512 packets, 40 functions, 24 processes, 8 interfaces. */
function records(ipv6: boolean, { size, fields }: RecordLayout = recordLayout()): DataView {
  const view = new DataView(new ArrayBuffer(RECORDS * size));
  const comm = new Uint8Array(16);
  for (let i = 0; i < RECORDS; i++) {
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
    packetEvent.encode(view, i * size, {
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
    const { caller, stack, stackBytes } = fields;
    caller?.type.encode(view, i * size + caller.offset, 0xffff_ffff_8200_0000n + BigInt(i % 80));
    stackBytes?.type.encode(view, i * size + stackBytes.offset, STACK_DEPTH * 8);
    for (let frame = 0; stack !== undefined && frame < STACK_DEPTH; frame++) {
      const address = 0xffff_ffff_8300_0000n + BigInt((i % 7) * 1000 + frame);
      view.setBigUint64(i * size + stack.offset + frame * 8, address, true);
    }
  }
  return view;
}

const devNull = descriptor(openSync("/dev/null", "w"));

/** Functions of a packet's way through a node, to its end. */
const path =
  "__ip_local_out ip_output __dev_queue_xmit dev_hard_start_xmit netif_rx_internal ip_rcv ip_forward " +
  "ip_output __dev_queue_xmit dev_hard_start_xmit netif_rx_internal ip_rcv ip_local_deliver tcp_v4_rcv " +
  "tcp_rcv_established skb_copy_datagram_iter __kfree_skb skb_release_data kfree_skbmem";
const functions = path.split(" ");
const names: Names = {
  probe: (address) => functions[Number(address >> 12n & 0xfffn) % functions.length],
  symbol: (address) => ({ name: `symbol_${address & 0xfffffn}`, offset: 16 }),
  dropReasons: new Map(),
  reasonArgument: () => undefined,
};
const interfaces: InterfaceNames = { nameOf: (_, ifindex) => `eth${ifindex}`, generation: 0 };

function measure(
  name: string,
  view: DataView,
  changes: Partial<FormatOptions> = {},
  target: ByteTarget = devNull,
  rounds = ROUNDS,
): void {
  const writer = new BatchWriter(target), { size } = changes.record ?? recordLayout();
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
  const print = (offset: number) => printer.print(view, offset);
  report(name, rounds, size, print, () => void writer.flush());
}

function report(
  name: string,
  rounds: number,
  size: number,
  see: (offset: number) => void,
  end: () => void,
): void {
  let best = Infinity;
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    for (let i = 0; i < RECORDS; i++) see(i * size);
    end();
    best = Math.min(best, performance.now() - start);
  }
  const perSecond = RECORDS / best * 1000;
  console.log(
    `${name.padEnd(28)} ${(perSecond / 1e6).toFixed(2)} M lines/s  ${(1e9 / perSecond).toFixed(0)} ns/line`,
  );
}

const ipv4 = records(false), ipv6 = records(true);
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

const record = recordLayout({ caller: true, stack: true }), stacks = records(false, record);
measure("IPv4, caller, stack of 20", stacks, { record }, devNull, 20);
measure("JSON, caller, stack of 20", stacks, { record, outputJson: true }, devNull, 20);

for (const [name, view] of [["summary, IPv4", ipv4], ["summary, IPv6", ipv6]] as const) {
  const outcomes = new Outcomes(names, interfaces);
  report(name, ROUNDS, packetEvent.size, (offset) => outcomes.see(view, offset), () => {});
}

const directory = mkdtempSync(join(tmpdir(), "pwru-bench-"));
const limits = { maxBytes: 32 * 2 ** 20, maxBackups: 1, maxAgeDays: 0, compress: false };
const file = new RotatingFile(join(directory, "text"), limits);
measure("IPv4, to files of 32 MiB", ipv4, {}, file, 20);
await file.close();
const jsonFile = new RotatingFile(join(directory, "json"), limits);
measure("JSON, IPv4, to such files", ipv4, { outputJson: true }, jsonFile, 20);
await jsonFile.close();
rmSync(directory, { recursive: true });
