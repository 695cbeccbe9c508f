/**
 * Tokens -> syntax tree: C's expressions without assignment, comma, calls and increments. One function per
 * level of the grammar; the precedence of binary operators is a table.
 *
 * Beyond C: a single `=` compares.
 */
import { FilterSyntaxError } from "../errors.ts";
import { type Span, type Token, tokenize } from "./lexer.ts";
import type { BinaryOperator, Syntax, TypeName, UnaryOperator } from "./syntax.ts";

/** Levels of a tree; a chain such as `a + b + c` has one per operator. */
export const MAX_DEPTH = 200;

/** What a parser has to know of names; C cannot be parsed without. */
export interface KnownNames {
  /** `skb` or `xdp` */
  readonly root: string;
  isTypedef(name: string): boolean;
}

/** The higher binds tighter; all group from left to right. */
const binaryOperators: Readonly<Record<string, readonly [operator: BinaryOperator, precedence: number]>> = {
  "||": ["||", 1],
  "&&": ["&&", 2],
  "|": ["|", 3],
  "^": ["^", 4],
  "&": ["&", 5],
  "==": ["==", 6],
  "=": ["==", 6],
  "!=": ["!=", 6],
  "<": ["<", 7],
  "<=": ["<=", 7],
  ">": [">", 7],
  ">=": [">=", 7],
  "<<": ["<<", 8],
  ">>": [">>", 8],
  "+": ["+", 9],
  "-": ["-", 9],
  "*": ["*", 10],
  "/": ["/", 10],
  "%": ["%", 10],
};

const unaryOperators: ReadonlySet<string> = new Set(["!", "~", "-", "+", "*", "&"]);

const tags = ["struct", "union", "enum"] as const;
const qualifiers: ReadonlySet<string> = new Set(["const", "volatile"]);

/** Words of an integer type, in any order, to what they mean together (LP64). */
const integerTypes: ReadonlyMap<string, readonly [bits: 8 | 16 | 32 | 64, signed: boolean]> = new Map(
  ([
    ["char signed", 8, true],
    ["char unsigned", 8, false],
    ["short", 16, true],
    ["short signed", 16, true],
    ["int short", 16, true],
    ["int short signed", 16, true],
    ["short unsigned", 16, false],
    ["int short unsigned", 16, false],
    ["int", 32, true],
    ["signed", 32, true],
    ["int signed", 32, true],
    ["unsigned", 32, false],
    ["int unsigned", 32, false],
    ...["long", "long long"].flatMap((long) =>
      ["", "int "].flatMap((int) =>
        [
          [`${int}${long}`, 64, true],
          [`${int}${long} signed`, 64, true],
          [`${int}${long} unsigned`, 64, false],
        ] as [string, 64, boolean][]
      )
    ),
  ] as const).map(([words, bits, signed]) => [words, [bits, signed]]),
);
const typeWords: ReadonlySet<string> = new Set([
  "void",
  "_Bool",
  "char",
  "short",
  "int",
  "long",
  "signed",
  "unsigned",
]);

/** @throws {FilterSyntaxError} it is no expression, or nested too deeply */
export function parseExpression(source: string, names: KnownNames): Syntax {
  return new Parser(source, names).parse();
}

/** From the first character of `a` to the last of `b`. */
function across(a: Span, b: Span): Span {
  return { offset: a.offset, length: b.offset + b.length - a.offset };
}

class Parser {
  readonly #source: string;
  readonly #names: KnownNames;
  readonly #tokens: readonly Token[];
  #at = 0;
  #nesting = 0;

  constructor(source: string, names: KnownNames) {
    this.#source = source;
    this.#names = names;
    this.#tokens = tokenize(source);
  }

  parse(): Syntax {
    if (this.#atEnd()) this.#fail("Cannot read an empty expression");
    const tree = this.#conditional();
    if (!this.#atEnd()) this.#unexpected("an operator or the end");
    return tree;
  }

  get #token(): Token {
    return this.#tokens[this.#at] as Token;
  }

  /** The token behind the current one. */
  get #second(): Token {
    return this.#tokens[this.#at + 1] ?? this.#token;
  }

  #atEnd(): boolean {
    return this.#token.kind === "end";
  }

  #advance(): Token {
    const token = this.#token;
    if (token.kind !== "end") this.#at++;
    return token;
  }

  #is(text: string): boolean {
    return this.#token.kind === "operator" && this.#token.text === text;
  }

  #take(text: string): boolean {
    const found = this.#is(text);
    if (found) this.#at++;
    return found;
  }

  #expect(text: string): Token {
    if (!this.#is(text)) this.#unexpected(`"${text}"`);
    return this.#advance();
  }

  #fail(message: string, { offset, length }: Span = this.#token): never {
    throw new FilterSyntaxError(message, this.#source, offset, length);
  }

  #unexpected(wanted: string): never {
    const { kind, text } = this.#token;
    const found = kind === "end" ? "the end" : `"${text}"`;
    const hint = text === "++" || text === "--" || /^([-+*\/%&|^]|<<|>>)=$/.test(text)
      ? ": an expression changes nothing"
      : "";
    return this.#fail(`Cannot use ${found} here: want ${wanted}${hint}`);
  }

  /** Runs one level deeper; recursion is bounded here, the height of the tree in `#node`. */
  #nested<T>(parse: () => T): T {
    if (++this.#nesting > MAX_DEPTH) this.#fail(`Cannot nest deeper than ${MAX_DEPTH} levels`);
    const result = parse();
    this.#nesting--;
    return result;
  }

  /** `fields` as a node above `children`. */
  #node<T extends { kind: string }>(place: Span, children: readonly Syntax[], fields: T) {
    const depth = 1 + Math.max(0, ...children.map((child) => child.depth));
    if (depth > MAX_DEPTH) this.#fail(`Cannot nest deeper than ${MAX_DEPTH} levels`, place);
    const usesRoot = children.some((child) => child.usesRoot);
    return { offset: place.offset, length: place.length, depth, usesRoot, ...fields };
  }

  /** condition := binary [ "?" condition ":" condition ] */
  #conditional(): Syntax {
    return this.#nested(() => {
      const condition = this.#binary(1);
      if (!this.#take("?")) return condition;
      const whenTrue = this.#conditional();
      this.#expect(":");
      const whenFalse = this.#conditional();
      return this.#node(across(condition, whenFalse), [condition, whenTrue, whenFalse], {
        kind: "conditional" as const,
        condition,
        whenTrue,
        whenFalse,
      });
    });
  }

  /** binary(n) := unary { operator binary(n + 1) }, for the operators of precedence n and above */
  #binary(lowest: number): Syntax {
    let left = this.#unary();
    for (;;) {
      const operatorAt = this.#token;
      const row = operatorAt.kind === "operator" ? binaryOperators[operatorAt.text] : undefined;
      if (row === undefined || row[1] < lowest) return left;
      const [operator, precedence] = row;
      this.#advance();
      const right = this.#nested(() => this.#binary(precedence + 1));
      const { offset, length } = operatorAt;
      left = this.#node(across(left, right), [left, right], {
        kind: "binary" as const,
        operator,
        operatorAt: { offset, length },
        left,
        right,
      });
    }
  }

  /** unary := operator unary | "(" type ")" unary | "sizeof" ( "(" type ")" | unary ) | postfix */
  #unary(): Syntax {
    const start = this.#token;
    if (start.kind === "operator" && unaryOperators.has(start.text)) {
      this.#advance();
      const operand = this.#nested(() => this.#unary());
      const operator = start.text as UnaryOperator;
      return this.#node(across(start, operand), [operand], { kind: "unary" as const, operator, operand });
    }
    if (start.kind === "name" && start.text === "sizeof") return this.#sizeof();
    if (this.#is("(") && this.#startsType(this.#second)) {
      this.#advance();
      const type = this.#typeName();
      this.#expect(")");
      const operand = this.#nested(() => this.#unary());
      return this.#node(across(start, operand), [operand], { kind: "cast" as const, type, operand });
    }
    return this.#postfix();
  }

  #sizeof(): Syntax {
    const start = this.#advance();
    if (this.#is("(") && this.#startsType(this.#second)) {
      this.#advance();
      const of = this.#typeName();
      const place = across(start, this.#expect(")"));
      return this.#node(place, [], { kind: "sizeof" as const, of, isType: true });
    }
    const of = this.#nested(() => this.#unary());
    // The size is a constant, whatever the operand looks at.
    return {
      ...this.#node(across(start, of), [of], { kind: "sizeof" as const, of, isType: false }),
      usesRoot: false,
    };
  }

  /** postfix := primary { ( "->" | "." ) name | "[" condition "]" } */
  #postfix(): Syntax {
    let left = this.#primary();
    for (;;) {
      if (this.#is("->") || this.#is(".")) {
        this.#advance();
        const { kind, text: name, offset, length } = this.#token;
        if (kind !== "name") this.#unexpected("a member's name");
        this.#advance();
        const nameAt = { offset, length };
        left = this.#node(across(left, nameAt), [left], {
          kind: "member" as const,
          object: left,
          name,
          nameAt,
        });
      } else if (this.#take("[")) {
        const index = this.#conditional();
        const place = across(left, this.#expect("]"));
        left = this.#node(place, [left, index], { kind: "index" as const, object: left, index });
      } else if (this.#is("(")) {
        const what = this.#source.slice(left.offset, left.offset + left.length);
        this.#fail(
          /^(?:bpf_)?(?:ntoh|hton)[sl]$|^(?:__)?be\d+_to_cpup?$/.test(what)
            ? `Cannot call "${what}": there are no functions; a __be field has its value already`
            : `Cannot call "${what}": there are no functions`,
          left,
        );
      } else return left;
    }
  }

  /** primary := number | name | "(" condition ")" */
  #primary(): Syntax {
    const token = this.#token;
    switch (token.kind) {
      case "number": {
        this.#advance();
        const { value, bits, signed } = token;
        return this.#node(token, [], { kind: "number" as const, value, bits, signed });
      }
      case "name": {
        if (this.#startsType(token)) {
          this.#fail(`Cannot use the type "${token.text}" as a value: a cast has parentheses around it`);
        }
        this.#advance();
        const { text: name } = token;
        return {
          ...this.#node(token, [], { kind: "name" as const, name }),
          usesRoot: name === this.#names.root,
        };
      }
      case "operator": {
        if (!this.#take("(")) break;
        const inner = this.#conditional();
        const place = across(token, this.#expect(")"));
        this.#refuseUnknownCast(inner);
        return { ...inner, ...place };
      }
    }
    return this.#unexpected("a value");
  }

  /** `(name) operand` is a cast to a type that there is not. */
  #refuseUnknownCast(inner: Syntax): void {
    if (inner.kind !== "name" || inner.usesRoot) return;
    const { kind, text } = this.#token;
    if (kind === "name" || kind === "number" || text === "(") {
      this.#fail(`Cannot find the type "${inner.name}" among the kernel's`, inner);
    }
  }

  #isTypeWord(word: string): boolean {
    return typeWords.has(word) || qualifiers.has(word) || (tags as readonly string[]).includes(word);
  }

  #startsType({ kind, text }: Token): boolean {
    if (kind !== "name" || text === this.#names.root) return false;
    return this.#isTypeWord(text) || this.#names.isTypedef(text);
  }

  /** type := { qualifier } ( words of an integer type | tag name | typedef ) { "*" | qualifier } */
  #typeName(): TypeName {
    const start = this.#token, words: string[] = [];
    let named: { kind: "struct" | "union" | "enum" | "typedef"; name: string } | undefined;
    for (; this.#token.kind === "name"; this.#advance()) {
      const { text } = this.#token, tag = tags.find((tag) => tag === text);
      if (qualifiers.has(text)) continue;
      if (named !== undefined) break;
      if (typeWords.has(text)) words.push(text);
      else if (words.length > 0) break;
      else if (tag !== undefined) {
        this.#advance();
        if (this.#token.kind !== "name") this.#unexpected(`the name of a ${tag}`);
        named = { kind: tag, name: this.#token.text };
      } else if (this.#names.isTypedef(text)) named = { kind: "typedef", name: text };
      else break;
    }
    const end = this.#tokens[this.#at - 1] as Token,
      base = named ?? this.#wordsAsType(words, across(start, end));
    let pointers = 0;
    while (this.#is("*") || this.#token.kind === "name" && qualifiers.has(this.#token.text)) {
      if (this.#advance().text === "*") pointers++;
    }
    return { ...across(start, this.#tokens[this.#at - 1] as Token), pointers, ...base };
  }

  #wordsAsType(words: readonly string[], place: Span) {
    const text = words.join(" ");
    if (text === "void") return { kind: "void" as const };
    if (text === "_Bool") return { kind: "bool" as const };
    if (text === "char") return { kind: "char" as const };
    const found = integerTypes.get([...words].sort().join(" "));
    if (found === undefined) {
      const written = this.#source.slice(place.offset, place.offset + place.length);
      this.#fail(`Cannot find the type "${written}": C has none of that name`, place);
    }
    const [bits, signed] = found;
    return { kind: "integer" as const, bits, signed };
  }
}
