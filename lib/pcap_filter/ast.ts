/**
 * The syntax tree of a filter expression, as plain data.
 *
 * Code generation is stateful: `vlan` moves the offsets of everything that comes later in the text, and an
 * error in an early part is reported before a syntax error in a later one. So the parser hands over the nodes
 * in the order in which their text was complete (children before parents), and the generator goes through
 * that list instead of descending from the root.
 */
import type { Span } from "./lexer.ts";
import type { Direction, ForeignWord, IdType, PfWord, Protocol } from "./tables.ts";

/** The words before an id. What is absent takes its default. */
export interface Qualifiers {
  readonly protocol?: Protocol;
  readonly direction?: Direction;
  readonly type?: IdType;
}

/** What an id inherits after `and`, `or` or a parenthesis; `undefined`: nothing that could be inherited. */
export type Scope = Qualifiers | undefined;

export type Relation = "=" | "!=" | "<" | "<=" | ">" | ">=";
export type BinaryOperator = "+" | "-" | "*" | "/" | "%" | "&" | "|" | "^" | "<<" | ">>";
export type ByteOperator = "=" | "<" | ">" | "&" | "|";
export type Encapsulation = "vlan" | "mpls" | "pppoes" | "geneve" | "vxlan";

/** A thing that a head (`src host`) or the left neighbour gives a meaning to. */
export type IdNode =
  & { readonly scope: Scope }
  & (
    | { readonly kind: "name"; readonly name: string }
    | { readonly kind: "number"; readonly value: number }
    | { readonly kind: "mac"; readonly text: string }
    | { readonly kind: "aid"; readonly text: string }
    | { readonly kind: "ipv4"; readonly text: string; readonly prefix?: number; readonly mask?: string }
    | { readonly kind: "ipv6"; readonly text: string; readonly prefix?: number }
  );

/** A yes-or-no question about the packet. */
export type TestNode =
  & { readonly at: Span }
  & (
    | IdNode
    | { readonly kind: "and" | "or"; readonly left: TestNode; readonly right: TestNode }
    | { readonly kind: "not"; readonly operand: TestNode }
    | { readonly kind: "abbreviation"; readonly protocol: Protocol }
    | {
      readonly kind: "relation";
      readonly relation: Relation;
      readonly left: ValueNode;
      readonly right: ValueNode;
    }
    | { readonly kind: "broadcast" | "multicast"; readonly protocol?: Protocol }
    | { readonly kind: "less" | "greater"; readonly length: number }
    | {
      readonly kind: "byte";
      readonly index: number;
      readonly operator: ByteOperator;
      readonly value: number;
    }
    | { readonly kind: "inbound" | "outbound" | "pppoed" }
    | { readonly kind: "ifindex"; readonly index: number }
    | { readonly kind: "encapsulation"; readonly keyword: Encapsulation; readonly number?: number }
    | { readonly kind: "llc"; readonly name?: string }
    | { readonly kind: "wlan"; readonly keyword: "type/subtype" | "dir" }
    | { readonly kind: "pf"; readonly keyword: PfWord; readonly name?: string }
    | { readonly kind: "foreign"; readonly keyword: ForeignWord; readonly family: "SUNATM" | "SS7" }
  );

/** An operand of 802.11 keywords. It yields nothing but may be refused before the keyword is complete. */
export type WlanNode = {
  readonly at: Span;
  readonly kind: "wlan operand";
  readonly operand: "type" | "subtype" | "lone subtype" | "direction";
  readonly value: number | string;
  /** the type that a subtype belongs to */
  readonly type?: number | string;
};

/** A number, computed at run time. */
export type ValueNode =
  & { readonly at: Span }
  & (
    | { readonly kind: "constant"; readonly value: number }
    | { readonly kind: "length" }
    | { readonly kind: "load"; readonly protocol: Protocol; readonly index: ValueNode; readonly size: number }
    | {
      readonly kind: "binary";
      readonly operator: BinaryOperator;
      readonly left: ValueNode;
      readonly right: ValueNode;
    }
    | { readonly kind: "negate"; readonly operand: ValueNode }
  );

export type Node = TestNode | ValueNode | WlanNode;
