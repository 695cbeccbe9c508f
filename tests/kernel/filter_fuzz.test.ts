/**
 * Random filters on random packets, by everyone who can answer: our interpreter, eBPF in this kernel by every way
 * to read memory, the kernel's own classic BPF, and the program of the tcpdump that is installed. Then random
 * classic programs, of which a compiler writes only some.
 *
 * A group is a seed, GROUP_PACKETS packets and GROUP_PROGRAMS filters. FILTER_FUZZ_SECONDS (default 10)
 * bounds each test, FILTER_FUZZ_SEED is the first group: a failure prints its own, and FILTER_FUZZ_SECONDS=0 runs
 * that one alone. By hand, for long: FILTER_FUZZ_SECONDS=600 FILTER_FUZZ_SEED=1000000.
 */
import { afterAll, expect, test } from "bun:test";
import type { CbpfInsn } from "../../asm/cbpf.ts";
import { executeCbpf, type Outcome } from "../../asm/cbpf_run.ts";
import { formatCbpf } from "../../asm/cbpf_text.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { FilterSyntaxError } from "../../lib/errors.ts";
import type { LinkType } from "../../lib/pcap_filter/codegen/state.ts";
import { compileFilter, type CompileOptions } from "../../lib/pcap_filter/compile.ts";
import { noNames } from "../../lib/pcap_filter/names.ts";
import { Random, randomExpression, randomPacket } from "../pcap_filter/generate.ts";
import { ClassicSocket, kernelAgrees } from "./classic_socket.ts";
import { type LabPacket, MATCH, memoryAccesses, NO_MATCH, PacketMemory } from "./filter_lab.ts";
import { randomCbpf } from "./random_cbpf.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { differsIn1_10, Tcpdump } from "./tcpdump.ts";

const GROUP_PACKETS = 128, GROUP_PROGRAMS = 24;
const seconds = Number(process.env["FILTER_FUZZ_SECONDS"] ?? 10);
const firstSeed = Number(process.env["FILTER_FUZZ_SEED"] ?? 1);

const runs = isRoot && isAtLeast(5, 17);
const accesses = runs ? memoryAccesses(new BtfTypes(loadKernelBtf())) : [];
const tcpdump = runs ? Tcpdump.find() : undefined;
if (runs && tcpdump === undefined) console.warn("\n*** NO TCPDUMP: its programs are not compared ***\n");
afterAll(() => tcpdump?.[Symbol.dispose]());

/** What was compared, one verdict on one packet each. */
const noCounts = () => ({
  groups: 0,
  expressions: 0,
  refused: 0,
  cases: 0,
  matches: 0,
  ebpf: 0,
  kernel: 0,
  tcpdump: 0,
  /** its two programs contradict each other, and ours agrees with the unoptimised one */
  tcpdumpWithItself: 0,
});
let counts = noCounts();

/** Undefined for what means nothing; an expression that matches no packet is a program too. */
function compile(
  source: string,
  options: Pick<CompileOptions, "linkType" | "optimize" | "ancillary">,
): readonly CbpfInsn[] | undefined {
  try {
    return compileFilter(source, { ...options, names: noNames }).insns;
  } catch (error) {
    if (error instanceof FilterSyntaxError) return undefined;
    throw new Error(`Cannot compile "${source}"`, { cause: error });
  }
}

/** The packets of a group: random ones, and each of them cut or with a few bits changed. */
function packetsOf(random: Random, linkType: LinkType): LabPacket[] {
  const beside = () => ({
    packetType: random.below(5),
    ifindex: random.below(4),
    ...(random.chance(30) ? { vlanTag: random.pick([1, 5, 100, 0xe005]) } : {}),
  });
  const whole = Array.from(
    { length: GROUP_PACKETS / 2 },
    () => ({ ...randomPacket(random, linkType), ancillary: beside() }),
  );
  return [...whole, ...whole.map((packet) => mutated(random, packet))];
}

function mutated(random: Random, { bytes, wireLength, ...beside }: LabPacket): LabPacket {
  const copy = bytes.slice(0, random.chance(40) ? random.below(bytes.length + 1) : bytes.length);
  for (let count = random.below(4); count > 0 && copy.length > 0; count--) {
    const at = random.below(copy.length);
    copy[at] = copy[at]! ^ (1 << random.below(8));
  }
  return {
    ...beside,
    bytes: copy,
    wireLength: random.chance(80) ? wireLength : wireLength + random.below(2000),
  };
}

interface Disagreement {
  readonly who: string;
  readonly insns: readonly CbpfInsn[];
  readonly packet: LabPacket;
  readonly got: unknown;
  readonly wanted: unknown;
}

/** What this kernel says of one program, translated and as it is, where that is not `wanted`. */
function* byTheKernel(
  insns: readonly CbpfInsn[],
  packets: readonly LabPacket[],
  wanted: Uint8Array,
  memory: PacketMemory,
  socket: ClassicSocket,
): Generator<Disagreement> {
  for (const [name, access] of accesses) {
    counts.ebpf += packets.length;
    const got = memory.sweep(insns, access);
    for (const [index, packet] of packets.entries()) {
      if (got[index] === wanted[index]) continue;
      yield { who: `eBPF, ${name}`, insns, packet, got: got[index], wanted: wanted[index] };
    }
  }
  if (!kernelAgrees(insns)) return;
  counts.kernel += packets.length;
  socket.attach(insns);
  for (const packet of packets) {
    // to a socket the captured bytes are all there is
    const { result } = executeCbpf(insns, packet.bytes, { indexWraps: true });
    const got = socket.passes(packet.bytes);
    if (got !== result > 0) {
      yield { who: "the kernel's classic BPF", insns, packet, got, wanted: result > 0 };
    }
  }
}

interface Subject {
  readonly expression: string;
  readonly linkType: LinkType;
  /** compiled with loads of Linux words, which tcpdump does only on a live interface */
  readonly ancillary: boolean;
}

/** A random expression; one in five asks Linux about the packet. */
function randomSubject(random: Random, linkType: LinkType): Subject {
  const expression = randomExpression(random, 1 + random.below(5)), ancillary = random.chance(20);
  if (!ancillary) return { expression, linkType, ancillary };
  const asking = random.pick(["inbound", "outbound", `ifindex ${random.below(4)}`, "vlan", "vlan 5"]);
  const sides = [asking, `(${expression})`], operator = random.pick([" and ", " or ", " and not "]);
  return { expression: (random.chance(50) ? sides : sides.reverse()).join(operator), linkType, ancillary };
}

/** Everyone's answers to one expression. */
function* disagreements(
  { expression, linkType, ancillary }: Subject,
  packets: readonly LabPacket[],
  memory: PacketMemory,
  socket: ClassicSocket,
): Generator<Disagreement> {
  const plain = compile(expression, { linkType, ancillary, optimize: false });
  const optimised = compile(expression, { linkType, ancillary, optimize: true });
  if (plain === undefined) {
    counts.refused++;
    return;
  }
  counts.expressions++;
  counts.cases += packets.length;
  for (const insns of optimised === undefined ? [plain] : [plain, optimised]) {
    const outcomes = packets.map((packet) => run(insns, packet));
    const wanted = verdicts(outcomes);
    if (insns === plain) counts.matches += matchesIn(wanted);
    yield* byTheKernel(insns, packets, wanted, memory, socket);
    if (ancillary || differsIn1_10(expression)) continue;
    const theirs = tcpdump?.compile(expression, linkType, insns === optimised);
    if (theirs === undefined || typeof theirs === "string") continue;
    for (const [index, packet] of packets.entries()) {
      const answer = run(theirs, packet);
      // the order of the tests differs, and with it which load of a short packet fails first
      if (answer.end !== "return" || outcomes[index]?.end !== "return") continue;
      counts.tcpdump++;
      const got = verdictOf(answer.result);
      if (got === wanted[index]) continue;
      if (optimiserErrs(expression, linkType, packet, answer.result)) counts.tcpdumpWithItself++;
      else yield { who: "tcpdump", insns: theirs, packet, got, wanted: wanted[index] };
    }
  }
}

const verdictOf = (result: number) => result === 0 ? NO_MATCH : MATCH;
const verdicts = (outcomes: readonly Outcome[]) =>
  Uint8Array.from(outcomes, ({ result }) => verdictOf(result));
const matchesIn = (verdicts: Uint8Array) => verdicts.reduce((sum, verdict) => sum + verdict, 0);

function run(insns: readonly CbpfInsn[], { bytes, ...options }: LabPacket): Outcome {
  return executeCbpf(insns, bytes, options);
}

/** Whether tcpdump's unoptimised program contradicts the optimised one, which gave `result`. */
function optimiserErrs(expression: string, linkType: LinkType, packet: LabPacket, result: number): boolean {
  const plain = tcpdump?.compile(expression, linkType, false);
  if (plain === undefined || typeof plain === "string") return false;
  const answer = run(plain, packet);
  return answer.end === "return" && answer.result !== result;
}

function describeFailure(seed: number, { insns, packet, ...what }: Disagreement, about: object = {}) {
  return {
    ...what,
    run: `FILTER_FUZZ_SECONDS=0 FILTER_FUZZ_SEED=${seed}`,
    ...about,
    packet: { ...packet, bytes: packet.bytes.toHex() },
    program: formatCbpf(insns),
  };
}

/** Groups until the time is over or five things are wrong; `group` yields what is wrong with one. */
function fuzz(what: string, group: (seed: number, socket: ClassicSocket) => Generator<unknown>): void {
  const end = performance.now() + seconds * 1000, failures: unknown[] = [];
  using socket = new ClassicSocket();
  counts = noCounts();
  for (let seed = firstSeed; counts.groups === 0 || performance.now() < end; seed++) {
    counts.groups++;
    failures.push(...group(seed, socket));
    if (failures.length >= 5) break;
  }
  console.log(`${what}, groups ${firstSeed} and on: ${JSON.stringify(counts)}`);
  expect(failures).toEqual([]);
  expect(counts.matches).toBeGreaterThan(0);
}

const limitMs = seconds * 1000 + 60_000;

test.skipIf(!runs)("everyone agrees on random filters (needs root, Linux 5.17)", () => {
  fuzz("random filters", function* (seed, socket) {
    const random = new Random(seed), linkType = random.chance(70) ? "EN10MB" : "RAW";
    const packets = packetsOf(random, linkType);
    using memory = new PacketMemory(packets);
    for (let count = 0; count < GROUP_PROGRAMS; count++) {
      const subject = randomSubject(random, linkType);
      // one packet tells enough
      for (const found of disagreements(subject, packets, memory, socket).take(1)) {
        yield describeFailure(seed, found, subject);
      }
    }
  });
}, limitMs);

test.skipIf(!runs)("the kernel agrees on random classic programs (needs root, Linux 5.17)", () => {
  fuzz("random programs", function* (seed, socket) {
    const random = new Random(seed), packets = packetsOf(random, "RAW");
    using memory = new PacketMemory(packets);
    for (let count = 0; count < GROUP_PROGRAMS; count++) {
      const insns = randomCbpf(random), wanted = verdicts(packets.map((packet) => run(insns, packet)));
      counts.cases += packets.length;
      counts.matches += matchesIn(wanted);
      for (const found of byTheKernel(insns, packets, wanted, memory, socket).take(1)) {
        yield describeFailure(seed, found);
      }
    }
  });
}, limitMs);
