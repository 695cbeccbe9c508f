/**
 * BTF, the kernel's description of its own types: from bytes to an index, without an object per type.
 *
 *   | btf_header | type records | (layout records) | strings, each ends with NUL |
 *
 * A type record is three u32 (name, info, size or type) and what its kind adds. Ids count records from 1;
 * id 0 is void. A module's blob is *split*: its ids and string offsets continue those of vmlinux.
 * Follows include/uapi/linux/btf.h and Documentation/bpf/btf.rst; `info` is read as since Linux 7.1 (24 bits
 * of vlen, 7 bits of kind), which agrees with older blobs, where the added bits are zero.
 *
 * Left out: byte-swapped blobs, and .BTF.base of modules built outside the kernel tree (the kernel has
 * already relocated what it shows under /sys/kernel/btf).
 */
import { type Decoded, struct, u16, u32, u8 } from "../../asm/layout.ts";
import { BtfError } from "../errors.ts";
import { textAt } from "../name_index.ts";

/** BTF_KIND_*, and how many u32 each adds to the record: once, and per element of `vlen`. */
const kinds = {
  VOID: [0, 0, 0],
  INT: [1, 1, 0],
  PTR: [2, 0, 0],
  ARRAY: [3, 3, 0],
  STRUCT: [4, 0, 3],
  UNION: [5, 0, 3],
  ENUM: [6, 0, 2],
  FWD: [7, 0, 0],
  TYPEDEF: [8, 0, 0],
  VOLATILE: [9, 0, 0],
  CONST: [10, 0, 0],
  RESTRICT: [11, 0, 0],
  FUNC: [12, 0, 0],
  FUNC_PROTO: [13, 0, 2],
  VAR: [14, 1, 0],
  DATASEC: [15, 0, 3],
  FLOAT: [16, 0, 0],
  DECL_TAG: [17, 1, 0],
  TYPE_TAG: [18, 0, 0],
  ENUM64: [19, 0, 3],
} as const;
export type KindName = keyof typeof kinds;

/** The number of each kind: `BTF_KIND.STRUCT` is 4. */
export const BTF_KIND = Object.freeze(
  Object.fromEntries(Object.entries(kinds).map(([name, [kind]]) => [name, kind])),
) as { readonly [K in KindName]: (typeof kinds)[K][0] };
/** A kind of type; newer kernels may have others than those named. */
export type Kind = number;
/** The position in this list is the kind's number. */
export const kindNames = Object.freeze(Object.keys(kinds)) as readonly KindName[];

const BTF_MAGIC = 0xeb9f;
const KIND_COUNT = 128, RECORD_WORDS = 3;

/** struct btf_header up to Linux 7.0 */
export const btfHeader = struct("btf_header", {
  magic: u16,
  version: u8,
  flags: u8,
  hdr_len: u32, // bytes; the offsets below count from there
  type_off: u32,
  type_len: u32,
  str_off: u32,
  str_len: u32,
});
type BtfHeader = Decoded<typeof btfHeader>;

/** What Linux 7.1 appended to it: how long the records of each kind are, also of kinds we do not know. */
const btfHeaderLayout = struct("btf_header", { layout_off: u32, layout_len: u32 });
const btfLayout = struct("btf_layout", { info_sz: u8, elem_sz: u8, flags: u16 });

/** 1 for the kinds whose third word is a type id that has to exist. */
const refers = new Uint8Array(KIND_COUNT);
for (
  const name of [
    "PTR",
    "TYPEDEF",
    "VOLATILE",
    "CONST",
    "RESTRICT",
    "FUNC",
    "FUNC_PROTO",
    "VAR",
    "DECL_TAG",
    "TYPE_TAG",
  ] as const
) refers[BTF_KIND[name]] = 1;

/**
 * Reads a blob. 126,000 types of a 5.5 MB vmlinux take 8 ms in a program that has just started.
 *
 * @param data is kept and read from later: do not change it
 * @param base what a module's blob continues
 * @param name for messages: "vmlinux", "vxlan"
 * @throws {BtfError} the blob contradicts itself
 */
export function parseBtf(
  data: Uint8Array,
  { base, name = "vmlinux" }: { base?: Btf; name?: string } = {},
): Btf {
  const fail = (why: string): never => {
    throw new BtfError(`Cannot read the BTF of ${name}: ${why}`);
  };
  const header = readHeader(data, fail);
  const section = (what: string, offset: number, length: number): Uint8Array => {
    const start = header.hdr_len + offset;
    if (start + length > data.length) {
      fail(`its ${what} end at byte ${start + length}, the data at ${data.length}`);
    }
    return data.subarray(start, start + length);
  };
  const types = section("types", header.type_off, header.type_len);
  const strings = section("strings", header.str_off, header.str_len);
  if (types.length % 4 !== 0) fail(`its types are ${types.length} bytes, no multiple of 4`);
  if (strings.length > 0 ? strings.at(-1) !== 0 : base === undefined) fail("its strings do not end with NUL");
  if (base === undefined && strings[0] !== 0) fail("its strings do not start with the empty one");

  const aligned = types.byteOffset % 4 === 0 ? types : types.slice();
  const words = new Uint32Array(aligned.buffer, aligned.byteOffset, types.length / 4);
  const lengths = recordLengths(data, header, section);
  const firstId = base?.endId ?? 1;
  const stringsEnd = (base?.stringsEnd ?? 0) + strings.length;

  const index = new Uint32Array(Math.ceil(words.length / RECORD_WORDS));
  const { count, end } = indexRecords(words, index, lengths.once, lengths.each);
  if (end !== words.length) {
    const kind = (words[end + 1] ?? 0) >>> 24 & 0x7f, cut = end + RECORD_WORDS > words.length;
    const known = cut || lengths.once[kind] !== UNKNOWN;
    fail(`type ${firstId + count} is ${known ? "cut off" : `of the unknown kind ${kind}`}`);
  }
  const own = index.slice(0, count), endId = firstId + count;
  const bad = findBadRecord(words, own, endId, stringsEnd);
  if (bad !== undefined) {
    const at = own[bad]!, id = firstId + bad;
    fail(
      words[at]! >= stringsEnd
        ? `the name of type ${id} lies outside the strings`
        : `type ${id} refers to type ${words[at + 2]}, the last is ${endId - 1}`,
    );
  }
  return new Btf(name, base, words, own, strings);
}

/**
 * Fills `index` with the starts of the records; stops before one that is cut off or unknown. This and the
 * next are functions of their own because a small loop is compiled after fewer rounds.
 */
function indexRecords(
  words: Uint32Array,
  index: Uint32Array,
  once: Uint16Array,
  each: Uint16Array,
): { count: number; end: number } {
  let count = 0, at = 0;
  while (at + RECORD_WORDS <= words.length) {
    const info = words[at + 1]!, kind = info >>> 24 & 0x7f;
    const next = at + RECORD_WORDS + once[kind]! + each[kind]! * (info & 0xffffff);
    if (next > words.length || once[kind] === UNKNOWN) break;
    index[count++] = at;
    at = next;
  }
  return { count, end: at };
}

/** The first record that refers to a type or a name that is not there. */
function findBadRecord(
  words: Uint32Array,
  index: Uint32Array,
  endId: number,
  stringsEnd: number,
): number | undefined {
  for (let row = 0; row < index.length; row++) {
    const at = index[row]!;
    if (words[at]! >= stringsEnd) return row;
    if (refers[words[at + 1]! >>> 24 & 0x7f] === 1 && words[at + 2]! >= endId) return row;
  }
  return undefined;
}

function readHeader(data: Uint8Array, fail: (why: string) => never): BtfHeader {
  if (data.length < btfHeader.size) fail(`${data.length} bytes are no header`);
  const header = btfHeader.decode(new DataView(data.buffer, data.byteOffset, data.length));
  if (header.magic !== BTF_MAGIC) {
    fail(header.magic === 0x9feb ? "it is big endian" : `it starts with 0x${header.magic.toString(16)}`);
  }
  if (header.version !== 1) fail(`version ${header.version} is not supported`);
  if (header.hdr_len < btfHeader.size || header.hdr_len > data.length) {
    fail(`a header of ${header.hdr_len} bytes is impossible`);
  }
  return header;
}

const UNKNOWN = 0xffff;

/** The length of each kind's records in u32: from our table, else from the blob's own. */
function recordLengths(
  data: Uint8Array,
  header: BtfHeader,
  section: (what: string, offset: number, length: number) => Uint8Array,
): { once: Uint16Array; each: Uint16Array } {
  const once = new Uint16Array(KIND_COUNT).fill(UNKNOWN), each = new Uint16Array(KIND_COUNT);
  if (header.hdr_len >= btfHeader.size + btfHeaderLayout.size) {
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    const { layout_off, layout_len } = btfHeaderLayout.decode(view, btfHeader.size);
    const bytes = section("layouts", layout_off, layout_len);
    const count = Math.min(Math.floor(bytes.length / btfLayout.size), KIND_COUNT);
    for (let kind = 0; kind < count; kind++) {
      const { info_sz, elem_sz } = btfLayout.decode(
        new DataView(bytes.buffer, bytes.byteOffset, bytes.length),
        kind * btfLayout.size,
      );
      if (info_sz % 4 !== 0 || elem_sz % 4 !== 0) continue;
      once[kind] = info_sz / 4;
      each[kind] = elem_sz / 4;
    }
  }
  for (const [kind, ours, perElement] of Object.values(kinds)) {
    once[kind] = ours;
    each[kind] = perElement;
  }
  once[BTF_KIND.VOID] = UNKNOWN; // void has no record
  return { once, each };
}

/**
 * The types of one blob and, through `base`, of the one it continues. Every id and string offset is checked
 * when it is used, so a hostile blob gives a BtfError and not a crash.
 */
export class Btf {
  /** "vmlinux" or the module's */
  readonly name: string;
  readonly base: Btf | undefined;
  /** the first id of this blob, and the one after its last */
  readonly firstId: number;
  readonly endId: number;
  /** the string offset after the last of this blob */
  readonly stringsEnd: number;
  /** all records, for loops over every type: accessors cost ten times as much while the code is cold */
  readonly words: Uint32Array;
  /** by id less firstId: where the record begins in `words` */
  readonly index: Uint32Array;
  readonly #strings: Uint8Array;
  readonly #stringsStart: number;
  #named: OffsetIndex | undefined;
  /** what was looked for before: where its name is, what was found */
  readonly #places = new Map<string, readonly number[]>();
  readonly #found = new Map<string, number | undefined>();

  /** @internal use parseBtf */
  constructor(
    name: string,
    base: Btf | undefined,
    words: Uint32Array,
    index: Uint32Array,
    strings: Uint8Array,
  ) {
    this.name = name;
    this.base = base;
    this.firstId = base?.endId ?? 1;
    this.endId = this.firstId + index.length;
    this.#stringsStart = base?.stringsEnd ?? 0;
    this.stringsEnd = this.#stringsStart + strings.length;
    this.words = words;
    this.index = index;
    this.#strings = strings;
  }

  #at(id: number): number {
    const at = this.index[id - this.firstId];
    if (at === undefined) throw new BtfError(`Cannot find type ${id} in the BTF of ${this.name}`);
    return at;
  }

  /** One of BTF_KIND, or a newer one. */
  kind(id: number): Kind {
    if (id < this.firstId) return id === 0 ? BTF_KIND.VOID : this.#older().kind(id);
    return (this.words[this.#at(id) + 1]! >>> 24) & 0x7f;
  }

  /** How many members, parameters or enumerators follow. */
  vlen(id: number): number {
    if (id < this.firstId) return id === 0 ? 0 : this.#older().vlen(id);
    return this.words[this.#at(id) + 1]! & 0xffffff;
  }

  /** struct, union: members have bitfield sizes. enum: values are signed. fwd: a union. */
  kindFlag(id: number): boolean {
    if (id < this.firstId) return id === 0 ? false : this.#older().kindFlag(id);
    return this.words[this.#at(id) + 1]! >>> 31 !== 0;
  }

  /** The third word: bytes of a type that has a size, else the id of the type it refers to. */
  sizeOrType(id: number): number {
    if (id < this.firstId) return id === 0 ? 0 : this.#older().sizeOrType(id);
    return this.words[this.#at(id) + 2]!;
  }

  /** Word `n` after the three that every record has. */
  word(id: number, n: number): number {
    if (id < this.firstId && id !== 0) return this.#older().word(id, n);
    const at = this.#at(id) + RECORD_WORDS + n;
    const end = this.index[id - this.firstId + 1] ?? this.words.length;
    if (at >= end) throw new BtfError(`Cannot read word ${n} of type ${id} in the BTF of ${this.name}`);
    return this.words[at]!;
  }

  nameOffset(id: number): number {
    if (id < this.firstId) return id === 0 ? 0 : this.#older().nameOffset(id);
    return this.words[this.#at(id)]!;
  }

  /** "" for void and for what has no name. */
  nameOf(id: number): string {
    return this.string(this.nameOffset(id));
  }

  string(offset: number): string {
    if (offset < this.#stringsStart) return this.#older().string(offset);
    if (offset >= this.stringsEnd) {
      throw new BtfError(
        `Cannot read string ${offset} in the BTF of ${this.name}: it has ${this.stringsEnd} bytes`,
      );
    }
    return textAt(this.#strings, offset - this.#stringsStart);
  }

  /** Whether the name starts with `prefix` (ASCII bytes), without making a string of it. */
  nameStartsWith(id: number, prefix: Uint8Array): boolean {
    return this.#stringStartsWith(this.nameOffset(id), prefix);
  }

  #stringStartsWith(offset: number, prefix: Uint8Array): boolean {
    if (offset < this.#stringsStart) return this.#older().#stringStartsWith(offset, prefix);
    const start = offset - this.#stringsStart;
    for (let i = 0; i < prefix.length; i++) if (this.#strings[start + i] !== prefix[i]) return false;
    return true;
  }

  /** Ids of this blob, not of its base, that have this name and kind, in order. */
  *ownIds(name: string, kind: Kind): Generator<number> {
    if (name === "") return;
    const named = this.#named ??= new OffsetIndex(this.words, this.index);
    const rows = this.#placesOf(name).flatMap((offset) => named.rowsAt(offset)).sort((a, b) => a - b);
    for (const id of rows.map((row) => this.firstId + row)) {
      if (this.kind(id) === kind && this.nameOf(id) === name) yield id;
    }
  }

  /** The first type of this name and kind; one of the base comes first. */
  find(name: string, kind: Kind): number | undefined {
    const key = `${kind} ${name}`;
    if (!this.#found.has(key)) {
      let found = this.base?.find(name, kind);
      if (found === undefined) [found] = this.ownIds(name, kind);
      this.#found.set(key, found);
    }
    return this.#found.get(key);
  }

  /**
   * The offsets at which the strings read `name`: where it is one, and at the ends of longer ones. Looking
   * through 2.3 MB takes 0.5 ms; a start asks for some dozens of names, so no index of all is made.
   */
  #placesOf(name: string): readonly number[] {
    let places = this.#places.get(name);
    if (places === undefined) {
      const own: number[] = [], text = Buffer.from(`${name}\0`, "latin1"), strings = bufferOf(this.#strings);
      for (let at = strings.indexOf(text); at >= 0; at = strings.indexOf(text, at + 1)) {
        own.push(this.#stringsStart + at);
      }
      places = this.base === undefined ? own : [...this.base.#placesOf(name), ...own];
      this.#places.set(name, places);
    }
    return places;
  }

  #older(): Btf {
    if (this.base === undefined) throw new BtfError(`Cannot look below the first type of ${this.name}`);
    return this.base;
  }
}

function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}

/** From the offset of a name to the rows of the records that carry it. */
class OffsetIndex {
  readonly #heads: Int32Array;
  readonly #next: Int32Array;
  readonly #words: Uint32Array;
  readonly #index: Uint32Array;

  constructor(words: Uint32Array, index: Uint32Array) {
    this.#words = words;
    this.#index = index;
    this.#heads = new Int32Array(2 ** Math.ceil(Math.log2(index.length + 1))).fill(-1);
    this.#next = new Int32Array(index.length);
    chain(words, index, this.#heads, this.#next);
  }

  rowsAt(offset: number): number[] {
    const rows: number[] = [];
    for (let row = this.#heads[offset & this.#heads.length - 1]!; row >= 0; row = this.#next[row]!) {
      if (this.#words[this.#index[row]!] === offset) rows.push(row);
    }
    return rows;
  }
}

function chain(words: Uint32Array, index: Uint32Array, heads: Int32Array, next: Int32Array): void {
  const mask = heads.length - 1;
  for (let row = 0; row < index.length; row++) {
    const slot = words[index[row]!]! & mask;
    next[row] = heads[slot]!;
    heads[slot] = row;
  }
}
