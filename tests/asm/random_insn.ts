/** Random valid instructions, the same ones for the same seed. */
import { type Insn, type Label, label } from "../../asm/code.ts";
import { type HelperName, helperName } from "../../asm/helpers.ts";
import * as insn from "../../asm/insn.ts";
import { s16, s32, s8, type Scalar, u16, u32, u64, u8 } from "../../asm/layout.ts";
import { aluOps, atomicOps, jumpOps } from "../../asm/opcodes.ts";

/** A number below `limit`. */
export type Random = (limit: number) => number;

/** mulberry32: small, and good enough to pick test cases. */
export function randomFrom(seed: number): Random {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  };
}

const registers = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map((number) => new insn.Register(number));
const immediates = [0, 1, -1, 2, 10, 255, 256, 0x7fff, -0x8000, 2 ** 31 - 1, -(2 ** 31)];
const offsets = [0, 1, -1, 8, -8, 127, -128, 0x7fff, -0x8000];
export const anywhere: Label = label("anywhere");

/** One of the constructors with operands that it takes. Jumps go to `anywhere`. */
export function randomInsn(random: Random): Insn {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
  const reg = () => pick(registers), src = () => pick([...registers, insn.fp]), imm = () => pick(immediates);
  const at = (...types: readonly Scalar[]) => insn.at(src(), pick(offsets), pick(types));
  const variant = <T extends string>(names: Record<T, unknown>, wide: boolean) =>
    insn[`${pick(Object.keys(names) as T[])}${wide ? "" : "32"}` as keyof typeof insn];

  const kinds: readonly (() => Insn)[] = [
    () => {
      const wide = random(2) === 0, make = variant(aluOps, wide) as typeof insn.mov;
      return make(reg(), random(2) === 0 ? src() : 1 + random(wide ? 63 : 31)); // fits shifts and divisions
    },
    () =>
      (variant(jumpOps, random(2) === 0) as typeof insn.jeq)(
        src(),
        random(2) === 0 ? src() : imm(),
        anywhere,
      ),
    () => (insn[pick(Object.keys(atomicOps) as (keyof typeof atomicOps)[])])(at(u32, u64), reg()),
    () => pick([insn.mov, insn.mov32, insn.add, insn.xor32])(reg(), imm()),
    () => pick([insn.neg, insn.neg32])(reg()),
    () => insn.movsx(reg(), reg(), pick([8, 16, 32])),
    () => insn.movsx32(reg(), reg(), pick([8, 16])),
    () => pick([insn.le, insn.be, insn.bswap])(reg(), pick([16, 32, 64])),
    () => insn.ldx(reg(), at(u8, u16, u32, u64)),
    () => insn.ldxsx(reg(), at(s8, s16, s32)),
    () => insn.stx(at(u8, u16, u32, u64), src()),
    () => insn.st(at(u32, u64), imm()),
    () => insn.lddw(reg(), BigInt(imm()) * BigInt(imm())),
    () => insn.ldAbs(pick([1, 2, 4]), imm()),
    () => insn.ldInd(pick([1, 2, 4]), reg(), imm()),
    () => pick([insn.ja, insn.gotol, insn.callLocal])(anywhere),
    () => insn.call(helperName(1 + random(211)) as HelperName),
    () => insn.callKfunc("bpf_kfunc", random(1000)),
    () => insn.exit(),
  ];
  return pick(kinds)();
}
