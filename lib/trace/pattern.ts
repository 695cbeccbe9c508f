/**
 * --filter-func: an RE2 expression that has to match the whole name, as `^(?:...)$`.
 *
 * pwru compares the leftmost-first match with the name instead, so that `ip_rcv|ip_rcv_core` misses
 * ip_rcv_core there; here it matches. RE2's spelling is translated for the built-in engine: named groups,
 * inline flags, POSIX classes, \A \z \Q...\E. As in RE2 there is no lookaround and no backreference.
 */
import { UsageError } from "../errors.ts";

const OPTION = "--filter-func";

/** POSIX classes inside brackets; all names we meet are ASCII. */
const posix: Readonly<Record<string, string>> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  ascii: "\\x00-\\x7F",
  blank: "\\t ",
  cntrl: "\\x00-\\x1F\\x7F",
  digit: "0-9",
  graph: "!-~",
  lower: "a-z",
  print: " -~",
  punct: "!-\\/:-@\\[-`\\{-~",
  space: "\\t\\n\\v\\f\\r ",
  upper: "A-Z",
  word: "\\w",
  xdigit: "0-9A-Fa-f",
};

/** Whether the expression is a plain name, so that exactly one function is meant. */
export function isExactName(pattern: string): boolean {
  return /^[A-Za-z_]\w*$/.test(pattern);
}

/**
 * The expression as a RegExp that matches whole names.
 *
 * @throws {UsageError} it is no RE2 expression
 */
export function wholeName(pattern: string): RegExp {
  try {
    return new RegExp(`^(?:${translate(pattern)})$`, "u");
  } catch (cause) {
    const why = cause instanceof Refusal ? cause.message : reason(cause);
    throw new UsageError(`Cannot read "${pattern}" as a regular expression: ${why}`, OPTION);
  }
}

class Refusal extends Error {}

/** The engine's own words without the expression, which is ours and not the user's. */
function reason(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replace(/^Invalid regular expression: (\/.*\/\w*: )?/s, "");
}

function translate(pattern: string): string {
  let out = "", at = 0;
  const groups: string[][] = [[]]; // per open group the flags set inside it, each an open group of ours
  const close = () => ")".repeat(groups.at(-1)!.length);
  while (at < pattern.length) {
    const rest = pattern.slice(at), char = pattern[at]!;
    if (char === "\\") {
      const quoted = /^\\Q(.*?)(?:\\E|$)/s.exec(rest);
      if (quoted !== null) {
        out += [...quoted[1]!].map(literal).join("");
        at += quoted[0].length;
        continue;
      }
      const [text, length] = escape(rest);
      out += text;
      at += length;
    } else if (char === "[") {
      const [text, length] = bracket(rest);
      out += text;
      at += length;
    } else if (char === "(") {
      const [open] = /^\((?:\?(?:P?<\w+>|[A-Za-z]*(?:-[A-Za-z]+)?[:)]|<?[=!]|.?))?/s.exec(rest)!;
      const flags = /^\(\?([imsU]*(?:-[imsU]+)?)([:)])$/.exec(open);
      if (flags !== null && flags[1]!.includes("U")) throw new Refusal("flag U is not supported");
      if (flags?.[2] === ")") {
        if (flags[1] !== "") {
          groups.at(-1)!.push(`(?${flags[1]}:`);
          out += `(?${flags[1]}:`;
        }
      } else {
        if (/^\(\?/.test(open) && flags === null && !/^\(\?P?<\w+>$/.test(open)) {
          throw new Refusal(`"${open}" is not supported`);
        }
        out += open.replace("(?P<", "(?<");
        groups.push([]);
      }
      at += open.length;
    } else if (char === ")") {
      if (groups.length === 1) throw new Refusal('")" without "("');
      out += close() + ")";
      groups.pop();
      at++;
    } else if (char === "|") { // flags last to the end of the group, not of the alternative
      out += close() + "|" + groups.at(-1)!.join("");
      at++;
    } else {
      const repeat = /^\{\d+(?:,\d*)?\}/.exec(rest);
      out += repeat !== null ? repeat[0] : "{}]".includes(char) ? `\\${char}` : char;
      at += repeat?.[0].length ?? 1;
    }
  }
  if (groups.length > 1) throw new Refusal('"(" without ")"');
  return out + close();
}

function literal(char: string): string {
  return /[\w]/.test(char) ? char : `\\u{${char.codePointAt(0)!.toString(16)}}`;
}

/** The translation of the escape that `rest` starts with, and its length. */
function escape(rest: string, inBracket = false): [text: string, length: number] {
  const hex = /^\\x(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2}))/.exec(rest);
  if (hex !== null) return [`\\u{${hex[1] ?? hex[2]}}`, hex[0].length];
  const property = /^\\([pP])(?:([A-Z])|\{(\^?)(\w+)\})/.exec(rest);
  if (property !== null) {
    const negated = (property[1] === "P") !== (property[3] === "^");
    return [`\\${negated ? "P" : "p"}{${property[2] ?? property[4]}}`, property[0].length];
  }
  const char = rest[1];
  if (char === undefined) throw new Refusal("it ends with a backslash");
  if (/[1-9]/.test(char)) throw new Refusal("backreferences are not supported");
  if (/[dDsSwWfnrtv]/.test(char)) return [`\\${char}`, 2];
  if (char === "a") return ["\\x07", 2];
  if (!inBracket) {
    if (/[bB]/.test(char)) return [`\\${char}`, 2];
    if (char === "A") return ["^", 2];
    if (char === "z") return ["$", 2];
  }
  if (/[A-Za-z0]/.test(char)) throw new Refusal(`"\\${char}" is no escape`);
  return [literal(char), 1 + char.length];
}

/** The translation of the bracket expression that `rest` starts with, and its length. */
function bracket(rest: string): [text: string, length: number] {
  let at = rest[1] === "^" ? 2 : 1, out = rest.slice(0, at);
  for (let first = true;; first = false) {
    const char = rest[at];
    if (char === undefined) throw new Refusal('"[" without "]"');
    if (char === "]" && !first) return [out + "]", at + 1];
    const named = /^\[:(\^?)(\w+):\]/.exec(rest.slice(at));
    if (named !== null) {
      const ranges = posix[named[2]!];
      if (ranges === undefined) throw new Refusal(`"${named[0]}" is no character class`);
      if (named[1] === "^") throw new Refusal(`"${named[0]}" is not supported`);
      out += ranges;
      at += named[0].length;
    } else if (char === "\\") {
      const [text, length] = escape(rest.slice(at), true);
      out += text;
      at += length;
    } else {
      out += "[]^".includes(char) ? `\\${char}` : char;
      at++;
    }
  }
}
