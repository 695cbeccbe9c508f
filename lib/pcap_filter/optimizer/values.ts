/**
 * Value numbering: two places that hold the same number hold the same value, whatever it is. Statements are
 * followed through a block, and in the second phase replaced by cheaper ones or deleted when their target
 * already holds what they would put there.
 */
import { cbpf, classOf, usesX } from "../../../asm/cbpf.ts";
import { BPF_ALU, BPF_X } from "../../../asm/opcodes.ts";
import { calculate } from "../../../asm/cbpf_run.ts";
import { nop, type Statement } from "../graph.ts";
import { atomA, atomX } from "./flow.ts";

/** Indexed loads do not wrap, so an index that could be a negative number stays out of their constant. */
export const maxIndex = 0x7fffffff;

/** Numbers for values: the same operation on the same values has the same number. */
export class ValueTable {
  readonly #numbers = new Map<string, number>();
  readonly #constants: (number | undefined)[] = [];
  #lastUnknown = 0;

  /** The number of `code` applied to `first` and `second`, which are numbers of values or constants. */
  number(code: number, first: number, second = 0): number {
    const key = `${code} ${first} ${second}`;
    const known = this.#numbers.get(key);
    if (known !== undefined) return known;
    const next = this.#constants.push(code === cbpf.ldImm ? first : undefined) - 1;
    this.#numbers.set(key, next);
    return next;
  }

  /** The number of a value that nothing is known about, a negative one. It equals no other. */
  unknown(): number {
    return --this.#lastUnknown;
  }

  constant(k: number): number {
    return this.number(cbpf.ldImm, k);
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
    case cbpf.ldAbs[4]:
    case cbpf.ldAbs[2]:
    case cbpf.ldAbs[1]:
      return assign(one, values, atomA, table.number(code, one.k), rewrite);
    case cbpf.ldInd[4]:
    case cbpf.ldInd[2]:
    case cbpf.ldInd[1]: {
      const index = table.constantOf(values[atomX]!);
      if (rewrite && index !== undefined && one.k + index <= maxIndex) {
        one.code = absolute(code);
        one.k += index;
        progress(changes);
        return assign(one, values, atomA, table.number(one.code, one.k), rewrite);
      }
      return assign(one, values, atomA, table.number(code, one.k, values[atomX]), rewrite);
    }
    case cbpf.ldLen:
      return assign(one, values, atomA, table.number(code, 0), rewrite);
    case cbpf.ldImm:
      return assign(one, values, atomA, table.constant(one.k), rewrite);
    case cbpf.ldxImm:
      return assign(one, values, atomX, table.constant(one.k), rewrite);
    case cbpf.ldxMsh:
      return assign(one, values, atomX, table.number(code, one.k), rewrite);
    case cbpf.ldMem:
    case cbpf.ldxMem: {
      const value = values[one.k]!;
      const constant = table.constantOf(value);
      if (rewrite && constant !== undefined) {
        one.code = code === cbpf.ldMem ? cbpf.ldImm : cbpf.ldxImm;
        one.k = constant;
        progress(changes);
      }
      return assign(one, values, code === cbpf.ldMem ? atomA : atomX, value, rewrite);
    }
    case cbpf.st:
      return assign(one, values, one.k, values[atomA]!, rewrite);
    case cbpf.stx:
      return assign(one, values, one.k, values[atomX]!, rewrite);
    case cbpf.tax:
      return assign(one, values, atomX, values[atomA]!, rewrite);
    case cbpf.txa:
      return assign(one, values, atomA, values[atomX]!, rewrite);
    case cbpf.neg: {
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
      if (classOf(code) !== BPF_ALU) throw new Error(`The optimiser does not know opcode ${code}`);
      return usesX(code)
        ? followWithX(one, values, table, rewrite, changes)
        : followWithConstant(one, values, table, rewrite, changes);
  }
}

/** In the second phase an assignment of a known value that is already there is deleted. */
function assign(one: Statement, values: Int32Array, atom: number, value: number, rewrite: boolean): void {
  if (rewrite && value >= 0 && values[atom] === value) one.code = nop;
  else values[atom] = value;
}

function becomeConstant(
  one: Statement,
  k: number,
  values: Int32Array,
  table: ValueTable,
  changes: Changes,
): void {
  one.code = cbpf.ldImm;
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
  const before = table.constantOf(values[atomA]!);
  if (rewrite && one.k === 0) {
    switch (one.code) {
      case cbpf.add.k:
      case cbpf.lsh.k:
      case cbpf.rsh.k:
      case cbpf.or.k:
      case cbpf.xor.k:
        one.code = nop;
        return;
      case cbpf.mul.k:
      case cbpf.and.k:
        return becomeConstant(one, 0, values, table, changes);
    }
  }
  if (rewrite) refuseOperand(one.code, one.k);
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
  const a = table.constantOf(values[atomA]!), x = table.constantOf(values[atomX]!);
  if (rewrite && x !== undefined) {
    if (a !== undefined) {
      if (x === 0) refuseOperand(one.code, x);
      return becomeConstant(one, calculate(one.code, a, x), values, table, changes);
    }
    refuseOperand(one.code, x);
    one.code &= ~BPF_X;
    one.k = x;
    progress(changes);
    values[atomA] = table.number(one.code, values[atomA]!, table.constant(x));
    return;
  }
  if (rewrite && a === 0) {
    switch (one.code) {
      case cbpf.add.x:
      case cbpf.or.x:
      case cbpf.xor.x:
        one.code = cbpf.txa;
        return assign(one, values, atomA, values[atomX]!, rewrite);
      case cbpf.mul.x:
      case cbpf.div.x:
      case cbpf.mod.x:
      case cbpf.and.x:
      case cbpf.lsh.x:
      case cbpf.rsh.x:
        one.code = cbpf.ldImm;
        one.k = 0;
        return assign(one, values, atomA, table.constant(0), rewrite);
    }
  }
  values[atomA] = table.number(one.code, values[atomA]!, values[atomX]);
}

function refuseOperand(code: number, k: number): void {
  switch (code & ~BPF_X) {
    case cbpf.div.k:
      if (k === 0) throw new FoldError("division by zero");
      break;
    case cbpf.mod.k:
      if (k === 0) throw new FoldError("modulus by zero");
      break;
    case cbpf.lsh.k:
    case cbpf.rsh.k:
      if (k > 31) throw new FoldError("shift by more than 31 bits");
      break;
  }
}

/** The load from a fixed place that has the size of the indexed load `code`. */
function absolute(code: number): number {
  if (code === cbpf.ldInd[1]) return cbpf.ldAbs[1];
  return code === cbpf.ldInd[2] ? cbpf.ldAbs[2] : cbpf.ldAbs[4];
}
