/**
 * Bytes -> text in the notation of the kernel's verifier log (kernel/bpf/disasm.c), all of RFC 9669.
 *
 * The log and we differ where the kernel has looked something up: it prints addresses for maps, map values
 * and kernel variables, and the name of a kernel function. We print what the caller names, else the bare
 * immediate. With `referenceNames` a line reads `(18) r1 = map[events]`, as `bpftool prog dump xlated` has
 * `map[id:5]`; without it, every line except those of maps and variables equals the log's.
 *
 * Omitted: fields that the instruction does not use are not looked at (the kernel refuses them), and
 * instructions newer than the RFC are shown as unknown, with their bytes.
 */
import type { Assembled } from "./assemble.ts";
import type { Insn } from "./code.ts";
import { helperName } from "./helpers.ts";
import * as op from "./opcodes.ts";

/** The fields of one slot; `wide` is the 64-bit immediate when a second slot belongs to it. */
interface Slot {
  readonly opcode: number;
  readonly dst: number;
  readonly src: number;
  readonly off: number;
  readonly imm: number;
  readonly wide: bigint;
}

type Print = (slot: Slot, name: string | undefined) => string;
type Row = readonly [opcode: number, variant: number, print: Print];

const LDDW = op.BPF_LD | op.BPF_IMM | op.sizes[8].bits;
const CALL = op.BPF_JMP | op.BPF_CALL;
const sizes = Object.entries(op.sizes).map(([width, row]) => ({ width: Number(width), ...row }));

/** What tells instructions of one opcode apart: `off`, `imm` or `src`, else nothing. */
function variantOf({ opcode, src, off, imm }: Slot): number {
  const cls = opcode & 0x07;
  if (cls === op.BPF_ALU || cls === op.BPF_ALU64) return off;
  if (cls === op.BPF_STX && (opcode & 0xe0) === op.BPF_ATOMIC) return imm;
  return opcode === CALL ? src : 0;
}

function signed(value: number): string {
  return value < 0 ? `${value}` : `+${value}`;
}

function* arithmeticRows(): Generator<Row> {
  for (const [cls, r, bits] of [[op.BPF_ALU64, "r", 64], [op.BPF_ALU, "w", 32]] as const) {
    for (const { bits: code, off, sign } of Object.values(op.aluOps)) {
      yield [cls | code | op.BPF_K, off, ({ dst, imm }) => `${r}${dst} ${sign} ${imm}`];
      yield [cls | code | op.BPF_X, off, ({ dst, src }) => `${r}${dst} ${sign} ${r}${src}`];
    }
    for (const { width, signed: type } of sizes) {
      if (width * 8 === bits) break;
      const movsx = cls | op.aluOps.mov.bits | op.BPF_X;
      yield [movsx, width * 8, ({ dst, src }) => `${r}${dst} = (${type})${r}${src}`];
    }
    yield [cls | op.BPF_NEG, 0, ({ dst }) => `${r}${dst} = -${r}${dst}`];
  }
  yield [op.BPF_ALU | op.BPF_END | op.BPF_K, 0, ({ dst, imm }) => `r${dst} = le${imm} r${dst}`];
  yield [op.BPF_ALU | op.BPF_END | op.BPF_X, 0, ({ dst, imm }) => `r${dst} = be${imm} r${dst}`];
  yield [op.BPF_ALU64 | op.BPF_END, 0, ({ dst, imm }) => `r${dst} = bswap${imm} r${dst}`];
}

function* memoryRows(): Generator<Row> {
  yield [LDDW, 0, ({ dst, wide }, name) => `r${dst} = ${name ?? `0x${wide.toString(16)}`}`];
  for (const { width, bits, unsigned, signed: extended } of sizes) {
    const at = (base: number, off: number, type: string = unsigned) => `(${type} *)(r${base} ${signed(off)})`;
    yield [op.BPF_LDX | op.BPF_MEM | bits, 0, ({ dst, src, off }) => `r${dst} = *${at(src, off)}`];
    yield [op.BPF_ST | op.BPF_MEM | bits, 0, ({ dst, off, imm }) => `*${at(dst, off)} = ${imm}`];
    yield [op.BPF_STX | op.BPF_MEM | bits, 0, ({ dst, src, off }) => `*${at(dst, off)} = r${src}`];
    if (width < 8) {
      yield [
        op.BPF_LDX | op.BPF_MEMSX | bits,
        0,
        ({ dst, src, off }) => `r${dst} = *${at(src, off, extended)}`,
      ];
      yield [op.BPF_LD | op.BPF_ABS | bits, 0, ({ imm }) => `r0 = *(${unsigned} *)skb[${imm}]`];
      yield [
        op.BPF_LD | op.BPF_IND | bits,
        0,
        ({ src, imm }) => `r0 = *(${unsigned} *)skb[r${src} + ${imm}]`,
      ];
    }
    if (width < 4) continue;
    for (const { imm, sign, fetch } of Object.values(op.atomicOps)) {
      const compares = fetch === "cmpxchg", named = `atomic${width === 8 ? "64" : ""}_${fetch}`;
      yield [
        op.BPF_STX | op.BPF_ATOMIC | bits,
        imm,
        ({ dst, src, off }) =>
          fetch === undefined
            ? `lock *${at(dst, off)} ${sign} r${src}`
            : compares
            ? `r0 = ${named}(${at(dst, off)}, r0, r${src})`
            : `r${src} = ${named}(${at(dst, off)}, r${src})`,
      ];
    }
  }
}

function* jumpRows(): Generator<Row> {
  for (const [cls, r] of [[op.BPF_JMP, "r"], [op.BPF_JMP32, "w"]] as const) {
    for (const { bits, sign } of Object.values(op.jumpOps)) {
      const text = (dst: number, right: string, off: number) =>
        `if ${r}${dst} ${sign} ${right} goto pc${signed(off)}`;
      yield [
        cls | bits | op.BPF_K,
        0,
        ({ dst, imm, off }) => text(dst, `0x${(imm >>> 0).toString(16)}`, off),
      ];
      yield [cls | bits | op.BPF_X, 0, ({ dst, src, off }) => text(dst, `${r}${src}`, off)];
    }
  }
  yield [op.BPF_JMP | op.BPF_JA, 0, ({ off }) => `goto pc${signed(off)}`];
  yield [op.BPF_JMP32 | op.BPF_JA, 0, ({ imm }) => `gotol pc${signed(imm)}`];
  yield [CALL, op.BPF_HELPER_CALL, ({ imm }) => `call ${helperName(imm) ?? "unknown"}#${imm}`];
  yield [CALL, op.BPF_PSEUDO_CALL, ({ imm }) => `call pc${signed(imm)}`];
  yield [CALL, op.BPF_PSEUDO_KFUNC_CALL, ({ imm }, name) => `call ${name ?? "kernel-function"}#${imm}`];
  yield [op.BPF_JMP | op.BPF_EXIT, 0, () => "exit"];
}

/** opcode -> variant -> text */
const printers = new Map<number, Map<number, Print>>();
for (const rows of [arithmeticRows(), memoryRows(), jumpRows()]) {
  for (const [opcode, variant, print] of rows) {
    const variants = printers.get(opcode) ?? new Map<number, Print>();
    printers.set(opcode, variants.set(variant, print));
  }
}

/**
 * One line per instruction: `slot: (opcode) text`, as in the log. A two-slot load is one line, so the next
 * line's number is two higher.
 *
 * @param names slot -> what a reference is called, e.g. `map[events]`; see `referenceNames`
 * @throws {RangeError} bytes that end in the middle of an instruction
 */
export function disassemble(
  bytes: Uint8Array,
  { names }: { names?: ReadonlyMap<number, string> } = {},
): string[] {
  if (bytes.length % 8 !== 0) throw new RangeError(`${bytes.length} bytes are no whole number of slots`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), count = bytes.length / 8;
  const lines: string[] = [];
  for (let index = 0; index < count; index++) {
    const place = index, slot = slotAt(view, index);
    if (slot.opcode === LDDW && ++index === count) {
      throw new RangeError(`The two-slot load in slot ${place} has no second slot`);
    }
    const print = printers.get(slot.opcode)?.get(variantOf(slot));
    const text = print?.(slot, names?.get(place)) ?? `unknown ${hexOf(view, place)}`;
    lines.push(`${place}: (${slot.opcode.toString(16).padStart(2, "0")}) ${text}`);
  }
  return lines;
}

function slotAt(view: DataView, index: number): Slot {
  const at = index * 8, opcode = view.getUint8(at), registers = view.getUint8(at + 1);
  const imm = view.getInt32(at + 4, true),
    next = at + 12 < view.byteLength ? view.getUint32(at + 12, true) : 0;
  return {
    opcode,
    dst: registers & 0x0f,
    src: registers >> 4,
    off: view.getInt16(at + 2, true),
    imm,
    wide: BigInt(next) << 32n | BigInt(imm >>> 0),
  };
}

function hexOf(view: DataView, index: number): string {
  return new Uint8Array(view.buffer, view.byteOffset + index * 8, 8).toHex();
}

/** What the references of a program are called: `map[events]`, `map[stats][0]+8`, `subprog[each]`, a kfunc. */
export function referenceNames({ insns, relocations }: Assembled): ReadonlyMap<number, string> {
  const names = new Map<number, string>();
  for (let slot = 0; slot < insns.length;) {
    const { kfunc, reference, slots } = insns[slot] as Insn;
    if (kfunc !== undefined) names.set(slot, kfunc);
    if (reference?.kind === "function") names.set(slot, `subprog[${reference.target.name}]`);
    slot += slots;
  }
  for (const { slot, map, offset } of relocations) {
    names.set(slot, `map[${map.name}]${offset === undefined ? "" : `[0]+${offset}`}`);
  }
  return names;
}
