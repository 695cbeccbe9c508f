/** Memory for evaluation: pieces at addresses, zeros elsewhere. */
import type { Memory } from "../../lib/expr/evaluate.ts";

export const ROOT = 0xffff_8880_0000_1000n;

/** A word: where it lies, how many bytes, its value, little end first. */
export type Word = readonly [address: bigint, size: number, value: bigint];

export function memoryOf(words: readonly Word[], root: bigint = ROOT): Memory {
  const bytes = new Map<bigint, number>();
  for (const [address, size, value] of words) {
    for (let i = 0; i < size; i++) bytes.set(address + BigInt(i), Number(value >> BigInt(8 * i) & 0xffn));
  }
  return {
    root,
    read: (address, size) => Uint8Array.from({ length: size }, (_, i) => bytes.get(address + BigInt(i)) ?? 0),
  };
}
