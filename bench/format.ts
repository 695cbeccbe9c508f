/**
 * Lines per second of the printers on one core, from prepared records to /dev/null, and to files that rotate.
 *
 * Run: bun bench/format.ts
 */
import { mkdtempSync, openSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HEADER_BYTES, packetEvent } from "../bpf-programs/events.ts";
import { RotatingFile } from "../lib/output/file.ts";
import { type FormatOptions, makePrinter } from "../lib/output/open.ts";
import { BatchWriter, type ByteTarget, descriptor } from "../lib/output/writer.ts";

const RECORDS = 32_768, ROUNDS = 60;
const size = packetEvent.size;

/** Records as a busy host gives them: 512 packets, 40 functions, 24 processes, 8 interfaces. */
function records(ipv6: boolean): DataView {
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
  }
  return view;
}

const devNull = descriptor(openSync("/dev/null", "w"));

function measure(
  name: string,
  view: DataView,
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
    outputPacketId: false,
    netnsNamesMaxLength: 16,
    outputJson: false,
    timestamp: "none",
    tracepoints: false,
    bootOffsetNs: 1_700_000_000_000_000_000n,
    ...changes,
  };
  const printer = makePrinter(writer, options, {
    names: {
      probe: (address) => `function_${address & 0xffffffn}`,
      place: () => undefined,
      dropReasons: new Map(),
    },
    interfaces: { nameOf: (_, ifindex) => `eth${ifindex}`, generation: 0 },
    netnsNames: { nameOf: (netns) => netns % 4 === 0 ? undefined : `netns-${netns}`, generation: 0 },
  });
  let best = Infinity;
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    for (let i = 0; i < RECORDS; i++) printer.print(view, i * size);
    writer.flush();
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

const directory = mkdtempSync(join(tmpdir(), "pwru-bench-"));
const limits = { maxBytes: 32 * 2 ** 20, maxBackups: 1, maxAgeDays: 0, compress: false };
const file = new RotatingFile(join(directory, "text"), limits);
measure("IPv4, to files of 32 MiB", ipv4, {}, file, 20);
await file.close();
const jsonFile = new RotatingFile(join(directory, "json"), limits);
measure("JSON, IPv4, to such files", ipv4, { outputJson: true }, jsonFile, 20);
await jsonFile.close();
rmSync(directory, { recursive: true });
