/**
 * Which loads of a classic program one load can serve. Where memory is read directly, the kernel checks each
 * load's address (eight instructions on x86-64), and the fields of a header that a filter asks for are neighbours.
 *
 * A word never reaches beyond what is known to be there of the packet: memory might end where the packet does, and what
 * is partly unreadable reads as 0.
 */
import { BPF_LEN, BPF_MSH, classOf, isBranch, SKF_AD_OFF } from "./cbpf.ts";
import { mode, operation, reads, sizeOf, type Step, usesX } from "./cbpf_steps.ts";
import { r3, r4, r5, type Register } from "./insn.ts";
import { BPF_ABS, BPF_IND, BPF_LD, BPF_LDX, jumpOps } from "./opcodes.ts";

/** Where a load finds its bytes. */
export interface Word {
  /** kept from the first load that is served to the last */
  readonly register: Register;
  /** in the packet, of its first byte */
  readonly offset: number;
  readonly size: 1 | 2 | 4 | 8;
  /** whether it is still to be loaded */
  readonly first: boolean;
}

const WORD_SIZES = [1, 2, 4, 8] as const, MAX_WORD = 8;
/** Free between loads at constant places: those need r1 and r2 at most. */
const pool: readonly Register[] = [r5, r4, r3];

interface ConstantLoad {
  readonly index: number;
  readonly offset: number;
  readonly size: number;
}

/**
 * @param reached the steps that there is code for, in its order
 * @param checked how many bytes of the packet are certainly there before each step
 */
export function sharedWords(
  steps: readonly Step[],
  reached: readonly number[],
  checked: (index: number) => number,
  holds: (offset: number, size: number) => boolean,
): ReadonlyMap<number, Word> {
  const words = new Map<number, Word>();
  for (const chain of chains(steps, reached)) {
    let loads = chain.flatMap((index) => constantLoad(steps[index] as Step, index));
    const free = [...pool];
    while (loads.length > 1) {
      const [{ index, offset: begin, size }] = loads as [ConstantLoad];
      const end = Math.max(checked(index), begin + size), { group, from, to } = neighbours(loads, end);
      const bytes = WORD_SIZES.find((bytes) => bytes >= to - from)!, offset = Math.min(from, end - bytes);
      loads = loads.filter((load) => !group.includes(load));
      if (group.length < 2 || offset < 0 || !holds(offset, bytes)) continue;
      const register = free.shift();
      if (register === undefined) break;
      for (const [position, { index }] of group.entries()) {
        words.set(index, { register, offset, size: bytes, first: position === 0 });
      }
    }
  }
  return words;
}

/** Where in a word a value is that a step asks for. */
export interface Bits {
  readonly register: Register;
  readonly shift: number;
}

/**
 * Loads from words whose value only the next step wants, to know whether it has some bits or is all of the word: that
 * is asked of the word. Both steps are in the result.
 */
export function testedInWord(
  steps: readonly Step[],
  reached: readonly number[],
  words: ReadonlyMap<number, Word>,
): ReadonlyMap<number, Bits> {
  const wanted = wantsA(steps), from = entries(steps, reached), tested = new Map<number, Bits>();
  const alive = (index: number | undefined) => index !== undefined && wanted[index] === true;
  for (const [index, { register, offset, size }] of words) {
    const { insn: { code, k }, onTrue: next, asItLies = false } = steps[index] as Step;
    const loaded = sizeOf(code), bits = { register, shift: 8 * (k - offset) };
    const swapped = loaded > 1 && !asItLies, beyond = bits.shift + 8 * loaded > 32;
    if (classOf(code) !== BPF_LD || swapped || beyond || next === undefined) continue;
    const { insn: test, onTrue, onFalse } = steps[next] as Step;
    if (from.get(next)?.length !== 1 || alive(onTrue) || alive(onFalse)) continue;
    const canAsk = operation(test.code) === jumpOps.jset.bits || loaded === size;
    if (!isBranch(test.code) || usesX(test.code) || !canAsk) continue;
    tested.set(index, bits).set(next, bits);
  }
  return tested;
}

/** Whether A is read from each step on before it is written. They jump forward only. */
export function wantsA(steps: readonly Step[]): boolean[] {
  const wanted: boolean[] = [];
  for (let index = steps.length - 1; index >= 0; index--) {
    const { insn, onTrue, onFalse } = steps[index] as Step;
    const later = [onTrue, onFalse].some((next) => next !== undefined && wanted[next] === true);
    wanted[index] = reads(insn).a || (classOf(insn.code) !== BPF_LD && later);
  }
  return wanted;
}

/** The steps from which each is reached. */
function entries(steps: readonly Step[], reached: readonly number[]): ReadonlyMap<number, readonly number[]> {
  const comesFrom = new Map<number, number[]>();
  for (const index of reached) {
    const { onTrue, onFalse } = steps[index] as Step;
    for (const next of new Set([onTrue, onFalse])) {
      if (next !== undefined) comesFrom.set(next, [...comesFrom.get(next) ?? [], index]);
    }
  }
  return comesFrom;
}

/** Steps of which each is reached only from the one before it, and none but the last loses the registers. */
function chains(steps: readonly Step[], reached: readonly number[]): number[][] {
  const comesFrom = entries(steps, reached);
  const all: number[][] = [];
  let before: number | undefined;
  for (const index of reached) {
    const from = comesFrom.get(index) ?? [];
    const goesOn = before !== undefined && from.length === 1 && from[0] === before &&
      !losesRegisters(steps[before] as Step);
    if (goesOn) all.at(-1)!.push(index);
    else all.push([index]);
    before = index;
  }
  return all;
}

function losesRegisters({ insn: { code, k } }: Step): boolean {
  if (classOf(code) !== BPF_LD && classOf(code) !== BPF_LDX) return false;
  return mode(code) === BPF_IND || mode(code) === BPF_LEN || (mode(code) === BPF_ABS && k >= SKF_AD_OFF);
}

function constantLoad({ insn: { code, k }, fails }: Step, index: number): ConstantLoad[] {
  if (fails) return [];
  if (classOf(code) === BPF_LDX && mode(code) === BPF_MSH) return [{ index, offset: k, size: 1 }];
  if (classOf(code) !== BPF_LD || mode(code) !== BPF_ABS || k >= SKF_AD_OFF) return [];
  return [{ index, offset: k, size: sizeOf(code) }];
}

/** The first load, and those after it that fit into one word with it, which ends at `last` at the latest; their bytes. */
function neighbours(
  loads: readonly ConstantLoad[],
  last: number,
): { group: ConstantLoad[]; from: number; to: number } {
  const group: ConstantLoad[] = [];
  let from = Infinity, to = -Infinity;
  for (const load of loads) {
    const begin = Math.min(from, load.offset), end = Math.max(to, load.offset + load.size);
    if (end - begin > MAX_WORD || end > last) continue;
    [from, to] = [begin, end];
    group.push(load);
  }
  return { group, from, to };
}
