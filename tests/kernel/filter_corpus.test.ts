/**
 * Translated filters in this kernel, on packets whose verdict is known: the reference compiler's programs with the
 * reference's verdicts, and packets that end early, lie where memory ends, have IPv4 options or many extension
 * headers, with the verdicts of our interpreter. Each program is loaded and run once for every way to read memory.
 *
 * The reference's unoptimised programs are shared out among the ways to read memory; with PWRU_TEST_LONG=1 each takes
 * all of them. FILTER_CORPUS_STEP=10 takes every tenth program.
 */
import { describe, expect, test } from "bun:test";
import type { CbpfInsn } from "../../asm/cbpf.ts";
import { runCbpf } from "../../asm/cbpf_run.ts";
import { MAX_LOOPS, type PacketLoad } from "../../asm/cbpf_flow.ts";
import { type MemoryAccess, READABLE_BYTES } from "../../bpf-programs/memory_access.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import type { LinkType } from "../../lib/pcap_filter/codegen/state.ts";
import { compileFilter } from "../../lib/pcap_filter/compile.ts";
import { noNames } from "../../lib/pcap_filter/names.ts";
import * as make from "../pcap_filter/packets.ts";
import { type CorpusPacket, readCorpus, soundAnswers, warnWithoutCorpus } from "./corpus.ts";
import { expressions, programsOf } from "./expressions.ts";
import {
  COPY_BYTES,
  type LabPacket,
  MATCH,
  memoryAccesses,
  NO_MATCH,
  PacketMemory,
  UNREADABLE,
} from "./filter_lab.ts";
import { isAtLeast, isRoot } from "./requires.ts";

const isLong = process.env["PWRU_TEST_LONG"] === "1";
const step = Number(process.env["FILTER_CORPUS_STEP"] ?? 1);
const linkTypes: readonly LinkType[] = ["EN10MB", "RAW"];
const limitMs = 300_000;

warnWithoutCorpus("only our own packets and expressions are run");

/** A whole packet, or its first `captured` bytes. */
function packet(bytes: make.Bytes, captured = bytes.length): LabPacket {
  return { bytes: Uint8Array.from(bytes.slice(0, captured)), wireLength: bytes.length };
}

/** Every length from 0 to the whole. */
function cutEverywhere(bytes: make.Bytes): LabPacket[] {
  return Array.from({ length: bytes.length + 1 }, (_, length) => packet(bytes, length));
}

/** The verdict of our interpreter on each packet. */
function interpreted(insns: readonly CbpfInsn[], packets: readonly LabPacket[]): Uint8Array {
  return Uint8Array.from(
    packets,
    ({ bytes, wireLength }) => runCbpf(insns, bytes, { wireLength }) === 0 ? NO_MATCH : MATCH,
  );
}

/** A program, what is to be seen of it in a failure, and its verdicts. */
interface Case {
  readonly name: string;
  readonly insns: readonly CbpfInsn[];
  readonly wanted: Uint8Array;
}

/** Runs every case over `packets`, and says how much that was. */
function compare(
  what: string,
  packets: readonly LabPacket[],
  cases: readonly Case[],
  access: MemoryAccess,
): void {
  using memory = new PacketMemory(packets);
  const wrong: unknown[] = [];
  for (const { name, insns, wanted } of cases) {
    const got = memory.sweep(insns, access);
    if (Buffer.compare(got, wanted) === 0) continue;
    const at = got.findIndex((verdict, index) => verdict !== wanted[index]);
    const { bytes, wireLength } = packets[at] as LabPacket;
    wrong.push({ name, packet: bytes.toHex(), wireLength, got: got[at], wanted: wanted[at] });
  }
  const verdicts = cases.length * packets.length;
  console.log(`${what}: ${cases.length - wrong.length}/${cases.length} programs, ${verdicts} verdicts`);
  expect(wrong.slice(0, 5)).toEqual([]);
}

/** All our own expressions on `packets`, by link type. */
function compareOwn(
  what: string,
  packets: Readonly<Record<LinkType, readonly LabPacket[]>>,
  access: MemoryAccess,
): void {
  for (const linkType of linkTypes) {
    const cases = expressions.flatMap((expression) =>
      programsOf(expression, linkType).map((insns, index) => ({
        name: `${expression} (${index === 0 ? "" : "un"}optimised)`,
        insns,
        wanted: interpreted(insns, packets[linkType]),
      }))
    );
    compare(`${what}, ${linkType}`, packets[linkType], cases, access);
  }
}

const runs = isRoot && isAtLeast(5, 17);
const accesses = runs ? memoryAccesses(new BtfTypes(loadKernelBtf())) : [];

describe.skipIf(!runs)("filters in this kernel (needs root, Linux 5.17)", () => {
  const corpus = runs ? readCorpus() : { packets: [], programs: [] };
  const packetsOf = (linkType: LinkType) => corpus.packets.filter((packet) => packet.linkType === linkType);
  const verdicts = (packets: readonly CorpusPacket[], matches: ReadonlySet<string>) =>
    Uint8Array.from(packets, ({ id }) => matches.has(id) ? MATCH : NO_MATCH);

  /** Which of the unoptimised programs this way to read memory is to run. */
  const isShared = (accessName: string, index: number) =>
    isLong || index % accesses.length === accesses.findIndex(([name]) => name === accessName);

  describe.each([...accesses])("%s", (accessName, access) => {
    describe.skipIf(corpus.programs.length === 0).each([...linkTypes])("corpus, %s", (linkType) => {
      const packets = packetsOf(linkType), mine = corpus.programs.filter((row) => row.linkType === linkType);
      test.each([true, false])("programs and verdicts of the reference, optimised: %p", (optimised) => {
        const cases = mine.filter((row) => row.optimised === optimised)
          .filter((_, i) => i % step === 0 && (optimised || isShared(accessName, i / step)))
          .map(({ id, expression, insns, matches }) => ({
            name: `${id} ${expression}`,
            insns,
            wanted: verdicts(packets, matches),
          }));
        compare(
          `${accessName}, ${linkType}, ${optimised ? "optimised" : "unoptimised"}`,
          packets,
          cases,
          access,
        );
      }, limitMs);

      test("our programs where the reference's optimiser errs", () => {
        const cases = soundAnswers().filter((row) => row.linkType === linkType)
          .map(({ id, expression, matches }) => ({
            name: `${id} ${expression}`,
            insns: compileFilter(expression, { linkType, names: noNames }).insns,
            wanted: verdicts(packets, matches),
          }));
        compare(`${accessName}, ${linkType}, sound answers`, packets, cases, access);
      }, limitMs);
    });

    test("packets that end at any length", () => {
      const cut = (packets: Readonly<Record<string, make.Bytes>>) =>
        Object.values(packets).flatMap(cutEverywhere);
      compareOwn(`${accessName}, cut`, { EN10MB: cut(make.frames), RAW: cut(make.rawPackets) }, access);
    }, limitMs);

    test("IPv4 headers of any length", () => {
      const raw = Array.from({ length: 16 }, (_, words) => words).flatMap((words) =>
        [make.tcp(1234, 80, 0x02, [1, 2, 3]), make.udp(53, 53), make.icmp(8), make.vxlan(5, make.frames.syn)]
          .map((transport) => make.ip4(transport, { words }))
      );
      const framed = raw.map((bytes) => make.ethernet([...make.ip4Type, ...bytes]));
      const tagged = raw.map((bytes) => make.ethernet(make.vlan(5, [...make.ip4Type, ...bytes])));
      compareOwn(`${accessName}, IPv4 options`, {
        EN10MB: [...framed, ...tagged].flatMap(cutEverywhere),
        RAW: raw.flatMap(cutEverywhere),
      }, access);
    }, limitMs);

    test("extension headers: MAX_LOOPS of them are followed, no more", () => {
      const chain = (type: number, count: number) => {
        let payload = make.tcp(1234, 80, 0x02);
        for (; count > 0; count--) payload = make.extension(type, payload);
        return packet(make.ip6(payload));
      };
      const counts = Array.from({ length: MAX_LOOPS + 4 }, (_, count) => count);
      const packets = [0, 43, 44, 60].flatMap((type) => counts.map((count) => chain(type, count)));
      const followed = packets.map((_, index) => index % counts.length <= MAX_LOOPS ? MATCH : NO_MATCH);
      const insns = compileFilter("ip6 protochain 6", { linkType: "RAW", names: noNames }).insns;
      expect(interpreted(insns, packets)).toEqual(new Uint8Array(packets.length).fill(MATCH));
      using memory = new PacketMemory(packets);
      expect([...memory.sweep(insns, access)]).toEqual(followed);
    }, limitMs);

    test("a filter that is longer than a jump reaches", () => {
      const ports = Array.from(
        { length: access.name === "bulk" ? 500 : 700 },
        (_, index) => 2000 + index * 7,
      );
      const insns = compileFilter(`port ${ports.join(" or ")}`, { linkType: "RAW", names: noNames }).insns;
      const packets = [0, 1, 249, 250, 499].flatMap((index) => {
        const port = ports[index] as number;
        return [make.udp(port, 9), make.udp(9, port), make.tcp(port + 1, port + 2, 0)].map((transport) =>
          packet(make.ip4(transport))
        );
      });
      using memory = new PacketMemory(packets);
      using program = memory.load(insns, access);
      expect(program.info().xlated_prog_len / 8).toBeGreaterThan(0x7fff);
      expect(memory.verdicts(program)).toEqual(interpreted(insns, packets));
    }, limitMs);

    test("packets that end where memory ends", () => {
      // a map each: a few lengths of every frame
      const packets = Object.values(make.frames).flatMap((bytes) =>
        [0, 14, 33, 34, bytes.length - 1, bytes.length].filter((length) => length <= bytes.length)
          .map((length) => packet(bytes, length))
      );
      using memory = new PacketMemory(packets, { atMemoryEnd: true });
      let unreadable = 0;
      const programs = expressions.flatMap((expression) => programsOf(expression, "EN10MB"));
      for (const insns of programs) {
        const opened: PacketLoad[] = [], wanted = interpreted(insns, packets);
        const got = memory.sweep(insns, spied(access, opened));
        // bulk access copies all constant loads at once, whatever the packet's length
        const end = access.name === "direct" ? 0 : copyEnd(opened);
        for (const [index, { bytes }] of packets.entries()) {
          if (end > bytes.length) {
            wanted[index] = UNREADABLE;
            unreadable++;
          }
        }
        expect({ insns, got: [...got] }).toEqual({ insns, got: [...wanted] });
      }
      console.log(
        `${accessName}, memory ends: ${programs.length} programs, ${
          programs.length * packets.length
        } verdicts, ` +
          `${unreadable} of them "unreadable"`,
      );
      if (access.name === "bulk") expect(unreadable).toBeGreaterThan(0);
    }, limitMs);
  });
});

/** `access`, which also writes down the loads it is opened with. */
function spied(access: MemoryAccess, opened: PacketLoad[]): MemoryAccess {
  return {
    name: access.name,
    fits: (fields, stackBytes) => access.fits(fields, stackBytes),
    view: (place) => access.view(place),
    read: (dst, base, field, temp) => access.read(dst, base, field, temp),
    ...(access.direct === undefined ? {} : { direct: access.direct }),
    packet(place) {
      const packet = access.packet(place);
      return {
        open(loads) {
          opened.push(...loads);
          return packet.open(loads);
        },
        holds: (offset, size) => packet.holds(offset, size),
        constant: (dst, offset, size) => packet.constant(dst, offset, size),
        variable: (dst, offset, more, size) => packet.variable(dst, offset, more, size),
        prefersConstant: packet.prefersConstant,
        ...(packet.word === undefined ? {} : { word: packet.word }),
      };
    },
  };
}

/** The first byte behind the copy that bulk access makes of these loads; 0 if it makes none. */
function copyEnd(loads: readonly PacketLoad[]): number {
  const near = loads.filter(({ offset, size }) => offset + size <= READABLE_BYTES);
  const from = Math.min(...near.map(({ offset }) => offset));
  return Math.min(from + COPY_BYTES, Math.max(0, ...near.map(({ offset, size }) => offset + size)));
}
