/**
 * Runs a typed expression on memory that somebody else reads: the meaning of the language in a few lines, which
 * generated code must agree with.
 */
import type { Expression, Load } from "./ast.ts";
import { compute, convert, holds } from "./arithmetic.ts";

/** Memory as an expression sees it. */
export interface Memory {
  /** address of the struct that the expression is about */
  readonly root: bigint;
  /** `size` bytes; zeros where nothing can be read */
  read(address: bigint, size: number): Uint8Array;
}

/** The value, in the range of the expression's type; undefined: NULL on the way, or a division by zero. */
export function evaluate(expression: Expression, memory: Memory): bigint | undefined {
  const { type } = expression;
  const truth = (operand: Expression) => {
    const value = evaluate(operand, memory);
    return value === undefined ? undefined : value !== 0n;
  };
  const number = (value: boolean | undefined) => value === undefined ? undefined : BigInt(value);
  switch (expression.kind) {
    case "constant":
      return expression.value;
    case "root":
      return memory.root;
    case "load":
      return load(expression, memory);
    case "address": {
      const pointer = evaluate(expression.pointer, memory);
      return pointer === undefined ? undefined : convert(type, pointer + BigInt(expression.bytes));
    }
    case "not null": {
      const value = evaluate(expression.operand, memory);
      return value === 0n ? undefined : value;
    }
    case "convert": {
      const value = evaluate(expression.operand, memory);
      return value === undefined ? undefined : convert(type, value);
    }
    case "unary": {
      const value = evaluate(expression.operand, memory);
      if (value === undefined) return undefined;
      return convert(type, expression.operator === "-" ? -value : ~value);
    }
    case "binary": {
      const left = evaluate(expression.left, memory), right = evaluate(expression.right, memory);
      if (left === undefined || right === undefined) return undefined;
      return compute(expression.operator, type, left, right);
    }
    case "not": {
      const value = truth(expression.operand);
      return number(value === undefined ? undefined : !value);
    }
    case "compare": {
      const left = evaluate(expression.left, memory), right = evaluate(expression.right, memory);
      if (left === undefined || right === undefined) return undefined;
      return number(holds(expression.relation, left, right));
    }
    case "logic": {
      const left = truth(expression.left);
      if (left === undefined || left === (expression.operator === "||")) return number(left);
      return number(truth(expression.right));
    }
    case "conditional": {
      const condition = truth(expression.condition);
      if (condition === undefined) return undefined;
      return evaluate(condition ? expression.whenTrue : expression.whenFalse, memory);
    }
    default:
      return expression satisfies never;
  }
}

/** Whether a filter lets the packet pass. */
export function matches(expression: Expression, memory: Memory): boolean {
  return (evaluate(expression, memory) ?? 0n) !== 0n;
}

function load(expression: Expression & Load, memory: Memory): bigint | undefined {
  const { pointer, field, bitField, swap, type } = expression;
  const base = evaluate(pointer, memory);
  if (base === undefined) return undefined;
  const bytes = memory.read(BigInt.asUintN(64, base + BigInt(field.offset)), field.type.size);
  let value = 0n;
  for (const byte of swap ? bytes : bytes.toReversed()) value = value << 8n | BigInt(byte);
  if (bitField !== undefined) {
    const bits = value >> BigInt(bitField.shift);
    const signed = type.kind === "integer" && type.signed;
    return (signed ? BigInt.asIntN : BigInt.asUintN)(bitField.bits, bits);
  }
  return type.kind === "integer" && type.signed ? BigInt.asIntN(type.bits, value) : value;
}
