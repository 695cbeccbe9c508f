/**
 * A classic program as a flow of steps that only goes forward, and what is known before each of them.
 */
import { BPF_MISC, BPF_MSH, BPF_RET, BPF_TXA, type CbpfInsn, classOf, isBranch, SKF_AD_OFF } from "./cbpf.ts";
import { mode, operation, sizeOf, type Step, usesX, withoutSwaps } from "./cbpf_steps.ts";
import type { Code } from "./code.ts";
import { AssemblyError } from "./errors.ts";
import type { Register } from "./insn.ts";
import {
  aluOps,
  BPF_ABS,
  BPF_ALU,
  BPF_IMM,
  BPF_IND,
  BPF_JA,
  BPF_JMP,
  BPF_LD,
  BPF_LDX,
  BPF_ST,
  BPF_STX,
} from "./opcodes.ts";

/** Turns of a loop (IPv6 extension headers, for `protochain`) before a filter gives up. */
export const MAX_LOOPS = 8;

/** Bytes of the packet, `size` at `offset` from its first byte. */
export interface PacketLoad {
  readonly offset: number;
  readonly size: number;
}

/** What a program may ask for that is not among the packet's bytes. */
export interface AncillaryFrame {
  /** the accumulator, lost: one that calls keep, where code for some step makes any */
  readonly a: Register;
  /** dst = a Linux ancillary word (`offset` counts from SKF_AD_OFF), or undefined: then no packet matches */
  readonly ancillary?: (dst: Register, offset: number) => Code | undefined;
}

/** What is known before a step, on every path to it. */
export interface Known {
  /** bytes of the packet that are certainly there */
  readonly checked: number;
  readonly a: boolean;
  readonly x: boolean;
  /** bit n: M[n] was written */
  readonly scratch: number;
  readonly xNotZero: boolean;
  /** X holds 4 * (packet[msh] & 15), the length of an IPv4 header */
  readonly msh: number | undefined;
}

const nothingKnown: Known = { checked: 0, a: false, x: false, scratch: 0, xNotZero: false, msh: undefined };

function join(one: Known | undefined, other: Known): Known {
  if (one === undefined) return other;
  return {
    checked: Math.min(one.checked, other.checked),
    a: one.a && other.a,
    x: one.x && other.x,
    scratch: one.scratch & other.scratch,
    xNotZero: one.xNotZero && other.xNotZero,
    msh: one.msh === other.msh ? one.msh : undefined,
  };
}

/**
 * A load that no packet is long enough for, or a division by the constant 0: the packet does not match.
 * The place of an ancillary word that the frame does not have is far behind every packet too.
 */
function alwaysFails({ code, k }: CbpfInsn, { ancillary, a }: AncillaryFrame): boolean {
  if (classOf(code) === BPF_LD && mode(code) === BPF_ABS) {
    if (k >= SKF_AD_OFF && ancillary?.(a, k - SKF_AD_OFF) !== undefined) return false;
    return k + sizeOf(code) > 0x7fffffff;
  }
  if (classOf(code) === BPF_LD && mode(code) === BPF_IND) return k + sizeOf(code) > 0x7fffffff;
  if (classOf(code) === BPF_LDX && mode(code) === BPF_MSH) return k >= 0x7fffffff;
  return classOf(code) === BPF_ALU && divides(code) && !usesX(code) && k === 0;
}

export function divides(code: number): boolean {
  return operation(code) === aluOps.div.bits || operation(code) === aluOps.mod.bits;
}

/** The header length that nearly every IPv4 packet has. */
export const PLAIN_IPV4_HEADER = 20;

/**
 * The program as steps.
 *
 * @throws {AssemblyError} a jump that leaves it
 */
export const stepsOf = (program: readonly CbpfInsn[], frame: AncillaryFrame): Step[] =>
  withoutSwaps(withoutDetours(unroll(program, frame)));

/**
 * Targets made absolute, loops unrolled: copy n of the program is entered by the n-th backward jump.
 * Afterwards every jump goes forward, and a step that nothing reaches is left out (the verifier refuses dead code).
 */
function unroll(program: readonly CbpfInsn[], frame: AncillaryFrame): Step[] {
  const targetOf = (index: number, distance: number) => index + 1 + distance;
  const heads = program.flatMap(({ code, k }, index) => {
    const target = targetOf(index, k | 0);
    return code === (BPF_JMP | BPF_JA) && target <= index ? [target] : [];
  });
  const first = heads.length === 0 ? program.length : Math.min(...heads);
  const copies = heads.length === 0 ? 0 : MAX_LOOPS;
  const tail = program.length - first;
  /** where instruction `index` of copy `copy` lies */
  const place = (copy: number, index: number) => {
    if (index < 0 || index >= program.length) {
      throw new AssemblyError(`Classic jump to ${index} leaves the program`);
    }
    return copy === 0 ? index : program.length + (copy - 1) * tail + index - first;
  };
  const steps: Step[] = [];
  for (let copy = 0; copy <= copies; copy++) {
    for (let index = copy === 0 ? 0 : first; index < program.length; index++) {
      const insn = program[index] as CbpfInsn;
      const to = (distance: number) => {
        const target = targetOf(index, distance);
        if (target > index) return place(copy, target);
        return copy < copies ? place(copy + 1, target) : undefined;
      };
      const fails = alwaysFails(insn, frame), isJa = insn.code === (BPF_JMP | BPF_JA);
      if (fails || classOf(insn.code) === BPF_RET) {
        steps.push({ insn, fails, onTrue: undefined, onFalse: undefined });
      } else if (isBranch(insn.code)) {
        steps.push({ insn, fails, onTrue: to(insn.jt), onFalse: to(insn.jf) });
      } else steps.push({ insn, fails, onTrue: to(isJa ? insn.k | 0 : 0), onFalse: undefined });
    }
  }
  return steps;
}

/** Who would go to a step that says "no match" goes there at once. */
function withoutDetours(steps: readonly Step[]): Step[] {
  const direct = (target: number | undefined) => {
    if (target === undefined) return undefined;
    const { code, k } = (steps[target] as Step).insn;
    return code === BPF_RET && k === 0 ? undefined : target;
  };
  return steps.map((step) => ({ ...step, onTrue: direct(step.onTrue), onFalse: direct(step.onFalse) }));
}

/** Forward data flow, where so many bytes are there at the start; a step that nothing reaches stays undefined. */
export function analyse(steps: readonly Step[], checked = 0): (Known | undefined)[] {
  const known: (Known | undefined)[] = new Array(steps.length).fill(undefined);
  known[0] = { ...nothingKnown, checked };
  for (const [index, { insn, onTrue, onFalse }] of steps.entries()) {
    const before = known[index];
    if (before === undefined) continue;
    const after = effect(insn, before);
    if (onTrue !== undefined) known[onTrue] = join(known[onTrue], after);
    if (onFalse !== undefined) known[onFalse] = join(known[onFalse], after);
  }
  return known;
}

function effect({ code, k }: CbpfInsn, known: Known): Known {
  const newA = { ...known, a: true }, newX = { ...known, x: true, xNotZero: false, msh: undefined };
  switch (classOf(code)) {
    case BPF_LD:
      if (mode(code) !== BPF_ABS || k >= SKF_AD_OFF) return newA;
      return { ...newA, checked: Math.max(known.checked, k + sizeOf(code)) };
    case BPF_LDX:
      if (mode(code) === BPF_MSH) return { ...newX, checked: Math.max(known.checked, k + 1), msh: k };
      return { ...newX, xNotZero: mode(code) === BPF_IMM && k !== 0 };
    case BPF_ST:
    case BPF_STX:
      return { ...known, scratch: known.scratch | (1 << k) };
    case BPF_ALU:
      return { ...newA, xNotZero: known.xNotZero || (divides(code) && usesX(code)) };
    case BPF_MISC:
      return operation(code) === BPF_TXA ? newA : newX;
    default:
      return known;
  }
}

/** The loads at constant offsets, and those that are constant when the IPv4 header has no options. */
export function constantLoads(
  steps: readonly Step[],
  known: readonly (Known | undefined)[],
  plain: boolean,
): PacketLoad[] {
  return steps.flatMap(({ insn, fails }, index) => {
    const before = known[index], { code, k } = insn;
    if (before === undefined || fails) return [];
    if (classOf(code) === BPF_LDX && mode(code) === BPF_MSH) return [{ offset: k, size: 1 }];
    if (classOf(code) !== BPF_LD) return [];
    if (mode(code) === BPF_ABS && k < SKF_AD_OFF) return [{ offset: k, size: sizeOf(code) }];
    if (plain && mode(code) === BPF_IND && before.msh !== undefined) {
      return [{ offset: k + PLAIN_IPV4_HEADER, size: sizeOf(code) }];
    }
    return [];
  });
}
