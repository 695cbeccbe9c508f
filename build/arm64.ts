/**
 * The arm64 instructions of the launcher, destination first, after the Arm ARM (DDI 0487, C6.2): words of
 * four bytes, little endian.
 */
import { BuildError } from "./error.ts";
import { bytes, type Code, type Item, type Label, littleEndian } from "./machine_code.ts";

/** A 64-bit register. Number 31 is sp or the zero register, as the instruction has it. */
export class Register {
  readonly number: number;
  constructor(number: number) {
    this.number = number;
  }
}

const register = (number: number) => new Register(number);
export const x0 = register(0), x1 = register(1), x2 = register(2), x3 = register(3), x4 = register(4);
export const x5 = register(5), x6 = register(6), x7 = register(7), x8 = register(8), x9 = register(9);
export const x10 = register(10), x11 = register(11), x12 = register(12), x19 = register(19);
export const x20 = register(20), x21 = register(21), x22 = register(22), x23 = register(23);
export const x24 = register(24), sp = register(31), xzr = register(31);

const word = (value: number): Item => bytes(...littleEndian(value, 4));

const refuse = (value: number, bits: number): never => {
  throw new BuildError(`Cannot encode ${value}: it does not fit ${bits} bits`);
};

/** A value as an unsigned field of `bits` bits. */
function field(value: number, bits: number): number {
  return Number.isInteger(value) && value >= 0 && value < 2 ** bits ? value : refuse(value, bits);
}

/** A value as a signed field of `bits` bits. */
function signedField(value: number, bits: number): number {
  const half = 2 ** (bits - 1);
  if (!Number.isInteger(value) || value < -half || value >= half) return refuse(value, bits);
  return value < 0 ? value + 2 * half : value;
}

/** A number in as few movz and movk as it takes, or in one movn. */
export function movImmediate(to: Register, value: number): Code {
  if (value < 0) return word(0x92800000 + (field(-value - 1, 16) << 5 | to.number));
  if (!Number.isSafeInteger(value)) throw new BuildError(`Cannot encode ${value}: it is not exact`);
  const parts = [0, 1, 2, 3].map((index) => ({ index, bits: Math.floor(value / 2 ** (16 * index)) % 65536 }));
  const used = parts.filter(({ bits, index }) => bits !== 0 || index === 0 && value === 0);
  return used.map(({ index, bits }, order) =>
    word((order === 0 ? 0xd2800000 : 0xf2800000) + (index << 21 | bits << 5 | to.number))
  );
}

/** mov between registers, none of which is sp. */
export const movRegister = (to: Register, from: Register): Item =>
  word(0xaa0003e0 + (from.number << 16 | to.number));

type Immediate = (to: Register, from: Register, value: number) => Item;
const immediate = (opcode: number): Immediate => (to, from, value) =>
  word(opcode + (field(value, 12) << 10 | from.number << 5 | to.number));
/** Constants up to 4095; sp may be either register. */
export const addImmediate = immediate(0x91000000), subImmediate = immediate(0xd1000000);
export const cmpImmediate = (a: Register, value: number): Item => immediate(0xf1000000)(xzr, a, value);

type ThreeRegisters = (to: Register, a: Register, b: Register) => Item;
const threeRegisters = (opcode: number): ThreeRegisters => (to, a, b) =>
  word(opcode + (b.number << 16 | a.number << 5 | to.number));
/** None of the registers may be sp. */
export const addRegister = threeRegisters(0x8b000000), subRegister = threeRegisters(0xcb000000);
export const cmpRegister = (a: Register, b: Register): Item => threeRegisters(0xeb000000)(xzr, a, b);
/** Unsigned division. */
export const udiv = threeRegisters(0x9ac00800);
/** to = minuend - a * b */
export const msub = (to: Register, a: Register, b: Register, minuend: Register): Item =>
  word(0x9b008000 + (b.number << 16 | minuend.number << 10 | a.number << 5 | to.number));

/** Clears the low `bits` bits: and with a mask of ones above them. */
export function clearLow(to: Register, from: Register, bits: number): Item {
  const length = 64 - field(bits, 6);
  return word(0x92400000 + ((64 - bits) % 64 << 16 | (length - 1) << 10 | from.number << 5 | to.number));
}

/** Memory at base + offset; `place` is a number of bytes, or a member of a struct. */
export interface Memory {
  readonly base: Register;
  readonly offset: number;
}

export function at(base: Register, place: number | { readonly offset: number } = 0): Memory {
  return { base, offset: typeof place === "number" ? place : place.offset };
}

const scaled = (opcode: number, scale: number) => (value: Register, { base, offset }: Memory): Item =>
  word(opcode + (field(offset / scale, 12) << 10 | base.number << 5 | value.number));
export const ldr = scaled(0xf9400000, 8), str = scaled(0xf9000000, 8);
/** One byte, zero-extended. */
export const ldrb = scaled(0x39400000, 1), strb = scaled(0x39000000, 1);

/** Moves a value, and the base by `step` afterwards (post-index) or before (pre-index). */
const stepping = (opcode: number) => (value: Register, base: Register, step: number): Item =>
  word(opcode + (signedField(step, 9) << 12 | base.number << 5 | value.number));
export const ldrPost = stepping(0xf8400400), strPost = stepping(0xf8000400);
export const ldrbPost = stepping(0x38400400), strbPre = stepping(0x38000c00);

/** One byte at base + index. */
export const ldrbIndexed = threeRegisters(0x38606800), strbIndexed = threeRegisters(0x38206800);

/** The distance to a label as a field of `bits` bits, in units of `unit` bytes. */
const distance = (from: number, to: number, bits: number, unit: number) =>
  signedField((to - from) / unit, bits);

function toLabel(target: Label, encode: (from: number, to: number) => number): Item {
  return { size: 4, encode: (address, addressOf) => littleEndian(encode(address, addressOf(target)), 4) };
}

/** The address of a label up to 1 MiB away. */
export const adr = (to: Register, target: Label): Item =>
  toLabel(target, (from, place) => {
    const bytes = distance(from, place, 21, 1);
    return 0x10000000 + (bytes % 4) * 2 ** 29 + (Math.floor(bytes / 4) << 5 | to.number);
  });

export const b = (target: Label): Item =>
  toLabel(target, (from, to) => 0x14000000 + distance(from, to, 26, 4));
const branchIf = (condition: number) => (target: Label): Item =>
  toLabel(target, (from, to) => 0x54000000 + (distance(from, to, 19, 4) << 5 | condition));
export const beq = branchIf(0), bne = branchIf(1);
/** Less or equal, signed. */
export const ble = branchIf(13);
const branchOn = (opcode: number) => (value: Register, target: Label): Item =>
  toLabel(target, (from, to) => opcode + (distance(from, to, 19, 4) << 5 | value.number));
export const cbz = branchOn(0xb4000000), cbnz = branchOn(0xb5000000);
/** Branches when bit 63 is set: what a system call gives when it fails, and no address of user space has. */
export const ifNegative = (value: Register, target: Label): Item =>
  toLabel(target, (from, to) => 0xb7f80000 + (distance(from, to, 14, 4) << 5 | value.number));
export const br = (to: Register): Item => word(0xd61f0000 + (to.number << 5));

/** x8 = number, x0 to x5 = arguments, x0 = result. */
export const svc = (): Item => word(0xd4000001);
