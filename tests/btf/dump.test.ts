/** Kernel structs as text. tests/kernel/dump.test.ts asks the kernel whether it agrees. */
import { expect, test } from "bun:test";
import { compileDump } from "../../lib/btf/dump.ts";
import { parseBtf } from "../../lib/btf/parse.ts";
import { BtfBuilder } from "./builder.ts";

const b = new BtfBuilder();
const u8 = b.int("unsigned char", 1), s8 = b.int("signed char", 1, { encoding: 1 });
const u16 = b.int("short unsigned int", 2), int = b.int("int", 4, { encoding: 1 });
const u64 = b.int("long unsigned int", 8), u128 = b.int("__int128 unsigned", 16);
const u32 = b.typedef("u32", b.typedef("__u32", b.int("unsigned int", 4)));
const state = b.enum("state", [["FREE", 0], ["OPEN", 1], ["BAD", -1]], { signed: true });
const opaque = b.add("FWD", "opaque", 0), fn = b.ptr(b.proto(int, []));
const pair = b.struct("pair", 8, [["a", int, 0], ["b", u32, 32]]);
const all = b.struct("all", 96, [
  ["byte", s8, 0],
  ["word", u16, 16],
  ["constant", b.const(u32), 32],
  ["long", u64, 64],
  ["huge", u128, 128],
  ["state", state, 256],
  ["low", u32, 288, 3],
  ["high", u32, 291, 11],
  ["to", b.ptr(b.const(pair)), 320],
  ["anything", b.ptr(0), 384],
  ["hidden", b.ptr(b.ptr(opaque)), 448],
  ["call", fn, 512],
  ["name", b.array(u8, 4), 576],
  ["", b.union("", 4, [["x", u32, 0], ["", b.struct("", 4, [["y", u16, 0], ["z", u16, 16]]), 0]]), 608],
  ["pairs", b.typedef("pair_t", b.array(pair, 1)), 640],
  ["none", b.array(u32, 0), 704],
  ["plain", pair, 704],
]);
const wide = b.struct("wide", 4, [["long", u64, 0]]);
const btf = parseBtf(b.build());

const dump = (type: number, bytes: Uint8Array) => compileDump(btf, type)(new DataView(bytes.buffer), 0);

function allWith(...places: [at: number, ...bytes: number[]][]): string {
  const bytes = new Uint8Array(96);
  for (const [at, ...some] of places) bytes.set(some, at);
  return dump(all, bytes);
}

test("what is zero is left out, but for names of enums", () => {
  expect(allWith()).toBe("(struct all){\n .state = (enum state)FREE,\n}\n");
});

test("every kind of member", () => {
  const text = allWith(
    [0, 0xff],
    [2, 1, 2],
    [4, 5],
    [8, 1, 0, 0, 0, 0, 0, 0, 0x80],
    [16, 1, ...Array(14).fill(0), 0x12],
    [32, 0xff, 0xff, 0xff, 0xff],
    [36, 0b11111_101, 0b111111],
    [40, 0, 16, 0, 0, 0x80, 0x88, 0xff, 0xff],
    [48, 1],
    [56, 2],
    [64, 3],
    [72, 0x41, 0x27, 0xff, 0],
    [76, 1, 0, 2, 0],
    [80, 7],
    [92, 9],
  );
  expect(text).toBe(`(struct all){
 .byte = (signed char)-1,
 .word = (short unsigned int)513,
 .constant = (u32)5,
 .long = (long unsigned int)9223372036854775809,
 .huge = (__int128 unsigned)0x12000000000000000000000000000001,
 .state = (enum state)BAD,
 .low = (u32)0x5,
 .high = (u32)0x7ff,
 .to = (struct pair *)0xffff888000001000,
 .anything = ( *)0x0000000000000001,
 .hidden = (opaque **)0x0000000000000002,
 .call = ( *)0x0000000000000003,
 .name = (unsigned char[])[
  'A',
  ''',
  255,
 ],
 (union){
  .x = (u32)131073,
  (struct){
   .y = (short unsigned int)1,
   .z = (short unsigned int)2,
  },
 },
 .pairs = (pair_t[])[
  
   7,
  },
 ],
 .plain = (struct pair){
  .b = (u32)9,
 },
}
`);
});

test("text ends at the first NUL", () => {
  expect(allWith([72, 0, 0x41])).not.toContain(".name");
  expect(allWith([72, 0x41, 0, 0x42])).toContain("[\n  'A',\n ],");
});

test("an enum's number without a name", () => {
  expect(allWith([32, 7])).toContain(".state = (enum state)7,");
});

test.each<[type: number, bytes: number[], text: string]>([
  [int, [0, 0, 0, 0], "(int)0\n"],
  [int, [0xfe, 0xff, 0xff, 0xff], "(int)-2\n"],
  [u32, [1, 0, 0, 0], "(u32)1\n"],
  [state, [0, 0, 0, 0], "(enum state)FREE\n"],
  [fn, [0, 0, 0, 0, 0, 0, 0, 0], "( *)0x0000000000000000\n"],
  [pair, [0, 0, 0, 0, 0, 0, 0, 0], "(struct pair){\n}\n"],
])("at the top zero is shown: %d", (type, bytes, text) => {
  expect(dump(type, Uint8Array.from(bytes))).toBe(text);
});

test("types that contradict themselves", () => {
  expect(() => compileDump(btf, wide)).toThrow('Cannot show struct wide: its member "long" ends behind it');
  const bad = new BtfBuilder();
  const self = bad.struct("self", 8, [["again", 1, 0]]);
  expect(() => compileDump(parseBtf(bad.build()), self)).toThrow(
    "Cannot show struct self: it contains itself",
  );
});
