/**
 * Text -> tokens with positions. The longest match wins; on equal length the earlier kind in this order:
 * keyword or operator, link address `$xx`, MAC, number, dotted number, IPv6, malformed MAC, named constant,
 * identifier, backslash-quoted identifier. What nothing matches is a token that no grammar rule takes.
 *
 * A text that looks like a number or an address and is none becomes an "error" token: the parser reports it
 * when it gets there, because what stands before it is compiled, and may complain, first.
 */
import { type Keyword, keywords, namedConstants } from "./tables.ts";

/** A piece of the source, in UTF-16 units. */
export interface Span {
  readonly offset: number;
  readonly length: number;
}

export type Token =
  & Span
  & { readonly text: string }
  & (
    | Keyword
    | { readonly kind: "number"; readonly value: number }
    /** a name, the backslash removed */
    | { readonly kind: "name"; readonly name: string }
    | { readonly kind: "mac" | "ipv4" | "ipv6" | "aid" }
    /** reported with `message`; without one it is just no token of the language */
    | { readonly kind: "error"; readonly message?: string }
    | { readonly kind: "end" }
  );

/** Everything of a token but its place. */
type Value = Token extends infer T ? T extends Token ? Omit<T, keyof Span | "text"> : never : never;

const number = "(?:0[xX][0-9a-fA-F]+|[0-9]+)";
const hexPair = "[0-9a-fA-F]{1,2}";
const dotted = String.raw`${number}(?:\.${number}){1,3}`;
const operator = /&&|\|\||!=|==|<<|>>|<=|>=|[!()[\]:\/+\-*%&|^=<>]/y;
const identifier = /[A-Za-z0-9](?:[-_.A-Za-z0-9]*[.A-Za-z0-9])?/y;
// A quoted name keeps carriage returns: only these characters end it.
const quotedIdentifier = /\\[^ !()\n\t]+/y;
const whiteSpace = /[ \t\r\n]+/y;

/**
 * The eight-group form, the forms with `::` (one per number of groups before it) and all of these with the
 * last two groups as a dotted quad. Each regular expression takes as much as it can.
 */
const ipv6Forms: readonly RegExp[] = (() => {
  const group = "[0-9a-fA-F]{1,4}", quad = String.raw`${number}(?:\.${number}){3}`;
  const groups = (count: number) => count === 0 ? "" : `${group}(?::${group}){${count - 1}}`;
  const forms = [groups(8), `${groups(6)}:${quad}`];
  for (let before = 0; before <= 7; before++) {
    const after = 7 - before;
    forms.push(`${groups(before)}::${after === 0 ? "" : `(?:${group}(?::${group}){0,${after - 1}})?`}`);
    if (before <= 5) forms.push(`${groups(before)}::(?:${group}:){0,${5 - before}}${quad}`);
  }
  return forms.map((form) => new RegExp(form, "y"));
})();

/** In order of precedence; keywords and names share one row because both are tried on the same text. */
const kinds: readonly { readonly forms: readonly RegExp[]; read(text: string): Value }[] = [
  { forms: [/\$[0-9a-fA-F]{1,2}/y], read: () => ({ kind: "aid" }) },
  {
    forms: [
      ...[":", "-", String.raw`\.`].map((mark) => new RegExp(`${hexPair}(?:${mark}${hexPair}){5}`, "y")),
      /[0-9a-fA-F]{4}\.[0-9a-fA-F]{4}\.[0-9a-fA-F]{4}/y,
      /[0-9a-fA-F]{12}/y,
    ],
    read: () => ({ kind: "mac" }),
  },
  { forms: [new RegExp(number, "y")], read: readNumber },
  { forms: [new RegExp(dotted, "y")], read: () => ({ kind: "ipv4" }) },
  { forms: ipv6Forms, read: readIpv6 },
  {
    forms: [new RegExp(`${hexPair}:+(?:${hexPair}:+)+`, "y")],
    read: (text) => ({ kind: "error", message: `invalid Ethernet address ${text}` }),
  },
  { forms: [identifier], read: readName },
  { forms: [quotedIdentifier], read: (text) => ({ kind: "name", name: text.slice(1) }) },
];

/** All tokens of `source`; the last one is of kind "end". */
export function tokenize(source: string): Token[] {
  const tokens: Token[] = [];
  let offset = 0;
  for (;;) {
    offset += matchLength(whiteSpace, source, offset);
    if (offset >= source.length) {
      tokens.push({ kind: "end", offset: source.length, length: 0, text: "" });
      return tokens;
    }
    const token = readToken(source, offset);
    tokens.push(token);
    offset += token.length;
  }
}

function readToken(source: string, offset: number): Token {
  // A keyword is spelt like an identifier and wins over everything of its length.
  let length = matchLength(identifier, source, offset);
  const place = (): Span & { text: string } => ({
    offset,
    length,
    text: source.slice(offset, offset + length),
  });
  const keyword = keywords.get(source.slice(offset, offset + length));
  let winner: typeof kinds[number] | undefined;
  if (keyword === undefined) length = 0;
  for (const kind of kinds) {
    for (const form of kind.forms) {
      const found = matchLength(form, source, offset);
      if (found > length) [length, winner] = [found, kind];
    }
  }
  const symbolLength = matchLength(operator, source, offset);
  if (symbolLength > 0 && symbolLength >= length) {
    length = symbolLength;
    return { ...place(), ...keywords.get(place().text)! };
  }
  if (winner !== undefined) return { ...place(), ...winner.read(place().text) };
  if (keyword !== undefined) return { ...place(), ...keyword };
  length = 1;
  return { ...place(), kind: "error" };
}

/** How many characters the sticky `form` matches at `offset`; 0 for none. */
function matchLength(form: RegExp, source: string, offset: number): number {
  form.lastIndex = offset;
  return form.test(source) ? form.lastIndex - offset : 0;
}

function readName(text: string): Value {
  const constant = namedConstants.get(text);
  return constant === undefined ? { kind: "name", name: text } : { kind: "number", value: constant };
}

function readNumber(text: string): Value {
  const literal = parseNumber(text);
  return typeof literal === "number"
    ? { kind: "number", value: literal }
    : { kind: "error", message: literal.message };
}

/** The value of a C-like unsigned literal of at most 32 bits, or why it has none. */
export function parseNumber(text: string): number | { readonly message: string } {
  const hexadecimal = /^0[xX]/.test(text);
  const octal = !hexadecimal && text.startsWith("0");
  if (octal && /[89]/.test(text) && octalPrefixFits(text)) {
    return { message: `number ${text} contains non-octal digit` };
  }
  const base = hexadecimal ? "hexadecimal" : octal ? "octal" : "decimal";
  const value = hexadecimal ? Number(text) : octal ? parseInt(text, 8) : Number(text);
  return value <= 0xffffffff ? value : { message: `${base} number ${text} overflows 32 bits` };
}

/** The digits are read from the left: an overflow before the first 8 or 9 is what gets reported. */
function octalPrefixFits(text: string): boolean {
  const prefix = text.slice(0, text.search(/[89]/));
  return prefix === "" || parseInt(prefix, 8) <= 0xffffffff;
}

function readIpv6(text: string): Value {
  return isIpv6(text) ? { kind: "ipv6" } : { kind: "error", message: `invalid IPv6 address ${text}` };
}

/** The lexer's forms bound everything but the dotted quad, whose parts must be 0 to 255 without extra zeros. */
function isIpv6(text: string): boolean {
  const dot = text.indexOf(".");
  if (dot < 0) return true;
  const quad = text.slice(text.lastIndexOf(":") + 1);
  return quad.split(".").every((part) => /^(?:0|[1-9][0-9]{0,2})$/.test(part) && Number(part) <= 255);
}
