/**
 * Where the kernel maps memory: the headers of /proc/kcore, an ELF file without section table, name every
 * region (fs/proc/kcore.c). They take CAP_SYS_RAWIO, and a kernel that is not locked down to confidentiality.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { elfHeader, ELFMAG, programHeader, PT_LOAD } from "../../asm/elf.ts";
import type { MemoryMap } from "../../bpf-programs/fragments.ts";
import { pageSize } from "./ffi.ts";

/** Far more regions than any machine has. */
const HEADER_BYTES = 1 << 18;

/** One region: where it is mapped, and where it lies in memory if it is memory. */
export interface Region {
  readonly virtual: bigint;
  /** -1n: not memory, such as the array of struct page */
  readonly physical: bigint;
  readonly size: bigint;
}

/** The loadable segments of an ELF file's head. @throws {RangeError} it is none, or cut */
export function readRegions(head: Uint8Array): Region[] {
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  const { magic, e_phoff, e_phnum } = elfHeader.decode(view);
  if (magic !== ELFMAG) throw new RangeError("This is no ELF file");
  const regions: Region[] = [];
  for (let i = 0; i < e_phnum; i++) {
    const { p_type, p_vaddr, p_paddr, p_memsz } = programHeader.decode(
      view,
      Number(e_phoff) + i * programHeader.size,
    );
    if (p_type !== PT_LOAD) continue;
    regions.push({ virtual: p_vaddr, physical: BigInt.asIntN(64, p_paddr), size: p_memsz });
  }
  return regions;
}

type PageSizes = Pick<MemoryMap, "structPageBytes" | "pageBytes">;

/**
 * How a struct page leads to its page's bytes. Memory is mapped at one distance throughout; the array of
 * struct page of a memory region is a region too, which begins at the entry of its first page.
 *
 * @returns undefined where the regions do not tell
 */
export function memoryMap(
  regions: readonly Region[],
  { structPageBytes, pageBytes }: PageSizes,
): MemoryMap | undefined {
  const size = BigInt(structPageBytes), page = BigInt(pageBytes);
  const memory = regions.filter(({ physical, virtual }) => physical >= 0n && virtual > physical);
  // The kernel's own text is memory as well, mapped a second time: the direct map is the lower one.
  const direct = memory.map(({ virtual, physical }) => virtual - physical).sort((a, b) => a < b ? -1 : 1)[0];
  if (direct === undefined) return undefined;
  for (const { physical, virtual, size: length } of memory) {
    const pfn = physical / page;
    if (virtual - physical !== direct || (pfn * size) % page !== 0n) continue;
    // struct page entries of this region, rounded out to pages
    const entries = (length / page * size + page - 1n) / page * page;
    const array = regions.find((region) => region.physical < 0n && region.size === entries);
    if (array !== undefined) {
      return { directMap: direct, pageArray: array.virtual - pfn * size, structPageBytes, pageBytes };
    }
  }
  return undefined;
}

/** The running kernel's, or undefined where /proc/kcore may not be read. */
export function readMemoryMap(structPageBytes: number, path = "/proc/kcore"): MemoryMap | undefined {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch {
    return undefined; // the caller counts what it then cannot read
  }
  try {
    const head = new Uint8Array(HEADER_BYTES);
    const count = readSync(fd, head, 0, head.length, 0);
    return memoryMap(readRegions(head.subarray(0, count)), { structPageBytes, pageBytes: pageSize });
  } finally {
    closeSync(fd);
  }
}
