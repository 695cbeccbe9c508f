import { describe, expect, test } from "bun:test";
import { parseBtf } from "../../lib/btf/parse.ts";
import {
  arrayOf,
  enumerators,
  findMember,
  integer,
  members,
  parameters,
  pointee,
  returnType,
  sizeOf,
  strip,
  typeText,
} from "../../lib/btf/walk.ts";
import { BtfBuilder } from "./builder.ts";

const b = new BtfBuilder();
const int = b.int("int", 4, { encoding: 1 }), char = b.int("char", 1, { encoding: 2 });
const device = b.struct("net_device", 4, [["ifindex", int, 0]]);
const constDevice = b.const(device),
  pointer = b.ptr(constDevice),
  tagged = b.ptr(b.add("TYPE_TAG", "rcu", device));
const skb = b.struct("sk_buff", 8, [["dev", tagged, 0]]),
  skbPointer = b.typedef("skb_t", b.const(b.ptr(skb)));
const array = b.array(b.array(char, 4), 3),
  later = b.add("FWD", "later", 0),
  laterUnion = b.add("FWD", "u", 0, [], {
    flag: true,
  });
const color = b.enum("color", [["RED", 0], ["BLUE", 0xffffffff]]);
const proto = b.proto(int, [["skb", skbPointer], ["", 0]]), func = b.add("FUNC", "f", proto, [], { vlen: 1 });
const callback = b.ptr(proto), double = b.add("FLOAT", "double", 8), pointerPointer = b.ptr(b.ptr(0));
const unnamed = b.struct("", 4, []);
const btf = parseBtf(b.build());

test("skb->dev->ifindex is four steps", () => {
  const target = pointee(btf, skbPointer)!;
  const dev = findMember(btf, target, "dev")!;
  const ifindex = findMember(btf, pointee(btf, dev.type)!, "ifindex")!;
  expect([dev.bitOffset, ifindex.bitOffset, strip(btf, ifindex.type)] as number[]).toEqual([0, 0, int]);
  expect(findMember(btf, target, "ifindex")).toBeUndefined();
  expect(findMember(btf, target, "")).toBeUndefined();
});

test("what is not of a kind is undefined", () => {
  expect(pointee(btf, int)).toBeUndefined();
  expect(arrayOf(btf, int)).toBeUndefined();
  expect(integer(btf, array)).toBeUndefined();
  expect(arrayOf(btf, array)?.count).toBe(3);
  expect(integer(btf, char)).toEqual({
    size: 1,
    signed: false,
    char: true,
    bool: false,
    bits: 8 as never,
    bitOffset: 0 as never,
  });
});

test.each<[what: string, id: number, size: number]>([
  ["int", int, 4],
  ["pointer", pointer, 8],
  ["struct", constDevice, 4],
  ["array of arrays", array, 12],
  ["enum", color, 4],
  ["float", double, 8],
])("size of %s", (_what, id, size) => {
  expect(sizeOf(btf, id)).toBe(size);
});

test.each<[id: number, text: string]>([
  [0, "void"],
  [int, "int"],
  [pointer, "const struct net_device *"],
  [tagged, "struct net_device *"],
  [skbPointer, "skb_t"],
  [array, "char[4][3]"],
  [later, "struct later"],
  [laterUnion, "union u"],
  [color, "enum color"],
  [func, "f"],
  [callback, "int (*)()"],
  [pointerPointer, "void **"],
  [unnamed, "struct {...}"],
])("type %p is written %p", (id, text) => {
  expect(typeText(btf, id)).toBe(text);
});

test("parameters of a function, its prototype and a pointer to it", () => {
  for (const id of [func, proto, callback]) {
    expect([...parameters(btf, id)]).toEqual([{ name: "skb", type: skbPointer }, { name: "", type: 0 }]);
    expect(returnType(btf, id)).toBe(int);
  }
});

test("an enum without the sign flag is unsigned", () => {
  expect([...enumerators(btf, color)]).toEqual([["RED", 0n], ["BLUE", 0xffffffffn]]);
});

describe("what has no such thing says so", () => {
  test.each<[call: () => unknown, message: string]>([
    [() => [...members(btf, int)], "Cannot list the members of int: it is no struct or union"],
    [() => [...parameters(btf, int)], "Cannot list the parameters of int: it is no function"],
    [() => returnType(btf, skb), "Cannot tell what struct sk_buff returns: it is no function"],
    [() => [...enumerators(btf, int)], "Cannot list the values of int: it is no enum"],
    [() => sizeOf(btf, 0), "Cannot tell the size of void"],
    [() => sizeOf(btf, later), "Cannot tell the size of struct later"],
  ])("%p", (call, message) => {
    expect(call).toThrow(message);
  });
});
