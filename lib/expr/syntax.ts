/** The syntax tree of an expression, as plain data: what was written, before anybody knows what it means. */
import type { NumberValue, Span } from "./lexer.ts";

export type ArithmeticOperator = "|" | "^" | "&" | "<<" | ">>" | "+" | "-" | "*" | "/" | "%";
export type Relation = "==" | "!=" | "<" | "<=" | ">" | ">=";
export type LogicOperator = "&&" | "||";
export type BinaryOperator = ArithmeticOperator | Relation | LogicOperator;
export type UnaryOperator = "!" | "~" | "-" | "+" | "*" | "&";

/** A type as it is written: `unsigned int`, `struct iphdr *`, `__be16`. */
export type TypeName =
  & Span
  & { readonly pointers: number }
  & (
    | { readonly kind: "integer"; readonly bits: 8 | 16 | 32 | 64; readonly signed: boolean }
    | { readonly kind: "char" | "bool" | "void" }
    | { readonly kind: "struct" | "union" | "enum" | "typedef"; readonly name: string }
  );

export type Syntax =
  & Span
  & {
    /** levels below this one, for the limit */
    readonly depth: number;
    /** whether it looks at the root anywhere; else it is a constant */
    readonly usesRoot: boolean;
  }
  & (
    | NumberValue & { readonly kind: "number" }
    | { readonly kind: "name"; readonly name: string }
    | { readonly kind: "member"; readonly object: Syntax; readonly name: string; readonly nameAt: Span }
    | { readonly kind: "index"; readonly object: Syntax; readonly index: Syntax }
    | { readonly kind: "unary"; readonly operator: UnaryOperator; readonly operand: Syntax }
    | { readonly kind: "cast"; readonly type: TypeName; readonly operand: Syntax }
    | { readonly kind: "sizeof"; readonly of: TypeName | Syntax; readonly isType: boolean }
    | {
      readonly kind: "binary";
      readonly operator: BinaryOperator;
      readonly operatorAt: Span;
      readonly left: Syntax;
      readonly right: Syntax;
    }
    | {
      readonly kind: "conditional";
      readonly condition: Syntax;
      readonly whenTrue: Syntax;
      readonly whenFalse: Syntax;
    }
  );
