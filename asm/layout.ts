/**
 * Layouts of C structs: the only place where an offset is computed.
 *
 * `struct()` declares a layout once. The emitter uses `.fields`, the reader `.decode()`, TypeScript
 * `Decoded<>`. Values are little endian, as on every architecture we run on.
 */
import { AssemblyError } from "./errors.ts";

/** Bytes that one load or store can move. */
export type Width = 1 | 2 | 4 | 8;

/** How bytes become a value. `size` is in bytes, `align` what C would demand. */
export interface Type<T = unknown> {
  readonly name: string;
  readonly size: number;
  readonly align: number;
  decode(view: DataView, offset: number): T;
  encode(view: DataView, offset: number, value: T): void;
}

/** A type that fits a register. */
export interface Scalar<T extends number | bigint = number | bigint> extends Type<T> {
  readonly size: Width;
  readonly signed: boolean;
}

/** A place in a struct: one of ours, or one of the running kernel's. */
export interface Field<T = unknown> {
  readonly struct: string;
  readonly name: string;
  /** bytes from the start of the struct */
  readonly offset: number;
  readonly type: Type<T>;
}

/** A C bitfield; `offset` is the byte that holds its first bit, `shift` the bit in that byte. */
export interface BitField {
  readonly struct: string;
  readonly name: string;
  readonly offset: number;
  readonly shift: number;
  readonly bits: number;
}

type NumberGetter = "getUint8" | "getUint16" | "getUint32" | "getInt8" | "getInt16" | "getInt32";
type NumberSetter = "setUint8" | "setUint16" | "setUint32" | "setInt8" | "setInt16" | "setInt32";

function small(name: string, size: 1 | 2 | 4, signed: boolean): Scalar<number> {
  const kind = `${signed ? "Int" : "Uint"}${size * 8}` as "Uint8";
  const get = `get${kind}` as NumberGetter, set = `set${kind}` as NumberSetter;
  const low = signed ? -(2 ** (size * 8 - 1)) : 0, high = low + 2 ** (size * 8) - 1;
  return Object.freeze({
    name,
    size,
    align: size,
    signed,
    decode: (view: DataView, offset: number) => view[get](offset, true),
    encode(view: DataView, offset: number, value: number) {
      if (!Number.isInteger(value) || value < low || value > high) {
        throw new RangeError(`${value} does not fit ${name}`);
      }
      view[set](offset, value, true);
    },
  });
}

function large(name: string, signed: boolean): Scalar<bigint> {
  const clamp = signed ? BigInt.asIntN : BigInt.asUintN;
  return Object.freeze({
    name,
    size: 8,
    align: 8,
    signed,
    decode: (view: DataView, offset: number) =>
      signed ? view.getBigInt64(offset, true) : view.getBigUint64(offset, true),
    encode(view: DataView, offset: number, value: bigint) {
      if (clamp(64, value) !== value) throw new RangeError(`${value} does not fit ${name}`);
      view.setBigUint64(offset, BigInt.asUintN(64, value), true);
    },
  });
}

export const u8: Scalar<number> = small("u8", 1, false);
export const u16: Scalar<number> = small("u16", 2, false);
export const u32: Scalar<number> = small("u32", 4, false);
export const u64: Scalar<bigint> = large("u64", false);
export const s8: Scalar<number> = small("s8", 1, true);
export const s16: Scalar<number> = small("s16", 2, true);
export const s32: Scalar<number> = small("s32", 4, true);
export const s64: Scalar<bigint> = large("s64", true);

/** `length` raw bytes; decoding copies them. */
export function bytes(length: number): Type<Uint8Array> {
  return Object.freeze({
    name: `u8[${length}]`,
    size: length,
    align: 1,
    decode: (view: DataView, offset: number) =>
      new Uint8Array(view.buffer, view.byteOffset + offset, length).slice(),
    encode(view: DataView, offset: number, value: Uint8Array) {
      if (value.length !== length) throw new RangeError(`${value.length} bytes do not fill u8[${length}]`);
      new Uint8Array(view.buffer, view.byteOffset + offset, length).set(value);
    },
  });
}

type Members = Readonly<Record<string, Type>>;
type ValueOf<T> = T extends Type<infer V> ? V : never;

/** A declared layout, and a type itself, so that structs nest. */
export interface Struct<M extends Members = Members> extends Type<{ [K in keyof M]: ValueOf<M[K]> }> {
  readonly fields: { readonly [K in keyof M]: Field<ValueOf<M[K]>> };
  decode(view: DataView, offset?: number): { [K in keyof M]: ValueOf<M[K]> };
  encode(view: DataView, offset: number, value: Partial<{ [K in keyof M]: ValueOf<M[K]> }>): void;
}

/** What `.decode()` gives: u64 is a bigint, smaller integers are numbers. */
export type Decoded<S> = S extends Struct<infer M> ? { [K in keyof M]: ValueOf<M[K]> } : never;

/**
 * Declares a struct as C lays it out. A hole is an error: name the padding (`_pad: u32`).
 * With `packed`, members follow one another whatever their alignment.
 *
 * @throws {AssemblyError} a hole between two members or at the end
 */
export function struct<const M extends Members>(
  name: string,
  members: M,
  { packed = false }: { packed?: boolean } = {},
): Struct<M> {
  const fields: Record<string, Field> = {};
  let size = 0, align = 1;
  for (const [member, type] of Object.entries(members)) {
    if (!packed && size % type.align !== 0) {
      throw new AssemblyError(
        `Cannot lay out ${name}: ${member} would start at ${size}, which leaves a hole; name the padding`,
      );
    }
    fields[member] = Object.freeze({ struct: name, name: member, offset: size, type });
    size += type.size;
    if (!packed) align = Math.max(align, type.align);
  }
  if (size % align !== 0) {
    throw new AssemblyError(
      `Cannot lay out ${name}: its ${size} bytes are no multiple of ${align}; name the padding`,
    );
  }
  const all = Object.values(fields);
  return Object.freeze({
    name,
    size,
    align,
    fields: Object.freeze(fields) as Struct<M>["fields"],
    decode(view: DataView, offset = 0) {
      const out: Record<string, unknown> = {};
      for (const field of all) out[field.name] = field.type.decode(view, offset + field.offset);
      return out as Decoded<Struct<M>>;
    },
    encode(view: DataView, offset: number, value: Record<string, unknown>) {
      for (const [key, member] of Object.entries(value)) {
        const field = fields[key];
        if (field === undefined) throw new TypeError(`${name} has no member ${key}`);
        field.type.encode(view, offset + field.offset, member);
      }
    },
  }) as Struct<M>;
}
