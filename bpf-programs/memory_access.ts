// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * How a program reads kernel memory, behind one interface, so that every program is written once.
 *
 * - `direct`: loads through bpf_rdonly_cast (Linux 6.2; to `void` since 6.17). A load of an unreadable
 *   address gives 0 and goes on. The call itself is free: the verifier replaces it by `r0 = r1`.
 * - `bulk`: bpf_probe_read_kernel into the stack, one call for all fields of a struct, since a call costs
 *   the same for 1 byte and for 200 (measured: 30 ns and 36 ns; a direct load: 1 ns).
 *
 * Both leave a value as it lies in memory: packet fields are in network byte order.
 */
import type { Code, KernelTypes, Label } from "../asm/code.ts";
import type { PacketAccess } from "../asm/cbpf_to_ebpf.ts";
import { AssemblyError } from "../asm/errors.ts";
import {
  add,
  at,
  call,
  callKfunc,
  copy,
  extract,
  fp,
  jne,
  ldx,
  lea,
  lsh,
  mov,
  mov32,
  or,
  r0,
  r1,
  r2,
  r3,
  type Register,
  stx,
} from "../asm/insn.ts";
import { type Field, type Scalar, u16, u32, u64, u8 } from "../asm/layout.ts";

/** A struct whose fields can be loaded. */
export interface View {
  /** Makes it so, for the fields that are needed first. Loses r0-r5. */
  readonly open: Code;
  /** Makes it so for the others. Loses r0-r5. */
  readonly complete: Code;
  /** dst = the view's pointer, after it was lost; nothing where there is none. Loses r0-r5. */
  again(dst: Register): Code;
  /** dst = the field. Touches no other register. `hold` says where the view's pointer is meanwhile. */
  load(dst: Register, field: Field, hold?: Register): Code;
  /** Each register = its field. Touches no other register. */
  loadAll(wanted: readonly (readonly [dst: Register, field: Field])[]): Code;
}

/** Where a view lives: `direct` keeps a pointer in `hold`, `bulk` a copy at `fp + stack`. */
export interface ViewPlace {
  /** holds the struct's address; left alone unless it is `hold` */
  readonly address: Register;
  /** r6-r9: lost to the view when access is direct */
  readonly hold: Register;
  /** negative; the copy grows up from here, at most `stackBytes` */
  readonly stack: number;
  readonly stackBytes: number;
  /** every field that will be loaded */
  readonly fields: readonly Field[];
  /** those of them that are needed before `complete`; default: all */
  readonly first?: readonly Field[];
  /** dst = the struct's address, when no register may have it any more; touches no other register */
  reload(dst: Register): Code;
  /** where to go when the memory cannot be read (bulk only: a direct load cannot tell) */
  readonly unreadable: Label;
}

/** Where the packet filter finds and keeps things. */
export interface PacketPlace {
  /** holds the address of the packet's first byte; lost to the access */
  readonly base: Register;
  /** 8 bytes at fp + this keep the plain address (direct) or one loaded word (bulk) */
  readonly spill: number;
  /** the copy of the constant part lies at fp + this, at most `stackBytes` long */
  readonly stack: number;
  readonly stackBytes: number;
  readonly unreadable: Label;
}

/** One way of reading kernel memory. */
export interface MemoryAccess {
  readonly name: "direct" | "bulk";
  /** Whether one view with so much stack can hold all of these fields. */
  fits(fields: readonly Field[], stackBytes: number): boolean;
  view(place: ViewPlace): View;
  /** dst = one field of the struct whose address is in `base`. Loses r0-r5; `temp` is 8 bytes of stack. */
  read(dst: Register, base: Register, field: Field, temp: number): Code;
  packet(place: PacketPlace): PacketAccess;
  readonly direct?: DirectLoads;
}

/** Loads that need no more than a register. */
export interface DirectLoads {
  /** r0 = the memory at the address in r1. Loses r1-r5. */
  readonly open: Code;
  /** Whether `load` reaches so far. */
  reaches(offset: number, size: number): boolean;
  /** dst = `size` bytes of the memory that r0 was opened for. Touches no other register. */
  load(dst: Register, offset: number, size: number): Code;
}

const scalars: Readonly<Record<number, Scalar>> = { 1: u8, 2: u16, 4: u32, 8: u64 };

/** The unsigned scalar of `size` bytes. */
export function scalarOf(size: number): Scalar {
  const scalar = scalars[size];
  if (scalar === undefined) throw new AssemblyError(`No register holds ${size} bytes`);
  return scalar;
}

/** Loads through bpf_rdonly_cast, or undefined where the kernel has none. */
export function directAccess(kernel: KernelTypes): MemoryAccess | undefined {
  const cast = kernel.functionId("bpf_rdonly_cast");
  if (cast === undefined) return undefined;
  const toVoid = kernel.enumerator("bpf_features", "BPF_FEAT_RDONLY_CAST_TO_VOID") !== undefined;
  const array = toVoid ? { id: 0, offset: 0, bytes: 0x7fff } : kernel.byteArrayStruct(256);
  if (array === undefined) return undefined;
  const { id, offset: bias, bytes } = array;

  /** r0 = a readable pointer to the address in r1; loads from it are at `bias` + 0..bytes-1. Loses r1-r5. */
  const castR1: Code = [bias === 0 ? [] : add(r1, -bias), mov32(r2, id), callKfunc("bpf_rdonly_cast", cast)];

  const reaches = (offset: number, size: number) => offset >= 0 && offset + size <= bytes;

  return {
    name: "direct",
    fits: (fields) => fields.every(({ offset, type }) => reaches(offset, type.size)),
    view({ address, hold, fields, reload }) {
      for (const { struct, name, offset, type } of fields) {
        if (!reaches(offset, type.size)) {
          throw new AssemblyError(`${struct}.${name} at ${offset} is out of a view's ${bytes} bytes`);
        }
      }
      const load = (dst: Register, field: Field, from = hold) => ldx(dst, shifted(from, field, bias));
      return {
        open: fields.length === 0 ? [] : [copy(r1, address), castR1, copy(hold, r0)],
        complete: [],
        again: (dst) => [reload(r1), castR1, copy(dst, r0)],
        load,
        loadAll: (wanted) =>
          oneWord(wanted, bytes, (dst, offset) => ldx(dst, at(hold, offset + bias, u64))) ??
            wanted.map(([dst, field]) => load(dst, field)),
      };
    },
    read(dst, base, field, _temp) {
      return [
        copy(r1, base),
        field.offset === 0 ? [] : add(r1, field.offset),
        castR1,
        ldx(dst, at(r0, bias, scalarOf(field.type.size))),
      ];
    },
    packet({ base, spill }) {
      return {
        // base becomes the readable pointer; one to a struct takes no variable offset, so keep the plain address
        open: () => [toVoid ? [] : stx(at(fp, spill, u64), base), mov(r1, base), castR1, mov(base, r0)],
        holds: (offset, size) => reaches(offset, size),
        constant: (dst, offset, size) => ldx(dst, at(base, offset + bias, scalarOf(size))),
        variable(dst, offset, more, size) {
          const inReach = reaches(more, size), behind = inReach ? more : 0;
          const toBytes = [add(r1, offset), inReach ? [] : add(r1, more)];
          return toVoid ? [mov(r1, base), toBytes, ldx(dst, at(r1, behind, scalarOf(size)))] : [
            ldx(r1, at(fp, spill, u64)),
            toBytes,
            castR1,
            ldx(dst, at(r0, bias + behind, scalarOf(size))),
          ];
        },
        prefersConstant: false,
        word: (dst, offset, size) => ldx(dst, at(base, offset + bias, scalarOf(size))),
      };
    },
    direct: {
      open: castR1,
      reaches,
      load: (dst, offset, size) => ldx(dst, at(r0, offset + bias, scalarOf(size))),
    },
  };
}

/**
 * Fields that lie in one word, or undefined: they do not. A load is checked against the kernel's address space where
 * the program is compiled, which takes ten instructions; to take a word apart takes one or two per field.
 */
function oneWord(
  wanted: readonly (readonly [dst: Register, field: Field])[],
  bytes: number,
  loadWord: (dst: Register, offset: number) => Code,
): Code | undefined {
  const sorted = wanted.toSorted(([, a], [, b]) => a.offset - b.offset);
  const [first, last] = [sorted.at(0), sorted.at(-1)];
  if (first === undefined || last === undefined || sorted.length < 2) return undefined;
  const [word, { offset, type: { size } }] = last, from = offset + size - 8; // not beyond the last of them
  if (from < 0 || first[1].offset < from || offset + size > bytes) return undefined;
  return [
    loadWord(word, from),
    sorted.map(([dst, { offset, type: { size } }]) => extract(dst, word, 8 * (offset - from), 8 * size)),
  ];
}

function shifted(base: Register, field: Field, bias: number) {
  const scalar = scalarOf(field.type.size);
  if (bias === 0) return at(base, { ...field, type: scalar });
  return at(base, field.offset + bias, scalar);
}

/**
 * How far from a packet's first byte memory can be read, however short the packet: skb_shared_info lies behind
 * its buffer and is larger (320 bytes on x86-64). A copy that reached farther could meet an unmapped page and
 * call a short packet unreadable.
 */
export const READABLE_BYTES = 256;

/** bpf_probe_read_kernel, on every kernel. */
export function bulkAccess(): MemoryAccess {
  return {
    name: "bulk",
    fits(fields, stackBytes) {
      const { from, to } = extent(fields);
      return to - from <= stackBytes;
    },
    view({ address, stack, stackBytes, fields, first = fields, reload, unreadable }) {
      const { from, to } = extent(fields), begin = extent(first);
      if (to - from > stackBytes) {
        throw new AssemblyError(
          `${fields[0]?.struct}: fields from ${from} to ${to} do not fit ${stackBytes} bytes of stack`,
        );
      }
      const copied = (start: number, end: number, toR3: Code): Code =>
        start >= end ? [] : [
          toR3,
          start === 0 ? [] : add(r3, start),
          lea(r1, at(fp, stack + start - from, u64)),
          mov(r2, end - start),
          call("bpf_probe_read_kernel"),
          jne(r0, 0, unreadable),
        ];
      const load = (dst: Register, field: Field) => {
        const { offset, type: { size } } = field;
        if (offset < from || offset + size > to) refuseField(field);
        return ldx(dst, at(fp, stack + offset - from, scalarOf(size)));
      };
      return {
        open: copied(begin.from, begin.to, mov(r3, address)),
        complete: first.length === 0
          ? copied(from, to, reload(r3))
          : [copied(from, begin.from, reload(r3)), copied(begin.to, to, reload(r3))],
        again: () => [],
        load,
        loadAll: (wanted) => wanted.map(([dst, field]) => load(dst, field)),
      };
    },
    read(dst, base, field, temp) {
      const scalar = scalarOf(field.type.size);
      return [
        mov(r3, base),
        field.offset === 0 ? [] : add(r3, field.offset),
        lea(r1, at(fp, temp, u64)),
        mov(r2, scalar.size),
        call("bpf_probe_read_kernel"), // on a fault the place is zeroed
        ldx(dst, at(fp, temp, scalar)),
      ];
    },
    packet({ base, spill, stack, stackBytes, unreadable }) {
      let from = 0, to = 0, start = stack;
      return {
        open(all) {
          const loads = all.filter(({ offset, size }) => offset + size <= READABLE_BYTES);
          if (loads.length === 0) return [];
          from = Math.min(...loads.map(({ offset }) => offset));
          const end = Math.max(...loads.map(({ offset, size }) => offset + size));
          start = stack + bestShift(loads.map(({ offset, size }) => ({ offset: offset - from, size })));
          to = Math.min(end, from + stackBytes - (start - stack));
          return [
            mov(r3, base),
            from === 0 ? [] : add(r3, from),
            lea(r1, at(fp, start, u64)),
            mov(r2, to - from),
            call("bpf_probe_read_kernel"),
            jne(r0, 0, unreadable),
          ];
        },
        holds: (offset, size) => offset >= from && offset + size <= to,
        constant: (dst, offset, size) => stackLoad(dst, start + offset - from, size),
        variable: (dst, offset, more, size) => [
          mov(r3, base),
          add(r3, offset),
          more === 0 ? [] : add(r3, more),
          lea(r1, at(fp, spill, u64)),
          mov(r2, size),
          call("bpf_probe_read_kernel"),
          jne(r0, 0, unreadable),
          ldx(dst, at(fp, spill, scalarOf(size))),
        ],
        prefersConstant: true,
      };
    },
  };
}

/** What a copy for `fields` begins and ends with. */
function extent(fields: readonly Field[]): { from: number; to: number } {
  if (fields.length === 0) return { from: 0, to: 0 };
  // down to a multiple of 8: the verifier wants stack loads aligned, and the fields are
  const from = Math.min(...fields.map((field) => field.offset)) & ~7;
  const to = Math.max(...fields.map((field) => field.offset + field.type.size));
  return { from, to };
}

function refuseField({ struct, name }: Field): never {
  throw new AssemblyError(`${struct}.${name} was not announced to the view`);
}

/** How far (0-3) to shift a copy so that the fewest of its loads are misaligned. */
function bestShift(loads: readonly { offset: number; size: number }[]): number {
  const misaligned = (shift: number) =>
    loads.filter(({ offset, size }) => (offset + shift) % size !== 0).length;
  return [0, 1, 2, 3].reduce((best, shift) => misaligned(shift) < misaligned(best) ? shift : best, 0);
}

/** dst = stack bytes. The verifier refuses a misaligned stack load, so one is put together from halves; loses r1. */
function stackLoad(dst: Register, offset: number, size: number): Code {
  if (offset % size === 0) return ldx(dst, at(fp, offset, scalarOf(size)));
  if (dst === r1) throw new AssemblyError("A misaligned stack load cannot go to r1");
  const half = size / 2;
  return [
    stackLoad(dst, offset + half, half),
    lsh(dst, half * 8),
    half === 1 || offset % half === 0
      ? ldx(r1, at(fp, offset, scalarOf(half)))
      : [ldx(r1, at(fp, offset + 1, u8)), lsh(r1, 8), or(dst, r1), ldx(r1, at(fp, offset, u8))],
    or(dst, r1),
  ];
}
