/**
 * Text -> tokens with positions, as C splits it: the longest operator wins, and what only looks like a number
 * (`0x1g`, `1.5`) is one wrong number, not a number and a name.
 *
 * Beyond C: `0o17` is octal too. Left out: strings, floating point, wide characters, comments.
 */
import { FilterSyntaxError } from "../errors.ts";

/** A piece of the source, in UTF-16 units. */
export interface Span {
  readonly offset: number;
  readonly length: number;
}

export type Token =
  & Span
  & { readonly text: string }
  & (
    | NumberValue & { readonly kind: "number" }
    | { readonly kind: "name" }
    | { readonly kind: "operator" }
    | { readonly kind: "end" }
  );

/** A literal's value and C's type for it. */
export interface NumberValue {
  readonly value: bigint;
  readonly bits: 32 | 64;
  readonly signed: boolean;
}

/** More than anybody types; keeps every later step short. */
export const MAX_SOURCE_LENGTH = 4096;

const space = /[ \t\r\n]+/y;
const name = /[A-Za-z_]\w*/y;
/** A preprocessing number: everything that C would take for one, right or wrong. */
const number = /\.?\d(?:[eEpP][+-]|[\w.])*/y;
const character = /'(?:\\.|[^\\'])*'?/ysu;
const string = /"(?:\\.|[^\\"])*"?/ysu;
const operator =
  /<<=|>>=|\.\.\.|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*\/%&|^]=|[-+*\/%&|^~!<>=?:.,;()[\]{}]/y;
const anyCharacter = /./ysu;

const integer = /^(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]([0-7]+)|(0[0-7]*)|([1-9]\d*))([uUlL]*)$/;
const suffix = /^(?:[uU]?(?:[lL]|ll|LL)?|(?:[lL]|ll|LL)[uU])$/;

/**
 * All tokens of `source`; the last one is of kind "end".
 *
 * @throws {FilterSyntaxError} a character or a literal that C does not have, or that has no place here
 */
export function tokenize(source: string): Token[] {
  if (source.length > MAX_SOURCE_LENGTH) {
    throw new FilterSyntaxError(
      `Cannot read an expression of ${source.length} characters: the most is ${MAX_SOURCE_LENGTH}`,
      source,
      MAX_SOURCE_LENGTH,
      source.length - MAX_SOURCE_LENGTH,
    );
  }
  const tokens: Token[] = [];
  let offset = 0;
  const match = (form: RegExp): string | undefined => {
    form.lastIndex = offset;
    return form.exec(source)?.[0];
  };
  const fail = (message: string, length: number): never => {
    throw new FilterSyntaxError(message, source, offset, length);
  };
  for (;;) {
    offset += match(space)?.length ?? 0;
    if (offset >= source.length) {
      return [...tokens, { kind: "end", offset: source.length, length: 0, text: "" }];
    }
    const push = (text: string, what: "name" | "operator" | NumberValue) => {
      const place = { offset, length: text.length, text };
      tokens.push(
        typeof what === "string" ? { ...place, kind: what } : { ...place, ...what, kind: "number" },
      );
      offset += text.length;
    };
    const word = match(name), digits = match(number), quoted = match(character), sign = match(operator);
    if (word !== undefined) push(word, "name");
    else if (digits !== undefined) push(digits, readNumber(digits, (why) => fail(why, digits.length)));
    else if (quoted !== undefined) push(quoted, readCharacter(quoted, (why) => fail(why, quoted.length)));
    else if (sign !== undefined) push(sign, "operator");
    else {
      const text = match(string);
      if (text !== undefined) {
        fail(`Cannot compare with ${text}: there are no strings, only characters such as 'e'`, text.length);
      }
      const stranger = match(anyCharacter) ?? "";
      fail(`Cannot read "${stranger}": no expression has this character`, stranger.length);
    }
  }
}

function readNumber(text: string, fail: (why: string) => never): NumberValue {
  const [, hexadecimal, binary, octal, cOctal, decimal, letters = ""] = integer.exec(text) ?? [];
  const digits = hexadecimal ?? binary ?? octal ?? cOctal ?? decimal;
  if (digits === undefined || !suffix.test(letters)) {
    return fail(
      /^0[0-9]+$/.test(text)
        ? `Cannot read "${text}": a number that begins with 0 is octal`
        : /^(?:\d+\.\d*|\.\d+|\d+[eE])/.test(text)
        ? `Cannot read "${text}": there are whole numbers only`
        : `Cannot read "${text}": it is no number`,
    );
  }
  const prefix = hexadecimal !== undefined
    ? "0x"
    : binary !== undefined
    ? "0b"
    : decimal !== undefined
    ? ""
    : "0o";
  const value = BigInt(prefix + digits);
  if (value >= 1n << 64n) return fail(`Cannot read "${text}": it does not fit 64 bits`);
  const unsigned = /u/i.test(letters), long = /l/i.test(letters);
  // C11 6.4.4.1: the first type that holds the value; only other bases than ten consider unsigned ones
  for (const [bits, signed] of [[32, true], [32, false], [64, true], [64, false]] as const) {
    if (long && bits === 32 || unsigned && signed) continue;
    if (!signed && !unsigned && decimal !== undefined && bits === 32) continue;
    if (value < 1n << BigInt(signed ? bits - 1 : bits)) return { value, bits, signed };
  }
  return fail(`Cannot read "${text}": it does not fit 64 bits`);
}

const escapes: Readonly<Record<string, number>> = {
  "0": 0,
  a: 7,
  b: 8,
  t: 9,
  n: 10,
  v: 11,
  f: 12,
  r: 13,
  e: 27,
  "'": 39,
  '"': 34,
  "?": 63,
  "\\": 92,
};

/** An int, as in C. ASCII only: whether a char above is negative depends on the kernel. */
function readCharacter(text: string, fail: (why: string) => never): NumberValue {
  const inner = /^'(.*)'$/su.exec(text)?.[1];
  if (inner === undefined) return fail("Cannot find the quote that ends this character");
  const code = inner.length === 1 && inner !== "\\"
    ? inner.charCodeAt(0)
    : /^\\x[0-9a-fA-F]{1,2}$/.test(inner)
    ? parseInt(inner.slice(2), 16)
    : /^\\[0-7]{1,3}$/.test(inner)
    ? parseInt(inner.slice(1), 8)
    : /^\\.$/.test(inner)
    ? escapes[inner.slice(1)]
    : undefined;
  if (code === undefined) return fail(`Cannot read ${text}: want one character`);
  if (code > 0x7f) return fail(`Cannot read ${text}: a character is ASCII; write its number`);
  return { value: BigInt(code), bits: 32, signed: true };
}
