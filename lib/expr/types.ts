/**
 * C's types as an expression sees them, made from BTF or from what a cast says. A value is an integer or a
 * pointer; arrays and structs are places in memory.
 */
import { type Btf, BTF_KIND } from "../btf/parse.ts";
import { arrayOf, integer, isComposite, POINTER_SIZE, sizeOf, strip, typeText } from "../btf/walk.ts";
import type { TypeName } from "./syntax.ts";

export type IntegerBits = 8 | 16 | 32 | 64;

export interface IntegerType {
  readonly kind: "integer";
  readonly bits: IntegerBits;
  readonly signed: boolean;
  readonly bool?: true;
  /** how it lies in memory: a typedef's name begins with __be */
  readonly bigEndian?: true;
  /** the enum that gives its values names */
  readonly enumId?: number;
  /** its type in BTF, where it has one: how the value is shown */
  readonly id?: number;
}

export interface PointerType {
  readonly kind: "pointer";
  readonly target: Target;
  readonly id?: number;
}

export type ValueType = IntegerType | PointerType;

/** What a pointer or an array has: a BTF id, or a type of our own. */
export type Target = number | CType;

export type CType =
  | ValueType
  | { readonly kind: "array"; readonly element: Target; readonly count: number; readonly id: number }
  | { readonly kind: "struct"; readonly id: number }
  | { readonly kind: "void" }
  /** what no expression can work with; `why` follows the type's name */
  | { readonly kind: "other"; readonly id: number; readonly why: string };

export const int: IntegerType = { kind: "integer", bits: 32, signed: true };
export const s64: IntegerType = { kind: "integer", bits: 64, signed: true };
export const u64: IntegerType = { kind: "integer", bits: 64, signed: false };

export const bitsOf = (type: ValueType): IntegerBits => type.kind === "pointer" ? 64 : type.bits;
export const isSigned = (type: ValueType): boolean => type.kind === "integer" && type.signed;

/** How a type is shown in messages. */
export function textOf(btf: Btf, target: Target): string {
  if (typeof target === "number") return typeText(btf, target);
  switch (target.kind) {
    case "void":
      return "void";
    case "pointer": {
      const inner = textOf(btf, target.target);
      return inner + (inner.endsWith("*") ? "*" : " *");
    }
    case "integer":
      if (target.id !== undefined) return typeText(btf, target.id);
      return target.bool ? "bool" : `${target.signed ? "s" : "u"}${target.bits}`;
    case "array":
    case "struct":
    case "other":
      return typeText(btf, target.id);
    default:
      return target satisfies never;
  }
}

/** The type behind a target. */
export function resolve(btf: Btf, target: Target): CType {
  return typeof target === "number" ? typeOf(btf, target) : target;
}

const bits: Readonly<Record<number, IntegerBits>> = { 1: 8, 2: 16, 4: 32, 8: 64 };

function typeOf(btf: Btf, id: number): CType {
  const at = strip(btf, id),
    kind = btf.kind(at),
    other = (why: string) => ({ kind: "other" as const, id, why });
  switch (kind) {
    case BTF_KIND.VOID:
      return { kind: "void" };
    case BTF_KIND.PTR:
      return { kind: "pointer", target: btf.sizeOrType(at), id };
    case BTF_KIND.ARRAY: {
      const { element, count } = arrayOf(btf, at)!;
      return { kind: "array", element, count, id };
    }
    case BTF_KIND.STRUCT:
    case BTF_KIND.UNION:
      return { kind: "struct", id };
    case BTF_KIND.FWD: {
      // only declared here: perhaps another file's declaration has the members
      const full = btf.find(btf.nameOf(at), btf.kindFlag(at) ? BTF_KIND.UNION : BTF_KIND.STRUCT);
      return full === undefined
        ? other("is only declared in the kernel's types")
        : { kind: "struct", id: full };
    }
    case BTF_KIND.INT: {
      const { size, signed, bool } = integer(btf, at)!, width = bits[size];
      if (width === undefined) return other(`is ${size} bytes`);
      return {
        kind: "integer",
        bits: width,
        signed,
        id,
        ...(bool ? { bool } : {}),
        ...(isBigEndian(btf, id) ? { bigEndian: true } : {}),
      };
    }
    case BTF_KIND.ENUM:
    case BTF_KIND.ENUM64: {
      const width = bits[btf.sizeOrType(at)];
      if (width === undefined) return other(`is ${btf.sizeOrType(at)} bytes`);
      return { kind: "integer", bits: width, signed: btf.kindFlag(at), enumId: at, id };
    }
    case BTF_KIND.FLOAT:
      return other("is a floating-point number");
    case BTF_KIND.FUNC_PROTO:
      return other("is a function");
    default:
      return other("is no type of a value");
  }
}

/** Bounds the walk along typedefs; `strip` has found its end already. */
const MAX_TYPEDEFS = 64;

/** Whether the type, or a typedef that it is made of, is called __be16, __be32, __be64. */
function isBigEndian(btf: Btf, id: number): boolean {
  for (let at = id, steps = 0; steps < MAX_TYPEDEFS; steps++) {
    switch (btf.kind(at)) {
      case BTF_KIND.TYPEDEF:
        if (btf.nameOf(at).startsWith("__be")) return true;
        break;
      case BTF_KIND.CONST:
      case BTF_KIND.VOLATILE:
      case BTF_KIND.RESTRICT:
      case BTF_KIND.TYPE_TAG:
        break;
      default:
        return false;
    }
    at = btf.sizeOrType(at);
  }
  return false;
}

/**
 * Bytes of a place of this type.
 *
 * @throws {BtfError} it has no size
 */
export function sizeOfType(btf: Btf, target: Target): number {
  if (typeof target === "number") {
    return btf.kind(strip(btf, target)) === BTF_KIND.VOID ? 1 : sizeOf(btf, target);
  }
  switch (target.kind) {
    case "void":
      return 1; // as gcc counts
    case "pointer":
      return POINTER_SIZE;
    case "integer":
      return target.bits / 8;
    case "array":
    case "struct":
    case "other":
      return sizeOf(btf, target.id);
    default:
      return target satisfies never;
  }
}

/** The type that a cast names, or undefined when this kernel has none of that name. */
export function namedType(btf: Btf, name: TypeName): CType | undefined {
  let type = baseType(btf, name);
  if (type === undefined) return undefined;
  for (let i = 0; i < name.pointers; i++) type = { kind: "pointer", target: type };
  return type;
}

function baseType(btf: Btf, name: TypeName): CType | undefined {
  switch (name.kind) {
    case "integer":
      return { kind: "integer", bits: name.bits, signed: name.signed };
    case "void":
      return { kind: "void" };
    case "bool":
      return { kind: "integer", bits: 8, signed: false, bool: true };
    case "char": {
      const id = btf.find("char", BTF_KIND.INT); // signed on x86 before Linux 6.2
      return id === undefined ? { kind: "integer", bits: 8, signed: false } : typeOf(btf, id);
    }
    case "struct":
    case "union":
    case "enum":
    case "typedef": {
      const id = idOf(btf, name.kind, name.name);
      return id === undefined ? undefined : typeOf(btf, id);
    }
    default:
      return name satisfies never;
  }
}

const kindsOf = {
  struct: [BTF_KIND.STRUCT],
  union: [BTF_KIND.UNION],
  enum: [BTF_KIND.ENUM, BTF_KIND.ENUM64],
  typedef: [BTF_KIND.TYPEDEF],
} as const;

function idOf(btf: Btf, kind: keyof typeof kindsOf, name: string): number | undefined {
  for (const wanted of kindsOf[kind]) {
    const id = btf.find(name, wanted);
    if (id !== undefined) return id;
  }
  return undefined;
}

/** The names that a mistyped one may have meant. */
export function* typeNames(btf: Btf, kind: keyof typeof kindsOf): Generator<string> {
  const wanted: readonly number[] = kindsOf[kind];
  for (let id = 1; id < btf.endId; id++) if (wanted.includes(btf.kind(id))) yield btf.nameOf(id);
}

/** Whether the type can be looked into with `->`. */
export function hasMembers(btf: Btf, type: CType): type is CType & { kind: "struct" } {
  return type.kind === "struct" && isComposite(btf.kind(strip(btf, type.id)));
}
