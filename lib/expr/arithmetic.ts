/**
 * What C's operators compute, on bigints: for constants, and to check the generated code against.
 *
 * A value is always inside its type's range. Arithmetic is done in types of 32 or 64 bits and wraps, signed or
 * not; a shift takes its count modulo the width, as the processors do.
 */
import type { ArithmeticOperator, Relation } from "./syntax.ts";
import { bitsOf, isSigned, type ValueType } from "./types.ts";

/** The value of `type` that a conversion makes of `value`. */
export function convert(type: ValueType, value: bigint): bigint {
  if (type.kind === "integer" && type.bool) return value === 0n ? 0n : 1n;
  return (isSigned(type) ? BigInt.asIntN : BigInt.asUintN)(bitsOf(type), value);
}

/** Both operands have `type`, but the count of a shift. Undefined: a division by zero. */
export function compute(
  operator: ArithmeticOperator,
  type: ValueType,
  left: bigint,
  right: bigint,
): bigint | undefined {
  const count = BigInt.asUintN(64, right) & BigInt(bitsOf(type) - 1);
  switch (operator) {
    case "|":
      return convert(type, left | right);
    case "^":
      return convert(type, left ^ right);
    case "&":
      return convert(type, left & right);
    case "<<":
      return convert(type, left << count);
    case ">>":
      return convert(type, left >> count);
    case "+":
      return convert(type, left + right);
    case "-":
      return convert(type, left - right);
    case "*":
      return convert(type, left * right);
    case "/":
      return right === 0n ? undefined : convert(type, left / right);
    case "%":
      return right === 0n ? undefined : convert(type, left % right);
    default:
      return operator satisfies never;
  }
}

/** Both operands have the same type. */
export function holds(relation: Relation, left: bigint, right: bigint): boolean {
  switch (relation) {
    case "==":
      return left === right;
    case "!=":
      return left !== right;
    case "<":
      return left < right;
    case "<=":
      return left <= right;
    case ">":
      return left > right;
    case ">=":
      return left >= right;
    default:
      return relation satisfies never;
  }
}
