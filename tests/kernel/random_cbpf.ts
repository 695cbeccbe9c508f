/**
 * Random classic programs: every instruction, in orders that no compiler writes. Jumps go forward; operands are
 * mostly small, so that loads meet packets.
 */
import {
  BPF_MEMWORDS,
  cbpf,
  type CbpfInsn,
  type Instruction,
  instructions,
  isBranch,
} from "../../asm/cbpf.ts";
import type { Random } from "../pcap_filter/generate.ts";

/** Rows that programs consist of; the last instruction is a return. */
const rows = [...instructions];
const returns = rows.filter(([, { mnemonic }]) => mnemonic === "ret").map(([code]) => code);

export function randomCbpf(random: Random, most = 40): CbpfInsn[] {
  const length = 1 + random.below(most);
  const insns = Array.from({ length }, (_, pc): CbpfInsn => {
    const behind = length - 1 - pc; // instructions up to the last one
    if (behind === 0) return { code: random.pick(returns), jt: 0, jf: 0, k: random.below(2) };
    const [code, row] = random.pick(rows);
    // a return in the middle is rare, or programs would be short
    if (row.mnemonic === "ret" && random.chance(80)) return { code: cbpf.txa, jt: 0, jf: 0, k: 0 };
    const far = () => random.below(Math.min(behind, 4));
    return isBranch(code)
      ? { code, jt: far(), jf: far(), k: operand(random, row, behind) }
      : { code, jt: 0, jf: 0, k: operand(random, row, behind) };
  });
  return insns;
}

function operand(random: Random, { operand, mnemonic }: Instruction, behind: number): number {
  switch (operand) {
    case "jump":
      return random.below(Math.min(behind, 4));
    case "scratch":
      return random.below(random.chance(85) ? 2 : BPF_MEMWORDS);
    case "packet":
    case "indexed":
    case "nibble":
      return random.weighted<() => number>([
        [20, () => random.below(48)],
        [4, () => random.below(300)],
        [1, () => random.pick([0xffff, 0x7fffffff, 0x80000000, 0xfffff000, 0xfffff004, 0xffffffff])],
      ])();
    default:
      if (mnemonic === "lsh" || mnemonic === "rsh") return random.below(32);
      return random.weighted<() => number>([
        [12, () => 1 + random.below(64)],
        [3, () => random.pick([0xff, 0x100, 0xffff, 0x10000])],
        [operand !== "x" && (mnemonic === "div" || mnemonic === "mod") ? 0 : 2, () => 0],
        [2, () => random.pick([0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff])],
      ])();
  }
}
