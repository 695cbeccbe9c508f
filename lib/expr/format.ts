/**
 * A value of a kernel type as text: 24, -1, 'c', true, TCP_ESTABLISHED, 0xffff8881, "eth0", [1, 2], {"len": 5}.
 *
 * Words are those of pwru, which prints through cilium/ebpf's BTF; beyond it, text ends at its first NUL and
 * control characters are escaped.
 */
import { type Btf, BTF_KIND } from "../btf/parse.ts";
import { arrayOf, enumerators, integer, type Member, members, sizeOf, strip } from "../btf/walk.ts";
import { type ValueType } from "./types.ts";

/** What stands for a value of a type that has no text. */
const NO_TEXT = "..ERR..";
/** Levels of structs in structs. */
const MAX_DEPTH = 16;

/**
 * @param value the type's bytes as they lie in memory, or the number that these make (little end first);
 *   a number may be sign-extended beyond the type
 */
export function formatValue(btf: Btf, typeId: number, value: Uint8Array | bigint): string {
  return format(btf, typeId, value, 0);
}

/** A value of an expression: by the kernel's type where it has one. Byte order is that of the expression. */
export function formatResult(btf: Btf, type: ValueType, value: bigint): string {
  if (type.id !== undefined) return formatValue(btf, type.id, value);
  if (type.kind === "pointer") return pointer(value);
  if (type.enumId !== undefined) return formatValue(btf, type.enumId, value);
  if (type.bool) return String(value !== 0n);
  return String((type.signed ? BigInt.asIntN : BigInt.asUintN)(type.bits, value));
}

/** The same for a program: a number where it is one that a double can hold, true or false, else the text. */
export function plainResult(btf: Btf, type: ValueType, value: bigint): number | string | boolean {
  const text = formatResult(btf, type, value);
  if (type.kind === "integer" && type.bool) return text === "true";
  const number = Number(text);
  return /^-?\d+$/.test(text) && Number.isSafeInteger(number) ? number : text;
}

function format(btf: Btf, typeId: number, value: Uint8Array | bigint, depth: number): string {
  const at = strip(btf, typeId);
  if (depth > MAX_DEPTH) return NO_TEXT;
  switch (btf.kind(at)) {
    case BTF_KIND.INT:
      return formatInteger(btf, at, toNumber(value));
    case BTF_KIND.ENUM:
    case BTF_KIND.ENUM64: {
      const bits = btf.sizeOrType(at) * 8, signed = btf.kindFlag(at);
      const number = (signed ? BigInt.asIntN : BigInt.asUintN)(bits, toNumber(value));
      for (const [name, other] of enumerators(btf, at)) if (other === number) return name;
      return String(number);
    }
    case BTF_KIND.PTR:
      return pointer(toNumber(value));
    case BTF_KIND.ARRAY:
      return formatArray(btf, at, toBytes(value, sizeOf(btf, at)), depth);
    case BTF_KIND.STRUCT:
    case BTF_KIND.UNION: {
      const bytes = toBytes(value, sizeOf(btf, at));
      const texts = [...members(btf, at)].map((member) =>
        `"${member.name}": ${formatMember(btf, member, bytes, depth)}`
      );
      return `{${texts.join(", ")}}`;
    }
    default:
      return NO_TEXT;
  }
}

function pointer(value: bigint): string {
  return `0x${BigInt.asUintN(64, value).toString(16)}`;
}

function formatInteger(btf: Btf, at: number, value: bigint): string {
  const { size, signed, char, bool, bits } = integer(btf, at)!;
  const raw = BigInt.asUintN(size * 8, value);
  if (bool) return String(raw !== 0n);
  if (char) {
    return isPrintable(Number(raw)) ? `'${String.fromCharCode(Number(raw))}'` : `0x${raw.toString(16)}`;
  }
  if (size > 8 || bits !== size * 8) return `0x${raw.toString(16)}`;
  return String(signed ? BigInt.asIntN(size * 8, value) : raw);
}

function formatArray(btf: Btf, at: number, bytes: Uint8Array, depth: number): string {
  const { element, count: declared } = arrayOf(btf, at)!, size = declared === 0 ? 0 : sizeOf(btf, element);
  const count = size === 0 ? 0 : Math.min(declared, Math.floor(bytes.length / size));
  const int = strip(btf, element), facts = integer(btf, int);
  if (facts !== undefined && size === 1 && (facts.char || btf.nameOf(int) === "char")) return text(bytes);
  const texts = Array.from(
    { length: count },
    (_, index) => format(btf, element, bytes.subarray(index * size, (index + 1) * size), depth + 1),
  );
  return `[${texts.join(", ")}]`;
}

/** Up to the first NUL. */
function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  const shown = [...(end < 0 ? bytes : bytes.subarray(0, end))].map((byte) =>
    byte === 0x22 || byte === 0x5c
      ? `\\${String.fromCharCode(byte)}`
      : isPrintable(byte)
      ? String.fromCharCode(byte)
      : `\\x${byte.toString(16).padStart(2, "0")}`
  );
  return `"${shown.join("")}"`;
}

function isPrintable(code: number): boolean {
  return code >= 0x20 && code < 0x7f;
}

function formatMember(btf: Btf, member: Member, bytes: Uint8Array, depth: number): string {
  const { type, bitOffset, bitSize } = member;
  if (bitSize === 0) {
    return format(btf, type, bytes.subarray(bitOffset / 8, bitOffset / 8 + sizeOf(btf, type)), depth + 1);
  }
  const bits = toNumber(bytes) >> BigInt(bitOffset), signed = integer(btf, type)?.signed === true;
  return format(btf, type, (signed ? BigInt.asIntN : BigInt.asUintN)(bitSize, bits), depth + 1);
}

/** Of a type's bytes, those that fit the widest number; little end first. */
function toNumber(value: Uint8Array | bigint): bigint {
  if (typeof value === "bigint") return value;
  let number = 0n;
  for (const byte of value.toReversed()) number = number << 8n | BigInt(byte);
  return number;
}

/** A number has 8 bytes at most. */
function toBytes(value: Uint8Array | bigint, size: number): Uint8Array {
  if (typeof value !== "bigint") return value;
  return Uint8Array.from(
    { length: Math.min(size, 8) },
    (_, index) => Number(value >> BigInt(8 * index) & 0xffn),
  );
}
