/** Trees to typed trees: C's types and conversions, constants, what stands where, and what does not fit. */
import { describe, expect, test } from "bun:test";
import { parseBtf } from "../../lib/btf/parse.ts";
import { BtfError } from "../../lib/errors.ts";
import { compileFilter, compileValue, skb, xdp } from "../../lib/expr/compile.ts";
import { textOf } from "../../lib/expr/types.ts";
import { BtfBuilder } from "../btf/builder.ts";
import { exprBtf } from "../fixtures/expr_types.ts";
import { complaint, type ErrorRow } from "./errors.ts";

const value = (source: string) => compileValue(source, exprBtf, skb);
const filter = (source: string) => compileFilter(source, exprBtf, skb);

test.each<[source: string, type: string]>([
  ["skb", "struct sk_buff *"],
  ["skb->len", "unsigned int"],
  ["skb->mark", "u32"],
  ["skb->protocol", "__be16"],
  ["skb->small", "s8"],
  ["+skb->small", "s32"],
  ["skb->flag", "bool"],
  ["-skb->flag", "s32"],
  ["skb->pkt_type", "u8"],
  ["+skb->pkt_type", "s32"],
  ["+skb->all", "unsigned int"],
  ["skb->kind", "enum state"],
  ["~skb->kind", "s32"],
  ["skb->sk->state", "enum state"],
  ["~skb->sk->state", "enum state"],
  ["skb->sk->state + 1", "u32"],
  ["skb->protocol + skb->small", "s32"],
  ["skb->len + skb->small", "u32"],
  ["skb->len + skb->tstamp", "s64"],
  ["skb->wide + skb->tstamp", "u64"],
  ["skb->len + 1l", "s64"],
  ["skb->len + 1u", "u32"],
  ["skb->small << skb->wide", "s32"],
  ["skb->wide << 1", "u64"],
  ["skb->len == 5", "s32"],
  ["skb->len && 5", "s32"],
  ["!skb->wide", "s32"],
  ["skb->len ? skb->small : skb->protocol", "s32"],
  ["skb->len ? skb->small : skb->wide", "u64"],
  ["skb->len ? skb->dev : NULL", "struct net_device *"],
  ["skb->dev", "struct net_device *"],
  ["skb->head + 1", "u8 *"],
  ["1 + skb->head", "u8 *"],
  ["skb->head - 1", "u8 *"],
  ["skb->head - skb->head", "s64"],
  ["&skb->words[2] - skb->words", "s64"],
  ["&skb->len", "unsigned int *"],
  ["&skb->cb", "char[48] *"],
  ["skb->cb + 0", "char *"],
  ["*skb->cb", "char"],
  ["skb->cb[1]", "char"],
  ["skb->dev->nd_net.net->ns.inum", "u32"],
  ["skb.dev.nd_net->net.ns->inum", "u32"],
  ["(u32)skb->small", "u32"],
  ["(unsigned short)skb->len", "u16"],
  ["(struct iphdr *)skb->head", "struct iphdr *"],
  ["((struct iphdr *)skb->head)->daddr", "__be32"],
  ["(enum state)1", "enum state"],
  ["sizeof(int)", "u64"],
  ["STATE_OPEN", "s32"],
  ["WIDE", "s64"],
  ["TOP", "u64"],
  ["MINUS", "s32"],
])("%s is %s", (source, type) => {
  expect(textOf(exprBtf, value(source).tree.type)).toBe(type);
});

test.each<[source: string, constant: bigint]>([
  ["1 + 2 * 3", 7n],
  ["7 / 2", 3n],
  ["-7 / 2", -3n],
  ["-7 % 2", -1n],
  ["7 % -2", 1n],
  ["-7 >> 1", -4n],
  ["-7u >> 28", 15n],
  ["1 << 31", -0x80000000n],
  ["1u << 31", 0x80000000n],
  ["0x7fffffff + 1", -0x80000000n],
  ["0xffffffff + 1", 0n],
  ["4294967295 + 1", 0x100000000n],
  ["-1 < 0u", 0n],
  ["-1l < 0u", 1n],
  ["-1 == 0xffffffff", 1n],
  ["~0", -1n],
  ["~0u", 0xffffffffn],
  ["-0x80000000", 0x80000000n],
  ["-2147483648", -0x80000000n],
  ["(u8)300", 44n],
  ["(s8)200", -56n],
  ["(s16)0x8000", -0x8000n],
  ["(bool)256", 1n],
  ["(u64)-1", 0xffffffffffffffffn],
  ["(u64)(u32)-1", 0xffffffffn],
  ["1 ? 2 : 3", 2n],
  ["0 ? 2 : -3", -3n],
  ["0 ? 2u : -3", 0xfffffffdn],
  ["!5", 0n],
  ["!0", 1n],
  ["2 && 3", 1n],
  ["0 && skb->len", 0n],
  ["1 || skb->len", 1n],
  ["'a' == 97", 1n],
  ["NULL == 0", 1n],
  ["sizeof(struct iphdr)", 20n],
  ["sizeof(struct iphdr *)", 8n],
  ["sizeof skb->cb", 48n],
  ["sizeof(skb->small + 0)", 4n],
  ["sizeof(*skb)", 232n],
  ["sizeof(void)", 1n],
])("%s is the constant %d", (source, constant) => {
  const { tree } = value(source);
  expect(tree).toMatchObject({ kind: "constant", value: constant });
});

describe("enumerators", () => {
  test.each<[source: string, constant: bigint]>([
    ["STATE_OPEN", 1n],
    ["TCP_LISTEN", 10n],
    ["MINUS", -2n],
    ["WIDE", 0x1_0000_0000n],
    ["TOP", 0x8000_0000_0000_0000n],
    ["(enum state)STATE_SHARED", 5n],
    ["(enum other_state)STATE_SHARED", 6n],
    ["BOTH_ODD", 3n], // twice, with one value
  ])("%s is %d", (source, constant) => {
    expect(value(source).tree).toMatchObject({ kind: "constant", value: constant });
  });

  test.each<[source: string]>([
    ["skb->sk->state == STATE_SHARED"],
    ["STATE_SHARED == skb->sk->state"],
    ["skb->kind == STATE_SHARED"],
    ["(skb->sk->state & STATE_SHARED) == STATE_SHARED"],
    ["skb->sk->state == (STATE_SHARED | 0)"],
    ["skb->sk->state == (skb->len ? STATE_SHARED : STATE_SHARED)"],
    ["(enum state)skb->len == STATE_SHARED"],
  ])("%s: the enum of the other side decides", (source) => {
    expect(() => filter(source)).not.toThrow();
  });

  test("its own enum is asked before any other", () => {
    expect(filter("skb->sk->state == STATE_SHARED").tree).toMatchObject({
      right: { kind: "constant", value: 5n },
    });
  });
});

describe("what code gets", () => {
  test("a bitfield is read as the smallest aligned word around it", () => {
    const bits = (source: string) => {
      const { tree } = value(source);
      return tree.kind === "load" ? [tree.field.offset, tree.field.type.size, tree.bitField] : tree.kind;
    };
    expect(bits("skb->pkt_type")).toEqual([128, 1, { shift: 0, bits: 3 }]);
    expect(bits("skb->ip_summed")).toEqual([128, 1, { shift: 5, bits: 2 }]);
    expect(bits("skb->delta")).toEqual([129, 1, { shift: 0, bits: 4 }]);
    expect(bits("skb->kind")).toEqual([129, 1, { shift: 4, bits: 3 }]);
    expect(bits("skb->all")).toEqual([128, 4, { shift: 0, bits: 32 }]);
  });

  test("members of the struct itself are announced, each once, with their names", () => {
    const fields = filter("skb->len > 5 && skb->dev->mtu > skb->len && skb->words[1] && *(u8 *)skb").fields;
    expect(fields.map(({ struct, name, offset }) => [struct, name, offset])).toEqual([
      ["sk_buff", "len", 112],
      ["sk_buff", "dev", 16],
      ["sk_buff", "len", 112],
      ["sk_buff", "words[1]", 212],
      ["", "*", 0],
    ]);
  });

  test.each<[source: string, label: string]>([
    ["skb->len", "len"],
    ["skb->dev->nd_net.net->ns.inum", "inum"],
    ["skb->dev->name[0]", "name"],
    ["(u8)skb->mark", "mark"],
    ["skb->len + 1", "skb->len + 1"],
    [" skb ", "skb"],
  ])("%s is called %s", (source, label) => {
    expect(value(source).label).toBe(label);
  });
});

test("xdp is another struct", () => {
  expect(() => compileFilter("xdp->frame_sz > 5", exprBtf, xdp)).not.toThrow();
  expect(complaint("skb->len", () => compileFilter("skb->len", exprBtf, xdp))).toEqual([
    "skb->len",
    "^^^",
    'Cannot find "skb": this expression is about xdp',
  ]);
});

test("A kernel without the struct", () => {
  const empty = parseBtf(new BtfBuilder().build());
  expect(() => compileFilter("skb->len", empty, skb)).toThrow(
    new BtfError("Cannot find struct sk_buff in the kernel's types"),
  );
});

describe("errors", () => {
  test.each<ErrorRow>([
    [
      "lenn == 5",
      "^^^^",
      'Cannot find "lenn": did you mean skb->len?',
    ],
    [
      "len == 5",
      "^^^",
      'Cannot find "len": did you mean skb->len?',
    ],
    [
      "skbuff->len",
      "^^^^^^",
      'Cannot find "skbuff": did you mean skb?',
    ],
    [
      "sbk->len",
      "^^^",
      'Cannot find "sbk": did you mean skb?',
    ],
    [
      "xdp->data",
      "^^^",
      'Cannot find "xdp": this expression is about skb',
    ],
    [
      "unknown == 5",
      "^^^^^^^",
      'Cannot find "unknown": it is neither skb nor an enumerator of this kernel',
    ],
    [
      "skb->sk->state == STATE_OPNE",
      "                  ^^^^^^^^^^",
      'Cannot find "STATE_OPNE": did you mean STATE_OPEN?',
    ],
    [
      "skb->len == STATE_SHARED",
      "            ^^^^^^^^^^^^",
      'Cannot tell which "STATE_SHARED" is meant: it is 5 in enum state, 6 in enum other_state; write (enum ...)STATE_SHARED',
    ],
    [
      "skb->lenn",
      "     ^^^^",
      'Cannot find member "lenn" in struct sk_buff: did you mean len?',
    ],
    [
      "skb->dev->ifnidex",
      "          ^^^^^^^",
      'Cannot find member "ifnidex" in struct net_device: did you mean ifindex?',
    ],
    [
      "skb->zzz",
      "     ^^^",
      'Cannot find member "zzz" in struct sk_buff',
    ],
    [
      "skb->len->x",
      "          ^",
      'Cannot look for "x" in "skb->len": unsigned int has no members',
    ],
    [
      "skb->dev->name->x",
      "                ^",
      'Cannot look for "x" behind "skb->dev->name": char has no members',
    ],
    [
      "skb->raw->x",
      "          ^",
      'Cannot look for "x" behind "skb->raw": void has no members',
    ],
    [
      "skb->hidden->x",
      "             ^",
      'Cannot look for "x" behind "skb->hidden": struct opaque is only declared in the kernel\'s types',
    ],
    [
      "skb->call->x",
      "           ^",
      'Cannot look for "x" behind "skb->call": int () is a function',
    ],
    [
      "skb->dev->nd_net == 0",
      "^^^^^^^^^^^^^^^^",
      'Cannot use "skb->dev->nd_net" as a value: struct possible_net_t is no number, choose a member',
    ],
    [
      "*skb == 0",
      "^^^^",
      'Cannot use "*skb" as a value: struct sk_buff is no number, choose a member',
    ],
    [
      "skb->huge == 1",
      "^^^^^^^^^",
      'Cannot use "skb->huge" as a value: unsigned __int128 is 16 bytes',
    ],
    [
      "skb->ratio > 1",
      "^^^^^^^^^^",
      'Cannot use "skb->ratio" as a value: double is a floating-point number',
    ],
    [
      "*skb->raw",
      "^^^^^^^^^",
      'Cannot use "*skb->raw" as a value: void is no number, cast the pointer',
    ],
    [
      "*skb->hidden == 1",
      "^^^^^^^^^^^^",
      'Cannot use "*skb->hidden" as a value: struct opaque is only declared in the kernel\'s types',
    ],
    [
      "*skb->call",
      "^^^^^^^^^^",
      'Cannot use "*skb->call" as a value: int () is a function',
    ],
    [
      "*skb->len",
      " ^^^^^^^^",
      'Cannot look behind "skb->len": it is unsigned int, no pointer',
    ],
    [
      "*5",
      " ^",
      'Cannot look behind "5": it is s32, no pointer',
    ],
    [
      "skb->cb",
      "^^^^^^^",
      'Cannot ask whether "skb->cb" is true: an array always is',
    ],
    [
      "!skb->dev->name",
      " ^^^^^^^^^^^^^^",
      'Cannot ask whether "skb->dev->name" is true: an array always is',
    ],
    [
      "skb->len && skb->cb",
      "            ^^^^^^^",
      'Cannot ask whether "skb->cb" is true: an array always is',
    ],
    [
      "skb->words[4]",
      "           ^",
      'Cannot find element 4 of "skb->words": u32[4] has 4',
    ],
    [
      "skb->words[-1]",
      "           ^^",
      'Cannot find element -1 of "skb->words": u32[4] has 4',
    ],
    [
      "skb->words[skb->dev]",
      "           ^^^^^^^^",
      'Cannot use "skb->dev" as an index: it is struct net_device *',
    ],
    [
      "skb->len[0]",
      "^^^^^^^^",
      'Cannot use an index on "skb->len": it is unsigned int, no array',
    ],
    [
      "skb->hidden[1]",
      "^^^^^^^^^^^",
      "Cannot tell the size of struct opaque: it is only declared in the kernel's types",
    ],
    [
      "skb->hidden + 1",
      "^^^^^^^^^^^",
      "Cannot tell the size of struct opaque: it is only declared in the kernel's types",
    ],
    [
      "skb->call + 1",
      "^^^^^^^^^",
      "Cannot tell the size of int (): it is a function",
    ],
    [
      "skb->dev * 2",
      "         ^",
      'Cannot use "*" between struct net_device * and s32: cast the pointer',
    ],
    [
      "2 - skb->head",
      "  ^",
      'Cannot use "-" between s32 and u8 *: cast the pointer',
    ],
    [
      "skb->dev + skb->dev",
      "         ^",
      'Cannot use "+" between struct net_device * and struct net_device *: cast the pointer',
    ],
    [
      "skb->dev - skb->head",
      "         ^",
      "Cannot subtract u8 * from struct net_device *: cast one of them",
    ],
    [
      "-skb->dev",
      " ^^^^^^^^",
      'Cannot use "-" on struct net_device *: it is a pointer',
    ],
    [
      "~skb->dev",
      " ^^^^^^^^",
      'Cannot use "~" on struct net_device *: it is a pointer',
    ],
    [
      "skb->len / 0",
      "           ^",
      "Cannot divide by 0",
    ],
    [
      "skb->len % (1 - 1)",
      "           ^^^^^^^",
      "Cannot divide by 0",
    ],
    [
      "skb->len << 32",
      "            ^^",
      "Cannot shift 32 bits by 32",
    ],
    [
      "skb->len >> -1",
      "            ^^",
      "Cannot shift 32 bits by -1",
    ],
    [
      "&skb->len + &5",
      "             ^",
      'Cannot take the address of "5": it has none',
    ],
    [
      "&skb",
      " ^^^",
      'Cannot take the address of "skb": it has none',
    ],
    [
      "&skb->pkt_type",
      " ^^^^^^^^^^^^^",
      "Cannot take the address of a bitfield",
    ],
    [
      "sizeof(skb->pkt_type)",
      "      ^^^^^^^^^^^^^^^",
      "Cannot take the size of a bitfield",
    ],
    [
      "sizeof(struct sokc)",
      "       ^^^^^^^^^^^",
      "Cannot find struct sokc in the kernel's types: did you mean struct sock?",
    ],
    [
      "sizeof(struct zzz)",
      "       ^^^^^^^^^^",
      "Cannot find struct zzz in the kernel's types",
    ],
    [
      "sizeof(*skb->call)",
      "      ^^^^^^^^^^^^",
      "Cannot tell the size of int (): it is a function",
    ],
    [
      "(struct sk_buff)skb",
      " ^^^^^^^^^^^^^^",
      "Cannot cast to struct sk_buff: want a number or a pointer",
    ],
    [
      "(struct sock *)skb->cb == (struct sokc *)0",
      "                           ^^^^^^^^^^^^^",
      "Cannot find struct sokc in the kernel's types: did you mean struct sock?",
    ],
    [
      "(void)skb",
      " ^^^^",
      "Cannot cast to void: want a number or a pointer",
    ],
    [
      "(enum stat)1",
      " ^^^^^^^^^",
      "Cannot find enum stat in the kernel's types: did you mean enum state?",
    ],
    [
      "((struct sock *)0)->port",
      "^^^^^^^^^^^^^^^^^^",
      'Cannot look behind "((struct sock *)0)": it is NULL',
    ],
    [
      "NULL->len",
      "^^^^",
      'Cannot look behind "NULL": it is NULL',
    ],
    [
      "skb->dev->nd_net.net.ns.inumm",
      "                        ^^^^^",
      'Cannot find member "inumm" in struct ns_common: did you mean inum?',
    ],
  ])("%s", (source, carets, message) => {
    expect(complaint(source, () => filter(source))).toEqual([source, carets, message]);
  });

  test.each<ErrorRow>([
    ["skb->cb", "^^^^^^^", 'Cannot show "skb->cb": char[48] is 48 bytes, the most is 8'],
    ["*skb->dev", "^^^^^^^^^", 'Cannot show "*skb->dev": struct net_device is 512 bytes, the most is 8'],
    [
      "skb->dev->tail",
      "^^^^^^^^^^^^^^",
      'Cannot show "skb->dev->tail": u32[0] is 0 bytes, the most is 8',
    ],
  ])("%s as a value", (source, carets, message) => {
    expect(complaint(source, () => value(source))).toEqual([source, carets, message]);
  });
});
