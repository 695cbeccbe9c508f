/**
 * The running kernel's types as programs ask for them: `field("sk_buff", "len")` is an offset and a width.
 *
 * This is CO-RE done here instead of in a loader. The blob is an argument, so the same blob gives the same
 * program on any machine.
 */
import type { KernelTypes } from "../../asm/code.ts";
import {
  type BitField,
  bytes,
  type Field,
  s16,
  s32,
  s64,
  s8,
  type Type,
  u16,
  u32,
  u64,
  u8,
} from "../../asm/layout.ts";
import { BtfError } from "../errors.ts";
import { type Btf, BTF_KIND } from "./parse.ts";
import {
  arrayOf,
  type Bits,
  enumerators,
  findMember,
  integer,
  isComposite,
  type Member,
  members,
  pointee,
  sizeOf,
  strip,
  typeText,
} from "./walk.ts";

const scalars: Readonly<Record<number, { readonly unsigned: Type; readonly signed: Type }>> = {
  1: { unsigned: u8, signed: s8 },
  2: { unsigned: u16, signed: s16 },
  4: { unsigned: u32, signed: s32 },
  8: { unsigned: u64, signed: s64 },
};

/** "cb[3]" -> cb, [3] */
const step = /^([A-Za-z_]\w*)((?:\[\d+\])*)$/;

/** `bpf_bprintf_buffers` begins with 512 bytes of text and belongs to BPF itself: no build leaves it out. */
const FAVOURITE_BYTE_ARRAY = "bpf_bprintf_buffers";

/** A kernel's types, or a module's on top of them. */
export class BtfTypes implements KernelTypes {
  readonly btf: Btf;
  /** "struct.path" -> field: programs ask for the same ones again and again */
  readonly #fields = new Map<string, Field>();
  readonly #has = new Map<string, boolean>();
  constructor(btf: Btf) {
    this.btf = btf;
  }

  /**
   * Struct, union or array members are bytes; enums are unsigned unless a value is negative.
   *
   * @throws {BtfError} no such struct or member, a pointer on the way, or a bitfield
   */
  field(struct: string, path: string): Field {
    const key = `${struct}.${path}`;
    let field = this.#fields.get(key);
    if (field === undefined) this.#fields.set(key, field = this.#findField(struct, path));
    return field;
  }

  #findField(struct: string, path: string): Field {
    const { type, bitOffset, bitSize } = this.member(struct, path);
    if (bitSize !== 0 || bitOffset % 8 !== 0) {
      throw new BtfError(`Cannot read ${struct}.${path} as a field: it is a bitfield of ${bitSize} bits`, {
        type: struct,
        member: path,
      });
    }
    return Object.freeze({ struct, name: path, offset: bitOffset / 8, type: this.valueType(type) });
  }

  /** @throws {BtfError} no such struct or member, or it is no bitfield */
  bitField(struct: string, path: string): BitField {
    const { type, bitOffset, bitSize } = this.member(struct, path);
    if (bitSize === 0) {
      throw new BtfError(`Cannot read ${struct}.${path} as a bitfield: it is ${typeText(this.btf, type)}`, {
        type: struct,
        member: path,
      });
    }
    const shift = bitOffset % 8;
    return Object.freeze({ struct, name: path, offset: (bitOffset - shift) / 8, shift, bits: bitSize });
  }

  has(struct: string, path: string): boolean {
    const key = `${struct}.${path}`;
    let has = this.#has.get(key);
    if (has === undefined) {
      has = this.#walk(struct, path, () => undefined) !== undefined;
      this.#has.set(key, has);
    }
    return has;
  }

  structId(name: string): number | undefined {
    return this.btf.find(name, BTF_KIND.STRUCT) ?? this.btf.find(name, BTF_KIND.UNION);
  }

  /** Bytes of a struct or union. @throws {BtfError} there is none */
  sizeOf(struct: string): number {
    const id = this.structId(struct);
    if (id === undefined) throw new BtfError(`Kernel BTF has no struct ${struct}`, { type: struct });
    return sizeOf(this.btf, id);
  }

  functionId(name: string): number | undefined {
    return this.btf.find(name, BTF_KIND.FUNC);
  }

  enumerator(enumName: string, name: string): bigint | undefined {
    const id = this.#enumId(enumName);
    if (id === undefined) return undefined;
    for (const [other, value] of enumerators(this.btf, id)) if (other === name) return value;
    return undefined;
  }

  /**
   * Value to name, the first name of a value first; empty when the kernel has no such enum.
   * Values beyond 2^53 are left out.
   */
  enumNames(enumName: string): Map<number, string> {
    const names = new Map<number, string>(), id = this.#enumId(enumName);
    if (id === undefined) return names;
    for (const [name, value] of enumerators(this.btf, id)) {
      const number = Number(value);
      if (Number.isSafeInteger(number) && !names.has(number)) names.set(number, name);
    }
    return names;
  }

  /**
   * The kernel lets a program look at any address as at a struct it knows; one that holds bytes shows all.
   * `offset` is the array's place in the struct, `bytes` its length, at least `minBytes`.
   */
  byteArrayStruct(minBytes: number): { id: number; offset: number; bytes: number } | undefined {
    const favourite = this.btf.find(FAVOURITE_BYTE_ARRAY, BTF_KIND.STRUCT);
    const first = favourite === undefined ? undefined : this.#byteArray(favourite, minBytes);
    if (first !== undefined) return first;
    let best: { id: number; offset: number; bytes: number } | undefined;
    for (let id = 1; id < this.btf.endId; id++) {
      if (this.btf.kind(id) !== BTF_KIND.STRUCT || this.btf.sizeOrType(id) < minBytes) continue;
      const found = this.#byteArray(id, minBytes);
      if (found !== undefined && (best === undefined || found.offset < best.offset)) best = found;
      if (best?.offset === 0) break; // the lowest offset wins, the first of them
    }
    return best;
  }

  #byteArray(id: number, minBytes: number): { id: number; offset: number; bytes: number } | undefined {
    for (const { type, bitOffset, bitSize } of members(this.btf, id)) {
      const array = bitSize === 0 ? arrayOf(this.btf, type) : undefined;
      if (array === undefined || array.count < minBytes) continue;
      if (integer(this.btf, array.element)?.size === 1) {
        return { id, offset: bitOffset / 8, bytes: array.count };
      }
    }
    return undefined;
  }

  /** A struct, a union, or a typedef of one. */
  compositeId(name: string): number | undefined {
    const id = this.structId(name);
    if (id !== undefined) return id;
    const typedef = this.btf.find(name, BTF_KIND.TYPEDEF);
    if (typedef === undefined) return undefined;
    const target = strip(this.btf, typedef);
    return isComposite(this.btf.kind(target)) ? target : undefined;
  }

  /**
   * Where `path` leads inside `struct`, with the member's own type id: "len", "__sk_common.skc_net",
   * "cb[3]", "headers.len". The name in the result is the whole path.
   *
   * @throws {BtfError} it leads nowhere, or through a pointer
   */
  member(struct: string, path: string): Member {
    return this.#walk(struct, path, (why) => {
      throw new BtfError(`Cannot find ${struct}.${path} in the kernel's types: ${why}`, {
        type: struct,
        member: path,
      });
    })!;
  }

  #walk(struct: string, path: string, fail: (why: string) => undefined): Member | undefined {
    const { btf } = this;
    const root = this.compositeId(struct);
    if (root === undefined) return fail(`there is no struct ${struct}`);
    let at = root, bitOffset = 0, bitSize = 0;
    for (const part of path.split(".")) {
      const [, name, indices] = step.exec(part) ?? [];
      if (name === undefined) return fail(`"${part}" is no member name`);
      if (bitSize !== 0) return fail(`what "${name}" should be in is a bitfield`);
      if (pointee(btf, at) !== undefined) {
        return fail(`what "${name}" should be in is a pointer, to be read first (${typeText(btf, at)})`);
      }
      if (!isComposite(btf.kind(strip(btf, at)))) return fail(`${typeText(btf, at)} has no members`);
      const member = findMember(btf, at, name);
      if (member === undefined) return fail(`${typeText(btf, at)} has no member "${name}"`);
      at = member.type;
      bitOffset += member.bitOffset;
      bitSize = member.bitSize;
      for (const [, digits] of (indices ?? "").matchAll(/\[(\d+)\]/g)) {
        const array = arrayOf(btf, at), index = Number(digits);
        if (array === undefined) return fail(`${typeText(btf, at)} is no array`);
        if (index >= array.count && array.count !== 0) {
          return fail(`${typeText(btf, at)} has no element ${index}`);
        }
        at = array.element;
        bitOffset += index * sizeOf(btf, at) * 8;
      }
    }
    return { name: path, type: at, bitOffset: bitOffset as Bits, bitSize: bitSize as Bits };
  }

  /** How a value of this type is read: a scalar where one instruction can load it, else bytes. */
  valueType(id: number): Type {
    const at = strip(this.btf, id), kind = this.btf.kind(at);
    if (kind === BTF_KIND.PTR) return u64;
    const size = sizeOf(this.btf, at);
    const scalar = scalars[size];
    if (scalar !== undefined) {
      if (kind === BTF_KIND.INT) return integer(this.btf, at)?.signed ? scalar.signed : scalar.unsigned;
      if (kind === BTF_KIND.ENUM || kind === BTF_KIND.ENUM64) {
        return this.btf.kindFlag(at) ? scalar.signed : scalar.unsigned;
      }
    }
    return bytes(size);
  }

  #enumId(name: string): number | undefined {
    return this.btf.find(name, BTF_KIND.ENUM) ?? this.btf.find(name, BTF_KIND.ENUM64);
  }
}
