/** Values of kernel types as text. */
import { expect, test } from "bun:test";
import { parseBtf } from "../../lib/btf/parse.ts";
import { formatValue, plainResult } from "../../lib/expr/format.ts";
import type { ValueType } from "../../lib/expr/types.ts";
import { BtfBuilder } from "../btf/builder.ts";

const b = new BtfBuilder();
const char = b.int("char", 1),
  letter = b.int("letter", 1, { encoding: 2 }),
  bool = b.int("bool", 1, { encoding: 4 });
const u8 = b.int("unsigned char", 1),
  u32 = b.int("unsigned int", 4),
  s16 = b.int("short", 2, { encoding: 1 });
const int = b.int("int", 4, { encoding: 1 }),
  u64 = b.int("unsigned long", 8),
  s64 = b.int("long", 8, { encoding: 1 });
const u128 = b.int("unsigned __int128", 16), narrow = b.int("narrow", 4, { bits: 5 });
const state = b.enum("state", [["A", 0], ["B", 7], ["AGAIN", 7]]);
const signed = b.enum("signed", [["MINUS", -1]], { signed: true });
const wide = b.enum64("wide", [["TOP", 0x8000_0000_0000_0000n]]);
const typedef = b.typedef("state_t", b.const(state));
const inner = b.struct("inner", 4, [["x", s16, 0], ["c", b.array(char, 2), 16]]);
const outer = b.struct("outer", 8, [["low", u8, 0, 3], ["high", int, 3, 5], ["in", inner, 32, 0]]);
const either = b.union("either", 4, [["n", u32, 0], ["parts", b.array(u8, 4), 0]]);
const ids = {
  float: b.add("FLOAT", "double", 8),
  pointer: b.ptr(0),
  text: b.array(char, 8),
  letters: b.array(letter, 4),
  numbers: b.array(s16, 3),
  none: b.array(u32, 0),
  matrix: b.array(b.array(u8, 2), 2),
};
const btf = parseBtf(b.build());

test.each<[what: string, type: number, value: Uint8Array | bigint, text: string]>([
  ["u8", u8, 200n, "200"],
  ["u32", u32, 0xffffffffn, "4294967295"],
  ["u32, sign-extended", u32, -1n, "4294967295"],
  ["u64", u64, 0xffff_ffff_ffff_ffffn, "18446744073709551615"],
  ["s64", s64, 0xffff_ffff_ffff_ffffn, "-1"],
  ["short", s16, 0x8000n, "-32768"],
  ["short as bytes", s16, Uint8Array.of(0xfe, 0xff), "-2"],
  ["int", int, -5n, "-5"],
  ["char", char, 97n, "97"],
  ["an int encoded as char", letter, 97n, "'a'"],
  ["one that cannot be printed", letter, 7n, "0x7"],
  ["true", bool, 1n, "true"],
  ["false", bool, 0n, "false"],
  ["16 bytes", u128, new Uint8Array(16).fill(0xff), `0x${"f".repeat(32)}`],
  ["an int of 5 bits", narrow, 17n, "0x11"],
  ["enum", state, 7n, "B"],
  ["enum behind const and typedef", typedef, 0n, "A"],
  ["a value without a name", state, 5n, "5"],
  ["a negative enumerator", signed, 0xffffffffn, "MINUS"],
  ["a negative value without a name", signed, -2n, "-2"],
  ["enum of 64 bits", wide, 1n << 63n, "TOP"],
  ["pointer", ids.pointer, 0xffff_8880_0000_1000n, "0xffff888000001000"],
  ["pointer, sign-extended", ids.pointer, -1n, "0xffffffffffffffff"],
  ["NULL", ids.pointer, 0n, "0x0"],
  ["text", ids.text, Buffer.from("eth0\0\0zz"), '"eth0"'],
  ["text that fills its place", ids.text, Buffer.from("12345678"), '"12345678"'],
  ["text as a number", ids.text, 0x30687465n, '"eth0"'],
  ["text with quotes and controls", ids.text, Buffer.from('a"\\\n\xff', "latin1"), '"a\\"\\\\\\x0a\\xff"'],
  ["letters", ids.letters, Buffer.from("abc\0"), '"abc"'],
  ["array", ids.numbers, Uint8Array.of(1, 0, 0xff, 0xff, 3, 0), "[1, -1, 3]"],
  ["array of arrays", ids.matrix, 0x04030201n, "[[1, 2], [3, 4]]"],
  ["an array of none", ids.none, 0n, "[]"],
  [
    "struct",
    outer,
    Uint8Array.of(0b11111_101, 0, 0, 0, 5, 0, 104, 105),
    '{"low": 5, "high": -1, "in": {"x": 5, "c": "hi"}}',
  ],
  ["union", either, 0x01020304n, '{"n": 16909060, "parts": [4, 3, 2, 1]}'],
  ["floating point", ids.float, 0n, "..ERR.."],
  ["void", 0, 0n, "..ERR.."],
])("%s", (_, type, value, text) => {
  expect(formatValue(btf, type, value)).toBe(text);
});

test.each<[type: ValueType, value: bigint, plain: number | string | boolean]>([
  [{ kind: "integer", bits: 32, signed: false }, 0xffffffffn, 0xffffffff],
  [{ kind: "integer", bits: 64, signed: true }, 2n ** 64n - 5n, -5],
  [{ kind: "integer", bits: 64, signed: false }, 2n ** 53n - 1n, 2 ** 53 - 1],
  [{ kind: "integer", bits: 64, signed: false }, 2n ** 53n, "9007199254740992"],
  [{ kind: "integer", bits: 8, signed: false, bool: true }, 1n, true],
  [{ kind: "integer", bits: 8, signed: false, bool: true }, 0n, false],
  [{ kind: "integer", bits: 64, signed: false, enumId: wide, id: wide }, 1n << 63n, "TOP"],
  [{ kind: "integer", bits: 64, signed: false, enumId: wide, id: wide }, 9n, 9],
  [{ kind: "pointer", target: 0 }, 0x1000n, "0x1000"],
])("for a program: %j", (type, value, plain) => {
  expect(plainResult(btf, type, value)).toBe(plain);
});

test("A struct that says it holds itself ends somewhere", () => {
  const bad = new BtfBuilder();
  const id = bad.struct("loop", 8, [["again", 1, 0]]);
  expect(formatValue(parseBtf(bad.build()), id, 5n)).toContain('{"again": ..ERR..}');
});
