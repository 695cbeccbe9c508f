/**
 * How a word of the command line becomes a value. Each function throws a `RangeError` whose message is the
 * cause alone ("it is no number"); the parser adds which word and which option.
 *
 * Booleans, integers and lists follow Go's spf13/pflag, strconv and encoding/csv, which existing scripts
 * were written against.
 */

import { MAX_VALUES } from "../../bpf-programs/events.ts";
import { wholeName } from "../trace/pattern.ts";

const TRUE = new Set(["1", "t", "T", "true", "TRUE", "True"]);
const FALSE = new Set(["0", "f", "F", "false", "FALSE", "False"]);

export function parseBoolean(text: string): boolean {
  if (TRUE.has(text)) return true;
  if (FALSE.has(text)) return false;
  throw new RangeError("want true or false");
}

/** Decimal, 0x, 0o or plain 0 for octal, 0b; an underscore may part two digits or follow the prefix. */
const GO_INTEGER = /^(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+|0|[1-9](?:_?[0-9])*)$/;

/** An unsigned Go integer literal of at most `bits` bits. */
export function parseUnsigned(text: string, bits: 8 | 32 | 64): bigint {
  if (!GO_INTEGER.test(text)) throw new RangeError("want a whole number, such as 100 or 0x64");
  const plain = text.replaceAll("_", "");
  const value = BigInt(/^0[0-7]/.test(plain) ? `0o${plain.slice(1)}` : plain);
  if (value >= 1n << BigInt(bits)) throw new RangeError(`the largest is ${(1n << BigInt(bits)) - 1n}`);
  return value;
}

/** One CSV record: commas part fields, double quotes protect them, `""` is one quote. "" is no field at all. */
export function parseList(text: string): string[] {
  if (text === "") return [];
  const fields: string[] = [];
  let at = 0;
  while (true) {
    let field = "";
    if (text[at] === '"') {
      for (at++;; at++) {
        if (at >= text.length) throw new RangeError('a quoted field has no closing "');
        if (text[at] !== '"') field += text[at];
        else if (text[at + 1] === '"') field += text[at++];
        else break;
      }
      at++;
      if (at < text.length && text[at] !== ",") throw new RangeError('want a comma after the closing "');
    } else {
      const end = text.indexOf(",", at);
      field = text.slice(at, end < 0 ? text.length : end);
      if (field.includes('"')) throw new RangeError('a field with " in it must be quoted');
      at += field.length;
    }
    fields.push(field);
    if (at >= text.length) return fields;
    at++;
  }
}

/** A packet mark and the bits of it that matter. Mask 0: every packet. */
export interface MarkFilter {
  readonly mark: number;
  readonly mask: number;
}

/** `M` (exactly) or `M/K` (in the bits of K). */
export function parseMark(text: string): MarkFilter {
  const parts = text.split("/");
  if (parts.length > 2) throw new RangeError("want mark or mark/mask, not two slashes");
  const [mark, mask = 0xffff_ffff] = parts.map((part) => {
    if (!/^(?:[0-9]+|0[xX][0-9a-fA-F]+)$/.test(part)) {
      throw new RangeError(`"${part}" is neither a decimal number nor 0x and hexadecimal digits`);
    }
    const value = Number(/^0[xX]/.test(part) ? part : BigInt(part));
    if (value > 0xffff_ffff) throw new RangeError(`${part} does not fit 32 bits`);
    return value;
  }) as [number, number?];
  return { mark: (mark & mask) >>> 0, mask };
}

/** A network namespace: by a file that stands for it, or by inode number. */
export type NetnsFilter =
  | { readonly kind: "path"; readonly path: string }
  | { readonly kind: "inode"; readonly inode: number };

/** `/a/path`, `inode:4026531840`, or a name that `ip netns` gave. "" is no filter. */
export function parseNetns(text: string): NetnsFilter | undefined {
  if (text === "") return undefined;
  if (text.startsWith("/")) return { kind: "path", path: text };
  if (text.startsWith("inode:")) {
    const digits = text.slice("inode:".length);
    const inode = Number(digits);
    if (!/^[0-9]+$/.test(digits) || inode < 1 || inode > 0xffff_ffff) {
      throw new RangeError("want a decimal inode number from 1 to 4294967295 after inode:");
    }
    return { kind: "inode", inode };
  }
  if (text.includes("/") || text === "." || text === "..") {
    throw new RangeError("want a path that starts with /, inode:NUMBER, or a name under /run/netns");
  }
  return { kind: "path", path: `/run/netns/${text}` };
}

const SIZE_UNITS: Readonly<Record<string, number>> = {
  "": 1,
  k: 2 ** 10,
  kib: 2 ** 10,
  m: 2 ** 20,
  mib: 2 ** 20,
  g: 2 ** 30,
  gib: 2 ** 30,
};

/** The smallest page of any Linux; a kernel with larger ones needs max(its page, this value). */
const SMALLEST_PAGE = 4096;
/** `max_entries` of a map is a u32, and a ring buffer's is a power of two. */
const LARGEST_RING = 2 ** 31;

/** Bytes, or K, M, G (1024-based; KiB, MiB, GiB say the same), rounded up to a power of two of at least a page. */
export function parseRingSize(text: string): number {
  const match = /^([0-9]+) ?([A-Za-z]*)$/.exec(text);
  const unit = SIZE_UNITS[match?.[2]?.toLowerCase() ?? "?"];
  if (match === null || unit === undefined) {
    throw new RangeError("want bytes, or a number with K, M, G, KiB, MiB or GiB, such as 16M");
  }
  const wanted = Number(match[1]) * unit;
  if (wanted === 0) throw new RangeError("a ring buffer needs at least one page");
  if (wanted > LARGEST_RING) throw new RangeError("the largest ring buffer is 2G");
  return Math.max(SMALLEST_PAGE, 2 ** Math.ceil(Math.log2(wanted)));
}

/** Packets to follow at a time: a map of the kernel's that is filled in advance, 2^22 of them with 400 MB. */
export function parseTrackLimit(text: string): number {
  const packets = Number(parseUnsigned(text, 32));
  if (packets < 1 || packets > 2 ** 22) throw new RangeError("want a number from 1 to 4194304");
  return packets;
}

/** Probes to set at a time. */
export function parseBatch(text: string): number {
  const probes = Number(parseUnsigned(text, 32));
  if (probes === 0) throw new RangeError("want at least 1");
  return probes;
}

/** An interface name or alternative name, as the kernel accepts it (dev_valid_name in net/core/dev.c). */
export function parseInterfaceName(text: string): string | undefined {
  if (text === "") return undefined;
  // deno-lint-ignore no-control-regex
  if (/[/:\s\x00-\x1f]/.test(text) || text === "." || text === ".." || Buffer.byteLength(text) > 127) {
    throw new RangeError("no interface can have this name");
  }
  return text;
}

/** Names of kernel functions. */
export function parseFunctions(text: string): string[] {
  const names = parseList(text);
  for (const name of names) {
    if (!/^[\w.]+$/.test(name)) throw new RangeError(`no function can have the name "${name}"`);
  }
  return names;
}

/** Names of kernel modules. */
export function parseModules(text: string): string[] {
  const names = parseList(text);
  for (const name of names) {
    if (!/^[\w-]+$/.test(name)) throw new RangeError(`no module can have the name "${name}"`);
  }
  // The kernel shows a module's BTF under the name with underscores, however its file is spelled.
  return names.map((name) => name.replaceAll("-", "_"));
}

/** A path; "" is none. */
export function parsePath(text: string): string | undefined {
  if (text.includes("\0")) throw new RangeError("a path has no NUL character");
  return text === "" ? undefined : text;
}

/** An expression over a kernel struct. It stays text: only the kernel's types tell what it means. */
export function parseExpression(text: string): string | undefined {
  return text.trim() === "" ? undefined : text;
}

/** Such expressions in a list, behind those `before`. */
export function parseExpressions(text: string, before: readonly string[]): readonly string[] {
  const all = [...before, ...parseList(text).map((part) => part.trim()).filter((part) => part !== "")];
  if (all.length > MAX_VALUES) throw new RangeError(`at most ${MAX_VALUES} expressions, not ${all.length}`);
  return all;
}

/** An expression for whole function names; it stays text, the selection of functions compiles it. */
export function parsePattern(text: string): string {
  wholeName(text);
  return text;
}
