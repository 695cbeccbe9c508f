/**
 * Walking from type to type: what C's declarations say, as plain functions over a Btf and ids.
 *
 * An expression such as `skb->dev->ifindex` is: pointee, findMember("dev"), pointee, findMember("ifindex").
 * Every walk is bounded, because a hostile blob may run in circles.
 */
import { BtfError } from "../errors.ts";
import { type Btf, BTF_KIND, type Kind } from "./parse.ts";

/** An offset or a length in bits; bytes are plain numbers. */
export type Bits = number & { readonly __unit: "bits" };

/** One member of a struct or union. */
export interface Member {
  /** "" for an anonymous struct or union, whose members count as the outer one's */
  readonly name: string;
  /** type id, qualifiers included */
  readonly type: number;
  /** from the start of the struct */
  readonly bitOffset: Bits;
  /** 0: an ordinary member; else a bitfield's width */
  readonly bitSize: Bits;
}

/** One parameter of a function; "" where BTF has no name. */
export interface Parameter {
  readonly name: string;
  readonly type: number;
}

/** The low byte of what an INT adds: how it is meant. */
const BTF_INT_SIGNED = 1, BTF_INT_CHAR = 2, BTF_INT_BOOL = 4;
/** The kernel itself follows at most 32 (MAX_RESOLVE_DEPTH). */
const MAX_STEPS = 64;
export const POINTER_SIZE = 8;

const qualifiers: ReadonlyMap<Kind, string> = new Map([
  [BTF_KIND.CONST, "const"],
  [BTF_KIND.VOLATILE, "volatile"],
  [BTF_KIND.RESTRICT, "restrict"],
]);

function circle(btf: Btf, id: number): BtfError {
  return new BtfError(`Cannot resolve type ${id} in the BTF of ${btf.name}: it refers to itself`);
}

/** The type behind typedefs, const, volatile, restrict and type tags. */
export function strip(btf: Btf, id: number): number {
  for (let at = id, steps = 0; steps < MAX_STEPS; steps++) {
    switch (btf.kind(at)) {
      case BTF_KIND.TYPEDEF:
      case BTF_KIND.CONST:
      case BTF_KIND.VOLATILE:
      case BTF_KIND.RESTRICT:
      case BTF_KIND.TYPE_TAG:
        at = btf.sizeOrType(at);
        continue;
      default:
        return at;
    }
  }
  throw circle(btf, id);
}

/** Whether a stripped kind has members. */
export function isComposite(kind: Kind): boolean {
  return kind === BTF_KIND.STRUCT || kind === BTF_KIND.UNION;
}

/** What a pointer points to, its qualifiers kept; undefined when `id` is no pointer. 0 is void. */
export function pointee(btf: Btf, id: number): number | undefined {
  const at = strip(btf, id);
  return btf.kind(at) === BTF_KIND.PTR ? btf.sizeOrType(at) : undefined;
}

/** An array's element type and how many there are (0: flexible); undefined when `id` is no array. */
export function arrayOf(
  btf: Btf,
  id: number,
): { readonly element: number; readonly count: number } | undefined {
  const at = strip(btf, id);
  if (btf.kind(at) !== BTF_KIND.ARRAY) return undefined;
  return { element: btf.word(at, 0), count: btf.word(at, 2) };
}

/** What an integer is; undefined when `id` is none. `bits` and `bitOffset` differ from whole bytes in old bitfields. */
export function integer(btf: Btf, id: number): {
  readonly size: number;
  readonly signed: boolean;
  readonly char: boolean;
  readonly bool: boolean;
  readonly bits: Bits;
  readonly bitOffset: Bits;
} | undefined {
  const at = strip(btf, id);
  if (btf.kind(at) !== BTF_KIND.INT) return undefined;
  const word = btf.word(at, 0), encoding = word >>> 24;
  return {
    size: btf.sizeOrType(at),
    signed: (encoding & BTF_INT_SIGNED) !== 0,
    char: (encoding & BTF_INT_CHAR) !== 0,
    bool: (encoding & BTF_INT_BOOL) !== 0,
    bits: (word & 0xff) as Bits,
    bitOffset: (word >>> 16 & 0xff) as Bits,
  };
}

/**
 * Bytes of a value of this type.
 *
 * @throws {BtfError} it has no size: void, a function, a struct that is only declared
 */
export function sizeOf(btf: Btf, id: number): number {
  let count = 1;
  for (let at = strip(btf, id), steps = 0; steps < MAX_STEPS; steps++) {
    switch (btf.kind(at)) {
      case BTF_KIND.INT:
      case BTF_KIND.STRUCT:
      case BTF_KIND.UNION:
      case BTF_KIND.ENUM:
      case BTF_KIND.ENUM64:
      case BTF_KIND.FLOAT:
      case BTF_KIND.DATASEC:
        return checkedSize(btf, id, count * btf.sizeOrType(at));
      case BTF_KIND.PTR:
        return checkedSize(btf, id, count * POINTER_SIZE);
      case BTF_KIND.ARRAY: {
        count = checkedSize(btf, id, count * btf.word(at, 2));
        at = strip(btf, btf.word(at, 0));
        continue;
      }
      default:
        throw new BtfError(`Cannot tell the size of ${typeText(btf, id) || `type ${id}`}`);
    }
  }
  throw circle(btf, id);
}

function checkedSize(btf: Btf, id: number, size: number): number {
  if (size > 2 ** 32) {
    throw new BtfError(`Cannot tell the size of type ${id} in the BTF of ${btf.name}: ${size}`);
  }
  return size;
}

/**
 * The members of a struct or union as C declares them; old and new bitfields look the same.
 *
 * @throws {BtfError} `id` is neither
 */
export function* members(btf: Btf, id: number): Generator<Member> {
  const at = strip(btf, id);
  if (!isComposite(btf.kind(at))) {
    throw new BtfError(`Cannot list the members of ${typeText(btf, id)}: it is no struct or union`);
  }
  const count = btf.vlen(at), sized = btf.kindFlag(at);
  for (let i = 0; i < count; i++) {
    const name = btf.string(btf.word(at, 3 * i)),
      type = btf.word(at, 3 * i + 1),
      place = btf.word(at, 3 * i + 2);
    if (sized) {
      yield { name, type, bitOffset: (place & 0xffffff) as Bits, bitSize: (place >>> 24) as Bits };
      continue;
    }
    const int = integer(btf, type); // before Linux 5.0 the integer type itself carried the width
    const narrow = int !== undefined && (int.bitOffset !== 0 || int.bits !== int.size * 8);
    yield {
      name,
      type,
      bitOffset: (place + (narrow ? int.bitOffset : 0)) as Bits,
      bitSize: (narrow ? int.bits : 0) as Bits,
    };
  }
}

/** The member `name`, anonymous structs and unions looked through; its offset counts from the outermost. */
export function findMember(btf: Btf, id: number, name: string): Member | undefined {
  return find(btf, strip(btf, id), name, 0, new Set(), 0);
}

/** A type without `name` is not searched again: two copies cannot hide it, and a circle ends. */
function find(
  btf: Btf,
  id: number,
  name: string,
  start: number,
  seen: Set<number>,
  depth: number,
): Member | undefined {
  if (depth > MAX_STEPS) throw circle(btf, id);
  seen.add(id);
  for (const member of members(btf, id)) {
    const bitOffset = (start + member.bitOffset) as Bits;
    if (member.name === name && name !== "") return { ...member, bitOffset };
    if (member.name !== "") continue;
    const inner = strip(btf, member.type);
    if (!isComposite(btf.kind(inner)) || seen.has(inner)) continue; // an unnamed bitfield is padding
    const found = find(btf, inner, name, bitOffset, seen, depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** The parameters of a FUNC, a FUNC_PROTO or a pointer to one. A last one of type 0 means `...`. */
export function* parameters(btf: Btf, id: number): Generator<Parameter> {
  const proto = prototypeOf(btf, id);
  if (proto === undefined) {
    throw new BtfError(`Cannot list the parameters of ${typeText(btf, id)}: it is no function`);
  }
  const count = btf.vlen(proto);
  for (let i = 0; i < count; i++) {
    yield { name: btf.string(btf.word(proto, 2 * i)), type: btf.word(proto, 2 * i + 1) };
  }
}

/** What the same function returns; 0 is void. */
export function returnType(btf: Btf, id: number): number {
  const proto = prototypeOf(btf, id);
  if (proto === undefined) {
    throw new BtfError(`Cannot tell what ${typeText(btf, id)} returns: it is no function`);
  }
  return btf.sizeOrType(proto);
}

function prototypeOf(btf: Btf, id: number): number | undefined {
  const at = strip(btf, id), kind = btf.kind(at);
  const next = kind === BTF_KIND.FUNC || kind === BTF_KIND.PTR ? strip(btf, btf.sizeOrType(at)) : at;
  return btf.kind(next) === BTF_KIND.FUNC_PROTO ? next : undefined;
}

/** Names and values of an enum, in the order of its declaration. */
export function* enumerators(btf: Btf, id: number): Generator<readonly [name: string, value: bigint]> {
  const at = strip(btf, id), kind = btf.kind(at);
  if (kind !== BTF_KIND.ENUM && kind !== BTF_KIND.ENUM64) {
    throw new BtfError(`Cannot list the values of ${typeText(btf, id)}: it is no enum`);
  }
  const count = btf.vlen(at), clamp = btf.kindFlag(at) ? BigInt.asIntN : BigInt.asUintN;
  for (let i = 0; i < count; i++) {
    if (kind === BTF_KIND.ENUM) {
      yield [btf.string(btf.word(at, 2 * i)), clamp(32, BigInt(btf.word(at, 2 * i + 1)))];
    } else {
      const value = BigInt(btf.word(at, 3 * i + 1)) | BigInt(btf.word(at, 3 * i + 2)) << 32n;
      yield [btf.string(btf.word(at, 3 * i)), clamp(64, value)];
    }
  }
}

/** The type as C writes it, for messages: `const struct sk_buff *`, `u8[48]`, `void`. */
export function typeText(btf: Btf, id: number): string {
  return text(btf, id, 0);
}

function text(btf: Btf, id: number, depth: number): string {
  if (depth > MAX_STEPS) throw circle(btf, id);
  const kind = btf.kind(id), name = btf.nameOf(id);
  switch (kind) {
    case BTF_KIND.VOID:
      return "void";
    case BTF_KIND.PTR: {
      const target = btf.sizeOrType(id);
      if (btf.kind(target) === BTF_KIND.FUNC_PROTO) {
        return text(btf, target, depth + 1).replace("()", "(*)()");
      }
      const inner = text(btf, target, depth + 1);
      return inner + (inner.endsWith("*") ? "*" : " *");
    }
    case BTF_KIND.ARRAY:
      return `${text(btf, btf.word(id, 0), depth + 1)}[${btf.word(id, 2)}]`;
    case BTF_KIND.STRUCT:
      return `struct ${name || "{...}"}`;
    case BTF_KIND.UNION:
      return `union ${name || "{...}"}`;
    case BTF_KIND.ENUM:
    case BTF_KIND.ENUM64:
      return `enum ${name || "{...}"}`;
    case BTF_KIND.FWD:
      return `${btf.kindFlag(id) ? "union" : "struct"} ${name}`;
    case BTF_KIND.FUNC_PROTO:
      return `${text(btf, btf.sizeOrType(id), depth + 1)} ()`;
    case BTF_KIND.TYPE_TAG:
      return text(btf, btf.sizeOrType(id), depth + 1);
  }
  const qualifier = qualifiers.get(kind);
  if (qualifier === undefined) return name;
  const inner = text(btf, btf.sizeOrType(id), depth + 1);
  return inner.endsWith("*") ? `${inner}${qualifier}` : `${qualifier} ${inner}`;
}
