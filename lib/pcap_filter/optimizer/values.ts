/**
 * Value numbering: two places that hold the same number hold the same value, whatever it is. Statements are
 * followed through a block, and in the second phase replaced by cheaper ones or deleted when their target
 * already holds what they would put there.
 */
import { BPF_LEN, BPF_MISC, BPF_MSH, BPF_TAX, BPF_TXA } from "../../../asm/cbpf.ts";
import { calculate } from "../../../asm/cbpf_run.ts";
import { aluOps, BPF_ABS, BPF_ALU, BPF_IMM, BPF_IND, BPF_K, BPF_LD, BPF_LDX } from "../../../asm/opcodes.ts";
import { BPF_MEM, BPF_NEG, BPF_ST, BPF_STX, BPF_X, sizes } from "../../../asm/opcodes.ts";
import { nop, type Statement } from "../graph.ts";
import { atomA, atomX } from "./flow.ts";

/** The value that no analysis knows. It equals nothing, itself included. */
export const unknown = 0;

const loadConstant = BPF_LD | BPF_IMM;
/** Indexed loads do not wrap, so an index that could be a negative number stays an index. */
const maxIndex = 0x7fffffff;

/** Numbers for values: the same operation on the same values has the same number. */
export class ValueTable {
  readonly #numbers = new Map<string, number>();
  readonly #constants: (number | undefined)[] = [undefined];

  /** The number of `code` applied to `first` and `second`, which are numbers of values or constants. */
  number(code: number, first: number, second = 0): number {
    const key = `${code} ${first} ${second}`;
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const fresh = this.#constants.length;
    this.#constants.push(code === loadConstant ? first : undefined);
    this.#numbers.set(key, fresh);
    return fresh;
  }

  constant(k: number): number {
    return this.number(loadConstant, k);
  }

  /** The constant that a value is, if it is one. */
  constantOf(value: number): number | undefined {
    return this.#constants[value];
  }
}

/** What a pass over the program did. */
export interface Changes {
  /** anything at all */
  changed: boolean;
  /** something that moves towards an end, unlike branch targets, which can go round in circles */
  progressed: boolean;
}

export function progress(changes: Changes): void {
  changes.changed = true;
  changes.progressed = true;
}

/** An operation that the program could not carry out, found while folding constants. */
export class FoldError extends Error {
  override readonly name = "FoldError";
}

/**
 * Follows one statement.
 *
 * @param values of the atoms, changed to what they are after it
 * @param rewrite replace the statement where something cheaper does the same
 * @throws {FoldError} a division by the constant 0 or a shift by more than 31
 */
export function followStatement(
  one: Statement,
  values: Int32Array,
  table: ValueTable,
  rewrite: boolean,
  changes: Changes,
): void {
  const { code } = one;
  switch (code) {
    case BPF_LD | sizes[4].bits | BPF_ABS:
    case BPF_LD | sizes[2].bits | BPF_ABS:
    case BPF_LD | sizes[1].bits | BPF_ABS:
      return assign(one, values, atomA, table.number(code, one.k), rewrite);
    case BPF_LD | sizes[4].bits | BPF_IND:
    case BPF_LD | sizes[2].bits | BPF_IND:
    case BPF_LD | sizes[1].bits | BPF_IND: {
      const index = table.constantOf(values[atomX]!);
      if (rewrite && index !== undefined && one.k + index <= maxIndex) {
        one.code = (code & ~BPF_IND) | BPF_ABS;
        one.k += index;
        progress(changes);
        return assign(one, values, atomA, table.number(one.code, one.k), rewrite);
      }
      return assign(one, values, atomA, table.number(code, one.k, values[atomX]), rewrite);
    }
    case BPF_LD | BPF_LEN:
      return assign(one, values, atomA, table.number(code, 0), rewrite);
    case BPF_LD | BPF_IMM:
      return assign(one, values, atomA, table.constant(one.k), rewrite);
    case BPF_LDX | BPF_IMM:
      return assign(one, values, atomX, table.constant(one.k), rewrite);
    case BPF_LDX | sizes[1].bits | BPF_MSH:
      return assign(one, values, atomX, table.number(code, one.k), rewrite);
    case BPF_LD | BPF_MEM:
    case BPF_LDX | BPF_MEM: {
      const value = values[one.k]!;
      const constant = table.constantOf(value);
      if (rewrite && constant !== undefined) {
        one.code = code === (BPF_LD | BPF_MEM) ? BPF_LD | BPF_IMM : BPF_LDX | BPF_IMM;
        one.k = constant;
        progress(changes);
      }
      return assign(one, values, code === (BPF_LD | BPF_MEM) ? atomA : atomX, value, rewrite);
    }
    case BPF_ST:
      return assign(one, values, one.k, values[atomA]!, rewrite);
    case BPF_STX:
      return assign(one, values, one.k, values[atomX]!, rewrite);
    case BPF_MISC | BPF_TAX:
      return assign(one, values, atomX, values[atomA]!, rewrite);
    case BPF_MISC | BPF_TXA:
      return assign(one, values, atomA, values[atomX]!, rewrite);
    case BPF_ALU | BPF_NEG: {
      const constant = table.constantOf(values[atomA]!);
      if (rewrite && constant !== undefined) {
        return becomeConstant(one, -constant >>> 0, values, table, changes);
      }
      values[atomA] = table.number(code, values[atomA]!);
      return;
    }
    case nop:
      return;
    default:
      if ((code & 0x07) !== BPF_ALU) throw new Error(`The optimiser does not know opcode ${code}`);
      return (code & BPF_X) !== 0
        ? followWithX(one, values, table, rewrite, changes)
        : followWithConstant(one, values, table, rewrite, changes);
  }
}

/** In the second phase an assignment of what is already there is deleted. */
function assign(one: Statement, values: Int32Array, atom: number, value: number, rewrite: boolean): void {
  if (rewrite && value !== unknown && values[atom] === value) one.code = nop;
  else values[atom] = value;
}

function becomeConstant(
  one: Statement,
  k: number,
  values: Int32Array,
  table: ValueTable,
  changes: Changes,
): void {
  one.code = BPF_LD | BPF_IMM;
  one.k = k;
  values[atomA] = table.constant(k);
  progress(changes);
}

/** A op #k */
function followWithConstant(
  one: Statement,
  values: Int32Array,
  table: ValueTable,
  rewrite: boolean,
  changes: Changes,
): void {
  const operation = one.code & 0xf0;
  const before = table.constantOf(values[atomA]!);
  if (rewrite && one.k === 0) {
    switch (operation) {
      case aluOps.add.bits:
      case aluOps.lsh.bits:
      case aluOps.rsh.bits:
      case aluOps.or.bits:
      case aluOps.xor.bits:
        one.code = nop;
        return;
      case aluOps.mul.bits:
      case aluOps.and.bits:
        return becomeConstant(one, 0, values, table, changes);
    }
  }
  if (rewrite) refuseOperand(operation, one.k);
  if (rewrite && before !== undefined) {
    return becomeConstant(one, calculate(one.code, before, one.k), values, table, changes);
  }
  values[atomA] = table.number(one.code, values[atomA]!, table.constant(one.k));
}

/** A op X */
function followWithX(
  one: Statement,
  values: Int32Array,
  table: ValueTable,
  rewrite: boolean,
  changes: Changes,
): void {
  const operation = one.code & 0xf0;
  const a = table.constantOf(values[atomA]!), x = table.constantOf(values[atomX]!);
  if (rewrite && x !== undefined) {
    if (a !== undefined) {
      if (x === 0) refuseOperand(operation, x);
      return becomeConstant(one, calculate(one.code, a, x), values, table, changes);
    }
    refuseOperand(operation, x);
    one.code = BPF_ALU | BPF_K | operation;
    one.k = x;
    progress(changes);
    values[atomA] = table.number(one.code, values[atomA]!, table.constant(x));
    return;
  }
  if (rewrite && a === 0) {
    switch (operation) {
      case aluOps.add.bits:
      case aluOps.or.bits:
      case aluOps.xor.bits:
        one.code = BPF_MISC | BPF_TXA;
        return assign(one, values, atomA, values[atomX]!, rewrite);
      case aluOps.mul.bits:
      case aluOps.div.bits:
      case aluOps.mod.bits:
      case aluOps.and.bits:
      case aluOps.lsh.bits:
      case aluOps.rsh.bits:
        one.code = BPF_LD | BPF_IMM;
        one.k = 0;
        return assign(one, values, atomA, table.constant(0), rewrite);
    }
  }
  values[atomA] = table.number(one.code, values[atomA]!, values[atomX]);
}

function refuseOperand(operation: number, k: number): void {
  if (operation === aluOps.div.bits && k === 0) throw new FoldError("division by zero");
  if (operation === aluOps.mod.bits && k === 0) throw new FoldError("modulus by zero");
  if ((operation === aluOps.lsh.bits || operation === aluOps.rsh.bits) && k > 31) {
    throw new FoldError("shift by more than 31 bits");
  }
}
