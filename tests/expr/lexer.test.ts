/** Text to tokens: literals with C's types, and what is none. */
import { describe, expect, test } from "bun:test";
import { MAX_SOURCE_LENGTH, tokenize } from "../../lib/expr/lexer.ts";
import { complaint, type ErrorRow } from "./errors.ts";

test.each<[source: string, value: bigint, type: string]>([
  ["0", 0n, "s32"],
  ["00", 0n, "s32"],
  ["10", 10n, "s32"],
  ["017", 15n, "s32"],
  ["0o17", 15n, "s32"],
  ["0b101", 5n, "s32"],
  ["0x1F", 31n, "s32"],
  ["0X1f", 31n, "s32"],
  ["2147483647", 0x7fffffffn, "s32"],
  ["2147483648", 0x80000000n, "s64"],
  ["0x7fffffff", 0x7fffffffn, "s32"],
  ["0x80000000", 0x80000000n, "u32"],
  ["0xffffffff", 0xffffffffn, "u32"],
  ["0x100000000", 0x100000000n, "s64"],
  ["037777777777", 0xffffffffn, "u32"],
  ["0b11111111111111111111111111111111", 0xffffffffn, "u32"],
  ["4294967295", 0xffffffffn, "s64"],
  ["9223372036854775807", 0x7fffffffffffffffn, "s64"],
  ["9223372036854775808", 0x8000000000000000n, "u64"],
  ["0x8000000000000000", 0x8000000000000000n, "u64"],
  ["18446744073709551615", 0xffffffffffffffffn, "u64"],
  ["5u", 5n, "u32"],
  ["5U", 5n, "u32"],
  ["5l", 5n, "s64"],
  ["5LL", 5n, "s64"],
  ["5ul", 5n, "u64"],
  ["5uLL", 5n, "u64"],
  ["5LLU", 5n, "u64"],
  ["4294967296u", 0x100000000n, "u64"],
  ["'a'", 97n, "s32"],
  ["' '", 32n, "s32"],
  ["'\\0'", 0n, "s32"],
  ["'\\n'", 10n, "s32"],
  ["'\\''", 39n, "s32"],
  ["'\\\\'", 92n, "s32"],
  ["'\\x41'", 65n, "s32"],
  ["'\\101'", 65n, "s32"],
])("%s is %d, %s", (source, value, type) => {
  const [token, end, ...rest] = tokenize(source);
  expect(token).toEqual({
    kind: "number",
    offset: 0,
    length: source.length,
    text: source,
    value,
    bits: Number(type.slice(1)) as 32,
    signed: type.startsWith("s"),
  });
  expect([end?.kind, rest.length]).toEqual(["end", 0]);
});

test("The longest operator wins, and every token knows its place", () => {
  const source = "a<<=b <<c<=\td->e.f-- -g";
  const tokens = tokenize(source);
  expect(tokens.map(({ text }) => text)).toEqual(
    ["a", "<<=", "b", "<<", "c", "<=", "d", "->", "e", ".", "f", "--", "-", "g", ""],
  );
  for (const { text, offset, length } of tokens) expect(source.slice(offset, offset + length)).toBe(text);
});

describe("errors", () => {
  test.each<ErrorRow>([
    [
      'skb->name == "eth0"',
      "             ^^^^^^",
      "Cannot compare with \"eth0\": there are no strings, only characters such as 'e'",
    ],
    [
      "skb->len > €5",
      "           ^",
      'Cannot read "€": no expression has this character',
    ],
    [
      "skb->len > 0x1g",
      "           ^^^^",
      'Cannot read "0x1g": it is no number',
    ],
    [
      "skb->len > 08",
      "           ^^",
      'Cannot read "08": a number that begins with 0 is octal',
    ],
    [
      "skb->len > 1.5",
      "           ^^^",
      'Cannot read "1.5": there are whole numbers only',
    ],
    [
      "skb->len > 1e3",
      "           ^^^",
      'Cannot read "1e3": there are whole numbers only',
    ],
    [
      "skb->len > 5lul",
      "           ^^^^",
      'Cannot read "5lul": it is no number',
    ],
    [
      "skb->len > 18446744073709551616",
      "           ^^^^^^^^^^^^^^^^^^^^",
      'Cannot read "18446744073709551616": it does not fit 64 bits',
    ],
    [
      "skb->len == 'ab'",
      "            ^^^^",
      "Cannot read 'ab': want one character",
    ],
    [
      "skb->len == ''",
      "            ^^",
      "Cannot read '': want one character",
    ],
    [
      "skb->len == '\\q'",
      "            ^^^^",
      "Cannot read '\\q': want one character",
    ],
    [
      "skb->len == '\\xff'",
      "            ^^^^^^",
      "Cannot read '\\xff': a character is ASCII; write its number",
    ],
    [
      "skb->len == 'a",
      "            ^^",
      "Cannot find the quote that ends this character",
    ],
    [
      "skb->len == 'é'",
      "            ^^^",
      "Cannot read 'é': a character is ASCII; write its number",
    ],
  ])("%s", (source, carets, message) => {
    expect(complaint(source, () => tokenize(source))).toEqual([source, carets, message]);
  });

  test("too long", () => {
    const long = "1+".repeat(MAX_SOURCE_LENGTH / 2) + "1";
    expect(complaint(long, () => tokenize(long)).slice(1)).toEqual([
      " ".repeat(MAX_SOURCE_LENGTH) + "^",
      "Cannot read an expression of 4097 characters: the most is 4096",
    ]);
  });
});
