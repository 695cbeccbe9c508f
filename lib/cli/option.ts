/** What an option is, and makers of the usual kinds. */
import { parseBoolean, parseUnsigned } from "./values.ts";

/** Where the manual page and the README list an option, in this order. */
export const SECTIONS = ["Probes", "Filters", "Output", "Run"] as const;
export type Section = (typeof SECTIONS)[number];

/** What a shell may offer behind an option; words of its own come from `words`. */
export type Completion = "file" | "interface" | "netns" | "module";

export interface Option<T = unknown> {
  /** type word of the help text; "" is a boolean, which takes a value only behind `=` */
  readonly type: string;
  readonly default: T;
  /** the default as the help text shows it; undefined where it is the type's zero value */
  readonly shownDefault?: string;
  /** one line, lower case, no final period */
  readonly help: string;
  /** what the manual page adds: forms of the value, limits, side effects */
  readonly detail?: string;
  readonly section: Section;
  /** works, but the help text and completions leave it out */
  readonly hidden?: true;
  readonly short?: string;
  /** all values there are, where there is a fixed set */
  readonly words?: readonly string[];
  readonly completion?: Completion;
  /** first kernel it works on, where that is later than ours in general */
  readonly since?: string;
  /** what it is when it stands without a value; only for type "", where that is true unless this says otherwise */
  bare?(before: T): T;
  /** @throws {RangeError} whose message is the cause alone */
  parse(text: string, before: T): T;
}

/** What the makers below do not derive. */
type About<T> = Omit<Option<T>, "type" | "default" | "parse" | "bare" | "shownDefault" | "words">;

export function flag(value: boolean, about: About<boolean>): Option<boolean> {
  return {
    type: "",
    default: value,
    ...(value ? { shownDefault: "true" } : {}),
    parse: parseBoolean,
    ...about,
  };
}

export function optional<T>(
  type: string,
  parse: (text: string) => T | undefined,
  about: About<T | undefined>,
) {
  return { type, default: undefined, parse, ...about } satisfies Option<T | undefined> as Option<
    T | undefined
  >;
}

/** One of a few words. An empty word is "as if not given" and shows no default. */
export function choice<const W extends string>(
  words: readonly W[],
  value: NoInfer<W>,
  about: About<W>,
): Option<W> {
  const named = words.filter((word) => word !== "");
  return {
    type: "string",
    default: value,
    ...(value === "" ? {} : { shownDefault: `"${value}"` }),
    words: named,
    parse: wordOf(words),
    ...about,
  };
}

export function wordOf<W extends string>(words: readonly W[]): (text: string) => W {
  const named = words.filter((word) => word !== "");
  return (text) => {
    const word = words.find((word) => word === text);
    if (word !== undefined) return word;
    throw new RangeError(`want ${named.slice(0, -1).join(", ")} or ${named.at(-1)}`);
  };
}

export function list(
  parse: (text: string) => string[],
  about: About<readonly string[]>,
): Option<readonly string[]> {
  return {
    type: "strings",
    default: [],
    parse: (text, before) => [...before, ...parse(text)],
    ...about,
  };
}

/** A whole number of at most 32 bits, which pwru calls int. */
export function count(value: number, about: About<number>): Option<number> {
  return {
    type: "int",
    default: value,
    ...(value === 0 ? {} : { shownDefault: `${value}` }),
    parse: (text) => Number(parseUnsigned(text, 32)),
    ...about,
  };
}
