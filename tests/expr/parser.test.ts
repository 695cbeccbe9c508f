/** Tokens to trees: precedence, grouping, types, and what is no expression. */
import { describe, expect, test } from "bun:test";
import { MAX_DEPTH, parseExpression } from "../../lib/expr/parser.ts";
import type { Syntax, TypeName } from "../../lib/expr/syntax.ts";
import { complaint, type ErrorRow } from "./errors.ts";

const typedefs = new Set(["u8", "u32", "__be16"]);
const parse = (source: string) =>
  parseExpression(source, { root: "skb", isTypedef: (name) => typedefs.has(name) });

/** A tree as text with every parenthesis. */
function shape(node: Syntax): string {
  switch (node.kind) {
    case "number":
      return String(node.value);
    case "name":
      return node.name;
    case "member":
      return `${shape(node.object)}.${node.name}`;
    case "index":
      return `${shape(node.object)}[${shape(node.index)}]`;
    case "unary":
      return `(${node.operator}${shape(node.operand)})`;
    case "cast":
      return `(<${typeShape(node.type)}>${shape(node.operand)})`;
    case "sizeof":
      return `sizeof(${node.isType ? typeShape(node.of as TypeName) : shape(node.of as Syntax)})`;
    case "binary":
      return `(${shape(node.left)} ${node.operator} ${shape(node.right)})`;
    case "conditional":
      return `(${shape(node.condition)} ? ${shape(node.whenTrue)} : ${shape(node.whenFalse)})`;
    default:
      return node satisfies never;
  }
}

function typeShape(type: TypeName): string {
  const base = type.kind === "integer"
    ? `${type.signed ? "s" : "u"}${type.bits}`
    : "name" in type
    ? `${type.kind} ${type.name}`
    : type.kind;
  return base + "*".repeat(type.pointers);
}

test.each<[source: string, shape: string]>([
  ["skb", "skb"],
  ["skb->len", "skb.len"],
  ["skb.dev->name[3]", "skb.dev.name[3]"],
  ["skb->len=5", "(skb.len == 5)"],
  ["1 + 2 * 3", "(1 + (2 * 3))"],
  ["1 - 2 - 3", "((1 - 2) - 3)"],
  ["1 << 2 + 3", "(1 << (2 + 3))"],
  ["1 < 2 << 3", "(1 < (2 << 3))"],
  ["1 == 2 < 3", "(1 == (2 < 3))"],
  ["1 & 2 == 3", "(1 & (2 == 3))"],
  ["1 ^ 2 & 3", "(1 ^ (2 & 3))"],
  ["1 | 2 ^ 3", "(1 | (2 ^ 3))"],
  ["1 && 2 | 3", "(1 && (2 | 3))"],
  ["1 || 2 && 3 || 4", "((1 || (2 && 3)) || 4)"],
  ["1 ? 2 : 3 ? 4 : 5", "(1 ? 2 : (3 ? 4 : 5))"],
  ["1 ? 2 ? 3 : 4 : 5", "(1 ? (2 ? 3 : 4) : 5)"],
  ["1 || 2 ? 3 : 4", "((1 || 2) ? 3 : 4)"],
  ["(1 + 2) * 3", "((1 + 2) * 3)"],
  ["1 != 2 >= 3 <= 4 > 5 >> 6 % 7 / 8", "(1 != (((2 >= 3) <= 4) > (5 >> ((6 % 7) / 8))))"],
  ["-skb->len", "(-skb.len)"],
  ["!!~-+1", "(!(!(~(-(+1)))))"],
  ["- -1", "(-(-1))"],
  ["*skb->head", "(*skb.head)"],
  ["(*skb).len", "(*skb).len"],
  ["&skb->cb[1]", "(&skb.cb[1])"],
  ["**skb->a", "(*(*skb.a))"],
  ["(u32)skb->len + 1", "((<typedef u32>skb.len) + 1)"],
  ["(u32)-1", "(<typedef u32>(-1))"],
  ["(u32)(skb)", "(<typedef u32>skb)"],
  ["(X) - 1", "(X - 1)"],
  ["(u8 *)skb", "(<typedef u8*>skb)"],
  ["(const struct iphdr * const *)skb", "(<struct iphdr**>skb)"],
  ["(struct iphdr const volatile *)skb", "(<struct iphdr*>skb)"],
  ["(union x *)1", "(<union x*>1)"],
  ["(enum x)Y", "(<enum x>Y)"],
  ["(void *)0", "(<void*>0)"],
  ["(_Bool)1", "(<bool>1)"],
  ["(char)1", "(<char>1)"],
  ["(unsigned char)1", "(<u8>1)"],
  ["(char signed)1", "(<s8>1)"],
  ["(short)1", "(<s16>1)"],
  ["(unsigned short int)1", "(<u16>1)"],
  ["(int)1", "(<s32>1)"],
  ["(unsigned)1", "(<u32>1)"],
  ["(signed)1", "(<s32>1)"],
  ["(long)1", "(<s64>1)"],
  ["(long unsigned int long)1", "(<u64>1)"],
  ["sizeof(u32)", "sizeof(typedef u32)"],
  ["sizeof(struct iphdr *)", "sizeof(struct iphdr*)"],
  ["sizeof(skb->len)", "sizeof(skb.len)"],
  ["sizeof skb->len + 1", "(sizeof(skb.len) + 1)"],
  ["skb->struct", "skb.struct"],
  ["skb->u32", "skb.u32"],
])("%s", (source, wanted) => {
  expect(shape(parse(source))).toBe(wanted);
});

test("A node covers its text, parentheses too", () => {
  const source = " (skb->len  + 1 ) * 2";
  const node = parse(source);
  if (node.kind !== "binary") throw new Error(node.kind);
  const textOf = ({ offset, length }: { offset: number; length: number }) =>
    source.slice(offset, offset + length);
  expect([textOf(node), textOf(node.left), textOf(node.operatorAt)]).toEqual([
    "(skb->len  + 1 ) * 2",
    "(skb->len  + 1 )",
    "*",
  ]);
});

describe("errors", () => {
  test.each<ErrorRow>([
    [
      "",
      "^",
      "Cannot read an empty expression",
    ],
    [
      "skb->",
      "     ^",
      "Cannot use the end here: want a member's name",
    ],
    [
      "skb->5",
      "     ^",
      'Cannot use "5" here: want a member\'s name',
    ],
    [
      "skb->len >",
      "          ^",
      "Cannot use the end here: want a value",
    ],
    [
      "skb->len 5",
      "         ^",
      'Cannot use "5" here: want an operator or the end',
    ],
    [
      "skb->len)",
      "        ^",
      'Cannot use ")" here: want an operator or the end',
    ],
    [
      "(skb->len",
      "         ^",
      'Cannot use the end here: want ")"',
    ],
    [
      "skb->len++",
      "        ^^",
      'Cannot use "++" here: want an operator or the end: an expression changes nothing',
    ],
    [
      "skb->len += 1",
      "         ^^",
      'Cannot use "+=" here: want an operator or the end: an expression changes nothing',
    ],
    [
      "(skb->len, 1)",
      "         ^",
      'Cannot use "," here: want ")"',
    ],
    [
      "skb->cb[1",
      "         ^",
      'Cannot use the end here: want "]"',
    ],
    [
      "skb->len ? 1",
      "            ^",
      'Cannot use the end here: want ":"',
    ],
    [
      "ntohs(skb->protocol)",
      "^^^^^",
      'Cannot call "ntohs": there are no functions; a __be field has its value already',
    ],
    [
      "compute(skb)",
      "^^^^^^^",
      'Cannot call "compute": there are no functions',
    ],
    [
      "struct net",
      "^^^^^^",
      'Cannot use the type "struct" as a value: a cast has parentheses around it',
    ],
    [
      "u32",
      "^^^",
      'Cannot use the type "u32" as a value: a cast has parentheses around it',
    ],
    [
      "(u33)skb->len",
      " ^^^",
      'Cannot find the type "u33" among the kernel\'s',
    ],
    [
      "(u33)(skb)",
      " ^^^",
      'Cannot find the type "u33" among the kernel\'s',
    ],
    [
      "(struct 5)skb",
      "        ^",
      'Cannot use "5" here: want the name of a struct',
    ],
    [
      "(unsigned float)1",
      "          ^^^^^",
      'Cannot use "float" here: want ")"',
    ],
    [
      "(long short)1",
      " ^^^^^^^^^^",
      'Cannot find the type "long short": C has none of that name',
    ],
    [
      "(const)1",
      " ^^^^^",
      'Cannot find the type "const": C has none of that name',
    ],
  ])("%s", (source, carets, message) => {
    expect(complaint(source, () => parse(source))).toEqual([source, carets, message]);
  });

  test.each<[name: string, source: string]>([
    ["parentheses", "(".repeat(2000) + "1" + ")".repeat(2000)],
    ["open parentheses", "(".repeat(4096)],
    ["signs", "!".repeat(4000) + "1"],
    ["stars", "*".repeat(4000) + "skb"],
    ["casts", "(u8)".repeat(1000) + "1"],
    ["sizeof", "sizeof ".repeat(500) + "1"],
    ["conditions", "1?".repeat(1000) + "1" + ":1".repeat(1000)],
    ["conditions on the right", "1?1:".repeat(1000) + "1"],
    ["a chain", "1" + "+1".repeat(2000)],
    ["members", "skb" + "->a".repeat(1000)],
    ["indices", "skb" + "[0]".repeat(1000)],
    ["indices in indices", "skb[".repeat(1000)],
  ])("%s nested too deeply", (_, source) => {
    expect(complaint(source, () => parse(source))[2]).toBe(`Cannot nest deeper than ${MAX_DEPTH} levels`);
  });
});
