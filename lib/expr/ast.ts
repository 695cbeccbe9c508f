/**
 * An expression whose every type is known, as plain data: what the checker makes, and what code generation and
 * evaluation read. Conversions, the looks at memory and the tests for NULL are nodes of their own.
 */
import type { Field } from "../../asm/layout.ts";
import type { Span } from "./lexer.ts";
import type { ArithmeticOperator, LogicOperator, Relation } from "./syntax.ts";
import type { ValueType } from "./types.ts";

export type Expression =
  & Span
  & { readonly type: ValueType }
  & (
    | { readonly kind: "constant"; readonly value: bigint }
    /** the address of the struct that the expression is about; not NULL */
    | { readonly kind: "root" }
    | Load
    /** `bytes` behind the pointer, not NULL */
    | { readonly kind: "address"; readonly pointer: Expression; readonly bytes: number }
    /** the operand; when it is NULL, the whole expression has no value */
    | { readonly kind: "not null"; readonly operand: Expression }
    | { readonly kind: "convert"; readonly operand: Expression }
    /** of a type of 32 or 64 bits, as the operand */
    | { readonly kind: "unary"; readonly operator: "-" | "~"; readonly operand: Expression }
    /** both operands have the result's type, but the count of a shift; a zero divisor: no value */
    | {
      readonly kind: "binary";
      readonly operator: ArithmeticOperator;
      readonly left: Expression;
      readonly right: Expression;
    }
    /** 1 or 0 */
    | { readonly kind: "not"; readonly operand: Expression }
    /** 1 or 0; both operands have the same type */
    | {
      readonly kind: "compare";
      readonly relation: Relation;
      readonly left: Expression;
      readonly right: Expression;
    }
    /** 1 or 0; the right operand is not looked at when the left one decides */
    | {
      readonly kind: "logic";
      readonly operator: LogicOperator;
      readonly left: Expression;
      readonly right: Expression;
    }
    /** only one of the two branches is looked at; both have the result's type */
    | {
      readonly kind: "conditional";
      readonly condition: Expression;
      readonly whenTrue: Expression;
      readonly whenFalse: Expression;
    }
  );

/** A value in memory. What cannot be read is 0. */
export interface Load {
  readonly kind: "load";
  /** not NULL */
  readonly pointer: Expression;
  /** 1, 2, 4 or 8 bytes behind the pointer */
  readonly field: Field;
  /** a bitfield: where its bits lie in the little-endian bytes */
  readonly bitField?: { readonly shift: number; readonly bits: number };
  /** the bytes are turned round */
  readonly swap?: true;
}

/** `expression` and all that it is made of, each once per place. */
export function* nodes(expression: Expression): Generator<Expression> {
  yield expression;
  for (const child of children(expression)) yield* nodes(child);
}

export function children(expression: Expression): readonly Expression[] {
  switch (expression.kind) {
    case "constant":
    case "root":
      return [];
    case "load":
    case "address":
      return [expression.pointer];
    case "not null":
    case "convert":
    case "unary":
    case "not":
      return [expression.operand];
    case "binary":
    case "compare":
    case "logic":
      return [expression.left, expression.right];
    case "conditional":
      return [expression.condition, expression.whenTrue, expression.whenFalse];
    default:
      return expression satisfies never;
  }
}
