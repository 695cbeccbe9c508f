/**
 * Classic BPF -> eBPF for the packet as it usually is: a filter that says no where the whole one (cbpf_to_ebpf.ts) would,
 * or leaves the packet to it.
 */
import { BPF_MSH, BPF_RET, type CbpfInsn, classOf, isBranch, SKF_AD_OFF } from "./cbpf.ts";
import { analyse, constantLoads, PLAIN_IPV4_HEADER, stepsOf } from "./cbpf_flow.ts";
import { mode, reads, sizeOf, type Step } from "./cbpf_steps.ts";
import { body, type FilterFrame, initialise, type Usual } from "./cbpf_to_ebpf.ts";
import { wantsA } from "./cbpf_words.ts";
import type { Code, Label } from "./code.ts";
import { ja, r0, type Register } from "./insn.ts";
import { BPF_ABS, BPF_IMM, BPF_IND, BPF_LD, BPF_LDX, BPF_MEM, BPF_ST, BPF_STX } from "./opcodes.ts";

/** As far as the headers that filters ask for reach in every packet over IPv4: Ethernet's, its own, and ports. */
const USUAL_BYTES = 42;
/** Steps of a filter that is worth having twice. */
const MAX_STEPS_TWICE = 100;

/** Registers of a filter for the usual packet, and where it ends; it has r3-r5 too, and no stack. */
export interface UsualFrame {
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
 * where that is not worth it.
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
    .filter(({ offset, size }) => holds(offset, size) && offset + size <= USUAL_BYTES)
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
  return { bytes, code: [initialise(steps, known, whole), body(steps, known, whole, usual)] };
}

function usesScratch({ insn: { code } }: Step): boolean {
  if (classOf(code) === BPF_ST || classOf(code) === BPF_STX) return true;
  return (classOf(code) === BPF_LD || classOf(code) === BPF_LDX) && mode(code) === BPF_MEM;
}

/**
 * The steps without loads that are only tested for what ends in no match, where ports are asked for later: nearly all packets
 * have other ports, and who fails the test that is left out and has those ports goes to the whole filter.
 */
function withoutEarlier(
  steps: readonly Step[],
  isBehind: (step: Step, index: number) => boolean,
): readonly Step[] {
  const wanted = wantsA(steps), later = new Map<number, boolean>(), skipped = new Map<number, number>();
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
    skipped.set(index, skipped.get(way) ?? way);
  }
  const past = (target: number | undefined) => target === undefined ? target : skipped.get(target) ?? target;
  return steps.map((step) => ({ ...step, onTrue: past(step.onTrue), onFalse: past(step.onFalse) }));
}
