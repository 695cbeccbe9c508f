/**
 * A classic program as the translator walks through it, and which of its loads can stay as they lie in memory.
 *
 * Packets are big endian: a load swaps its bytes. But most programs only ask whether a value equals a constant, or has
 * some of its bits; that can as well be asked of the constant swapped, which costs nothing when the program runs.
 */
import { BPF_A, BPF_MISC, BPF_RET, BPF_TXA, type CbpfInsn, classOf, isBranch, SKF_AD_OFF } from "./cbpf.ts";
import {
  BPF_ABS,
  BPF_ALU,
  BPF_IND,
  BPF_JMP,
  BPF_LD,
  BPF_NEG,
  BPF_ST,
  BPF_STX,
  BPF_X,
  jumpOps,
  sizes,
} from "./opcodes.ts";

/** One classic instruction with absolute, forward targets. */
export interface Step {
  readonly insn: CbpfInsn;
  /** ends with no match, whatever the packet */
  readonly fails: boolean;
  /** indexes into the list of steps; undefined: falls to no match */
  readonly onTrue: number | undefined;
  readonly onFalse: number | undefined;
  /** a load whose bytes are not swapped: the constants that they are compared with are */
  readonly asItLies?: boolean;
}

export const mode = (code: number): number => code & 0xe0;
export const operation = (code: number): number => code & 0xf0;
export const usesX = (code: number): boolean => (code & BPF_X) !== 0;

/** Bytes that a load moves. */
export function sizeOf(code: number): 1 | 2 | 4 {
  const bits = code & 0x18;
  return bits === sizes[1].bits ? 1 : bits === sizes[2].bits ? 2 : 4;
}

/** What an instruction reads of the machine's state. */
export function reads({ code }: CbpfInsn): { a: boolean; x: boolean } {
  switch (classOf(code)) {
    case BPF_LD:
      return { a: false, x: mode(code) === BPF_IND };
    case BPF_ST:
      return { a: true, x: false };
    case BPF_STX:
      return { a: false, x: true };
    case BPF_ALU:
      return { a: true, x: usesX(code) && operation(code) !== BPF_NEG };
    case BPF_JMP:
      return { a: isBranch(code), x: isBranch(code) && usesX(code) };
    case BPF_RET:
      return { a: (code & 0x18) === BPF_A, x: false };
    case BPF_MISC:
      return { a: operation(code) !== BPF_TXA, x: operation(code) === BPF_TXA };
    default:
      return { a: false, x: false };
  }
}

/** Values of A that some step cannot tell apart; a link leads to the one that stands for all. */
interface Origin {
  link?: Origin;
  /** bytes of the loads that made it */
  readonly size: number;
  /** nobody asks more than whether it equals a constant or has some of its bits */
  asIs: boolean;
}

function root(origin: Origin): Origin {
  return origin.link === undefined ? origin : root(origin.link);
}

function merge(one: Origin | undefined, other: Origin): Origin {
  if (one === undefined) return other;
  const a = root(one), b = root(other);
  if (a === b) return a;
  a.asIs &&= b.asIs && a.size === b.size;
  return b.link = a;
}

/** The same steps, with constants swapped in place of loads where that can be. They jump forward only. */
export function withoutSwaps(steps: readonly Step[]): Step[] {
  const before: (Origin | undefined)[] = [{ size: 0, asIs: false }]; // A is 0 at first
  const origins = new Map<number, Origin>();
  for (const [index, { insn, fails, onTrue, onFalse }] of steps.entries()) {
    const found = before[index];
    if (found === undefined || fails) continue;
    const made = originOf(insn), origin = made ?? found;
    if (asksTheSame(insn, root(found).size)) origins.set(index, found);
    else if (reads(insn).a) root(found).asIs = false;
    if (made !== undefined) origins.set(index, made);
    for (const next of [onTrue, onFalse]) {
      if (next !== undefined) before[next] = merge(before[next], origin);
    }
  }
  return steps.map((step, index) => {
    const origin = origins.get(index),
      { size, asIs } = origin === undefined ? { size: 0, asIs: false } : root(origin);
    if (!asIs) return step;
    if (!isBranch(step.insn.code)) return { ...step, asItLies: true };
    return { ...step, insn: { ...step.insn, k: swappedNumber(step.insn.k, size) } };
  });
}

/** What the instruction puts into A, if it does. */
function originOf({ code, k }: CbpfInsn): Origin | undefined {
  switch (classOf(code)) {
    case BPF_LD: {
      const fromPacket = mode(code) === BPF_IND || (mode(code) === BPF_ABS && k < SKF_AD_OFF);
      return { size: sizeOf(code), asIs: fromPacket };
    }
    case BPF_ALU:
      return { size: 4, asIs: false };
    case BPF_MISC:
      return operation(code) === BPF_TXA ? { size: 4, asIs: false } : undefined;
    default:
      return undefined;
  }
}

/** Whether it can as well be asked of the bytes the other way round. */
function asksTheSame({ code, k }: CbpfInsn, size: number): boolean {
  if (!isBranch(code) || usesX(code) || k >= 2 ** (8 * size)) return false;
  return operation(code) === jumpOps.jeq.bits || operation(code) === jumpOps.jset.bits;
}

/** A number of so many bytes, the other way round. */
function swappedNumber(value: number, size: number): number {
  let swapped = 0;
  for (let byte = 0; byte < size; byte++) swapped = swapped * 256 + (value >>> 8 * byte & 0xff);
  return swapped;
}
