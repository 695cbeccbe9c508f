/**
 * Registers, operands and one constructor per mnemonic, destination first.
 *
 * Plain names work on 64 bits, `...32` on the low 32 (which clears the upper half). Every constructor
 * checks its ranges: nothing is truncated on the way into an instruction.
 */
import { type Code, type Insn, Label, type MapSpec } from "./code.ts";
import { AssemblyError } from "./errors.ts";
import { helperId, type HelperName } from "./helpers.ts";
import type { Field, Scalar, Width } from "./layout.ts";
import * as op from "./opcodes.ts";

/** r0 to r9. r0 is a call's result, r1-r5 its arguments (lost over a call), r6-r9 survive calls. */
export class Register {
  readonly kind = "register";
  readonly number: number;
  constructor(number: number) {
    this.number = number;
  }
  toString(): string {
    return `r${this.number}`;
  }
}

/** r10, read-only: the top of the 512-byte stack, which grows down. Its own class: no destination. */
export class FramePointer {
  readonly kind = "frame pointer";
  readonly number = 10;
  toString(): string {
    return "fp";
  }
}

export const r0: Register = new Register(0), r1: Register = new Register(1), r2: Register = new Register(2);
export const r3: Register = new Register(3), r4: Register = new Register(4), r5: Register = new Register(5);
export const r6: Register = new Register(6), r7: Register = new Register(7), r8: Register = new Register(8);
export const r9: Register = new Register(9);
export const fp: FramePointer = new FramePointer();

/** Any register that can be read. */
export type Source = Register | FramePointer;

/** A memory operand: `width` bytes at `base + offset`. */
export interface Memory {
  readonly base: Source;
  readonly offset: number;
  readonly width: Width;
  readonly signed: boolean;
  /** `[r6 + sk_buff.len]` */
  readonly text: string;
}

/** What a load or store has to know of a type; an array or a struct of such a size moves unsigned. */
interface Movable {
  readonly size: Width;
  readonly signed?: boolean;
}

function isMovable(type: { size: number }): type is Movable {
  return type.size === 1 || type.size === 2 || type.size === 4 || type.size === 8;
}

/**
 * `at(r6, field)`, `at(r6, u64)` (offset 0), `at(fp, -8, u64)`: the memory that a load or store means.
 *
 * @throws {AssemblyError} the field's size is none that one instruction can move
 */
export function at(base: Source, place: Field | Scalar): Memory;
export function at(base: Source, offset: number, type: Scalar): Memory;
export function at(base: Source, place: Field | Scalar | number, type?: Scalar): Memory {
  if (typeof place === "number") return memory(base, place, type as Scalar, signedNumber(place));
  if (!("type" in place)) return memory(base, 0, place, "");
  const name = `${place.struct}.${place.name}`;
  if (!isMovable(place.type)) {
    throw new AssemblyError(`${name} is ${place.type.size} bytes, no register holds that`);
  }
  return memory(base, place.offset, place.type, ` + ${name}`);
}

function memory(base: Source, offset: number, type: Movable, where: string): Memory {
  return { base, offset, width: type.size, signed: type.signed === true, text: `[${base}${where}]` };
}

function signedNumber(value: number): string {
  return value < 0 ? ` - ${-value}` : ` + ${value}`;
}

type Parts = { text: string } & Partial<Omit<Insn, "text">>;

function insn(opcode: number, parts: Parts): Insn {
  const off = parts.off ?? 0, imm = parts.imm ?? 0;
  if (!Number.isInteger(off) || off < -0x8000 || off > 0x7fff) {
    throw new AssemblyError(`Offset ${off} does not fit 16 bits`, { item: parts.text });
  }
  if (
    (parts.slots ?? 1) === 1 &&
    (typeof imm !== "number" || !Number.isInteger(imm) || imm < -(2 ** 31) || imm >= 2 ** 32)
  ) {
    throw new AssemblyError(`Immediate ${imm} does not fit 32 bits`, { item: parts.text });
  }
  return Object.freeze({ dst: 0, src: 0, slots: 1, ...parts, opcode, off, imm });
}

/** A 64-bit operation sign-extends its immediate, so only -2^31 .. 2^31-1 means what it says. */
function signExtended(value: number, text: string): number {
  if (value >= 2 ** 31) {
    throw new AssemblyError(
      `Immediate ${value} would be sign-extended; use the 32-bit form or lddw`,
      { item: text },
    );
  }
  return value;
}

type Alu = (dst: Register, src: Source | number) => Insn;

function alu(mnemonic: keyof typeof op.aluOps, bits: 32 | 64): Alu {
  const row = op.aluOps[mnemonic];
  const shift = mnemonic === "lsh" || mnemonic === "rsh" || mnemonic === "arsh";
  const divide = mnemonic === "div" || mnemonic === "mod" || mnemonic === "sdiv" || mnemonic === "smod";
  const base = (bits === 64 ? op.BPF_ALU64 : op.BPF_ALU) | row.bits;
  return (dst, src) => {
    const text = `${mnemonic}${bits === 32 ? "32" : ""} ${dst}, ${src}`;
    if (typeof src !== "number") {
      return insn(base | op.BPF_X, { dst: dst.number, src: src.number, off: row.off, text });
    }
    if (shift && (src < 0 || src >= bits)) {
      throw new AssemblyError(`A shift by ${src} is outside 0..${bits - 1}`, { item: text });
    }
    if (divide && src === 0) throw new AssemblyError("Division by the constant 0", { item: text });
    return insn(base | op.BPF_K, {
      dst: dst.number,
      imm: bits === 64 ? signExtended(src, text) : src,
      off: row.off,
      text,
    });
  };
}

export const add: Alu = alu("add", 64), add32: Alu = alu("add", 32);
export const sub: Alu = alu("sub", 64), sub32: Alu = alu("sub", 32);
export const mul: Alu = alu("mul", 64), mul32: Alu = alu("mul", 32);
/** Unsigned; a division by 0 gives 0. */
export const div: Alu = alu("div", 64), div32: Alu = alu("div", 32);
/** Signed, rounds towards 0; a division by 0 gives 0. Linux 6.6. */
export const sdiv: Alu = alu("sdiv", 64), sdiv32: Alu = alu("sdiv", 32);
export const or: Alu = alu("or", 64), or32: Alu = alu("or", 32);
export const and: Alu = alu("and", 64), and32: Alu = alu("and", 32);
export const lsh: Alu = alu("lsh", 64), lsh32: Alu = alu("lsh", 32);
export const rsh: Alu = alu("rsh", 64), rsh32: Alu = alu("rsh", 32);
/** Unsigned; modulo 0 leaves the dividend. */
export const mod: Alu = alu("mod", 64), mod32: Alu = alu("mod", 32);
/** Signed, the remainder has the sign of the dividend. Linux 6.6. */
export const smod: Alu = alu("smod", 64), smod32: Alu = alu("smod", 32);
export const xor: Alu = alu("xor", 64), xor32: Alu = alu("xor", 32);
export const mov: Alu = alu("mov", 64), mov32: Alu = alu("mov", 32);
export const arsh: Alu = alu("arsh", 64), arsh32: Alu = alu("arsh", 32);

/** dst = -dst */
export function neg(dst: Register): Insn {
  return insn(op.BPF_ALU64 | op.BPF_NEG, { dst: dst.number, text: `neg ${dst}` });
}
export function neg32(dst: Register): Insn {
  return insn(op.BPF_ALU | op.BPF_NEG, { dst: dst.number, text: `neg32 ${dst}` });
}

/** dst = the low `bits` of src, sign-extended to 64. Linux 6.6. */
export function movsx(dst: Register, src: Register, bits: 8 | 16 | 32): Insn {
  return insn(op.BPF_ALU64 | op.aluOps.mov.bits | op.BPF_X, {
    dst: dst.number,
    src: src.number,
    off: bits,
    text: `movsx ${dst}, ${src}, ${bits}`,
  });
}
/** dst = the low `bits` of src, sign-extended to 32. Linux 6.6. */
export function movsx32(dst: Register, src: Register, bits: 8 | 16): Insn {
  return insn(op.BPF_ALU | op.aluOps.mov.bits | op.BPF_X, {
    dst: dst.number,
    src: src.number,
    off: bits,
    text: `movsx32 ${dst}, ${src}, ${bits}`,
  });
}

function swap(opcode: number, name: string): (dst: Register, bits: 16 | 32 | 64) => Insn {
  return (dst, bits) => insn(opcode, { dst: dst.number, imm: bits, text: `${name}${bits} ${dst}` });
}
/** The low `bits` of dst to big endian (or from it: the same thing), the rest cleared. */
export const be: (dst: Register, bits: 16 | 32 | 64) => Insn = swap(op.BPF_ALU | op.BPF_END | op.BPF_X, "be");
/** The same for little endian: only clears the rest on our machines. */
export const le: (dst: Register, bits: 16 | 32 | 64) => Insn = swap(op.BPF_ALU | op.BPF_END | op.BPF_K, "le");
/** Swaps the bytes whatever the machine. Linux 6.6. */
export const bswap: (dst: Register, bits: 16 | 32 | 64) => Insn = swap(op.BPF_ALU64 | op.BPF_END, "bswap");

/** dst = memory, zero-extended. */
export function ldx(dst: Register, from: Memory): Insn {
  return insn(op.BPF_LDX | op.BPF_MEM | op.sizes[from.width].bits, {
    dst: dst.number,
    src: from.base.number,
    off: from.offset,
    text: `ldx ${dst}, ${from.text}`,
  });
}
/** dst = memory, sign-extended. Linux 6.6. */
export function ldxsx(dst: Register, from: Memory): Insn {
  const text = `ldxsx ${dst}, ${from.text}`;
  if (from.width === 8) {
    throw new AssemblyError("A sign-extending load is 1, 2 or 4 bytes wide", { item: text });
  }
  return insn(op.BPF_LDX | op.BPF_MEMSX | op.sizes[from.width].bits, {
    dst: dst.number,
    src: from.base.number,
    off: from.offset,
    text,
  });
}
/** memory = src */
export function stx(to: Memory, src: Source): Insn {
  return insn(op.BPF_STX | op.BPF_MEM | op.sizes[to.width].bits, {
    dst: to.base.number,
    src: src.number,
    off: to.offset,
    text: `stx ${to.text}, ${src}`,
  });
}
/** memory = value, sign-extended to the width of the place. */
export function st(to: Memory, value: number): Insn {
  const text = `st ${to.text}, ${value}`, bits = to.width * 8;
  if (bits < 32 && (value < -(2 ** (bits - 1)) || value >= 2 ** bits)) {
    throw new AssemblyError(`${value} does not fit ${to.width} bytes`, { item: text });
  }
  return insn(op.BPF_ST | op.BPF_MEM | op.sizes[to.width].bits, {
    dst: to.base.number,
    off: to.offset,
    imm: to.width === 8 ? signExtended(value, text) : value,
    text,
  });
}

/** dst = a 64-bit constant (two slots). */
export function lddw(dst: Register, value: number | bigint): Insn {
  if (typeof value === "number" && !Number.isSafeInteger(value)) {
    throw new AssemblyError(`Immediate ${value} is no exact integer; use a bigint`, {
      item: `lddw ${dst}, ${value}`,
    });
  }
  const wide = BigInt(value), text = `lddw ${dst}, ${wide}`;
  if (wide < -(2n ** 63n) || wide >= 2n ** 64n) {
    throw new AssemblyError(`Immediate ${wide} does not fit 64 bits`, { item: text });
  }
  return insn(op.BPF_LD | op.BPF_IMM | op.sizes[8].bits, { dst: dst.number, imm: wide, slots: 2, text });
}
/** dst = the map itself, as helpers want it in r1. */
export function ldMap(dst: Register, map: MapSpec): Insn {
  return insn(op.BPF_LD | op.BPF_IMM | op.sizes[8].bits, {
    dst: dst.number,
    src: op.BPF_PSEUDO_MAP_FD,
    imm: 0n,
    slots: 2,
    reference: { kind: "map", map },
    text: `ldMap ${dst}, ${map.name}`,
  });
}
/** dst = the address of a byte in the only value of an array map. */
export function ldMapValue(dst: Register, map: MapSpec, place: Field | number = 0): Insn {
  const offset = typeof place === "number" ? place : place.offset;
  const text = `ldMapValue ${dst}, ${map.name}${
    typeof place === "number" ? signedNumber(place) : `.${place.name}`
  }`;
  if (!Number.isInteger(offset) || offset < 0 || offset >= map.valueSize) {
    throw new AssemblyError(`Offset ${offset} is outside the ${map.valueSize}-byte value`, { item: text });
  }
  return insn(op.BPF_LD | op.BPF_IMM | op.sizes[8].bits, {
    dst: dst.number,
    src: op.BPF_PSEUDO_MAP_VALUE,
    imm: 0n,
    slots: 2,
    reference: { kind: "map_value", map, offset },
    text,
  });
}
/** dst = the address of a kernel variable, by its id in BTF. */
export function ldBtfVariable(dst: Register, id: number): Insn {
  const text = `ldBtfVariable ${dst}, ${id}`;
  if (!Number.isInteger(id) || id < 0 || id >= 2 ** 32) {
    throw new AssemblyError(`Immediate ${id} does not fit 32 bits`, { item: text });
  }
  return insn(op.BPF_LD | op.BPF_IMM | op.sizes[8].bits, {
    dst: dst.number,
    src: op.BPF_PSEUDO_BTF_ID,
    imm: BigInt(id),
    slots: 2,
    text,
  });
}
/** dst = one of our own functions, as a callback. */
export function ldFunction(dst: Register, target: Label): Insn {
  return insn(op.BPF_LD | op.BPF_IMM | op.sizes[8].bits, {
    dst: dst.number,
    src: op.BPF_PSEUDO_FUNC,
    imm: 0n,
    slots: 2,
    reference: { kind: "function", target },
    text: `ldFunction ${dst}, ${target.name}`,
  });
}

/** r0 = packet bytes at a constant offset, socket filters only. Legacy. */
export function ldAbs(width: 1 | 2 | 4, offset: number): Insn {
  return insn(op.BPF_LD | op.BPF_ABS | op.sizes[width].bits, {
    imm: offset,
    text: `ldAbs ${width}, ${offset}`,
  });
}
/** r0 = packet bytes at src + offset, socket filters only. Legacy. */
export function ldInd(width: 1 | 2 | 4, src: Register, offset: number): Insn {
  return insn(op.BPF_LD | op.BPF_IND | op.sizes[width].bits, {
    src: src.number,
    imm: offset,
    text: `ldInd ${width}, ${src}, ${offset}`,
  });
}

type Jump = (dst: Source, src: Source | number, target: Label) => Insn;

function jump(mnemonic: keyof typeof op.jumpOps, bits: 32 | 64): Jump {
  const base = (bits === 64 ? op.BPF_JMP : op.BPF_JMP32) | op.jumpOps[mnemonic].bits;
  return (dst, src, target) => {
    const text = `${mnemonic}${bits === 32 ? "32" : ""} ${dst}, ${src}, ${target.name}`;
    return typeof src === "number"
      ? insn(base | op.BPF_K, {
        dst: dst.number,
        imm: bits === 64 ? signExtended(src, text) : src,
        target,
        text,
      })
      : insn(base | op.BPF_X, { dst: dst.number, src: src.number, target, text });
  };
}

export const jeq: Jump = jump("jeq", 64), jeq32: Jump = jump("jeq", 32);
export const jne: Jump = jump("jne", 64), jne32: Jump = jump("jne", 32);
/** Unsigned comparisons. */
export const jgt: Jump = jump("jgt", 64), jgt32: Jump = jump("jgt", 32);
export const jge: Jump = jump("jge", 64), jge32: Jump = jump("jge", 32);
export const jlt: Jump = jump("jlt", 64), jlt32: Jump = jump("jlt", 32);
export const jle: Jump = jump("jle", 64), jle32: Jump = jump("jle", 32);
/** Signed comparisons. */
export const jsgt: Jump = jump("jsgt", 64), jsgt32: Jump = jump("jsgt", 32);
export const jsge: Jump = jump("jsge", 64), jsge32: Jump = jump("jsge", 32);
export const jslt: Jump = jump("jslt", 64), jslt32: Jump = jump("jslt", 32);
export const jsle: Jump = jump("jsle", 64), jsle32: Jump = jump("jsle", 32);
/** Taken when dst & src has a bit set. */
export const jset: Jump = jump("jset", 64), jset32: Jump = jump("jset", 32);

/** Jumps always, 16-bit reach. */
export function ja(target: Label): Insn {
  return insn(op.BPF_JMP | op.BPF_JA, { target, text: `ja ${target.name}` });
}
/** Jumps always, 32-bit reach. Linux 6.6. */
export function gotol(target: Label): Insn {
  return insn(op.BPF_JMP32 | op.BPF_JA, { target, text: `gotol ${target.name}` });
}

/** r0 = helper(r1..r5); r1-r5 are lost. */
export function call(helper: HelperName): Insn {
  return insn(op.BPF_JMP | op.BPF_CALL, { imm: helperId[helper], text: `call ${helper}` });
}
/** r0 = one of our own functions; r1-r5 are lost, the callee has a stack of its own. */
export function callLocal(target: Label): Insn {
  return insn(op.BPF_JMP | op.BPF_CALL, {
    src: op.BPF_PSEUDO_CALL,
    target,
    text: `callLocal ${target.name}`,
  });
}
/** r0 = a kernel function, by the id of its FUNC in the kernel's BTF; r1-r5 are lost. */
export function callKfunc(name: string, btfId: number): Insn {
  return insn(op.BPF_JMP | op.BPF_CALL, {
    src: op.BPF_PSEUDO_KFUNC_CALL,
    imm: btfId,
    kfunc: name,
    text: `callKfunc ${name}`,
  });
}
export function exit(): Insn {
  return insn(op.BPF_JMP | op.BPF_EXIT, { text: "exit" });
}

type Atomic = (place: Memory, src: Register) => Insn;

function atomic(mnemonic: keyof typeof op.atomicOps): Atomic {
  return (place, src) => {
    const text = `${mnemonic} ${place.text}, ${src}`;
    if (place.width < 4) throw new AssemblyError("An atomic operation is 4 or 8 bytes wide", { item: text });
    return insn(op.BPF_STX | op.BPF_ATOMIC | op.sizes[place.width].bits, {
      dst: place.base.number,
      src: src.number,
      off: place.offset,
      imm: op.atomicOps[mnemonic].imm,
      text,
    });
  };
}

/** memory op= src; every kernel has `atomicAdd`, the rest came with Linux 5.12. */
export const atomicAdd: Atomic = atomic("atomicAdd");
export const atomicOr: Atomic = atomic("atomicOr");
export const atomicAnd: Atomic = atomic("atomicAnd");
export const atomicXor: Atomic = atomic("atomicXor");
/** The same, and src = the old value. Linux 5.12. */
export const atomicFetchAdd: Atomic = atomic("atomicFetchAdd");
export const atomicFetchOr: Atomic = atomic("atomicFetchOr");
export const atomicFetchAnd: Atomic = atomic("atomicFetchAnd");
export const atomicFetchXor: Atomic = atomic("atomicFetchXor");
/** Swaps memory and src. Linux 5.12. */
export const atomicXchg: Atomic = atomic("atomicXchg");
/** If memory equals r0, memory = src; r0 = the old value either way. Linux 5.12. */
export const atomicCmpxchg: Atomic = atomic("atomicCmpxchg");

/** `return value` */
export function ret(value: number): Code {
  return [mov(r0, value), exit()];
}

/** dst = the address of a memory operand, as helpers want it. */
export function lea(dst: Register, place: Memory): Code {
  return place.offset === 0 ? mov(dst, place.base) : [mov(dst, place.base), add(dst, place.offset)];
}

/**
 * memory at `to` = kernel memory at `from`, by bpf_probe_read_kernel. r0 = 0, or a negative errno and
 * `to` is zeroed. Loses r1-r5, so `to` cannot be based on r3, which is set first.
 *
 * @throws {AssemblyError} the two places are not equally wide, or `to` is based on r3
 */
export function probeRead(to: Memory, from: Memory): Code {
  if (to.width !== from.width) {
    throw new AssemblyError(
      `${to.text} is ${to.width} bytes, ${from.text} is ${from.width} on this kernel`,
      { item: "probeRead" },
    );
  }
  if (to.base === r3) {
    throw new AssemblyError(`r3 is overwritten before ${to.text} is`, { item: "probeRead" });
  }
  return [
    lea(r3, from),
    lea(r1, to),
    mov(r2, to.width),
    call("bpf_probe_read_kernel"),
  ];
}

/** dst = src, or nothing where that is the same register. */
export function copy(dst: Register, src: Source): Code {
  return dst === src ? [] : mov(dst, src);
}

/** dst = `bits` bits of a word, from bit `below` on. Above the word its register is 0. Touches that only if it is dst. */
export function extract(
  dst: Register,
  word: Register,
  below: number,
  bits: number,
  wordBits: number = 64,
): Code {
  const above = 64 - below - bits;
  if (below + bits > 32) {
    return [copy(dst, word), above === 0 ? [] : lsh(dst, above), rsh(dst, above + below)];
  }
  return [
    mov32(dst, word),
    below === 0 ? [] : rsh32(dst, below),
    below + bits === Math.min(32, wordBits) ? [] : and32(dst, 2 ** bits - 1),
  ];
}
