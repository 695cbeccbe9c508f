/**
 * RE2 patterns (github.com/google/re2/wiki/Syntax) as JavaScript ones, for names of kernel functions.
 *
 * The whole name must match. Translated: `(?i)` and `(?s)` at the start, `(?P<name>...)`, `\A`, `\z`, `\Q...\E`,
 * `\x{41}`, `[[:class:]]`. Refused, so that a pattern means the same here as in RE2: lookaround, back-references
 * and the ungreedy flag. Omitted: `\C`, `\p{...}` (names are ASCII).
 */

const CLASSES: Readonly<Record<string, string>> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  ascii: "\\x00-\\x7f",
  blank: "\\t ",
  cntrl: "\\x00-\\x1f\\x7f",
  digit: "0-9",
  graph: "!-~",
  lower: "a-z",
  print: " -~",
  punct: "!-/:-@\\[-`{-~",
  space: "\\t\\n\\v\\f\\r ",
  upper: "A-Z",
  word: "0-9A-Za-z_",
  xdigit: "0-9A-Fa-f",
};

/** A group that RE2 has no word for. */
const UNKNOWN_GROUP = /^\(\?(?:<?[=!]|>|[a-zA-Z-]*U)/;

/**
 * The expression that tests a whole name.
 *
 * @throws {RangeError} the pattern is wrong, or JavaScript has no equal for it
 */
export function parseNamePattern(pattern: string): RegExp | undefined {
  if (pattern === "") return undefined;
  let flags = "", text = pattern;
  const leading = /^\(\?([ims]+)\)/.exec(text);
  if (leading !== null) {
    flags = [...new Set(leading[1])].join("");
    text = text.slice(leading[0].length);
  }
  let out = "";
  let inClass = false;
  for (let at = 0; at < text.length;) {
    const rest = text.slice(at);
    let taken = rest[0]!, given = taken;
    if (rest.startsWith("\\Q")) {
      const end = rest.indexOf("\\E");
      const literal = rest.slice(2, end < 0 ? undefined : end);
      taken = end < 0 ? rest : rest.slice(0, end + 2);
      given = literal.replace(/[^\w]/g, "\\$&");
    } else if (taken === "\\") {
      taken = given = /^\\x\{[0-9a-fA-F]{1,2}\}/.exec(rest)?.[0] ?? rest.slice(0, 2);
      if (taken.length > 2) given = `\\x${taken.slice(3, -1).padStart(2, "0")}`;
      else if (rest.startsWith("\\x{")) throw new RangeError("the pattern has a character beyond \\x{ff}");
      else if (taken === "\\A") given = "^";
      else if (taken === "\\z") given = "$";
      else if (/^\\[1-9ZkpPCXG]/.test(taken)) {
        throw new RangeError(`the pattern has "${taken}", which RE2 lacks`);
      }
    } else if (inClass) {
      const named = /^\[:(\^?)(\w+):\]/.exec(rest);
      if (named !== null) {
        const body = CLASSES[named[2]!];
        if (body === undefined || named[1] !== "") {
          throw new RangeError(`the pattern has "${named[0]}": no such class`);
        }
        taken = named[0];
        given = body;
      } else if (taken === "]") inClass = false;
      else if (taken === "[") given = "\\[";
    } else if (taken === "[") {
      inClass = true;
      // A bracket right after the opening one is a literal in RE2.
      taken = /^\[\^?\]?/.exec(rest)![0];
      given = taken.replace("]", "\\]");
    } else if (taken === "(") {
      if (UNKNOWN_GROUP.test(rest)) throw new RangeError('the pattern has a "(?" group that RE2 lacks');
      if (rest.startsWith("(?P<")) {
        taken = "(?P<";
        given = "(?<";
      }
    }
    out += given;
    at += taken.length;
  }
  try {
    return new RegExp(`^(?:${out})$`, flags);
  } catch (cause) {
    const reason = (cause as Error).message.replace(/^Invalid regular expression: /, "");
    throw new RangeError(`the pattern is wrong: ${reason}`, { cause });
  }
}
