/**
 * An expression over the kernel's structs, from text to what a program runs.
 *
 * It is a C expression without assignment and calls, about `skb` (struct sk_buff) or `xdp` (struct xdp_buff):
 * `skb->dev->ifindex == 2 && skb->protocol == 0x0800`. checker.ts says where it is not C.
 */
import type { FilterExpression, ValueExpression } from "../../bpf-programs/expression.ts";
import { type Btf, BTF_KIND } from "../btf/parse.ts";
import type { Expression } from "./ast.ts";
import { Checker, type Root } from "./checker.ts";
import { filterCode, rootFields, valueCode } from "./codegen.ts";
import { parseExpression } from "./parser.ts";
import type { Syntax } from "./syntax.ts";

export { type Root, skb, xdp } from "./checker.ts";

/** Packets for which it is not 0. */
export interface Filter extends FilterExpression {
  readonly tree: Expression;
}

/** A number to show. */
export interface Value extends ValueExpression {
  readonly tree: Expression;
  /** the last member's name, or the whole text where there is none */
  readonly label: string;
}

function parse(source: string, btf: Btf, root: Root): Syntax {
  return parseExpression(source, {
    root: root.name,
    isTypedef: (name) => btf.find(name, BTF_KIND.TYPEDEF) !== undefined,
  });
}

/**
 * @throws {FilterSyntaxError} it is no expression, or does not fit this kernel's types
 * @throws {BtfError} this kernel has no such struct
 */
export function compileFilter(source: string, btf: Btf, root: Root): Filter {
  const tree = new Checker(source, btf, root).filter(parse(source, btf, root));
  return { tree, fields: rootFields(tree), code: (frame, noMatch) => filterCode(tree, frame, noMatch) };
}

/** The same, for a value that is shown: a number, a pointer, or up to 8 bytes. */
export function compileValue(source: string, btf: Btf, root: Root): Value {
  const syntax = parse(source, btf, root);
  const tree = new Checker(source, btf, root).value(syntax);
  return {
    tree,
    label: labelOf(syntax) ?? source.trim(),
    fields: rootFields(tree),
    code: (frame, result) => valueCode(tree, frame, result),
  };
}

/** `skb->dev->name[0]` is `name`. */
function labelOf(node: Syntax): string | undefined {
  switch (node.kind) {
    case "member":
      return node.name;
    case "index":
      return labelOf(node.object);
    case "cast":
      return labelOf(node.operand);
    default:
      return undefined;
  }
}
