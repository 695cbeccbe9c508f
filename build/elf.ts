/**
 * ELF64, little endian, as far as merging executables needs it: the header, the program headers, and the
 * names in the dynamic section. After include/uapi/linux/elf.h. Sections are not read: no loader does.
 */
import { elfHeader, ELFMAG, programHeader, PT_LOAD } from "../asm/elf.ts";
import { type Decoded, struct, u64 } from "../asm/layout.ts";
import { BuildError } from "./error.ts";

export { elfHeader, programHeader, PT_LOAD };
export const ET_EXEC = 2, ET_DYN = 3;
export const EM_X86_64 = 62, EM_AARCH64 = 183;
export const PT_DYNAMIC = 2, PT_INTERP = 3, PT_PHDR = 6, PT_GNU_STACK = 0x6474e551;
export const PF_X = 1, PF_W = 2, PF_R = 4;
const DT_NULL = 0n, DT_NEEDED = 1n, DT_STRTAB = 5n, DT_SONAME = 14n;
const ELFCLASS64 = 2, ELFDATA2LSB = 1, EV_CURRENT = 1;

const dynamicEntry = struct("Elf64_Dyn", { d_tag: u64, d_val: u64 });

/** One program header; sizes and addresses of user space are exact as numbers. */
export interface Segment {
  readonly type: number;
  /** PF_R | PF_W | PF_X */
  readonly flags: number;
  readonly offset: number;
  readonly address: number;
  readonly fileSize: number;
  readonly memorySize: number;
  readonly align: number;
}

/** An ELF file, read. */
export interface Elf {
  /** what error messages call it */
  readonly name: string;
  readonly file: Uint8Array;
  /** ET_EXEC, ET_DYN */
  readonly type: number;
  /** EM_X86_64, EM_AARCH64 */
  readonly machine: number;
  readonly entry: number;
  readonly headersOffset: number;
  readonly segments: readonly Segment[];
  /** the PT_LOAD ones */
  readonly loads: readonly Segment[];
  /** PT_INTERP, without its NUL */
  readonly interpreter: string | undefined;
  readonly soname: string | undefined;
  readonly needed: readonly string[];
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/**
 * Reads headers and names; `name` is for messages.
 *
 * @throws {BuildError} not a 64-bit little-endian ELF file, or one that points outside itself
 */
export function readElf(name: string, file: Uint8Array): Elf {
  const view = viewOf(file);
  const damaged = (what: string) => new BuildError(`Cannot read "${name}": ${what}`);
  if (file.length < elfHeader.size) throw damaged(`${file.length} bytes are no ELF header`);
  const header = elfHeader.decode(view);
  if (header.magic !== ELFMAG || header.class !== ELFCLASS64 || header.data !== ELFDATA2LSB) {
    throw damaged("it is not a 64-bit little-endian ELF file");
  }
  const headersOffset = Number(header.e_phoff);
  if (
    header.e_phentsize !== programHeader.size ||
    headersOffset + header.e_phnum * programHeader.size > file.length
  ) throw damaged("its program headers lie outside the file");
  const segments = Array.from({ length: header.e_phnum }, (_, index) => {
    const segment = fromHeader(programHeader.decode(view, headersOffset + index * programHeader.size));
    if (segment.offset + segment.fileSize > file.length) {
      throw damaged(`program header ${index} points outside the file`);
    }
    return segment;
  });
  const interp = segments.find(({ type }) => type === PT_INTERP);
  return {
    name,
    file,
    type: header.e_type,
    machine: header.e_machine,
    entry: Number(header.e_entry),
    headersOffset,
    segments,
    loads: segments.filter(({ type }) => type === PT_LOAD),
    interpreter: interp && text(file.subarray(interp.offset, interp.offset + interp.fileSize)),
    ...dynamicNames(file, segments),
  };
}

function fromHeader(raw: Decoded<typeof programHeader>): Segment {
  return {
    type: raw.p_type,
    flags: raw.p_flags,
    offset: Number(raw.p_offset),
    address: Number(raw.p_vaddr),
    fileSize: Number(raw.p_filesz),
    memorySize: Number(raw.p_memsz),
    align: Number(raw.p_align),
  };
}

/** DT_SONAME and DT_NEEDED; their strings are found by address, as ld.so finds them. */
function dynamicNames(file: Uint8Array, segments: readonly Segment[]): Pick<Elf, "soname" | "needed"> {
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
  if (dynamic === undefined) return { soname: undefined, needed: [] };
  const view = viewOf(file), entries: Decoded<typeof dynamicEntry>[] = [];
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.fileSize; at += dynamicEntry.size) {
    const entry = dynamicEntry.decode(view, at);
    if (entry.d_tag === DT_NULL) break;
    entries.push(entry);
  }
  const strings = Number(entries.find(({ d_tag }) => d_tag === DT_STRTAB)?.d_val ?? 0);
  const home = segments.find(({ type, address, fileSize }) =>
    type === PT_LOAD && address <= strings && strings < address + fileSize
  );
  const names = (tag: bigint) =>
    home === undefined ? [] : entries.filter(({ d_tag }) => d_tag === tag)
      .map(({ d_val }) => text(file.subarray(home.offset + strings - home.address + Number(d_val))));
  return { soname: names(DT_SONAME)[0], needed: names(DT_NEEDED) };
}

function text(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
}

/** Bytes of an ELF header and `segments` program headers right behind it. */
export const headersSize = (segments: number): number => elfHeader.size + segments * programHeader.size;

/** An ELF header and its program headers; there are no sections. */
export function encodeHeaders(
  { type, machine, entry, segments }: Pick<Elf, "type" | "machine" | "entry" | "segments">,
): Uint8Array {
  const out = new Uint8Array(headersSize(segments.length)), view = viewOf(out);
  elfHeader.encode(view, 0, {
    magic: ELFMAG,
    class: ELFCLASS64,
    data: ELFDATA2LSB,
    version: EV_CURRENT,
    e_type: type,
    e_machine: machine,
    e_version: EV_CURRENT,
    e_entry: BigInt(entry),
    e_phoff: BigInt(elfHeader.size),
    e_ehsize: elfHeader.size,
    e_phentsize: programHeader.size,
    e_phnum: segments.length,
  });
  segments.forEach((segment, index) =>
    programHeader.encode(view, elfHeader.size + index * programHeader.size, {
      p_type: segment.type,
      p_flags: segment.flags,
      p_offset: BigInt(segment.offset),
      p_vaddr: BigInt(segment.address),
      p_paddr: BigInt(segment.address),
      p_filesz: BigInt(segment.fileSize),
      p_memsz: BigInt(segment.memorySize),
      p_align: BigInt(segment.align),
    })
  );
  return out;
}
