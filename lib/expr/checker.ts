/**
 * Syntax tree -> typed expression: finds members and names in the kernel's types and makes every conversion
 * of C visible. Constants are folded on the way.
 *
 * Where it is not C:
 * - `->` and `.` mean the same: what stands on the left decides.
 * - A field whose typedef begins with `__be` is a number as people write it: its bytes are turned round.
 * - A NULL pointer on the way, and a division by zero, leave the whole expression without a value.
 * - `NULL` is a name; an enumerator may come from any enum of the kernel, the one it is compared with first.
 */
import { type Field } from "../../asm/layout.ts";
import { scalarOf } from "../../bpf-programs/memory_access.ts";
import { type Btf, BTF_KIND } from "../btf/parse.ts";
import { enumerators, findMember, strip, typeText } from "../btf/walk.ts";
import { BtfError, FilterSyntaxError } from "../errors.ts";
import { nearestName } from "../nearest_name.ts";
import type { Expression } from "./ast.ts";
import { compute, convert, holds } from "./arithmetic.ts";
import type { Span } from "./lexer.ts";
import { type Enumerator, Enumerators, memberNames } from "./names.ts";
import type {
  ArithmeticOperator,
  BinaryOperator,
  LogicOperator,
  Relation,
  Syntax,
  TypeName,
} from "./syntax.ts";
import {
  bitsOf,
  type CType,
  int,
  type IntegerType,
  isSigned,
  namedType,
  type PointerType,
  resolve,
  s64,
  sizeOfType,
  type Target,
  textOf,
  typeNames,
  u64,
  type ValueType,
} from "./types.ts";

/** What an expression is about: the name it has there, and its struct. */
export interface Root {
  readonly name: "skb" | "xdp";
  readonly struct: "sk_buff" | "xdp_buff";
}

export const skb: Root = { name: "skb", struct: "sk_buff" }, xdp: Root = { name: "xdp", struct: "xdp_buff" };

/** Something in memory, not looked at yet. */
interface Place {
  readonly kind: "place";
  readonly at: Span;
  /** not NULL */
  readonly pointer: Expression;
  /** bytes behind the pointer */
  readonly offset: number;
  readonly type: Target;
  /** bits behind the offset */
  readonly bitField?: { readonly offset: number; readonly size: number };
  /** for listings: `sk_buff`, `__sk_common.skc_net` */
  readonly struct: string;
  readonly name: string;
}

type Operand = Place | { readonly kind: "value"; readonly value: Expression };

/** The largest distance that an instruction can hold. */
const MAX_OFFSET = 2 ** 31 - 8;
/** A part of the expression is quoted up to here. */
const MAX_QUOTE = 60;

/** Checks one expression against one kernel's types. */
export class Checker {
  readonly #btf: Btf;
  readonly #source: string;
  readonly #root: Root;
  readonly #rootId: number;
  readonly #enumerators: Enumerators;

  /** @throws {BtfError} this kernel has no such struct */
  constructor(source: string, btf: Btf, root: Root) {
    this.#source = source;
    this.#btf = btf;
    this.#root = root;
    this.#enumerators = new Enumerators(btf);
    const id = btf.find(root.struct, BTF_KIND.STRUCT);
    if (id === undefined) {
      throw new BtfError(`Cannot find struct ${root.struct} in the kernel's types`, { type: root.struct });
    }
    this.#rootId = id;
  }

  /**
   * A number or a pointer whose truth is the answer.
   *
   * @throws {FilterSyntaxError} a name or a type that does not fit
   */
  filter(tree: Syntax): Expression {
    return this.#condition(tree);
  }

  /**
   * A number to show. An array or a struct of up to 8 bytes is the number that its bytes make, little end first.
   *
   * @throws {FilterSyntaxError} a name or a type that does not fit, or one that is larger
   */
  value(tree: Syntax): Expression {
    const operand = this.#operand(tree);
    if (operand.kind === "place") {
      const type = resolve(this.#btf, operand.type);
      if (type.kind === "array" || type.kind === "struct") return this.#bytes(operand, type);
    }
    return this.#valueOf(operand, tree);
  }

  #fail(message: string, { offset, length }: Span): never {
    throw new FilterSyntaxError(message, this.#source, offset, length);
  }

  /** A part of the expression as a message quotes it. */
  #quote({ offset, length }: Span): string {
    const text = this.#source.slice(offset, offset + length);
    return text.length > MAX_QUOTE ? `"${text.slice(0, MAX_QUOTE)}..."` : `"${text}"`;
  }

  #text(target: Target): string {
    return textOf(this.#btf, target);
  }

  #sizeOf(target: Target, at: Span): number {
    try {
      return sizeOfType(this.#btf, target);
    } catch (error) {
      if (!(error instanceof BtfError)) throw error;
      return this.#fail(error.message, at);
    }
  }

  // Operands

  /** @param hint the enum in which a name is looked up first */
  #operand(node: Syntax, hint?: number): Operand {
    switch (node.kind) {
      case "member":
        return this.#member(node);
      case "index":
        return this.#index(node);
      case "unary":
        if (node.operator === "*") return this.#dereference(node, node.operand);
        break;
    }
    return { kind: "value", value: this.#expression(node, hint) };
  }

  #value(node: Syntax, hint?: number): Expression {
    return this.#valueOf(this.#operand(node, hint), node);
  }

  #expression(node: Syntax, hint: number | undefined): Expression {
    const at = { offset: node.offset, length: node.length };
    switch (node.kind) {
      case "number": {
        const { value, bits, signed } = node;
        return { ...at, kind: "constant", value, type: { kind: "integer", bits, signed } };
      }
      case "name":
        return this.#name(node, node.name, hint);
      case "unary":
        return this.#unary(at, node.operator, node.operand, hint);
      case "cast":
        return this.#cast(at, node.type, node.operand);
      case "sizeof":
        return this.#sizeofOperator(at, node.of, node.isType);
      case "binary":
        return this.#binary(at, node.operator, node.left, node.right, node.operatorAt, hint);
      case "conditional":
        return this.#conditional(at, node.condition, node.whenTrue, node.whenFalse, hint);
      case "member":
      case "index":
        return this.#value(node);
      default:
        return node satisfies never;
    }
  }

  /** Looks at a place. An array becomes the address of its first element. */
  #valueOf(operand: Operand, at: Span): Expression {
    if (operand.kind === "value") return operand.value;
    const type = resolve(this.#btf, operand.type);
    switch (type.kind) {
      case "integer":
      case "pointer":
        return this.#load(operand, type);
      case "array":
        return this.#address(operand, { kind: "pointer", target: type.element });
      case "struct":
        return this.#fail(
          `Cannot use ${this.#quote(at)} as a value: ${
            this.#text(operand.type)
          } is no number, choose a member`,
          at,
        );
      case "void":
        return this.#fail(
          `Cannot use ${this.#quote(at)} as a value: void is no number, cast the pointer`,
          at,
        );
      case "other":
        return this.#fail(
          `Cannot use ${this.#quote(at)} as a value: ${this.#text(type)} ${type.why}`,
          at,
        );
      default:
        return type satisfies never;
    }
  }

  #load(place: Place, type: ValueType): Expression {
    const { pointer, struct, name, bitField } = place, { offset, length } = place.at;
    const field = (at: number, size: number): Field => ({ struct, name, offset: at, type: scalarOf(size) });
    if (bitField === undefined) {
      const size = bitsOf(type) / 8, swap = type.kind === "integer" && type.bigEndian === true && size > 1;
      return {
        offset,
        length,
        kind: "load",
        type,
        pointer,
        field: field(place.offset, size),
        ...(swap ? { swap } : {}),
      };
    }
    // the smallest aligned word that has all of the bits
    const first = bitField.offset, last = first + bitField.size - 1;
    const size = [1, 2, 4, 8].find((bytes) =>
      Math.floor(first / (8 * bytes)) === Math.floor(last / (8 * bytes))
    );
    if (size === undefined) {
      return this.#fail(
        `Cannot read ${this.#quote(place.at)}: its bits are spread over more than 8 bytes`,
        place.at,
      );
    }
    const start = Math.floor(first / (8 * size)) * size;
    return {
      offset,
      length,
      kind: "load",
      type,
      pointer,
      field: field(place.offset + start, size),
      bitField: { shift: first - 8 * start, bits: bitField.size },
    };
  }

  /** The bytes of a small array or struct as one number. */
  #bytes(place: Place, type: CType & { kind: "array" | "struct" }): Expression {
    const { at, pointer, struct, name } = place, size = this.#sizeOf(place.type, at);
    if (size === 0 || size > 8) {
      return this.#fail(
        `Cannot show ${this.#quote(at)}: ${this.#text(type)} is ${size} bytes, the most is 8`,
        at,
      );
    }
    const shown: IntegerType = { ...u64, id: type.id };
    let whole: Expression | undefined;
    for (let from = 0; from < size;) {
      const width = [8, 4, 2, 1].find((width) => from + width <= size)!;
      const part: Expression = {
        ...at,
        kind: "load",
        type: { kind: "integer", bits: width * 8 as IntegerType["bits"], signed: false },
        pointer,
        field: { struct, name, offset: place.offset + from, type: scalarOf(width) },
      };
      const wide = this.#convert(shown, part), shift: Expression = this.#constant(at, int, BigInt(8 * from));
      whole = whole === undefined ? wide : {
        ...at,
        kind: "binary",
        operator: "|",
        type: shown,
        left: whole,
        right: { ...at, kind: "binary", operator: "<<", type: shown, left: wide, right: shift },
      };
      from += width;
    }
    return { ...whole!, type: shown };
  }

  #address(place: Place, type: PointerType): Expression {
    const { pointer, offset, bitField, at } = place;
    if (bitField !== undefined) return this.#fail("Cannot take the address of a bitfield", at);
    return { ...at, kind: "address", type, pointer, bytes: offset };
  }

  /** A pointer that is looked behind. What is known not to be NULL is not asked again. */
  #notNull(pointer: Expression): Expression {
    const { offset, length, type, kind } = pointer;
    if (kind === "root" || kind === "address" || kind === "not null") return pointer;
    if (kind === "constant") {
      if (pointer.value !== 0n) return pointer;
      return this.#fail(`Cannot look behind ${this.#quote(pointer)}: it is NULL`, pointer);
    }
    return { offset, length, kind: "not null", type, operand: pointer };
  }

  /** What a pointer points to. */
  #behind(at: Span, value: Expression, { target }: PointerType): Place {
    return {
      kind: "place",
      at,
      pointer: this.#notNull(value),
      offset: 0,
      type: target,
      struct: "",
      name: "",
    };
  }

  /** Moves a place by a constant; one that no instruction can hold is added to the pointer. */
  #advance(place: Place, bytes: bigint): Place {
    const offset = BigInt(place.offset) + bytes;
    if (offset >= -MAX_OFFSET && offset <= MAX_OFFSET) return { ...place, offset: Number(offset) };
    const { at } = place, left = this.#convert(u64, place.pointer);
    const distance = this.#constant(at, u64, convert(u64, offset));
    const sum = this.#arithmetic(at, "+", u64, left, distance);
    return { ...place, pointer: this.#convert({ kind: "pointer", target: place.type }, sum), offset: 0 };
  }

  #member({ offset, length, object, name, nameAt }: Syntax & { kind: "member" }): Place {
    const at = { offset, length }, left = this.#operand(object);
    let outer: Place;
    if (left.kind === "place" && resolve(this.#btf, left.type).kind === "struct") outer = left;
    else {
      const value = this.#valueOf(left, object), { type } = value;
      if (type.kind !== "pointer") {
        return this.#fail(
          `Cannot look for "${name}" in ${this.#quote(object)}: ${this.#text(type)} has no members`,
          nameAt,
        );
      }
      outer = this.#behind(at, value, type);
    }
    const type = resolve(this.#btf, outer.type);
    if (type.kind !== "struct") {
      const why = type.kind === "other" ? type.why : "has no members";
      return this.#fail(
        `Cannot look for "${name}" behind ${this.#quote(object)}: ${this.#text(outer.type)} ${why}`,
        nameAt,
      );
    }
    const found = this.#findMember(type.id, name, nameAt);
    // of a bitfield, the 8 aligned bytes with its first bit
    const byte = found.bitSize === 0 ? Math.floor(found.bitOffset / 8) : Math.floor(found.bitOffset / 64) * 8;
    const moved = this.#advance({ ...outer, at }, BigInt(byte));
    const here = outer.name === ""
      ? { struct: typeText(this.#btf, strip(this.#btf, type.id)).replace(/^(?:struct|union) /, ""), name }
      : { struct: outer.struct, name: `${outer.name}.${name}` };
    return {
      kind: "place",
      at,
      pointer: moved.pointer,
      offset: moved.offset,
      type: found.type,
      ...here,
      ...(found.bitSize === 0
        ? {}
        : { bitField: { offset: found.bitOffset - 8 * byte, size: found.bitSize } }),
    };
  }

  #findMember(id: number, name: string, at: Span) {
    const found = findMember(this.#btf, id, name);
    if (found !== undefined) return found;
    const near = nearestName(name, new Set(memberNames(this.#btf, id)));
    return this.#fail(
      `Cannot find member "${name}" in ${this.#text(id)}${
        near === undefined ? "" : `: did you mean ${near}?`
      }`,
      at,
    );
  }

  #dereference({ offset, length }: Span, operand: Syntax): Place {
    const value = this.#value(operand), { type } = value;
    if (type.kind !== "pointer") {
      return this.#fail(
        `Cannot look behind ${this.#quote(operand)}: it is ${this.#text(type)}, no pointer`,
        operand,
      );
    }
    return { ...this.#behind({ offset, length }, value, type), name: "*" };
  }

  #index({ offset, length, object, index }: Syntax & { kind: "index" }): Place {
    const at = { offset, length }, left = this.#operand(object), count = this.#value(index);
    if (count.type.kind !== "integer") {
      return this.#fail(
        `Cannot use ${this.#quote(index)} as an index: it is ${this.#text(count.type)}`,
        index,
      );
    }
    let base: Place;
    const array = left.kind === "place" ? resolve(this.#btf, left.type) : undefined;
    if (left.kind === "place" && array?.kind === "array") {
      // an array of none or one at a struct's end has as many as were allocated
      const outside = count.kind === "constant" && (count.value < 0n || count.value >= BigInt(array.count));
      if (outside && array.count > 1) {
        return this.#fail(
          `Cannot find element ${count.value} of ${this.#quote(object)}: ${
            this.#text(array)
          } has ${array.count}`,
          index,
        );
      }
      base = { ...left, type: array.element };
    } else {
      const value = this.#valueOf(left, object), { type } = value;
      if (type.kind !== "pointer") {
        return this.#fail(
          `Cannot use an index on ${this.#quote(object)}: it is ${this.#text(type)}, no array`,
          object,
        );
      }
      base = this.#behind(at, value, type);
    }
    const size = BigInt(this.#elementSize(base.type, object)), name = `${base.name}[${indexText(count)}]`;
    if (count.kind === "constant") return { ...this.#advance(base, count.value * size), at, name };
    const pointer = { kind: "pointer", target: base.type } as const;
    const start = this.#convert(u64, this.#address({ ...base, at: object }, pointer));
    const distance = this.#arithmetic(
      at,
      "*",
      u64,
      this.#convert(u64, count),
      this.#constant(at, u64, size),
    );
    const sum = this.#arithmetic(at, "+", u64, start, distance);
    return { ...base, at, name, pointer: this.#convert(pointer, sum), offset: 0 };
  }

  #elementSize(target: Target, at: Span): number {
    const type = resolve(this.#btf, target);
    if (type.kind === "other") {
      return this.#fail(`Cannot tell the size of ${this.#text(target)}: it ${type.why}`, at);
    }
    return this.#sizeOf(target, at);
  }

  // Names

  #name(at: Span, name: string, hint: number | undefined): Expression {
    const { offset, length } = at, here = { offset, length };
    if (name === this.#root.name) {
      return { ...here, kind: "root", type: { kind: "pointer", target: this.#rootId } };
    }
    if (name === "NULL") return this.#constant(here, { kind: "pointer", target: { kind: "void" } }, 0n);
    if (hint !== undefined) {
      for (const [other, value] of enumerators(this.#btf, hint)) {
        if (other === name) return this.#enumerator(here, hint, value);
      }
    }
    const found = this.#enumerators.find(name), [first] = found;
    if (first === undefined) return this.#unknownName(here, name, hint);
    const rival = found.find(({ value }) => value !== first.value);
    if (rival !== undefined) {
      const says = ({ enumId, value }: Enumerator) => `${value} in ${typeText(this.#btf, enumId)}`;
      return this.#fail(
        `Cannot tell which "${name}" is meant: it is ${says(first)}, ${says(rival)}; write (enum ...)${name}`,
        here,
      );
    }
    return this.#enumerator(here, first.enumId, first.value);
  }

  #enumerator(at: Span, enumId: number, value: bigint): Expression {
    const [bits, signed] = ([[32, true], [32, false], [64, true], [64, false]] as const).find(
      ([bits, signed]) => (signed ? BigInt.asIntN : BigInt.asUintN)(bits, value) === value,
    )!;
    return this.#constant(at, { kind: "integer", bits, signed, enumId }, value);
  }

  #unknownName(at: Span, name: string, hint: number | undefined): never {
    const root = this.#root.name, say = (what: string) => this.#fail(`Cannot find "${name}": ${what}`, at);
    if (name === skb.name || name === xdp.name) return say(`this expression is about ${root}`);
    if (findMember(this.#btf, this.#rootId, name) !== undefined) return say(`did you mean ${root}->${name}?`);
    const ofEnum = hint === undefined ? [] : [...enumerators(this.#btf, hint)].map(([other]) => other);
    const member = () => {
      const near = nearestName(name, new Set(memberNames(this.#btf, this.#rootId)));
      return near === undefined ? undefined : `${root}->${near}`;
    };
    const near = name.startsWith(root)
      ? root
      : nearestName(name, [root, ...ofEnum]) ?? member() ?? nearestName(name, this.#enumerators.names());
    if (near !== undefined) return say(`did you mean ${near}?`);
    return say(`it is neither ${root} nor an enumerator of this kernel`);
  }

  // Operators

  #constant({ offset, length }: Span, type: ValueType, value: bigint): Expression {
    return { offset, length, kind: "constant", type, value };
  }

  #boolean(at: Span, value: boolean): Expression {
    return this.#constant(at, int, BigInt(value));
  }

  /** `operand` as a value of `type`. */
  #convert(type: ValueType, operand: Expression): Expression {
    const from = operand.type, { offset, length } = operand;
    if (operand.kind === "constant") return { ...operand, type, value: convert(type, operand.value) };
    const same = bitsOf(from) === bitsOf(type) && isSigned(from) === isSigned(type);
    // what means more than its width and sign has to keep its type
    const bool = [from, type].some((one) => one.kind === "integer" && one.bool);
    const bitField = operand.kind === "load" && operand.bitField !== undefined;
    if (same && !bool && !bitField) return { ...operand, type };
    return { offset, length, kind: "convert", type, operand };
  }

  /** C11 6.3.1.1: what is narrower than an int becomes one. */
  #promote(operand: Expression): Expression {
    const { type } = operand;
    if (type.kind !== "integer") return operand;
    const narrow = operand.kind === "load" && operand.bitField !== undefined
      ? operand.bitField.bits
      : type.bits;
    if (narrow < 32) return this.#convert(int, operand);
    if (narrow === 32 && type.bits === 64) return this.#convert({ ...type, bits: 32 }, operand);
    return operand;
  }

  /** C11 6.3.1.8, for two integers: the same type for both. */
  #usual(left: Expression, right: Expression): { type: IntegerType; left: Expression; right: Expression } {
    const a = this.#promote(left), b = this.#promote(right);
    const bits = bitsOf(a.type) === 64 || bitsOf(b.type) === 64 ? 64 : 32;
    const unsigned = [a, b].some(({ type }) => !isSigned(type) && bitsOf(type) === bits);
    const type: IntegerType = { kind: "integer", bits, signed: !unsigned };
    const enumId = enumOf(a) ?? enumOf(b), named = enumId === undefined ? type : { ...type, enumId };
    return { type: named, left: this.#convert(type, a), right: this.#convert(type, b) };
  }

  /** Both operands in C's order; a constant side is looked at second, when it is known what to look names up in. */
  #both(left: Syntax, right: Syntax, hint: number | undefined): [Expression, Expression] {
    if (left.usesRoot || !right.usesRoot) {
      const a = this.#value(left, hint);
      return [a, this.#value(right, enumOf(a) ?? hint)];
    }
    const b = this.#value(right, hint);
    return [this.#value(left, enumOf(b) ?? hint), b];
  }

  #binary(
    at: Span,
    operator: BinaryOperator,
    leftNode: Syntax,
    rightNode: Syntax,
    operatorAt: Span,
    hint: number | undefined,
  ): Expression {
    if (operator === "&&" || operator === "||") return this.#logic(at, operator, leftNode, rightNode);
    const [left, right] = this.#both(leftNode, rightNode, hint);
    switch (operator) {
      case "==":
      case "!=":
      case "<":
      case "<=":
      case ">":
      case ">=":
        return this.#compare(at, operator, left, right);
    }
    if (left.type.kind === "pointer" || right.type.kind === "pointer") {
      return this.#pointerArithmetic(at, operator, left, right, operatorAt);
    }
    if (operator === "<<" || operator === ">>") {
      const value = this.#promote(left), count = this.#promote(right), bits = bitsOf(value.type);
      if (count.kind === "constant" && (count.value < 0n || count.value >= BigInt(bits))) {
        return this.#fail(`Cannot shift ${bits} bits by ${count.value}`, rightNode);
      }
      return this.#arithmetic(at, operator, value.type, value, count);
    }
    const both = this.#usual(left, right);
    if ((operator === "/" || operator === "%") && both.right.kind === "constant" && both.right.value === 0n) {
      return this.#fail("Cannot divide by 0", rightNode);
    }
    return this.#arithmetic(at, operator, both.type, both.left, both.right);
  }

  #arithmetic(
    { offset, length }: Span,
    operator: ArithmeticOperator,
    type: ValueType,
    left: Expression,
    right: Expression,
  ): Expression {
    if (left.kind === "constant" && right.kind === "constant") {
      const value = compute(operator, type, left.value, right.value);
      if (value !== undefined) return { offset, length, kind: "constant", type, value };
    }
    return { offset, length, kind: "binary", type, operator, left, right };
  }

  #pointerArithmetic(
    at: Span,
    operator: ArithmeticOperator,
    left: Expression,
    right: Expression,
    operatorAt: Span,
  ): Expression {
    const [pointer, other] = left.type.kind === "pointer" ? [left, right] : [right, left];
    const type = pointer.type as PointerType;
    const bytes = (): Expression => {
      const size = this.#constant(other, u64, BigInt(this.#elementSize(type.target, pointer)));
      return this.#arithmetic(other, "*", u64, this.#convert(u64, other), size);
    };
    if (other.type.kind === "integer" && (operator === "+" || operator === "-" && pointer === left)) {
      const start = this.#convert(u64, this.#notNull(pointer));
      const sum = this.#arithmetic(at, operator, u64, start, bytes());
      return this.#convert({ kind: "pointer", target: type.target }, sum);
    }
    if (other.type.kind === "pointer" && operator === "-") {
      const size = this.#elementSize(type.target, left);
      if (size !== this.#elementSize((right.type as PointerType).target, right) || size === 0) {
        return this.#fail(
          `Cannot subtract ${this.#text(right.type)} from ${this.#text(left.type)}: cast one of them`,
          operatorAt,
        );
      }
      const distance = this.#arithmetic(at, "-", s64, this.#convert(s64, left), this.#convert(s64, right));
      return size === 1
        ? distance
        : this.#arithmetic(at, "/", s64, distance, this.#constant(at, s64, BigInt(size)));
    }
    return this.#fail(
      `Cannot use "${operator}" between ${this.#text(left.type)} and ${
        this.#text(right.type)
      }: cast the pointer`,
      operatorAt,
    );
  }

  #compare({ offset, length }: Span, relation: Relation, a: Expression, b: Expression): Expression {
    const pointers = a.type.kind === "pointer" || b.type.kind === "pointer";
    const { left, right } = pointers
      ? { left: this.#convert(u64, a), right: this.#convert(u64, b) }
      : this.#usual(a, b);
    if (left.kind === "constant" && right.kind === "constant") {
      return this.#boolean({ offset, length }, holds(relation, left.value, right.value));
    }
    return { offset, length, kind: "compare", type: int, relation, left, right };
  }

  /** A value that decides; an array would always say yes. */
  #condition(node: Syntax): Expression {
    const operand = this.#operand(node);
    if (operand.kind === "place" && resolve(this.#btf, operand.type).kind === "array") {
      return this.#fail(`Cannot ask whether ${this.#quote(node)} is true: an array always is`, node);
    }
    return this.#valueOf(operand, node);
  }

  #logic(at: Span, operator: LogicOperator, leftNode: Syntax, rightNode: Syntax): Expression {
    const left = this.#condition(leftNode), right = this.#condition(rightNode);
    const { offset, length } = at;
    if (left.kind === "constant") {
      const decided = (left.value !== 0n) === (operator === "||");
      if (decided) return this.#boolean(at, operator === "||");
      return this.#truth(at, right);
    }
    return { offset, length, kind: "logic", type: int, operator, left, right };
  }

  /** 1 or 0 */
  #truth({ offset, length }: Span, operand: Expression): Expression {
    const right = this.#constant({ offset, length }, operand.type, 0n);
    if (operand.kind === "constant") return this.#boolean({ offset, length }, operand.value !== 0n);
    return { offset, length, kind: "compare", type: int, relation: "!=", left: operand, right };
  }

  #unary(
    at: Span,
    operator: "!" | "~" | "-" | "+" | "*" | "&",
    node: Syntax,
    hint: number | undefined,
  ): Expression {
    if (operator === "*") return this.#valueOf(this.#dereference(at, node), at);
    if (operator === "&") return this.#addressOf(at, node);
    if (operator === "!") {
      const operand = this.#condition(node);
      if (operand.kind === "constant") return this.#boolean(at, operand.value === 0n);
      return { ...at, kind: "not", type: int, operand };
    }
    const value = this.#value(node, hint);
    if (value.type.kind === "pointer") {
      return this.#fail(`Cannot use "${operator}" on ${this.#text(value.type)}: it is a pointer`, node);
    }
    const operand = this.#promote(value), { type } = operand;
    if (operator === "+") return { ...operand, ...at };
    if (operand.kind === "constant") {
      return this.#constant(at, type, convert(type, operator === "-" ? -operand.value : ~operand.value));
    }
    return { ...at, kind: "unary", type, operator, operand };
  }

  #addressOf(at: Span, node: Syntax): Expression {
    const operand = this.#operand(node);
    if (operand.kind === "value") {
      return this.#fail(`Cannot take the address of ${this.#quote(node)}: it has none`, node);
    }
    return { ...this.#address(operand, { kind: "pointer", target: operand.type }), ...at };
  }

  #cast(at: Span, name: TypeName, node: Syntax): Expression {
    const type = this.#namedType(name), hint = type.kind === "integer" ? type.enumId : undefined;
    const value = this.#value(node, hint);
    if (type.kind !== "integer" && type.kind !== "pointer") {
      return this.#fail(`Cannot cast to ${this.#text(type)}: want a number or a pointer`, name);
    }
    return { ...this.#convert(type, value), ...at };
  }

  #namedType(name: TypeName): CType {
    const type = namedType(this.#btf, name);
    if (type !== undefined) return type;
    if (!("name" in name)) return this.#fail(`Cannot find the type ${this.#quote(name)}`, name);
    const near = nearestName(name.name, typeNames(this.#btf, name.kind));
    return this.#fail(
      `Cannot find ${name.kind} ${name.name} in the kernel's types${
        near === undefined ? "" : `: did you mean ${name.kind} ${near}?`
      }`,
      name,
    );
  }

  #sizeofOperator(at: Span, of: TypeName | Syntax, isType: boolean): Expression {
    if (isType) {
      const type = this.#namedType(of as TypeName);
      return this.#constant(at, u64, BigInt(this.#elementSize(type, at)));
    }
    const operand = this.#operand(of as Syntax);
    if (operand.kind === "value") return this.#constant(at, u64, BigInt(bitsOf(operand.value.type) / 8));
    if (operand.bitField !== undefined) return this.#fail("Cannot take the size of a bitfield", of);
    return this.#constant(at, u64, BigInt(this.#elementSize(operand.type, of)));
  }

  #conditional(
    at: Span,
    conditionNode: Syntax,
    trueNode: Syntax,
    falseNode: Syntax,
    hint: number | undefined,
  ): Expression {
    const condition = this.#condition(conditionNode);
    const [a, b] = this.#both(trueNode, falseNode, hint);
    const pointer = [a, b].find(({ type }) => type.kind === "pointer")?.type;
    const { type, left: whenTrue, right: whenFalse } = pointer === undefined
      ? this.#usual(a, b)
      : { type: pointer, left: this.#convert(pointer, a), right: this.#convert(pointer, b) };
    if (condition.kind === "constant") return { ...(condition.value !== 0n ? whenTrue : whenFalse), ...at };
    return { ...at, kind: "conditional", type, condition, whenTrue, whenFalse };
  }
}

/** The enum whose names belong to an expression. */
function enumOf({ type }: Expression): number | undefined {
  return type.kind === "integer" ? type.enumId : undefined;
}

function indexText(index: Expression): string {
  return index.kind === "constant" ? String(index.value) : "...";
}
