/**
 * Runs translated filters in the kernel on packets of our choice.
 *
 * The packets lie in the values of array maps, whose kernel addresses a program tells us. A filter becomes the
 * callback of bpf_loop (Linux 5.17) in a raw_tracepoint program: one BPF_PROG_TEST_RUN takes it over all
 * packets, and reads memory exactly as a tracing program does.
 */
import { ancillary, type CbpfInsn } from "../../asm/cbpf.ts";
import type { AncillaryData } from "../../asm/cbpf_run.ts";
import { cbpfToEbpf } from "../../asm/cbpf_to_ebpf.ts";
import { usualCbpfToEbpf } from "../../asm/cbpf_usual.ts";
import { type Code, type KernelTypes, label, type MapSpec } from "../../asm/code.ts";
import { withoutDeadCode } from "../../asm/dead_code.ts";
import { withinReach } from "../../asm/far_jumps.ts";
import {
  add,
  at,
  call,
  fp,
  ja,
  jge,
  jslt32,
  ldFunction,
  ldMapValue,
  ldx,
  mov,
  mul,
  r1,
  r2,
  r3,
  r4,
  r6,
  r7,
  r8,
  r9,
  type Register,
  ret,
  stx,
} from "../../asm/insn.ts";
import { type Field, struct, u32, u64, u8 } from "../../asm/layout.ts";
import { BPF_F_MMAPABLE, BPF_MAP_TYPE_ARRAY, BPF_PROG_TYPE_RAW_TRACEPOINT } from "../../asm/uapi.ts";
import { bulkAccess, directAccess, type MemoryAccess } from "../../bpf-programs/memory_access.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { bpfProgTestRun } from "../../lib/sys/bpf.ts";
import { pageSize } from "../../lib/sys/ffi.ts";
import { addressOf } from "./kernel_region.ts";
import { loadProgram, type Program } from "../../lib/sys/program.ts";

/** What a filter says of a packet. */
export const NO_MATCH = 0, MATCH = 1, UNREADABLE = 2;

/** Of a packet, for the filter in front: an Ethernet header, IPv4's and that of UDP. */
const USUAL_BYTES = 42;

/** Stack for the copy that bulk access makes. */
export const COPY_BYTES = 104;

/** Behind each packet there is as much room as skb_shared_info takes behind a packet's buffer. */
const ROOM = 512;
/** Fills that room: what a filter must not see. */
const JUNK = 0xa5;
/** Stands where no verdict has been written. */
const NO_VERDICT = 0xff;
/** What the kernel knows of a packet. */
const row = struct("row", {
  address: u64,
  length: u64,
  wireLength: u64,
  packetType: u32,
  ifindex: u32,
  vlanTag: u32,
  vlanTagPresent: u32,
});

export interface LabPacket {
  readonly bytes: Uint8Array;
  readonly wireLength: number;
  /** what Linux words say; without it on any packet, there are no such words */
  readonly ancillary?: AncillaryData;
}

export interface LabOptions {
  /**
   * Each packet ends where its memory ends: the next byte cannot be read. Takes a map per packet, since an
   * array that can be mapped fills whole pages and vmalloc leaves a page unmapped behind it.
   */
  readonly atMemoryEnd?: boolean;
}

/** Packets in kernel memory. */
export class PacketMemory implements Disposable {
  readonly count: number;
  readonly #maps = new Maps();
  readonly #rows: MapSpec;
  readonly #verdicts: MapSpec;
  readonly #hasWords: boolean;

  constructor(packets: readonly LabPacket[], { atMemoryEnd = false }: LabOptions = {}) {
    this.count = packets.length;
    this.#hasWords = packets.some(({ ancillary }) => ancillary !== undefined);
    this.#rows = array("rows", Math.max(1, packets.length) * row.size);
    this.#verdicts = array("verdicts", Math.max(1, packets.length));
    const places = atMemoryEnd
      ? packets.map(({ bytes }) => this.#beforeTheEnd(bytes))
      : this.#sideBySide(packets);
    const rows = new DataView(new ArrayBuffer(this.#rows.valueSize));
    for (const [index, { bytes, wireLength, ancillary = {} }] of packets.entries()) {
      row.encode(rows, index * row.size, {
        address: places[index] as bigint,
        length: BigInt(bytes.length),
        wireLength: BigInt(wireLength),
        packetType: ancillary.packetType ?? 0,
        ifindex: ancillary.ifindex ?? 0,
        vlanTag: ancillary.vlanTag ?? 0,
        vlanTagPresent: ancillary.vlanTag === undefined ? 0 : 1,
      });
    }
    this.#maps.get(this.#rows).update(0, new Uint8Array(rows.buffer));
  }

  /** Loads `insns`, to be run over these packets. @throws {VerifierError} the kernel refuses the translation */
  load(insns: readonly CbpfInsn[], access: MemoryAccess): Program {
    const each = label("each"), next = label("next"), verdict = label("verdict");
    const code: Code = [
      mov(r1, this.count),
      ldFunction(r2, each),
      mov(r3, 0),
      mov(r4, 0),
      call("bpf_loop"),
      ret(0),

      each, // r1 = index of the packet
      stx(at(fp, -16, u64), r1),
      jge(r1, this.count, next),
      ldMapValue(r2, this.#rows),
      mul(r1, row.size),
      add(r2, r1),
      stx(at(fp, ROW, u64), r2),
      ldx(r9, at(r2, row.fields.address)),
      ldx(r6, at(r2, row.fields.length)),
      filterFragment(insns, access, this.#hasWords, (value) => [mov(r1, value), ja(verdict)]),
      verdict, // r1 = what it says
      ldx(r2, at(fp, -16, u64)),
      jge(r2, this.count, next),
      ldMapValue(r3, this.#verdicts),
      add(r3, r2),
      stx(at(r3, 0, u8), r1),
      next,
      ret(0),
    ];
    return loadProgram({
      name: "filter",
      type: BPF_PROG_TYPE_RAW_TRACEPOINT,
      license: "GPL",
      code: withinReach(withoutDeadCode(code)),
      functions: [{ name: "main", parameters: 1 }, { name: "each", parameters: 2, entry: each }],
    }, { maps: this.#maps });
  }

  /** The verdicts of a program that was loaded here, one byte per packet; valid until the next call. */
  verdicts(program: Program): Uint8Array {
    const map = this.#maps.get(this.#verdicts);
    map.update(0, new Uint8Array(Math.max(1, this.count)).fill(NO_VERDICT));
    bpfProgTestRun(program.fd);
    const { buffer, byteOffset } = map.lookup(0) as DataView;
    return new Uint8Array(buffer, byteOffset, this.count);
  }

  /** Loads `insns`, runs them over all packets, and lets go of them. */
  sweep(insns: readonly CbpfInsn[], access: MemoryAccess): Uint8Array {
    using program = this.load(insns, access);
    return this.verdicts(program);
  }

  [Symbol.dispose](): void {
    this.#maps[Symbol.dispose]();
  }

  #sideBySide(packets: readonly LabPacket[]): bigint[] {
    const offsets: number[] = [];
    let size = 8;
    for (const { bytes } of packets) {
      offsets.push(size);
      size += bytes.length + ROOM;
    }
    const spec = array("packets", size),
      value = new Uint8Array(size).fill(JUNK),
      base = addressOf(spec, this.#maps);
    for (const [index, { bytes }] of packets.entries()) value.set(bytes, offsets[index] as number);
    this.#maps.get(spec).update(0, value);
    return offsets.map((offset) => base + BigInt(offset));
  }

  #beforeTheEnd(bytes: Uint8Array): bigint {
    const size = Math.max(1, Math.ceil(bytes.length / pageSize)) * pageSize, offset = size - bytes.length;
    const spec = array("packet", size, BPF_F_MMAPABLE), base = addressOf(spec, this.#maps);
    const value = new Uint8Array(size).fill(JUNK);
    value.set(bytes, offset);
    this.#maps.get(spec).update(0, value);
    return base + BigInt(offset);
  }
}

function array(name: string, valueSize: number, flags = 0): MapSpec {
  return { name, type: BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize, maxEntries: 1, flags };
}

/** Stack slot of the address of a packet's row. */
const ROW = -8;

/** Linux words by their offset from SKF_AD_OFF. */
const words: ReadonlyMap<number, Field> = new Map([
  [ancillary.packetType.offset, row.fields.packetType],
  [ancillary.ifindex.offset, row.fields.ifindex],
  [ancillary.vlanTag.offset, row.fields.vlanTag],
  [ancillary.vlanTagPresent.offset, row.fields.vlanTagPresent],
]);

/**
 * A filter as in the real programs, with direct loads behind the one for usual packets: r9 the packet, r6 its length, the address of its row
 * in ROW.
 */
function filterFragment(
  insns: readonly CbpfInsn[],
  access: MemoryAccess,
  hasWords: boolean,
  say: (verdict: number) => Code,
): Code {
  const match = label("match"), noMatch = label("no_match"), unreadable = label("unreadable");
  const fromRow = (
    dst: Register,
    field: Field,
  ): Code => [ldx(dst, at(fp, ROW, u64)), ldx(dst, at(dst, field))];
  const perhaps = label("perhaps"), { direct } = access;
  const usual = direct === undefined ? undefined : usualCbpfToEbpf(insns, {
    bytes: USUAL_BYTES,
    holds: direct.reaches,
    load: direct.load,
    a: r1,
    x: r2,
    noMatch,
    perhaps,
  });
  return [
    direct === undefined || usual === undefined
      ? []
      : [jslt32(r6, usual.bytes, perhaps), mov(r1, r9), direct.open, usual.code],
    perhaps,
    cbpfToEbpf(insns, {
      access: access.packet({ base: r9, spill: -32, stack: -424, stackBytes: COPY_BYTES, unreadable }),
      a: r7,
      x: r8,
      length: r6,
      wireLength: (dst) => fromRow(dst, row.fields.wireLength),
      ancillary(dst, offset) {
        const field = hasWords ? words.get(offset) : undefined;
        return field === undefined ? undefined : fromRow(dst, field);
      },
      scratch: -112,
      match,
      noMatch,
    }),
    noMatch,
    say(NO_MATCH),
    match,
    say(MATCH),
    unreadable,
    say(UNREADABLE),
  ];
}

/** Every way of reading memory that `kernel` has, with and without a filter for usual packets in front. */
export function memoryAccesses(kernel: KernelTypes): readonly (readonly [name: string, MemoryAccess])[] {
  const hasVoid = kernel.enumerator("bpf_features", "BPF_FEAT_RDONLY_CAST_TO_VOID") !== undefined;
  // A kernel with both forms prefers the cast to void; hidden, it takes the other.
  const withoutVoid: KernelTypes = {
    ...delegate(kernel),
    enumerator: (enumName, name) =>
      name === "BPF_FEAT_RDONLY_CAST_TO_VOID" ? undefined : kernel.enumerator(enumName, name),
  };
  const structCast = directAccess(withoutVoid), voidCast = hasVoid ? directAccess(kernel) : undefined;
  const both = (name: string, access: MemoryAccess | undefined) => {
    if (access === undefined) return [];
    const { direct: _direct, ...alone } = access;
    return [[name, alone], [`${name}, behind the usual`, access]] as const;
  };
  return [
    ...both("cast to void", voidCast),
    ...both("cast to a struct", structCast),
    ["bulk", bulkAccess()],
  ];
}

/** The methods of `kernel` as a plain object, to be spread. */
function delegate(kernel: KernelTypes): KernelTypes {
  return {
    field: (struct, path) => kernel.field(struct, path),
    bitField: (struct, path) => kernel.bitField(struct, path),
    has: (struct, path) => kernel.has(struct, path),
    structId: (name) => kernel.structId(name),
    functionId: (name) => kernel.functionId(name),
    enumerator: (enumName, name) => kernel.enumerator(enumName, name),
    byteArrayStruct: (minBytes) => kernel.byteArrayStruct(minBytes),
  };
}
