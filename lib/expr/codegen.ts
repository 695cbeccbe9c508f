/**
 * Typed expression -> instructions. Every value is 64 bits wide in a register, extended as its type says, so a
 * conversion to a wider type costs nothing and every comparison is one of 64 bits.
 *
 * Registers: the frame's serve as a stack whose top is the value that is being computed; when they are used
 * up, the value below goes to a slot of the spill area. Of two operands the one that needs more registers is
 * computed first, so the number of slots grows with the logarithm of the expression. r0-r5 never hold a value
 * over a look at memory, which may be a call. Instructions are those that Linux 5.10 has: signed division is
 * put together from unsigned, and sign extension from two shifts.
 */
import { type Code, type Label, label } from "../../asm/code.ts";
import { AssemblyError } from "../../asm/errors.ts";
import * as asm from "../../asm/insn.ts";
import { copy, ja, jeq, jsge, lddw, ldx, mov, r1, r2, r3, r4, type Register } from "../../asm/insn.ts";
import { type Field, u64 } from "../../asm/layout.ts";
import type { ExpressionFrame } from "../../bpf-programs/expression.ts";
import { type Expression, nodes } from "./ast.ts";
import type { Relation } from "./syntax.ts";
import { bitsOf, isSigned, type ValueType } from "./types.ts";

/** Falls through when `tree` is true, else goes to `noMatch` or to the frame's `failed`. */
export function filterCode(tree: Expression, frame: ExpressionFrame, noMatch: Label): Code {
  const match = label("match");
  return [new Generator(frame).branch(tree, { yes: match, no: noMatch, next: "yes" }, 0), match];
}

/** result = the value of `tree`. */
export function valueCode(tree: Expression, frame: ExpressionFrame, result: Register): Code {
  const generator = new Generator(frame);
  return [generator.value(tree, 0), copy(result, generator.register(0))];
}

/** The fields that `tree` loads from the root itself, each once. The code asks for these very objects. */
export function rootFields(tree: Expression): Field[] {
  const fields = new Set<Field>();
  for (const node of nodes(tree)) {
    if (node.kind === "load" && isRootField(node)) fields.add(node.field);
  }
  return [...fields];
}

/** Whether a view of the root can serve it: aligned, and inside. */
function isRootField({ pointer, field }: Expression & { kind: "load" }): boolean {
  return pointer.kind === "root" && field.offset >= 0 && field.offset % field.type.size === 0;
}

/** Where a condition goes, and which of the two places comes right behind it. */
interface Targets {
  readonly yes: Label;
  readonly no: Label;
  readonly next: "yes" | "no";
}

type Jump = typeof jeq;

/** Jump when it holds: unsigned, signed. */
const jumps: Readonly<Record<Relation, readonly [unsigned: Jump, signed: Jump]>> = {
  "==": [asm.jeq, asm.jeq],
  "!=": [asm.jne, asm.jne],
  "<": [asm.jlt, asm.jslt],
  "<=": [asm.jle, asm.jsle],
  ">": [asm.jgt, asm.jsgt],
  ">=": [asm.jge, asm.jsge],
};
const opposite: Readonly<Record<Relation, Relation>> = {
  "==": "!=",
  "!=": "==",
  "<": ">=",
  ">=": "<",
  ">": "<=",
  "<=": ">",
};

/** 64 bits, and the low 32 with the rest cleared. */
const operations = {
  "|": [asm.or, asm.or32],
  "^": [asm.xor, asm.xor32],
  "&": [asm.and, asm.and32],
  "+": [asm.add, asm.add32],
  "-": [asm.sub, asm.sub32],
  "*": [asm.mul, asm.mul32],
} as const;

/** A constant's bits as a signed immediate of a 64-bit instruction, or undefined where it does not fit. */
function immediate(value: bigint): number | undefined {
  const signed = BigInt.asIntN(64, value);
  return signed === BigInt.asIntN(32, signed) ? Number(signed) : undefined;
}

function constant(dst: Register, value: bigint): Code {
  const small = immediate(value);
  return small === undefined ? lddw(dst, value) : mov(dst, small);
}

/** The low `bits` of dst, sign-extended; nothing for 64. */
function signExtend(dst: Register, bits: number): Code {
  return bits === 64 ? [] : [asm.lsh(dst, 64 - bits), asm.arsh(dst, 64 - bits)];
}

/** The low `bits` of dst, the rest cleared. */
function zeroExtend(dst: Register, bits: number): Code {
  if (bits === 64) return [];
  if (bits === 32) return asm.mov32(dst, dst);
  return bits < 32 ? asm.and(dst, 2 ** bits - 1) : [asm.lsh(dst, 64 - bits), asm.rsh(dst, 64 - bits)];
}

class Generator {
  readonly #frame: ExpressionFrame;
  readonly #needs = new Map<Expression, number>();

  constructor(frame: ExpressionFrame) {
    this.#frame = frame;
  }

  /** The register for a value with `depth` values below it. */
  register(depth: number): Register {
    const { registers } = this.#frame;
    return registers[Math.min(depth, registers.length - 1)] as Register;
  }

  /** How many values have to be held at once to compute `expression`. */
  #need(expression: Expression): number {
    const known = this.#needs.get(expression);
    if (known !== undefined) return known;
    const need = this.#countNeed(expression);
    this.#needs.set(expression, need);
    return need;
  }

  #countNeed(expression: Expression): number {
    switch (expression.kind) {
      case "constant":
      case "root":
        return 1;
      case "load":
      case "address":
        return this.#need(expression.pointer);
      case "not null":
      case "convert":
      case "unary":
      case "not":
        return this.#need(expression.operand);
      case "binary":
      case "compare": {
        const left = this.#need(expression.left), right = this.#need(expression.right);
        if (expression.right.kind === "constant") return left;
        return left === right ? left + 1 : Math.max(left, right);
      }
      case "logic":
        return Math.max(this.#need(expression.left), this.#need(expression.right));
      case "conditional": {
        const { condition, whenTrue, whenFalse } = expression;
        return Math.max(this.#need(condition), this.#need(whenTrue), this.#need(whenFalse));
      }
      default:
        return expression satisfies never;
    }
  }

  /** register(depth) = the value. Keeps the values below. */
  value(expression: Expression, depth: number): Code {
    const dst = this.register(depth), { failed } = this.#frame;
    switch (expression.kind) {
      case "constant":
        return constant(dst, expression.value);
      case "root":
        return this.#frame.root(dst);
      case "load":
        return this.#load(expression, depth);
      case "address": {
        const { pointer, bytes } = expression;
        return [this.value(pointer, depth), bytes === 0 ? [] : asm.add(dst, bytes)];
      }
      case "not null":
        return [this.value(expression.operand, depth), jeq(dst, 0, failed)];
      case "convert":
        return [this.value(expression.operand, depth), this.#convert(dst, expression)];
      case "unary":
        return [this.value(expression.operand, depth), this.#unary(dst, expression)];
      case "binary":
        return this.#binary(expression, depth);
      case "not":
      case "compare":
      case "logic": {
        const yes = label("true"), no = label("false"), done = label("truth");
        return [
          this.branch(expression, { yes, no, next: "yes" }, depth),
          yes,
          mov(dst, 1),
          ja(done),
          no,
          mov(dst, 0),
          done,
        ];
      }
      case "conditional": {
        const yes = label("when_true"), no = label("when_false"), done = label("chosen");
        return [
          this.branch(expression.condition, { yes, no, next: "yes" }, depth),
          yes,
          this.value(expression.whenTrue, depth),
          ja(done),
          no,
          this.value(expression.whenFalse, depth),
          done,
        ];
      }
      default:
        return expression satisfies never;
    }
  }

  /** Goes where the value's truth says. Keeps the values below `depth`. */
  branch(expression: Expression, targets: Targets, depth: number): Code {
    const { yes, no, next } = targets;
    switch (expression.kind) {
      case "constant":
        return this.#go(expression.value !== 0n ? "yes" : "no", targets);
      case "not":
        return this.branch(
          expression.operand,
          { yes: no, no: yes, next: next === "yes" ? "no" : "yes" },
          depth,
        );
      case "logic": {
        const right = label(expression.operator === "&&" ? "and" : "or");
        return [
          expression.operator === "&&"
            ? this.branch(expression.left, { yes: right, no, next: "yes" }, depth)
            : this.branch(expression.left, { yes, no: right, next: "no" }, depth),
          right,
          this.branch(expression.right, targets, depth),
        ];
      }
      case "compare": {
        const { left, relation, right } = expression;
        return this.#operands(left, right, depth, (a, b) => this.#jump(relation, left.type, a, b, targets));
      }
      default:
        return [
          this.value(expression, depth),
          this.#jump("!=", expression.type, this.register(depth), 0n, targets),
        ];
    }
  }

  /** To the place of an answer, unless it comes next. */
  #go(answer: "yes" | "no", { yes, no, next }: Targets): Code {
    return answer === next ? [] : ja(answer === "yes" ? yes : no);
  }

  #jump(relation: Relation, type: ValueType, a: Register, b: Register | bigint, targets: Targets): Code {
    const { yes, no, next } = targets, wanted = next === "yes" ? opposite[relation] : relation;
    const jump = jumps[wanted][isSigned(type) ? 1 : 0], target = next === "yes" ? no : yes;
    const source = typeof b === "bigint" ? immediate(b) : b;
    return source === undefined ? [lddw(r1, b as bigint), jump(a, r1, target)] : jump(a, source, target);
  }

  /**
   * Computes two operands and hands them to `use`: the left one in register(depth), the right one in a register
   * or as a constant. `use` may change register(depth) and r1-r5, and no other.
   */
  #operands(
    left: Expression,
    right: Expression,
    depth: number,
    use: (left: Register, right: Register | bigint) => Code,
  ): Code {
    const dst = this.register(depth);
    if (right.kind === "constant") return [this.value(left, depth), use(dst, right.value)];
    const leftFirst = this.#need(left) >= this.#need(right);
    const [first, second] = leftFirst ? [left, right] : [right, left];
    const other = this.register(depth + 1);
    if (other !== dst) {
      return [
        this.value(first, depth),
        this.value(second, depth + 1),
        leftFirst ? use(dst, other) : [mov(r1, dst), mov(dst, other), use(dst, r1)],
      ];
    }
    const slot = this.#slot(depth);
    return [
      this.value(first, depth),
      asm.stx(slot, dst),
      this.value(second, depth + 1),
      leftFirst ? [mov(r1, dst), ldx(dst, slot)] : ldx(r1, slot),
      use(dst, r1),
    ];
  }

  #slot(depth: number) {
    const { registers, spill, spillBytes } = this.#frame, offset = (depth - registers.length + 1) * 8;
    if (offset + 8 > spillBytes) {
      throw new AssemblyError(`An expression needs more than ${spillBytes} bytes of stack`);
    }
    return asm.at(asm.fp, spill + offset, u64);
  }

  #load(expression: Expression & { kind: "load" }, depth: number): Code {
    const { access, temp, rootField } = this.#frame, { pointer, field, bitField, swap, type } = expression;
    const dst = this.register(depth), bytes = field.type.size;
    const view = isRootField(expression) ? rootField?.(dst, field) : undefined;
    const raw = view ?? [this.value(pointer, depth), access.read(dst, dst, field, temp)];
    if (bitField !== undefined) return [raw, extractBits(dst, bitField, isSigned(type), bytes * 8)];
    if (swap) return [raw, asm.be(dst, bytes * 8 as 16 | 32 | 64)];
    return [raw, isSigned(type) ? signExtend(dst, bytes * 8) : []];
  }

  #convert(dst: Register, { operand, type }: Expression & { kind: "convert" }): Code {
    if (type.kind === "integer" && type.bool) {
      const zero = label("bool");
      return [jeq(dst, 0, zero), mov(dst, 1), zero];
    }
    const bits = bitsOf(type), from = operand.type, fromSigned = isSigned(from);
    const fromBits = operand.kind === "load" && operand.bitField !== undefined
      ? operand.bitField.bits
      : bitsOf(from);
    const fits = fromSigned ? isSigned(type) && fromBits <= bits : fromBits < bits ||
      fromBits === bits && !isSigned(type);
    if (fits || bits === 64) return [];
    return isSigned(type) ? signExtend(dst, bits) : zeroExtend(dst, bits);
  }

  #unary(dst: Register, { operator, type }: Expression & { kind: "unary" }): Code {
    const narrow = bitsOf(type) === 32, unsigned = !isSigned(type);
    if (operator === "~") return narrow && unsigned ? asm.xor32(dst, -1) : asm.xor(dst, -1);
    if (narrow && unsigned) return asm.neg32(dst);
    return [asm.neg(dst), narrow ? signExtend(dst, 32) : []];
  }

  #binary({ operator, left, right, type }: Expression & { kind: "binary" }, depth: number): Code {
    return this.#operands(left, right, depth, (a, b) => {
      switch (operator) {
        case "<<":
        case ">>":
          return shift(operator, type, a, b);
        case "/":
        case "%":
          return isSigned(type)
            ? divideSigned(operator, type, a, b, this.#frame.failed)
            : divide(operator, type, a, b, this.#frame.failed);
        default:
          return arithmetic(operator, type, a, b);
      }
    });
  }
}

/** dst = `bits` bits of it from `shift` on. */
function extractBits(
  dst: Register,
  { shift, bits }: { shift: number; bits: number },
  signed: boolean,
  loaded: number,
): Code {
  if (signed) {
    const above = 64 - shift - bits;
    return [above === 0 ? [] : asm.lsh(dst, above), bits === 64 ? [] : asm.arsh(dst, 64 - bits)];
  }
  return [shift === 0 ? [] : asm.rsh(dst, shift), shift + bits === loaded ? [] : zeroExtend(dst, bits)];
}

/** Loses r1. */
function arithmetic(
  operator: keyof typeof operations,
  type: ValueType,
  a: Register,
  b: Register | bigint,
): Code {
  const narrow = bitsOf(type) === 32, signed = isSigned(type);
  const operation = operations[operator][narrow && !signed ? 1 : 0];
  const small = typeof b === "bigint" ? immediate(narrow ? BigInt.asIntN(32, b) : b) : b;
  const bitwise = operator === "|" || operator === "^" || operator === "&";
  return [
    small === undefined ? [lddw(r1, b as bigint), operation(a, r1)] : operation(a, small),
    narrow && signed && !bitwise ? signExtend(a, 32) : [],
  ];
}

/** The count is taken modulo the width. Loses r1. */
function shift(operator: "<<" | ">>", type: ValueType, a: Register, b: Register | bigint): Code {
  const bits = bitsOf(type), signed = isSigned(type), narrow = bits === 32;
  const [count, prepare]: [Register | number, Code] = typeof b === "bigint"
    ? [Number(BigInt.asUintN(64, b) & BigInt(bits - 1)), []]
    : [r1, [copy(r1, b), asm.and(r1, bits - 1)]];
  if (operator === "<<") {
    if (narrow && !signed) return [prepare, asm.lsh32(a, count)];
    return [prepare, asm.lsh(a, count), narrow ? signExtend(a, 32) : []];
  }
  return [prepare, signed ? asm.arsh(a, count) : asm.rsh(a, count)];
}

/** Unsigned. Loses r1. */
function divide(
  operator: "/" | "%",
  type: ValueType,
  a: Register,
  b: Register | bigint,
  failed: Label,
): Code {
  const narrow = bitsOf(type) === 32;
  const operation = operator === "/" ? narrow ? asm.div32 : asm.div : narrow ? asm.mod32 : asm.mod;
  if (typeof b !== "bigint") return [jeq(b, 0, failed), operation(a, b)];
  return [constant(r1, b), operation(a, r1)];
}

/** Rounds towards zero; a remainder has the dividend's sign. Loses r1-r4. */
function divideSigned(
  operator: "/" | "%",
  type: ValueType,
  a: Register,
  b: Register | bigint,
  failed: Label,
): Code {
  const dividend = label("dividend"), divisor = label("divisor"), done = label("quotient");
  return [
    typeof b === "bigint" ? constant(r2, b) : [copy(r2, b), jeq(r2, 0, failed)],
    mov(r3, a),
    mov(r4, a),
    operator === "/" ? asm.xor(r4, r2) : [], // r4 = a number of the result's sign
    jsge(r3, 0, dividend),
    asm.neg(r3),
    dividend,
    jsge(r2, 0, divisor),
    asm.neg(r2),
    divisor,
    operator === "/" ? asm.div(r3, r2) : asm.mod(r3, r2),
    mov(a, r3),
    jsge(r4, 0, done),
    asm.neg(a),
    done,
    bitsOf(type) === 32 ? signExtend(a, 32) : [],
  ];
}
