/**
 * Tokens -> syntax tree, one method per grammar rule.
 *
 * The reference is an LALR(1) parser that acts on a rule as soon as the rule is complete, and for that looks at
 * the next token only when it has to. Both show in error messages, so this parser keeps the same order: `reduce`
 * records a node at exactly that moment, and `peek` (which raises lexical errors) is called only where the
 * reference needs the next token. What a parenthesis holds (a number, an arithmetic expression, a list of ids, an
 * expression) is decided from what was found inside it, never by looking ahead.
 */
import { FilterSyntaxError } from "../errors.ts";
import type {
  BinaryOperator,
  ByteOperator,
  IdNode,
  Node,
  Qualifiers,
  Relation,
  Scope,
  TestNode,
  ValueNode,
  WlanNode,
} from "./ast.ts";
import { type Span, type Token, tokenize } from "./lexer.ts";
import type { Direction, Protocol, SymbolWord } from "./tables.ts";

/** The longest expression we take, in UTF-16 units. */
export const maxSourceLength = 1 << 16;
/** How deep parentheses, `not`, `-` and right-associative operators may nest. */
export const maxNesting = 500;

const syntaxError = "can't parse filter expression: syntax error";

/** `error` stands after everything in `nodes`: what is complete is compiled, and may complain, first. */
export interface Parsed {
  /** in order of completion */
  readonly nodes: readonly Node[];
  /** absent for an empty expression, and when there is an error */
  readonly root?: TestNode;
  readonly error?: FilterSyntaxError;
}

/** Parses `source`; errors are part of the result. */
export function parseFilter(source: string): Parsed {
  if (source.length > maxSourceLength) {
    const message =
      `filter expression is too long: ${source.length} characters, the maximum is ${maxSourceLength}`;
    return {
      nodes: [],
      error: new FilterSyntaxError(message, source, maxSourceLength, source.length - maxSourceLength),
    };
  }
  const parser = new Parser(source);
  try {
    const root = parser.program();
    return root === undefined ? { nodes: [] } : { nodes: parser.nodes, root };
  } catch (error) {
    if (error instanceof FilterSyntaxError) return { nodes: parser.nodes, error };
    throw error;
  }
}

/** What may stand inside a parenthesis, seen from outside. Numbers in parentheses may stand anywhere. */
interface Allowed {
  readonly ids: boolean;
  readonly tests: boolean;
  readonly values: boolean;
}
const onlyNumber: Allowed = { ids: false, tests: false, values: false };
const onlyValue: Allowed = { ids: false, tests: false, values: true };
const onlyIds: Allowed = { ids: true, tests: false, values: false };
const onlyTest: Allowed = { ids: false, tests: true, values: true };
const idOrTest: Allowed = { ids: true, tests: true, values: true };

/** A part that is complete but for the role it will play. `scope` is what a bare id to the right inherits. */
type Piece =
  /** a number, perhaps in parentheses: it may still become an id or an operand */
  | { readonly sort: "number"; readonly value: number; readonly at: Span }
  /** an operand of arithmetic other than a plain number */
  | { readonly sort: "value"; readonly node: ValueNode }
  /** an id, which may start a list */
  | { readonly sort: "id"; readonly node: TestNode; readonly scope: Scope }
  /** a list of ids in parentheses, which may not */
  | { readonly sort: "id list"; readonly node: TestNode; readonly scope: Scope }
  | { readonly sort: "test"; readonly node: TestNode; readonly scope: Scope };
type TestPiece = Extract<Piece, { sort: "id" | "id list" | "test" }>;

/** Binding strength, all left associative. `%` and `^` have none: next to them the parser always reads on. */
const precedence: Readonly<Partial<Record<SymbolWord, number>>> = {
  "|": 1,
  "&": 2,
  "<<": 3,
  ">>": 3,
  "+": 4,
  "-": 4,
  "*": 5,
  "/": 5,
};
const unaryPrecedence = 6;
const relations: ReadonlySet<string> = new Set<Relation>(["=", "!=", "<", "<=", ">", ">="]);
const byteOperators: ReadonlySet<string> = new Set<ByteOperator>(["=", "<", ">", "&", "|"]);

class Parser {
  readonly nodes: Node[] = [];
  readonly #source: string;
  readonly #tokens: readonly Token[];
  #position = 0;
  #nesting = 0;

  constructor(source: string) {
    this.#source = source;
    this.#tokens = tokenize(source);
  }

  /** program = [ expr ] */
  program(): TestNode | undefined {
    if (this.#peek().kind === "end") return undefined;
    const expression = this.#expression(this.#term(undefined));
    if (this.#peek().kind !== "end") this.#unexpected();
    return expression.node;
  }

  /** expr = term { ("and"|"or") ( term | id ) }, the first term already read */
  #expression(first: TestPiece): TestPiece {
    let left = first;
    for (let token = this.#peek(); isLogic(token); token = this.#peek()) {
      this.#next();
      const right = this.#termOrId(left.scope);
      left = {
        sort: "test",
        node: this.#reduce({ kind: token.word, left: left.node, right: right.node, at: span(token) }),
        scope: right.scope,
      };
    }
    return left;
  }

  /** term = "not" term | prim, where an id cannot stand */
  #term(scope: Scope): TestPiece {
    const token = this.#peek();
    if (isSymbol(token, "not")) {
      this.#next();
      return this.#negate(token, this.#nested(token, () => this.#term(scope)));
    }
    const piece = this.#arithmetic(this.#operandOrTest(scope, onlyTest));
    if (piece.sort !== "test") this.#unexpected();
    return piece;
  }

  /** term | id: what may follow `and` and `or` */
  #termOrId(scope: Scope): TestPiece {
    const token = this.#peek();
    if (isAddressOrName(token)) return this.#bareId(scope);
    if (isSymbol(token, "not")) {
      this.#next();
      return this.#negate(token, this.#nested(token, () => this.#termOrId(scope)));
    }
    const piece = this.#arithmetic(this.#operandOrTest(scope, idOrTest));
    if (piece.sort === "value") this.#unexpected();
    if (piece.sort !== "number") return piece;
    // A number here is an id if an id can end here, else an operand that lacks its relation.
    const after = this.#peek();
    if (!isLogic(after) && !isSymbol(after, ")") && after.kind !== "end") this.#unexpected();
    return this.#numberId(piece, scope);
  }

  /** id = nid | num | "(" idlist ")" */
  #id(scope: Scope): TestPiece {
    const token = this.#peek();
    if (isAddressOrName(token)) return this.#bareId(scope);
    if (isSymbol(token, "not")) {
      this.#next();
      return this.#negate(token, this.#nested(token, () => this.#id(scope)));
    }
    const piece = this.#numberOrParenthesis(scope, onlyIds);
    if (piece.sort === "number") return this.#numberId(piece, scope);
    if (piece.sort === "value") this.#unexpected();
    return piece;
  }

  #negate(token: Token, operand: TestPiece): TestPiece {
    return {
      sort: operand.sort === "id list" ? "id" : operand.sort,
      node: this.#reduce({ kind: "not", operand: operand.node, at: span(token) }),
      scope: operand.scope,
    };
  }

  #numberId(piece: { readonly value: number; readonly at: Span }, scope: Scope): TestPiece {
    const node = this.#reduce<TestNode>({ kind: "number", value: piece.value, scope, at: piece.at });
    return { sort: "id", node, scope };
  }

  /** nid without "not": a name, an address, an address with a mask */
  #bareId(scope: Scope): TestPiece {
    const token = this.#next();
    return { sort: "id", node: this.#reduce({ ...this.#idNode(token, scope) }), scope };
  }

  #idNode(token: Token, scope: Scope): IdNode & { at: Span } {
    const common = { scope, at: span(token) };
    switch (token.kind) {
      case "name":
        return { kind: "name", name: token.name, ...common };
      case "mac":
      case "aid":
        return { kind: token.kind, text: token.text, ...common };
      case "ipv6": {
        if (!isSymbol(this.#peek(), "/")) return { kind: "ipv6", text: token.text, ...common };
        this.#next();
        const prefix = this.#number();
        return { kind: "ipv6", text: token.text, prefix: prefix.value, scope, at: join(token, prefix.at) };
      }
      case "ipv4": {
        if (isSymbol(this.#peek(), "/")) {
          this.#next();
          const prefix = this.#number();
          return { kind: "ipv4", text: token.text, prefix: prefix.value, scope, at: join(token, prefix.at) };
        }
        if (isSymbol(this.#peek(), "mask")) {
          this.#next();
          const mask = this.#peek();
          if (mask.kind !== "ipv4") this.#unexpected();
          this.#next();
          return { kind: "ipv4", text: token.text, mask: mask.text, scope, at: join(token, mask) };
        }
        return { kind: "ipv4", text: token.text, ...common };
      }
      default:
        this.#unexpected();
    }
  }

  /** num = NUM | "(" num ")" */
  #parenthesizedNumber(): { value: number; at: Span } {
    const piece = this.#numberOrParenthesis(undefined, onlyNumber);
    if (piece.sort !== "number") this.#unexpected();
    return piece;
  }

  #number(): { value: number; at: Span } {
    const token = this.#peek();
    if (token.kind !== "number") this.#unexpected();
    this.#next();
    return { value: token.value, at: span(token) };
  }

  /** NUM, or a parenthesis that holds what is allowed */
  #numberOrParenthesis(scope: Scope, allowed: Allowed): Piece {
    const token = this.#peek();
    if (token.kind === "number") return { sort: "number", ...this.#number() };
    if (!isSymbol(token, "(")) this.#unexpected();
    this.#next();
    return this.#nested(token, () => this.#parenthesis(token, scope, allowed));
  }

  /** The inside of a parenthesis and its end. A bare id inside inherits from before it. */
  #parenthesis(open: Token, scope: Scope, allowed: Allowed): Piece {
    const first = this.#firstInParenthesis(scope, allowed);
    switch (first.sort) {
      case "number": {
        const token = this.#peek();
        if (isSymbol(token, ")")) {
          return { sort: "number", value: first.value, at: join(open, this.#next()) };
        }
        if (!allowed.ids || (allowed.tests && !isLogic(token))) this.#unexpected();
        return this.#idList(this.#numberId(first, scope));
      }
      case "id":
        return this.#idList(first);
      case "test": {
        const expression = this.#expression(first);
        this.#expect(")");
        return { sort: "test", node: expression.node, scope };
      }
      case "value":
        this.#expect(")");
        return first;
      case "id list":
        this.#unexpected();
    }
  }

  #firstInParenthesis(scope: Scope, allowed: Allowed): Piece {
    const token = this.#peek();
    if (allowed.ids && isAddressOrName(token)) return this.#bareId(scope);
    if (isSymbol(token, "not") && (allowed.ids || allowed.tests)) {
      if (!allowed.tests) return this.#id(scope);
      if (!allowed.ids) return this.#term(scope);
      this.#next();
      return this.#negate(token, this.#nested(token, () => this.#termOrId(scope)));
    }
    // The left end of an id list is no parenthesised list itself.
    const inner = { ...allowed, ids: false };
    if (allowed.tests) return this.#arithmetic(this.#operandOrTest(scope, inner));
    if (allowed.values) return this.#arithmetic(this.#operand(), false);
    return this.#numberOrParenthesis(scope, inner);
  }

  /** idlist = nid | (num | idlist) ("and"|"or") id, and the closing parenthesis */
  #idList(first: TestPiece): Piece {
    let left = first;
    for (let token = this.#peek(); isLogic(token); token = this.#peek()) {
      this.#next();
      const right = this.#id(left.scope);
      left = {
        sort: "id",
        node: this.#reduce({ kind: token.word, left: left.node, right: right.node, at: span(token) }),
        scope: right.scope,
      };
    }
    this.#expect(")");
    return { sort: "id list", node: left.node, scope: left.scope };
  }

  /** An operand of arithmetic, or a whole test that is no relation. */
  #operandOrTest(scope: Scope, allowed: Allowed): Piece {
    const token = this.#peek();
    switch (token.kind) {
      case "number":
        return { sort: "number", ...this.#number() };
      case "protocol": {
        this.#next();
        const after = this.#peek();
        if (isSymbol(after, "[")) return { sort: "value", node: this.#load(token) };
        if (isLogic(after) || isSymbol(after, ")") || after.kind === "end") {
          return this.#test({ kind: "abbreviation", protocol: token.word, at: span(token) });
        }
        return this.#qualified(token.word);
      }
      case "direction":
      case "id type":
        return this.#qualified(undefined);
      case "pf":
        return this.#packetFilterLog(token);
      case "foreign":
        this.#next();
        return this.#test({ kind: "foreign", keyword: token.word, family: token.family, at: span(token) });
      case "foreign field":
        return this.#foreignField(token);
      case "symbol":
        if (token.word === "(") return this.#numberOrParenthesis(scope, allowed);
        if (token.word === "len" || token.word === "-") return { sort: "value", node: this.#operandNode() };
        return this.#keywordTest(token);
      default:
        this.#unexpected();
    }
  }

  /** What may follow `[PNAME]`: a head with its id, or one of the keywords that take a protocol. */
  #qualified(protocol: Protocol | undefined): TestPiece {
    const of = protocol === undefined ? {} : { protocol };
    const token = this.#peek();
    if (token.kind === "direction") {
      const direction = this.#direction();
      const after = this.#peek();
      if (after.kind !== "id type") return this.#headed({ ...of, direction });
      if (after.word === "proto" || after.word === "protochain" || after.word === "gateway") {
        this.#unexpected();
      }
      this.#next();
      return this.#headed({ ...of, direction, type: after.word });
    }
    if (token.kind === "id type") {
      this.#next();
      return this.#headed({ ...of, type: token.word });
    }
    if (isSymbol(token, "broadcast") || isSymbol(token, "multicast")) {
      this.#next();
      return this.#test({ kind: token.word, ...of, at: span(token) });
    }
    return this.#wlan();
  }

  /** head id */
  #headed(qualifiers: Qualifiers): TestPiece {
    const piece = this.#id(qualifiers);
    return { sort: "test", node: piece.node, scope: piece.scope };
  }

  /** dir = "src" | "dst" | "src" ("or"|"and") "dst" | ... */
  #direction(): Direction {
    const token = this.#next();
    if (token.kind !== "direction") this.#unexpected();
    if (token.word !== "src" && token.word !== "dst") return token.word;
    const logic = this.#peek();
    if (!isLogic(logic)) return token.word;
    this.#next();
    const other = this.#peek();
    if (other.kind !== "direction" || other.word !== (token.word === "src" ? "dst" : "src")) {
      this.#unexpected();
    }
    this.#next();
    return logic.word === "and" ? "src and dst" : "src or dst";
  }

  /** The primitives that start with a keyword of their own. */
  #keywordTest(token: Extract<Token, { kind: "symbol" }>): TestPiece {
    const at = span(token);
    switch (token.word) {
      case "broadcast":
      case "multicast":
      case "inbound":
      case "outbound":
      case "pppoed":
        this.#next();
        return this.#test({ kind: token.word, at });
      case "less":
      case "greater":
        this.#next();
        return this.#test({ kind: token.word, length: this.#number().value, at });
      case "ifindex":
        this.#next();
        return this.#test({ kind: "ifindex", index: this.#number().value, at });
      case "byte":
        return this.#byte();
      case "vlan":
      case "mpls":
      case "pppoes":
      case "geneve":
      case "vxlan": {
        this.#next();
        const after = this.#peek();
        if (after.kind !== "number" && !isSymbol(after, "(")) {
          return this.#test({ kind: "encapsulation", keyword: token.word, at });
        }
        const number = this.#parenthesizedNumber();
        return this.#test({
          kind: "encapsulation",
          keyword: token.word,
          number: number.value,
          at: join(token, number.at),
        });
      }
      case "llc":
        return this.#llc();
      case "type":
      case "subtype":
      case "dir":
        return this.#wlan();
      default:
        this.#unexpected();
    }
  }

  /** "byte" NUM ("="|"<"|">"|"&"|"|") NUM */
  #byte(): TestPiece {
    const token = this.#next();
    const index = this.#number().value;
    const operator = this.#peek();
    if (operator.kind !== "symbol" || !byteOperators.has(operator.word)) this.#unexpected();
    this.#next();
    const value = this.#number();
    return this.#test({
      kind: "byte",
      index,
      operator: operator.word as ByteOperator,
      value: value.value,
      at: join(token, value.at),
    });
  }

  /** "llc" [ ID | "rnr" ] */
  #llc(): TestPiece {
    const token = this.#next();
    const after = this.#peek();
    if (after.kind !== "name" && !(after.kind === "pf" && after.word === "rnr")) {
      return this.#test({ kind: "llc", at: span(token) });
    }
    this.#next();
    const name = after.kind === "name" ? after.name : "rnr";
    return this.#test({ kind: "llc", name, at: span(after) });
  }

  /** "type" (NUM|ID) ["subtype" (NUM|ID)] | "subtype" ID | "dir" (NUM|ID) */
  #wlan(): TestPiece {
    const token = this.#peek();
    if (!isSymbol(token, "type") && !isSymbol(token, "subtype") && !isSymbol(token, "dir")) {
      this.#unexpected();
    }
    this.#next();
    const at = span(token);
    if (token.word === "dir") {
      this.#wlanOperand("direction");
      return this.#test({ kind: "wlan", keyword: "dir", at });
    }
    if (token.word === "subtype") {
      if (this.#peek().kind === "number") this.#unexpected();
      this.#wlanOperand("lone subtype");
    } else {
      const type = this.#wlanOperand("type");
      if (isSymbol(this.#peek(), "subtype")) {
        this.#next();
        this.#wlanOperand("subtype", type.value);
      }
    }
    return this.#test({ kind: "wlan", keyword: "type/subtype", at });
  }

  #wlanOperand(operand: WlanNode["operand"], type?: number | string): WlanNode {
    const token = this.#peek();
    if (token.kind !== "number" && token.kind !== "name") this.#unexpected();
    this.#next();
    return this.#reduce<WlanNode>({
      kind: "wlan operand",
      operand,
      value: token.kind === "number" ? token.value : token.name,
      ...(type === undefined ? {} : { type }),
      at: span(token),
    });
  }

  /** "ifname" ID | "rnr" NUM | "reason" (NUM|ID) | ... */
  #packetFilterLog(token: Extract<Token, { kind: "pf" }>): TestPiece {
    this.#next();
    const value = this.#peek();
    const takesNumber = token.word === "rnr" || token.word === "srnr" || token.word === "reason";
    const takesName = token.word !== "rnr" && token.word !== "srnr";
    if (!(takesNumber && value.kind === "number") && !(takesName && value.kind === "name")) {
      this.#unexpected();
    }
    this.#next();
    const name = value.kind === "name" ? { name: value.name } : {};
    return this.#test({ kind: "pf", keyword: token.word, ...name, at: span(token) });
  }

  /** ("vpi"|"opc"|...) ( [relop] NUM | "(" NUM {"or" NUM} ")" ); every number is one test of its own */
  #foreignField(token: Extract<Token, { kind: "foreign field" }>): TestPiece {
    this.#next();
    const test = (): TestNode => {
      this.#number();
      return this.#reduce<TestNode>({
        kind: "foreign",
        keyword: token.word,
        family: token.family,
        at: span(token),
      });
    };
    const after = this.#peek();
    if (!isSymbol(after, "(")) {
      if (isRelation(after)) this.#next();
      return { sort: "test", node: test(), scope: undefined };
    }
    this.#next();
    let left = test();
    for (let or = this.#peek(); isSymbol(or, "or"); or = this.#peek()) {
      this.#next();
      left = this.#reduce<TestNode>({ kind: "or", left, right: test(), at: span(or) });
    }
    this.#expect(")");
    return { sort: "test", node: left, scope: undefined };
  }

  /** Goes on after an operand: operators, then a relation if one follows and `mayRelate`. */
  #arithmetic(piece: Piece, mayRelate = true): Piece {
    if (piece.sort !== "number" && piece.sort !== "value") return piece;
    const token = this.#peek();
    if (piece.sort === "number" && !isOperator(token) && !isRelation(token)) return piece;
    const left = this.#operatorsAfter(this.#valueOf(piece), 0);
    const relation = this.#peek();
    if (!isRelation(relation) || !mayRelate) return { sort: "value", node: left };
    this.#next();
    const right = this.#operatorsAfter(this.#operandNode(), 0);
    return this.#test({
      kind: "relation",
      relation: relation.word as Relation,
      left,
      right,
      at: span(relation),
    });
  }

  /** arith binop arith, as far as operators bind at least as strongly as `lowest` */
  #operatorsAfter(first: ValueNode, lowest: number): ValueNode {
    let left = first;
    for (let token = this.#peek(); isOperator(token); token = this.#peek()) {
      const strength = precedence[token.word];
      if (strength !== undefined && strength < lowest) break;
      const operator = token;
      this.#next();
      const right = this.#nested(
        operator,
        () => this.#operatorsAfter(this.#operandNode(), strength === undefined ? 0 : strength + 1),
      );
      left = this.#reduce<ValueNode>({
        kind: "binary",
        operator: operator.word as BinaryOperator,
        left,
        right,
        at: span(operator),
      });
    }
    return left;
  }

  #operandNode(): ValueNode {
    return this.#valueOf(this.#operand());
  }

  /** num | "len" | "-" arith | "(" narith ")" | PNAME "[" arith [ ":" NUM ] "]" */
  #operand(): Extract<Piece, { sort: "number" | "value" }> {
    const token = this.#peek();
    if (isSymbol(token, "len")) {
      this.#next();
      return { sort: "value", node: this.#reduce<ValueNode>({ kind: "length", at: span(token) }) };
    }
    if (isSymbol(token, "-")) {
      this.#next();
      const operand = this.#nested(token, () => this.#operatorsAfter(this.#operandNode(), unaryPrecedence));
      return { sort: "value", node: this.#reduce<ValueNode>({ kind: "negate", operand, at: span(token) }) };
    }
    if (token.kind === "protocol") {
      this.#next();
      return { sort: "value", node: this.#load(token) };
    }
    const piece = this.#numberOrParenthesis(undefined, onlyValue);
    if (piece.sort !== "number" && piece.sort !== "value") this.#unexpected();
    return piece;
  }

  #valueOf(piece: Extract<Piece, { sort: "number" | "value" }>): ValueNode {
    if (piece.sort === "value") return piece.node;
    return this.#reduce<ValueNode>({ kind: "constant", value: piece.value, at: piece.at });
  }

  /** PNAME "[" arith [ ":" NUM ] "]", the name already read */
  #load(name: Extract<Token, { kind: "protocol" }>): ValueNode {
    this.#expect("[");
    const index = this.#nested(name, () => this.#operatorsAfter(this.#operandNode(), 0));
    let size = 1;
    if (isSymbol(this.#peek(), ":")) {
      this.#next();
      size = this.#number().value;
    }
    const close = this.#expect("]");
    return this.#reduce<ValueNode>({
      kind: "load",
      protocol: name.word,
      index,
      size,
      at: join(name, close),
    });
  }

  #test(node: TestNode): TestPiece {
    return { sort: "test", node: this.#reduce(node), scope: undefined };
  }

  /** Marks the moment at which `node` is complete. */
  #reduce<T extends Node>(node: T): T {
    this.nodes.push(node);
    return node;
  }

  /** The next token. A text that is no token raises its error here, when the grammar gets to it. */
  #peek(): Token {
    const token = this.#tokens[this.#position]!;
    if (token.kind === "error") this.#fail(token.message ?? syntaxError, token);
    return token;
  }

  #next(): Token {
    const token = this.#peek();
    if (token.kind !== "end") this.#position++;
    return token;
  }

  #expect(word: SymbolWord): Token {
    if (!isSymbol(this.#peek(), word)) this.#unexpected();
    return this.#next();
  }

  #nested<T>(token: Token, rule: () => T): T {
    if (++this.#nesting > maxNesting) {
      this.#fail(`filter expression is nested too deeply: the maximum is ${maxNesting} levels`, token);
    }
    const result = rule();
    this.#nesting--;
    return result;
  }

  #unexpected(): never {
    this.#fail(syntaxError, this.#peek());
  }

  #fail(message: string, { offset, length }: Span): never {
    throw new FilterSyntaxError(message, this.#source, offset, length);
  }
}

function isSymbol<W extends SymbolWord>(token: Token, word: W): token is Token & { kind: "symbol"; word: W } {
  return token.kind === "symbol" && token.word === word;
}

function isLogic(token: Token): token is Token & { kind: "symbol"; word: "and" | "or" } {
  return token.kind === "symbol" && (token.word === "and" || token.word === "or");
}

function isOperator(token: Token): token is Token & { kind: "symbol" } {
  return token.kind === "symbol" &&
    (token.word in precedence || token.word === "%" || token.word === "^");
}

function isRelation(token: Token): token is Token & { kind: "symbol" } {
  return token.kind === "symbol" && relations.has(token.word);
}

function isAddressOrName(token: Token): boolean {
  return token.kind === "name" || token.kind === "mac" || token.kind === "aid" || token.kind === "ipv4" ||
    token.kind === "ipv6";
}

function span({ offset, length }: Span): Span {
  return { offset, length };
}

/** From the start of `first` to the end of `last`. */
function join(first: Span, last: Span): Span {
  return { offset: first.offset, length: last.offset + last.length - first.offset };
}
