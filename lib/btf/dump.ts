/**
 * A value of any kernel type as bpf_snprintf_btf shows it: names and types of all members that are not zero, a
 * line each. The kernel takes 140 us for a sk_buff and its text 2 KiB; a copy of the bytes is made into the same
 * text here. tests/kernel/dump.test.ts compares both.
 *
 *     (struct sk_buff){
 *      .len = (unsigned int)84,
 *      .cb = (char[])[
 *       'A',
 *      ],
 *     }
 *
 * Two things differ: pointers are not replaced by hashes, and bytes that are no ASCII are numbers.
 */
import { BtfError } from "../errors.ts";
import { type Btf, BTF_KIND } from "./parse.ts";
import { arrayOf, enumerators, integer, type Member, members, sizeOf, strip, typeText } from "./walk.ts";

/** Makes text of the bytes at `offset`. */
export type Dump = (view: DataView, offset: number) => string;

/** How one type is shown. Nothing ("") is a value that is zero. */
interface Shape {
  /** what stands behind the label, without a comma; depth is that of its own line */
  text(view: DataView, at: number, depth: number, place: Place): string;
}

/** Where a value stands: in an array nothing has a label, and at the top zero is shown. */
type Place = "top" | "member" | "element";

/** Follows a chain of typedefs, pointers and arrays so far for the name, and no further. */
const MAX_NAME_STEPS = 10;

/**
 * Reads the type once; the result is quick.
 *
 * @throws {BtfError} the type has no size, or contradicts itself
 */
export function compileDump(btf: Btf, typeId: number): Dump {
  const shape = new Compiler(btf).shape(typeId), label = labelOf(btf, typeId);
  return (view, offset) => `${label}${shape.text(view, offset, 0, "top")}\n`;
}

class Compiler {
  readonly #btf: Btf;
  readonly #known = new Map<number, Shape>();
  readonly #begun = new Set<number>();

  constructor(btf: Btf) {
    this.#btf = btf;
  }

  shape(typeId: number): Shape {
    const at = strip(this.#btf, typeId), known = this.#known.get(at);
    if (known !== undefined) return known;
    if (this.#begun.has(at)) {
      throw new BtfError(`Cannot show ${typeText(this.#btf, at)}: it contains itself`);
    }
    this.#begun.add(at);
    const shape = this.#make(at);
    this.#known.set(at, shape);
    return shape;
  }

  #make(at: number): Shape {
    const btf = this.#btf;
    switch (btf.kind(at)) {
      case BTF_KIND.INT: {
        const { size, signed } = integer(btf, at)!;
        return integerShape(size, signed);
      }
      case BTF_KIND.PTR:
        return pointerShape;
      case BTF_KIND.ENUM:
      case BTF_KIND.ENUM64:
        return enumShape(btf, at);
      case BTF_KIND.ARRAY: {
        const { element, count } = arrayOf(btf, at)!, int = integer(btf, element);
        if (count === 0) return nothing;
        return int !== undefined && int.size === 1
          ? charArrayShape(count, int.signed)
          : arrayShape(count, sizeOf(btf, element), this.shape(element));
      }
      case BTF_KIND.STRUCT:
      case BTF_KIND.UNION:
        return structShape([...members(btf, at)].map((member) => this.#row(at, member)));
      default:
        return { text: () => `<unsupported kind:${btf.kind(at)}>` }; // nor does the kernel
    }
  }

  #row(struct: number, { name, type, bitOffset, bitSize }: Member): Row {
    const btf = this.#btf, end = bitOffset + (bitSize === 0 ? 8 * sizeOf(btf, type) : bitSize);
    if (end > 8 * btf.sizeOrType(struct)) {
      throw new BtfError(`Cannot show ${typeText(btf, struct)}: its member "${name}" ends behind it`);
    }
    return {
      label: (name === "" ? "" : `.${name} = `) + labelOf(btf, type),
      offset: Math.floor(bitOffset / 8),
      shape: bitSize === 0 ? this.shape(type) : bitFieldShape(bitOffset % 8, bitSize),
    };
  }
}

/** `(type)`, and what opens it. */
function labelOf(btf: Btf, typeId: number): string {
  let name: string | undefined, pointers = "", arrays = "", id = typeId;
  for (let steps = 0;; steps++) {
    if (steps === MAX_NAME_STEPS) return "";
    const kind = btf.kind(id);
    if (kind === BTF_KIND.TYPEDEF) name ??= btf.nameOf(id);
    else if (kind === BTF_KIND.PTR) pointers += "*";
    else if (kind === BTF_KIND.ARRAY) arrays += "[]";
    else if (
      kind !== BTF_KIND.CONST && kind !== BTF_KIND.VOLATILE && kind !== BTF_KIND.RESTRICT &&
      kind !== BTF_KIND.TYPE_TAG
    ) break;
    id = kind === BTF_KIND.ARRAY ? arrayOf(btf, id)!.element : btf.sizeOrType(id);
  }
  const kind = btf.kind(id), isComposite = kind === BTF_KIND.STRUCT || kind === BTF_KIND.UNION;
  const word = name !== undefined
    ? ""
    : kind === BTF_KIND.STRUCT
    ? "struct"
    : kind === BTF_KIND.UNION
    ? "union"
    : kind === BTF_KIND.ENUM || kind === BTF_KIND.ENUM64
    ? "enum"
    : "";
  name ??= btf.nameOf(id);
  const space = word !== "" && name !== "" ? " " : "";
  const opening = pointers !== "" ? "" : arrays !== "" ? "[" : isComposite ? "{" : "";
  return `(${word}${space}${name}${pointers === "" ? "" : ` ${pointers}`}${arrays})${opening}`;
}

const nothing: Shape = { text: () => "" };

const indents: string[] = [];

/** Spaces before a line at this depth. */
function indent(depth: number): string {
  return indents[depth] ??= " ".repeat(depth);
}

/** Text of a number, or nothing for 0, unless it is all there is. */
function leaf(text: (view: DataView, at: number) => string | undefined, zero: string): Shape {
  return { text: (view, at, _depth, place) => text(view, at) ?? (place === "top" ? zero : "") };
}

function integerShape(size: number, signed: boolean): Shape {
  switch (size) {
    case 1:
      return leaf((view, at) => shown(signed ? view.getInt8(at) : view.getUint8(at)), "0");
    case 2:
      return leaf((view, at) => shown(signed ? view.getInt16(at, true) : view.getUint16(at, true)), "0");
    case 4:
      return leaf((view, at) => shown(signed ? view.getInt32(at, true) : view.getUint32(at, true)), "0");
    case 8:
      return leaf((view, at) => {
        if (view.getInt32(at, true) === 0 && view.getInt32(at + 4, true) === 0) return undefined;
        return String(signed ? view.getBigInt64(at, true) : view.getBigUint64(at, true));
      }, "0");
    default:
      return bitFieldShape(0, size * 8);
  }
}

function shown(value: number): string | undefined {
  return value === 0 ? undefined : String(value);
}

/** Bits in hexadecimal, whatever their type is. */
function bitFieldShape(shift: number, bits: number): Shape {
  return leaf((view, at) => {
    let value = 0n;
    for (let byte = Math.ceil((shift + bits) / 8) - 1; byte >= 0; byte--) {
      value = value << 8n | BigInt(view.getUint8(at + byte));
    }
    value = BigInt.asUintN(bits, value >> BigInt(shift));
    return value === 0n ? undefined : `0x${value.toString(16)}`;
  }, "0x0");
}

const pointerShape: Shape = leaf((view, at) => {
  if (view.getInt32(at, true) === 0 && view.getInt32(at + 4, true) === 0) return undefined;
  return `0x${view.getBigUint64(at, true).toString(16).padStart(16, "0")}`;
}, `0x${"0".repeat(16)}`);

/** A value with a name is shown even when it is 0. */
function enumShape(btf: Btf, at: number): Shape {
  const names = new Map<bigint, string>(), size = btf.sizeOrType(at), signed = btf.kindFlag(at);
  for (const [name, value] of enumerators(btf, at)) if (!names.has(value)) names.set(value, name);
  return leaf((view, offset) => {
    let value = 0n;
    for (let byte = size - 1; byte >= 0; byte--) value = value << 8n | BigInt(view.getUint8(offset + byte));
    if (signed) value = BigInt.asIntN(size * 8, value);
    return names.get(value) ?? (value === 0n ? undefined : String(value));
  }, "0");
}

/** Up to the first NUL. */
function charArrayShape(count: number, signed: boolean): Shape {
  return {
    text(view, at, depth) {
      let lines = "";
      for (let i = 0; i < count; i++) {
        const code = view.getUint8(at + i);
        if (code === 0) break;
        const printable = code >= 0x20 && code < 0x7f;
        const value = printable ? `'${String.fromCharCode(code)}'` : signed ? view.getInt8(at + i) : code;
        lines += `${indent(depth + 1)}${value},\n`;
      }
      return lines === "" && depth > 0 ? "" : `\n${lines}${indent(depth)}]`;
    },
  };
}

function arrayShape(count: number, elementBytes: number, element: Shape): Shape {
  return {
    text(view, at, depth) {
      let lines = "";
      for (let i = 0; i < count; i++) {
        const text = element.text(view, at + i * elementBytes, depth + 1, "element");
        if (text !== "") lines += `${indent(depth + 1)}${text},\n`;
      }
      return lines === "" && depth > 0 ? "" : `\n${lines}${indent(depth)}]`;
    },
  };
}

/** One member. */
interface Row {
  readonly label: string;
  readonly offset: number;
  readonly shape: Shape;
}

function structShape(rows: readonly Row[]): Shape {
  return {
    text(view, at, depth, place) {
      let lines = "";
      const inner = place === "element" ? "element" : "member";
      for (const { label, offset, shape } of rows) {
        const text = shape.text(view, at + offset, depth + 1, inner);
        if (text !== "") lines += `${indent(depth + 1)}${inner === "element" ? "" : label}${text},\n`;
      }
      return lines === "" && depth > 0 ? "" : `\n${lines}${indent(depth)}}`;
    },
  };
}
