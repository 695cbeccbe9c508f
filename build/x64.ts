/**
 * The x86-64 instructions of the launcher, destination first, after the Intel manual (SDM volume 2). Jumps
 * are always the near form with 32 bits, so that an instruction's size never hangs on its target.
 */
import { BuildError } from "./error.ts";
import { bytes, type Code, type Item, type Label, littleEndian } from "./machine_code.ts";

/** A 64-bit register. The memory operand's escapes of rsp and r12 are the emitter's business. */
export class Register {
  readonly number: number;
  constructor(number: number) {
    this.number = number;
  }
}

const register = (number: number) => new Register(number);
export const rax = register(0), rcx = register(1), rdx = register(2), rbx = register(3);
export const rsp = register(4), rbp = register(5), rsi = register(6), rdi = register(7);
export const r8 = register(8), r9 = register(9), r10 = register(10), r11 = register(11);
export const r12 = register(12), r13 = register(13), r14 = register(14), r15 = register(15);

/** Memory at base + offset. */
export class Memory {
  readonly base: Register;
  readonly offset: number;
  constructor(base: Register, offset: number) {
    this.base = base;
    this.offset = offset;
  }
}

/** `place` is a number of bytes, or a member of a struct. */
export function at(base: Register, place: number | { readonly offset: number } = 0): Memory {
  return new Memory(base, typeof place === "number" ? place : place.offset);
}

const fits = (value: number, bits: number) => value >= -(2 ** (bits - 1)) && value < 2 ** (bits - 1);

function signed(value: number, size: 1 | 4): number[] {
  if (!Number.isInteger(value) || !fits(value, size * 8)) {
    throw new BuildError(`Cannot encode ${value}: it does not fit ${size * 8} bits`);
  }
  return littleEndian(value, size);
}

/** REX.W R B: 64-bit operands, and the fourth bits of the two register numbers. */
const rex = (reg: number, rm: number, wide = true) => 0x40 | (wide ? 8 : 0) | (reg >> 3) << 2 | rm >> 3;
/** Mode, register or opcode extension, register or memory. */
const modrm = (mode: number, reg: number, rm: number) => mode << 6 | (reg & 7) << 3 | rm & 7;

/** An instruction on two registers; `reg` may be the opcode's extension instead. */
function registers(opcode: readonly number[], reg: number, rm: number): Item {
  return bytes(rex(reg, rm), ...opcode, modrm(3, reg, rm));
}

/** An instruction on a register and memory. */
function withMemory(
  opcode: readonly number[],
  reg: number,
  { base, offset }: Memory,
  wide: boolean,
  immediate: readonly number[] = [],
) {
  const short = fits(offset, 8);
  const sib = (base.number & 7) === 4 ? [0x24] : []; // rsp and r12 as a base need it
  const mode = modrm(short ? 1 : 2, reg, base.number);
  const prefix = rex(reg, base.number, wide);
  const needless = prefix === 0x40 && reg < 4; // from 4 on it makes spl, bpl, sil, dil of ah, ch, dh, bh
  return bytes(
    ...needless ? [] : [prefix],
    ...opcode,
    mode,
    ...sib,
    ...signed(offset, short ? 1 : 4),
    ...immediate,
  );
}

/** mov, in as few bytes as the value allows. Writing 32 bits clears the upper half. */
export function mov(to: Register | Memory, from: Register | Memory | number): Code {
  if (to instanceof Memory) {
    if (from instanceof Register) return withMemory([0x89], from.number, to, true);
    if (typeof from === "number") return withMemory([0xc7], 0, to, true, signed(from, 4));
    throw new TypeError("mov has at most one operand in memory");
  }
  if (from instanceof Register) return registers([0x89], from.number, to.number);
  if (from instanceof Memory) return withMemory([0x8b], to.number, from, true);
  const extra = to.number > 7 ? [rex(0, to.number, false)] : [];
  if (from >= 0 && from < 2 ** 32) return bytes(...extra, 0xb8 | to.number & 7, ...littleEndian(from, 4));
  if (fits(from, 32)) return bytes(rex(0, to.number), 0xc7, modrm(3, 0, to.number), ...signed(from, 4));
  if (!Number.isSafeInteger(from)) throw new BuildError(`Cannot encode ${from}: it is not exact`);
  return bytes(rex(0, to.number), 0xb8 | to.number & 7, ...littleEndian(from, 8));
}

/** One byte into memory: the low one of a register, or a constant. */
export function movByte(to: Memory, from: Register | number): Item {
  return typeof from === "number"
    ? withMemory([0xc6], 0, to, false, signed(from, 1))
    : withMemory([0x88], from.number, to, false);
}

/** One byte from memory, zero-extended. */
export const movzx = (to: Register, from: Memory): Item => withMemory([0x0f, 0xb6], to.number, from, false);

/** The address of a label, or of memory. */
export function lea(to: Register, place: Memory | Label): Item {
  if (place instanceof Memory) return withMemory([0x8d], to.number, place, true);
  return relative([rex(to.number, 0), 0x8d, modrm(0, to.number, 5)], place);
}

/** The ALU operations: the extension is the opcode's digit with an immediate, and names its register form. */
const arithmetic = (extension: number) => (to: Register, from: Register | number): Item => {
  if (from instanceof Register) return registers([extension << 3 | 1], from.number, to.number);
  return fits(from, 8)
    ? bytes(rex(0, to.number), 0x83, modrm(3, extension, to.number), ...signed(from, 1))
    : bytes(rex(0, to.number), 0x81, modrm(3, extension, to.number), ...signed(from, 4));
};
export const add = arithmetic(0), and = arithmetic(4), sub = arithmetic(5), cmp = arithmetic(7);

/** Sets the flags of a & b. */
export const test = (a: Register, b: Register): Item => registers([0x85], b.number, a.number);
/** Divides rdx:rax by the register: rax = quotient, rdx = remainder. */
export const div = (by: Register): Item => registers([0xf7], 6, by.number);

/** An instruction that ends in the distance from its own end to a label. */
function relative(opcode: readonly number[], target: Label): Item {
  const size = opcode.length + 4;
  return {
    size,
    encode: (address, addressOf) => [...opcode, ...signed(addressOf(target) - address - size, 4)],
  };
}

export function jmp(target: Label | Register): Item {
  if (!(target instanceof Register)) return relative([0xe9], target);
  const extra = target.number > 7 ? [rex(0, target.number, false)] : [];
  return bytes(...extra, 0xff, modrm(3, 4, target.number));
}

const jump = (condition: number) => (target: Label): Item => relative([0x0f, 0x80 | condition], target);
/** Equal, or zero. */
export const je = jump(4);
/** Unequal, or not zero. */
export const jne = jump(5);
/** Negative: what a system call gives when it fails, and no address of user space is. */
export const js = jump(8);
/** Less or equal, signed. */
export const jle = jump(14);

/** rax = number; rdi, rsi, rdx, r10, r8, r9 = arguments; rax = result. Clobbers rcx and r11. */
export const syscall = (): Item => bytes(0x0f, 0x05);
/** Copies rcx bytes from [rsi] to [rdi]. */
export const repMovsb = (): Item => bytes(0xf3, 0xa4);
