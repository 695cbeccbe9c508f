/**
 * The command line, as spf13/pflag reads one: `--name value`, `--name=value`, booleans with a value only behind
 * `=`, options and filter words in any order, `--` before words that only look like options. The last of two
 * equal options wins; lists grow.
 */
import { parseArgs } from "node:util";
import { UsageError } from "../errors.ts";
import type { Option } from "./option.ts";
import { camelCase, optionList, type OptionName, type Options } from "./options.ts";

export interface CommandLine {
  readonly options: Options;
  /** all positional words, joined by one space: the pcap filter */
  readonly filter: string;
}

const byName: ReadonlyMap<string, Option> = new Map(optionList);

/** What `node:util` must know to split words into options and values. */
const shapes = Object.fromEntries(
  optionList.map(([name, option]) => [name, {
    type: option.type === "" ? "boolean" as const : "string" as const,
    ...(option.short === undefined ? {} : { short: option.short }),
  }]),
);

/**
 * @param args without the program's own name
 * @throws {UsageError} an unknown option, a missing or a wrong value
 */
export function parseCommandLine(args: readonly string[]): CommandLine {
  const { tokens } = parseArgs({
    args: [...args],
    options: shapes,
    strict: false,
    allowPositionals: true,
    tokens: true,
  });
  const values: Record<string, unknown> = {};
  for (const [name, option] of optionList) values[camelCase(name)] = option.default;
  const words: string[] = [];
  for (const token of tokens) {
    if (token.kind === "positional") words.push(token.value);
    if (token.kind !== "option") continue;
    const option = byName.get(token.name);
    if (option === undefined || !isOurs(token.name, token.rawName)) {
      // Of a group such as -help the whole word is what the user knows, not its second letter.
      throw unknownOption(token.rawName.startsWith("--") ? token.rawName : args[token.index]!);
    }
    const key = camelCase(token.name);
    values[key] = parseValue(token.name, option, token.value, values[key]);
  }
  return { options: values as unknown as Options, filter: words.join(" ") };
}

/** False for `-help=x` and the like, which node:util takes for a group of letters. */
function isOurs(name: string, rawName: string): boolean {
  return rawName === `--${name}` || rawName === `-${byName.get(name)?.short}`;
}

function parseValue(name: string, option: Option, text: string | undefined, before: unknown): unknown {
  if (text === undefined) {
    if (option.type === "") return option.bare === undefined ? true : option.bare(before);
    throw new UsageError(`Option --${name} needs a value: --${name} ${option.type}`, `--${name}`);
  }
  try {
    return option.parse(text, before);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new UsageError(`Cannot use ${JSON.stringify(text)} for --${name}: ${cause.message}`, `--${name}`);
  }
}

function unknownOption(word: string): UsageError {
  const near = nearestOption(word.replace(/^-+/, ""));
  const question = near === undefined ? "" : `: did you mean --${near}?`;
  return new UsageError(`Unknown option ${JSON.stringify(word)}${question}`, word);
}

/** The option that was probably meant: the fewest slips of the finger away, or the one that has the word in it. */
export function nearestOption(word: string): OptionName | undefined {
  let best: OptionName | undefined;
  let slips = Math.max(2, Math.floor(word.length / 4)) + 1;
  for (const [name, option] of optionList) {
    if (option.hidden) continue;
    const distance = editDistance(word, name);
    if (distance < slips) [best, slips] = [name, distance];
  }
  if (best !== undefined || word.length < 3) return best;
  return optionList.find(([name, option]) => !option.hidden && name.includes(word))?.[0];
}

/** Letters to insert, drop, replace, or swap with a neighbour, to make `b` of `a` (optimal string alignment). */
function editDistance(a: string, b: string): number {
  let older: number[] = [], last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let least = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        least = Math.min(least, older[j - 2]! + 1);
      }
      row.push(least);
    }
    [older, last] = [last, row];
  }
  return last[b.length]!;
}
