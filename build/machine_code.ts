/**
 * Code for a processor as data: instructions, labels and constants in a nested list, turned into bytes at
 * the address where they will run.
 */
import type { Struct } from "../asm/layout.ts";
import { BuildError } from "./error.ts";

/** A place in the code; equal only to itself. */
export class Label {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

export const label = (name: string): Label => new Label(name);

/** Where a label lies in memory. */
export type AddressOf = (label: Label) => number;

/** An instruction or a constant. */
export interface Item {
  /** bytes it takes; a function where that hangs on its address */
  readonly size: number | ((address: number) => number);
  encode(address: number, addressOf: AddressOf): ArrayLike<number>;
}

/** A label in the list marks its place. */
export type Code = Item | Label | readonly Code[];

/** Little-endian bytes of an integer. */
export function littleEndian(value: number | bigint, size: number): number[] {
  const bits = BigInt.asUintN(size * 8, BigInt(value));
  return Array.from({ length: size }, (_, index) => Number(bits >> BigInt(8 * index) & 0xffn));
}

export function bytes(...values: readonly number[]): Item {
  return { size: values.length, encode: () => values };
}

/** Text with a NUL behind it. */
export function cString(value: string): Item {
  return bytes(...new TextEncoder().encode(value), 0);
}

/** Eight bytes: a number, or the address of a label. */
export function quad(value: number | Label): Item {
  return {
    size: 8,
    encode: (_, addressOf) => littleEndian(value instanceof Label ? addressOf(value) : value, 8),
  };
}

/** One row of a table that the code reads: a struct of nothing but u64. */
export function row<M extends Struct["fields"]>(
  { fields, size }: { readonly fields: M; readonly size: number },
  values: { readonly [K in keyof M]: number | Label },
): Code {
  const names = Object.keys(fields) as (keyof M)[];
  if (size !== names.length * 8) throw new TypeError("A row is made of u64 members");
  return names.map((name) => quad(values[name]));
}

/** Zeros up to the next multiple of `boundary`. */
export function align(boundary: number): Item {
  const size = (address: number) => (boundary - address % boundary) % boundary;
  return { size, encode: (address) => new Uint8Array(size(address)) };
}

/**
 * The bytes of `code` when it is placed at `origin`.
 *
 * @throws {BuildError} a label is placed twice or never, or out of an instruction's reach
 */
export function assemble(code: Code, origin: number): Uint8Array {
  const places = new Map<Label, number>(), placed: { item: Item; address: number }[] = [];
  let end = origin;
  const place = (part: Code): void => {
    if (part instanceof Label) {
      if (places.has(part)) throw new BuildError(`Cannot assemble: label "${part.name}" is placed twice`);
      places.set(part, end);
    } else if (!("encode" in part)) part.forEach(place);
    else {
      placed.push({ item: part, address: end });
      end += typeof part.size === "number" ? part.size : part.size(end);
    }
  };
  place(code);
  const addressOf = (wanted: Label) => {
    const address = places.get(wanted);
    if (address === undefined) {
      throw new BuildError(`Cannot assemble: label "${wanted.name}" is never placed`);
    }
    return address;
  };
  const out = new Uint8Array(end - origin);
  for (const { item, address } of placed) out.set(item.encode(address, addressOf), address - origin);
  return out;
}
