/**
 * Classic BPF -> eBPF: the packet filters that people write, as a fragment of a tracing program.
 *
 * A tracing program has no packet pointers, so the fragment checks each load against the packet's length
 * and reads through a `PacketAccess`, which knows how this kernel lets memory be read. The meaning is
 * that of a classic interpreter: a load beyond the packet, or a division by zero, is "no match"; a shift
 * by 32 or more gives 0; A, X and the scratch words start as 0.
 *
 * Backward jumps (`protochain`) are unrolled: a packet that takes more than `MAX_LOOPS` turns does not match
 * (cbpf_flow.ts).
 */
import {
  BPF_A,
  BPF_LEN,
  BPF_MEMWORDS,
  BPF_MISC,
  BPF_MSH,
  BPF_RET,
  BPF_TXA,
  type CbpfInsn,
  classOf,
  isBranch,
  SKF_AD_OFF,
} from "./cbpf.ts";
import {
  analyse,
  type AncillaryFrame,
  constantLoads,
  type Known,
  type PacketLoad,
  PLAIN_IPV4_HEADER,
  stepsOf,
} from "./cbpf_flow.ts";
import { mode, operation, reads, sizeOf, type Step, usesX } from "./cbpf_steps.ts";
import { type Bits, sharedWords, testedInWord, type Word } from "./cbpf_words.ts";
import { type Code, Label, label } from "./code.ts";
import { AssemblyError } from "./errors.ts";
import {
  add,
  add32,
  and32,
  at,
  be,
  div32,
  extract,
  fp,
  ja,
  jeq32,
  jge32,
  jgt,
  jgt32,
  jle32,
  jlt32,
  jne32,
  jset32,
  ldx,
  lsh32,
  mod32,
  mov,
  mov32,
  mul32,
  neg32,
  or32,
  r1,
  r2,
  type Register,
  rsh32,
  stx,
  sub32,
  xor32,
} from "./insn.ts";
import { u32 } from "./layout.ts";
import {
  aluOps,
  BPF_ABS,
  BPF_ALU,
  BPF_IMM,
  BPF_IND,
  BPF_LD,
  BPF_LDX,
  BPF_MEM,
  BPF_NEG,
  BPF_ST,
  BPF_STX,
  jumpOps,
  sizes,
} from "./opcodes.ts";

/** How a packet's bytes come into a register, in memory order. No bounds check: the translator has made it. */
export interface PacketAccess {
  /** Code that runs once, before any load; `loads` are the constant ones. Loses r0-r5. */
  open(loads: readonly PacketLoad[]): Code;
  /** Whether `constant` can serve this place. */
  holds(offset: number, size: number): boolean;
  /** dst = bytes at a constant offset. Loses r1 at most. */
  constant(dst: Register, offset: number, size: number): Code;
  /** dst = bytes at the offset in a register other than r1 and r3, and a constant more. Loses r0-r5. */
  variable(dst: Register, offset: Register, more: number, size: number): Code;
  /** A constant load is so much cheaper that the usual IPv4 header without options deserves a path of its own. */
  readonly prefersConstant: boolean;
  /** dst = bytes at a constant offset that all are there, touching nothing else; absent where it does not pay off */
  word?(dst: Register, offset: number, size: 1 | 2 | 4 | 8): Code;
}

/** Registers and stack of the fragment, and where it ends. */
export interface FilterFrame extends AncillaryFrame {
  readonly access: PacketAccess;
  /** the index, likewise */
  readonly x: Register;
  /** bytes that can be read, kept */
  readonly length: Register;
  /** dst = the packet's length on the wire */
  readonly wireLength: (dst: Register) => Code;
  /** 16 words of 4 bytes at fp + this */
  readonly scratch: number;
  readonly match: Label;
  readonly noMatch: Label;
  /** where a load behind `length` goes; default: `noMatch` */
  readonly tooShort?: Label;
}

/**
 * The filter as a fragment: goes to `frame.match` or `frame.noMatch`. Loses r0-r5, A and X.
 *
 * @throws {AssemblyError} an instruction that classic BPF does not have
 */
export function cbpfToEbpf(program: readonly CbpfInsn[], frame: FilterFrame): Code {
  const steps = stepsOf(program, frame), known = analyse(steps), { access } = frame;
  return [
    access.open(constantLoads(steps, known, access.prefersConstant)),
    initialise(steps, known, frame),
    body(steps, known, frame),
  ];
}

/** What a filter for the usual packet takes for granted (cbpf_usual.ts). */
export interface Usual {
  /** whether there is code for a step */
  covers(step: Step): boolean;
  /** where packets go that are otherwise */
  readonly perhaps: Label;
  /** whether the length of an IPv4 header is of use, once it is known to be 20 */
  readonly needsX: boolean;
}

/** The code of the steps, where so much is known before each. */
export function body(
  steps: readonly Step[],
  known: readonly (Known | undefined)[],
  frame: FilterFrame,
  usual?: Usual,
): Code {
  const labels = steps.map((_, index) => label(`filter_${index}`));
  const targets = new Set(steps.flatMap(({ onTrue, onFalse }, index) => {
    if (known[index] === undefined) return [];
    return [onTrue, onFalse].filter((target) => target !== undefined);
  }));
  const reached = steps.keys().filter((index) => known[index] !== undefined).toArray();
  const { access } = frame, code: Code[] = [];
  const words = access.word === undefined
    ? new Map<number, Word>()
    : sharedWords(steps, reached, (index) => (known[index] as Known).checked, access.holds);
  const tested = testedInWord(steps, reached, words);
  for (const [position, index] of reached.entries()) {
    if (targets.has(index)) code.push(labels[index] as Label);
    const labelOf: LabelOf = (target) => target === undefined ? frame.noMatch : labels[target] as Label;
    const place: Place = {
      known: known[index] as Known,
      word: words.get(index),
      tested: tested.get(index),
      usual,
    };
    const step = steps[index] as Step;
    const covered = usual === undefined || step.fails || usual.covers(step);
    code.push(
      covered ? emit(step, place, frame, labelOf, reached[position + 1] ?? NOWHERE) : ja(usual.perhaps),
    );
  }
  return code;
}

/** Zeroes what some path reads before it writes: A, X, scratch words. */
export function initialise(
  steps: readonly Step[],
  known: readonly (Known | undefined)[],
  { a, x, scratch }: FilterFrame,
): Code {
  let needA = false, needX = false, words = 0;
  for (const [index, { insn }] of steps.entries()) {
    const before = known[index];
    if (before === undefined) continue;
    needA ||= reads(insn).a && !before.a;
    needX ||= reads(insn).x && !before.x;
    const isLoad = classOf(insn.code) === BPF_LD || classOf(insn.code) === BPF_LDX;
    if (isLoad && mode(insn.code) === BPF_MEM) words |= (1 << insn.k) & ~before.scratch;
  }
  const zeroed = [...Array(BPF_MEMWORDS).keys()].filter((word) => words & (1 << word));
  return [
    needA ? mov(a, 0) : [],
    needX ? mov(x, 0) : [],
    zeroed.length === 0
      ? []
      : [mov(r1, 0), ...zeroed.map((word) => stx(at(fp, scratch + 4 * word, u32), r1))],
  ];
}

/** What a step's code depends on beside the step. */
interface Place {
  readonly known: Known;
  /** where its bytes are, if it is a load that shares one with others */
  readonly word: Word | undefined;
  /** of a load that only the next step wants, and of that step: asked of the word itself */
  readonly tested: Bits | undefined;
  readonly usual: Usual | undefined;
}

type LabelOf = (step: number | undefined) => Label;

/** In place of the step whose code follows, where none does. */
const NOWHERE = -1;

/** One step. `next` is the step whose code follows. */
function emit(
  { insn, fails, onTrue, onFalse, asItLies = false }: Step,
  place: Place,
  frame: FilterFrame,
  labelOf: LabelOf,
  next: number,
): Code {
  const { a, x, match, noMatch } = frame, { code, k } = insn;
  if (fails) return ja(noMatch);
  const goOn = onTrue === next ? [] : ja(labelOf(onTrue));
  switch (classOf(code)) {
    case BPF_LD:
      return [load(insn, a, place, frame, asItLies), goOn];
    case BPF_LDX:
      return [load(insn, x, place, frame), goOn];
    case BPF_ST:
      return [stx(scratchWord(frame, k), a), goOn];
    case BPF_STX:
      return [stx(scratchWord(frame, k), x), goOn];
    case BPF_ALU:
      return [arithmetic(insn, place.known, frame), goOn];
    case BPF_MISC:
      return [operation(code) === BPF_TXA ? mov32(a, x) : mov32(x, a), goOn];
    case BPF_RET:
      if ((code & 0x18) === BPF_A) return [jeq32(a, 0, noMatch), ja(match)];
      return ja(k === 0 ? noMatch : match);
    default:
      return isBranch(code) ? branch(insn, onTrue, onFalse, place.tested, frame, labelOf, next) : goOn;
  }
}

function scratchWord({ scratch }: FilterFrame, word: number) {
  if (word >= BPF_MEMWORDS) throw new AssemblyError(`Scratch word ${word} does not exist`);
  return at(fp, scratch + 4 * word, u32);
}

/** A or X = what a load instruction names. */
function load(
  { code, k }: CbpfInsn,
  dst: Register,
  place: Place,
  frame: FilterFrame,
  asItLies = false,
): Code {
  const { access, length, tooShort = frame.noMatch } = frame, { known } = place;
  switch (mode(code)) {
    case BPF_IMM:
      return mov32(dst, k);
    case BPF_LEN:
      return frame.wireLength(dst);
    case BPF_MEM:
      return ldx(dst, scratchWord(frame, k));
    case BPF_MSH:
      return headerLength(k, place, frame);
    case BPF_ABS: {
      const word = k < SKF_AD_OFF ? undefined : frame.ancillary?.(dst, k - SKF_AD_OFF);
      return word ?? [bytes({ code, k }, dst, place, frame), asItLies ? [] : swapped(dst, sizeOf(code))];
    }
    case BPF_IND: {
      const size = sizeOf(code), done = label("loaded"), slow = label("with_options");
      const checked: Code = [
        mov(r1, frame.x),
        add(r1, k + size),
        jgt(r1, length, tooShort),
        access.variable(dst, frame.x, k, size),
      ];
      const plain = k + PLAIN_IPV4_HEADER;
      if (!access.prefersConstant || known.msh === undefined || !access.holds(plain, size)) {
        return [checked, asItLies ? [] : swapped(dst, size)];
      }
      return [
        jne32(frame.x, PLAIN_IPV4_HEADER, slow),
        plain + size <= known.checked ? [] : jlt32(length, plain + size, tooShort),
        access.constant(dst, plain, size),
        ja(done),
        slow,
        checked,
        done,
        asItLies ? [] : swapped(dst, size),
      ];
    }
    default:
      throw new AssemblyError(`Classic instruction 0x${code.toString(16)} does not exist`);
  }
}

/** dst = packet bytes at a constant offset, as they lie; of what shares a word, the lowest `bits`. */
function bytes(
  { code, k }: { code: number; k: number },
  dst: Register,
  { known, word, tested }: Place,
  frame: FilterFrame,
  bits: number = 8 * sizeOf(code),
): Code {
  const { access, length, tooShort = frame.noMatch } = frame, size = sizeOf(code);
  const fromWord = ({ register, offset, size: wordSize, first }: Word): Code => [
    first ? access.word!(register, offset, wordSize) : [],
    tested !== undefined ? [] : extract(dst, register, 8 * (k - offset), bits, 8 * wordSize),
  ];
  return [
    k + size <= known.checked ? [] : jlt32(length, k + size, tooShort),
    word !== undefined
      ? fromWord(word)
      : access.holds(k, size)
      ? access.constant(dst, k, size)
      : [mov(r2, 0), access.variable(dst, r2, k, size)],
  ];
}

/** X = 4 * the low half of the byte at `k`, the length of an IPv4 header. */
function headerLength(k: number, place: Place, frame: FilterFrame): Code {
  const { x } = frame, { usual, word } = place;
  const words = [
    bytes({ code: sizes[1].bits, k }, x, place, frame, 4),
    word === undefined ? and32(x, 15) : [],
  ];
  if (usual === undefined) return [words, lsh32(x, 2)];
  return [
    words,
    jne32(x, PLAIN_IPV4_HEADER / 4, usual.perhaps),
    usual.needsX ? mov32(x, PLAIN_IPV4_HEADER) : [],
  ];
}

/** Packets are big endian, we are not. */
function swapped(dst: Register, size: number): Code {
  return size === 1 ? [] : be(dst, size * 8 as 16 | 32);
}

function arithmetic({ code, k }: CbpfInsn, known: Known, { a, x, noMatch }: FilterFrame): Code {
  const operand = usesX(code) ? x : k;
  switch (operation(code)) {
    case aluOps.add.bits:
      return add32(a, operand);
    case aluOps.sub.bits:
      return sub32(a, operand);
    case aluOps.mul.bits:
      return mul32(a, operand);
    case aluOps.or.bits:
      return or32(a, operand);
    case aluOps.and.bits:
      return and32(a, operand);
    case aluOps.xor.bits:
      return xor32(a, operand);
    case BPF_NEG:
      return neg32(a);
    case aluOps.div.bits:
    case aluOps.mod.bits:
      return [
        typeof operand === "number" || known.xNotZero ? [] : jeq32(operand, 0, noMatch),
        operation(code) === aluOps.div.bits ? div32(a, operand) : mod32(a, operand),
      ];
    case aluOps.lsh.bits:
    case aluOps.rsh.bits: {
      const shift = operation(code) === aluOps.lsh.bits ? lsh32 : rsh32;
      if (typeof operand === "number") return operand > 31 ? mov32(a, 0) : shift(a, operand);
      const wide = label("wide_shift"), done = label("shifted");
      return [jgt32(operand, 31, wide), shift(a, operand), ja(done), wide, mov32(a, 0), done];
    }
    default:
      throw new AssemblyError(`Classic instruction 0x${code.toString(16)} does not exist`);
  }
}

function branch(
  { code, k }: CbpfInsn,
  onTrue: number | undefined,
  onFalse: number | undefined,
  tested: Bits | undefined,
  frame: FilterFrame,
  labelOf: LabelOf,
  next: number,
): Code {
  const a = tested?.register ?? frame.a;
  const operand = usesX(code) ? frame.x : tested === undefined ? k : (k << tested.shift) >>> 0;
  if (onTrue === onFalse) return onTrue === next ? [] : ja(labelOf(onTrue));
  const [test, inverse] = conditions(code);
  const falls = onTrue === next, misses = onFalse === undefined; // the usual way
  if (inverse !== undefined && (falls || misses)) {
    return [inverse(a, operand, labelOf(onFalse)), falls ? [] : ja(labelOf(onTrue))];
  }
  return [test(a, operand, labelOf(onTrue)), onFalse === next ? [] : ja(labelOf(onFalse))];
}

/** The jump of a classic condition, and the one that is taken when it does not hold. */
function conditions(code: number) {
  switch (operation(code)) {
    case jumpOps.jeq.bits:
      return [jeq32, jne32] as const;
    case jumpOps.jgt.bits:
      return [jgt32, jle32] as const;
    case jumpOps.jge.bits:
      return [jge32, jlt32] as const;
    case jumpOps.jset.bits:
      return [jset32, undefined] as const;
    default:
      throw new AssemblyError(`Classic instruction 0x${code.toString(16)} does not exist`);
  }
}
