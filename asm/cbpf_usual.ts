/**
 * Classic BPF -> eBPF for the packet as it usually is: a filter that says no where the whole one (cbpf_to_ebpf.ts) would,
 * or leaves the packet to it.
 */
import { BPF_A, BPF_MSH, BPF_RET, type CbpfInsn, classOf, isBranch, SKF_AD_OFF } from "./cbpf.ts";
import { analyse, constantLoads, PLAIN_IPV4_HEADER, stepsOf } from "./cbpf_flow.ts";
import { mode, reads, sizeOf, type Step } from "./cbpf_steps.ts";
import { body, type FilterFrame, initialise, type Usual } from "./cbpf_to_ebpf.ts";
import { wantsA } from "./cbpf_words.ts";
import type { Code, Label } from "./code.ts";
import { ja, r0, type Register } from "./insn.ts";
import { BPF_ABS, BPF_IMM, BPF_IND, BPF_LD, BPF_LDX, BPF_MEM, BPF_ST, BPF_STX } from "./opcodes.ts";

/** Steps of a filter that is worth having twice. */
const MAX_STEPS_TWICE = 100;

/** Registers of a filter for the usual packet, and where it ends; it has r3-r5 too, and no stack. */
export interface UsualFrame {
  /** of the packet that the usual one has at least: what lies behind is not asked for here */
  readonly bytes: number;
  /** Whether `load` can serve this place. */
  holds(offset: number, size: number): boolean;
  /** dst = bytes that are there, in memory order, touching nothing else */
  load(dst: Register, offset: number, size: 1 | 2 | 4 | 8): Code;
  readonly a: Register;
  readonly x: Register;
  readonly noMatch: Label;
  /** the packet matches, or is not as usual */
  readonly perhaps: Label;
}

/** A filter that can say no to usual packets. */
export interface UsualFilter {
  /** of the packet that have to be there before it runs */
  readonly bytes: number;
  readonly code: Code;
}

/**
 * The filter for the packet as it usually is: its headers are there and have no IPv4 options, so that everything lies at
 * a constant place, loads need no check, and neighbours are loaded together. It says no, or goes to `perhaps`. Undefined
 * where it could not say no, or is not worth having twice.
 */
export function usualCbpfToEbpf(program: readonly CbpfInsn[], frame: UsualFrame): UsualFilter | undefined {
  const { a, x, holds, load, noMatch, perhaps } = frame;
  const general = stepsOf(program, { a, ancillary: () => [] }), generally = analyse(general);
  if (general.length > MAX_STEPS_TWICE || general.some(usesScratch)) return undefined;
  const isBehind = ({ insn: { code }, fails }: Step, index: number) =>
    generally[index]?.msh !== undefined && !fails && classOf(code) === BPF_LD && mode(code) === BPF_IND;
  const steps = withoutEarlier(general, isBehind).map((step, index): Step => {
    const { insn } = step;
    if (!isBehind(step, index)) return step;
    return { ...step, insn: { ...insn, code: insn.code ^ BPF_IND ^ BPF_ABS, k: insn.k + PLAIN_IPV4_HEADER } };
  });
  const ends = constantLoads(steps, analyse(steps), false)
    .filter(({ offset, size }) => holds(offset, size) && offset + size <= frame.bytes)
    .map(({ offset, size }) => offset + size);
  if (ends.length === 0) return undefined;
  const bytes = Math.max(...ends), known = analyse(steps, bytes);
  const whole: FilterFrame = {
    access: {
      open: () => [],
      holds,
      constant: (dst, offset, size) => load(dst, offset, size as 1 | 2 | 4),
      variable: () => ja(perhaps),
      prefersConstant: false,
      word: load,
    },
    a,
    x,
    length: r0,
    wireLength: () => ja(perhaps),
    scratch: 0,
    match: perhaps,
    noMatch,
  };
  const usual: Usual = {
    perhaps,
    needsX: steps.some(({ insn }) => reads(insn).x),
    covers: ({ insn: { code, k } }) => {
      switch (classOf(code)) {
        case BPF_LD:
          return mode(code) === BPF_IMM || (mode(code) === BPF_ABS && k + sizeOf(code) <= bytes);
        case BPF_LDX:
          return mode(code) === BPF_IMM || (mode(code) === BPF_MSH && k < bytes);
        default:
          return true;
      }
    },
  };
  if (!saysNo(steps, usual.covers)) return undefined;
  return { bytes, code: [initialise(steps, known, whole), body(steps, known, whole, usual)] };
}

function usesScratch({ insn: { code } }: Step): boolean {
  if (classOf(code) === BPF_ST || classOf(code) === BPF_STX) return true;
  return (classOf(code) === BPF_LD || classOf(code) === BPF_LDX) && mode(code) === BPF_MEM;
}

/** Whether there is a way to no match, of the steps that there is code for. */
function saysNo(steps: readonly Step[], covers: Usual["covers"]): boolean {
  const reached = new Set([0]);
  for (const index of reached) { // what is added has its turn too
    const step = steps[index] as Step, { insn: { code, k }, fails, onTrue, onFalse } = step;
    if (fails) return true;
    if (!covers(step)) continue;
    if (classOf(code) === BPF_RET) {
      if (k === 0 || isRetA(code)) return true;
      continue;
    }
    for (const target of isBranch(code) ? [onTrue, onFalse] : [onTrue]) {
      if (target === undefined) return true;
      reached.add(target);
    }
  }
  return false;
}

const isRetA = (code: number): boolean => (code & 0x18) === BPF_A;

/**
 * The steps without loads that are only tested for what ends in no match, where ports are asked for later: nearly all packets
 * have other ports. Those with the right ones are asked what was left out at the end, if no other way leads there; else they
 * go to the whole filter.
 */
function withoutEarlier(
  steps: readonly Step[],
  isBehind: (step: Step, index: number) => boolean,
): readonly Step[] {
  const skips = skippable(steps, isBehind);
  const past = (target: number | undefined) =>
    target === undefined ? target : skips.get(target)?.to ?? target;
  const moved = steps.map((step) => ({ ...step, onTrue: past(step.onTrue), onFalse: past(step.onFalse) }));
  for (const last of new Set(skips.values().map(({ passed }) => passed.at(-1)))) {
    askLast(steps, moved, skips, last as number);
  }
  return moved;
}

/** Where one comes to that passes over loads and their tests, and those loads. */
interface Skip {
  readonly to: number;
  readonly passed: readonly number[];
}

function skippable(
  steps: readonly Step[],
  isBehind: (step: Step, index: number) => boolean,
): ReadonlyMap<number, Skip> {
  const wanted = wantsA(steps), later = new Map<number, boolean>(), skips = new Map<number, Skip>();
  for (let index = steps.length - 1; index >= 0; index--) {
    const step = steps[index] as Step, { insn: { code, k }, onTrue, onFalse } = step;
    const next = [onTrue, onFalse].filter((target) => target !== undefined);
    const matches = classOf(code) === BPF_RET;
    later.set(
      index,
      isBehind(step, index) || (!matches && next.every((target) => later.get(target) === true)),
    );
    const test = onTrue === undefined ? undefined : steps[onTrue];
    const isLoad = classOf(code) === BPF_LD && mode(code) === BPF_ABS && k < SKF_AD_OFF && !step.fails;
    if (!isLoad || test === undefined || !isBranch(test.insn.code)) continue;
    const ways = [test.onTrue, test.onFalse].filter((target) => target !== undefined), [way] = ways;
    if (way === undefined || ways.length > 1 || wanted[way] === true || later.get(way) !== true) continue;
    const { to, passed } = skips.get(way) ?? { to: way, passed: [] };
    skips.set(index, { to, passed: [index, ...passed] });
  }
  return skips;
}

/**
 * Adds what was passed over, up to load `last`, behind all steps, for packets that match; `moved` are the steps that pass
 * over it. Nothing where a way leads there that did not.
 */
function askLast(
  steps: readonly Step[],
  moved: Step[],
  skips: ReadonlyMap<number, Skip>,
  last: number,
): void {
  const { to } = skips.get(last) as Skip;
  const matches = (index: number) => {
    const { insn: { code, k }, fails } = moved[index] as Step;
    return !fails && classOf(code) === BPF_RET && !isRetA(code) && k !== 0;
  };
  const behind = reachedFrom(moved, to), match = [...behind].find(matches);
  if (match === undefined) return;
  let passed: readonly number[] | undefined;
  for (const index of reachedFrom(moved, 0)) {
    if (behind.has(index)) continue;
    const before = targetsOf(steps[index] ?? moved[index] as Step), after = targetsOf(moved[index] as Step);
    for (const [i, target] of after.entries()) {
      if (!behind.has(target) || matches(target)) continue;
      const skip = skips.get(before[i] as number);
      if (skip?.passed.at(-1) !== last) return;
      if (passed === undefined || skip.passed.length < passed.length) passed = skip.passed; // what all of them passed
    }
  }
  const asked = moved.length;
  const redirected = (target: number | undefined) => target !== undefined && matches(target) ? asked : target;
  for (const index of behind) {
    const step = moved[index] as Step;
    moved[index] = { ...step, onTrue: redirected(step.onTrue), onFalse: redirected(step.onFalse) };
  }
  for (const index of passed ?? []) {
    const load = steps[index] as Step, test = steps[load.onTrue as number] as Step, next = moved.length + 2;
    const onward = (target: number | undefined) => target === undefined ? target : next;
    moved.push({ ...load, onTrue: next - 1 }, {
      ...test,
      onTrue: onward(test.onTrue),
      onFalse: onward(test.onFalse),
    });
  }
  moved.push(moved[match] as Step);
}

const targetsOf = ({ onTrue, onFalse }: Step): number[] =>
  [onTrue, onFalse].filter((target) => target !== undefined);

function reachedFrom(steps: readonly Step[], start: number): ReadonlySet<number> {
  const reached = new Set([start]);
  for (const index of reached) for (const target of targetsOf(steps[index] as Step)) reached.add(target);
  return reached;
}
