/** What the comments of the constructors promise, run by the kernel: each program returns the low half of r0. */
import { describe, expect } from "bun:test";
import { type Code, label } from "../../asm/code.ts";
import * as insn from "../../asm/insn.ts";
import { at, exit, fp, ldx, lea, mov, mov32, r0, r1, r2, r3, r6, rsh, st } from "../../asm/insn.ts";
import { s16, s32, s8, u16, u32, u64, u8 } from "../../asm/layout.ts";
import { kernelTest } from "./requires.ts";
import { run } from "./load.ts";

const word = at(fp, -8, u64), half = at(fp, -8, u32);
const high = rsh(r0, 32); // shows the upper half
const minusSeven = [insn.lddw(r0, -7), mov(r1, 2)];

// deno-fmt-ignore
const rows: readonly (readonly [since: readonly [number, number], name: string, code: Code, r0: number])[] = [
  [[4, 20], "an immediate is sign-extended", [mov(r0, -1), high], 0xffffffff],
  [[4, 20], "mov32 clears the upper half", [mov32(r0, -1), high], 0],
  [[4, 20], "mov32 from a register too", [insn.lddw(r1, -1), mov32(r0, r1), high], 0],
  [[4, 20], "lddw is 64 bits wide", [insn.lddw(r0, 0x1122334455667788n), high], 0x11223344],
  [[4, 20], "div is unsigned", [minusSeven, insn.div(r0, r1), high], 0x7fffffff],
  [[4, 20], "div by 0 is 0", [mov(r0, 5), mov(r1, 0), insn.div(r0, r1)], 0],
  [[4, 20], "mod by 0 leaves the dividend", [mov(r0, 5), mov(r1, 0), insn.mod(r0, r1)], 5],
  [[6, 6], "sdiv rounds towards 0", [minusSeven, insn.sdiv(r0, r1)], -3 >>> 0],
  [[6, 6], "sdiv by 0 is 0", [mov(r0, -5), mov(r1, 0), insn.sdiv(r0, r1)], 0],
  [[6, 6], "smod has the sign of the dividend", [minusSeven, insn.smod(r0, r1)], -1 >>> 0],
  [[6, 6], "sdiv32 sees 32 bits", [mov32(r0, -7), insn.sdiv32(r0, 2)], -3 >>> 0],
  [[4, 20], "rsh brings zeros", [mov(r0, -1), rsh(r0, 33)], 0x7fffffff],
  [[4, 20], "arsh brings the sign", [mov(r0, -8), insn.arsh(r0, 1)], -4 >>> 0],
  [[4, 20], "arsh32 keeps to 32 bits", [mov(r0, -8), insn.arsh32(r0, 1), high], 0],
  [[4, 20], "neg", [mov(r0, 5), insn.neg(r0)], -5 >>> 0],
  [[4, 20], "neg32 clears the upper half", [mov(r0, 5), insn.neg32(r0), high], 0],
  [[6, 6], "movsx from 8 bits", [mov(r1, 0x180), insn.movsx(r0, r1, 8), high], 0xffffffff],
  [[6, 6], "movsx32 stops at 32", [mov(r1, 0x180), insn.movsx32(r0, r1, 8), high], 0],
  [[4, 20], "be swaps and cuts", [mov(r0, 0x11223344), insn.be(r0, 16)], 0x4433],
  [[4, 20], "le only cuts", [mov(r0, 0x11223344), insn.le(r0, 16)], 0x3344],
  [[4, 20], "be 64", [mov(r0, 0x11), insn.be(r0, 64), rsh(r0, 32)], 0x11000000],
  [[6, 6], "bswap", [mov(r0, 0x11223344), insn.bswap(r0, 32)], 0x44332211],
  [[4, 20], "ldx extends with zeros", [st(word, -1), ldx(r0, at(fp, -8, u8))], 0xff],
  [[4, 20], "ldx of a signed field too", [st(word, -1), ldx(r0, at(fp, -8, s8))], 0xff],
  [[6, 6], "ldxsx extends with the sign: 1 byte", [st(word, 0x80), insn.ldxsx(r0, at(fp, -8, s8)), high], 0xffffffff],
  [[6, 6], "2 bytes", [st(word, 0x8000), insn.ldxsx(r0, at(fp, -8, s16)), high], 0xffffffff],
  [[6, 6], "4 bytes", [st(half, -1), insn.ldxsx(r0, at(fp, -8, s32)), high], 0xffffffff],
  [[4, 20], "st is as wide as its place", [st(word, 0), st(at(fp, -8, u16), 0xfffe), ldx(r0, word)], 0xfffe],
  [[4, 20], "st of 8 bytes is sign-extended", [st(word, -2), ldx(r0, word), high], 0xffffffff],
  [[4, 20], "atomicAdd", [st(word, 5), mov(r1, 3), insn.atomicAdd(word, r1), ldx(r0, word)], 8],
  [[5, 12], "atomicFetchAdd: memory", [st(word, 5), mov(r1, 3), insn.atomicFetchAdd(word, r1), ldx(r0, word)], 8],
  [[5, 12], "atomicFetchAdd: the old value", [st(word, 5), mov(r1, 3), insn.atomicFetchAdd(word, r1), mov(r0, r1)], 5],
  [[5, 12], "atomicFetchOr", [st(word, 5), mov(r1, 3), insn.atomicFetchOr(word, r1), ldx(r0, word)], 7],
  [[5, 12], "atomicFetchAnd", [st(word, 5), mov(r1, 3), insn.atomicFetchAnd(word, r1), ldx(r0, word)], 1],
  [[5, 12], "atomicFetchXor", [st(word, 5), mov(r1, 3), insn.atomicFetchXor(word, r1), ldx(r0, word)], 6],
  [[5, 12], "atomicXchg: memory", [st(word, 5), mov(r1, 3), insn.atomicXchg(word, r1), ldx(r0, word)], 3],
  [[5, 12], "atomicXchg: the old value", [st(word, 5), mov(r1, 3), insn.atomicXchg(word, r1), mov(r0, r1)], 5],
  [[5, 12], "atomicCmpxchg that meets", [st(word, 5), mov(r0, 5), mov(r1, 3), insn.atomicCmpxchg(word, r1), ldx(r0, word)], 3],
  [[5, 12], "atomicCmpxchg that does not", [st(word, 5), mov(r0, 4), mov(r1, 3), insn.atomicCmpxchg(word, r1)], 5],
  [[4, 20], "ldAbs reads the packet", [mov(r6, r1), insn.ldAbs(4, 0)], 0],
  [[5, 5], "probeRead", [st(word, 77), st(at(fp, -16, u64), 0), mov(r6, fp), insn.add(r6, -8),
    insn.probeRead(at(fp, -16, u64), at(r6, u64)), ldx(r0, at(fp, -16, u64))], 77],
  [[4, 20], "lea", [st(word, 9), lea(r2, word), ldx(r0, at(r2, u64))], 9],
];

describe("one promise", () => {
  for (const [since, name, code, r0] of rows) {
    kernelTest(since, name, () => expect(run([code, exit()])).toBe(r0));
  }
});

/** Taken or not, for dst and src as given, in K and X form. */
function taken(mnemonic: string, dst: bigint, src: number): boolean[] {
  const jump = insn[mnemonic as keyof typeof insn] as typeof insn.jeq;
  return [src, r3].map((source) => {
    const yes = label("yes");
    return run([insn.lddw(r2, dst), mov(r3, src), jump(r2, source, yes), insn.ret(0), yes, insn.ret(1)]) ===
      1;
  });
}

const conditions: Record<string, (a: bigint, b: bigint, signedA: bigint, signedB: bigint) => boolean> = {
  jeq: (a, b) => a === b,
  jne: (a, b) => a !== b,
  jgt: (a, b) => a > b,
  jge: (a, b) => a >= b,
  jlt: (a, b) => a < b,
  jle: (a, b) => a <= b,
  jsgt: (_a, _b, a, b) => a > b,
  jsge: (_a, _b, a, b) => a >= b,
  jslt: (_a, _b, a, b) => a < b,
  jsle: (_a, _b, a, b) => a <= b,
  jset: (a, b) => (a & b) !== 0n,
};

describe("conditions", () => {
  for (const [name, holds] of Object.entries(conditions)) {
    for (const bits of [64, 32]) {
      kernelTest([5, 1], `${name}, ${bits} bits`, () => {
        for (
          const [dst, src] of [[5n, 5], [5n, 6], [6n, 5], [-1n, 5], [5n, -1], [-1n, -2], [
            1n << 32n,
            1,
          ]] as const
        ) {
          const unsigned = [dst, BigInt(src)].map((value) => BigInt.asUintN(bits, value)) as [bigint, bigint];
          const signed = [dst, BigInt(src)].map((value) => BigInt.asIntN(bits, value)) as [bigint, bigint];
          const expected = holds(...unsigned, ...signed);
          expect(taken(bits === 64 ? name : `${name}32`, dst, src)).toEqual([expected, expected]);
        }
      });
    }
  }
});
