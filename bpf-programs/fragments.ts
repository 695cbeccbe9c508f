// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * A packet whose headers do not all lie in its linear part: the filter gets a copy that goes on into the first
 * page fragment. Jumbo frames, receive offload and packet sockets make such packets.
 *
 *     skb_shared_info.frags[0] = { struct page *, length, offset }
 *     bytes of the page = directMap + ((page - pageArray) / sizeof(struct page)) * page size
 */
import type { Code, KernelTypes, Label, MapSpec } from "../asm/code.ts";
import { label } from "../asm/code.ts";
import { AssemblyError } from "../asm/errors.ts";
import {
  add,
  at,
  call,
  fp,
  jeq,
  jle,
  jne,
  jset32,
  lddw,
  ldMap,
  ldx,
  lea,
  lsh,
  mov,
  r0,
  r1,
  r2,
  r3,
  r6,
  r7,
  r8,
  r9,
  rsh,
  st,
  stx,
  sub,
} from "../asm/insn.ts";
import { type Field, u32, u64 } from "../asm/layout.ts";
import type { MemoryAccess } from "./memory_access.ts";

/** Where this kernel maps memory. */
export interface MemoryMap {
  /** virtual address of physical address 0 */
  readonly directMap: bigint;
  /** virtual address of the struct page of physical page 0 */
  readonly pageArray: bigint;
  /** sizeof(struct page), a power of two */
  readonly structPageBytes: number;
  /** 4096, on arm64 also 16384 or 65536 */
  readonly pageBytes: number;
}

/** Bytes of a packet that a copy holds: all headers that anybody filters by. */
export const COPY_BYTES = 256;
/** The copy's own address, then linear bytes, then bytes of the fragment: each up to COPY_BYTES. */
const COPY_START = 16;
export const SCRATCH_BYTES: number = COPY_START + 2 * COPY_BYTES;

/** Where the fields of a fragment are: it was a struct bio_vec, and lost its `page` to `netmem` in Linux 6.9. */
function fragmentFields(kernel: KernelTypes): { page: Field; length: Field; offset: Field } {
  const field = (name: string) => kernel.field("skb_shared_info", `frags[0].${name}`);
  const first = (...names: string[]) =>
    names.find((name) => kernel.has("skb_shared_info", `frags[0].${name}`));
  const page = first("netmem", "bv_page"),
    length = first("len", "bv_len"),
    offset = first("offset", "bv_offset");
  if (page === undefined || length === undefined || offset === undefined) {
    throw new AssemblyError("The fragments of this kernel's skb_shared_info are not known");
  }
  return { page: field(page), length: field(length), offset: field(offset) };
}

/** What the copy is made with. */
export interface CopyFrame {
  readonly kernel: KernelTypes;
  readonly access: MemoryAccess;
  readonly memory: MemoryMap;
  /** per-CPU array with one value of SCRATCH_BYTES */
  readonly scratch: MapSpec;
  /** 8 bytes of stack each */
  readonly key: number;
  readonly temp: number;
  /** r8 = head + end; the view's pointer is where loading wants it */
  readonly loadSharedInfo: Code;
  readonly unreadable: Label;
}

/**
 * In: r7 = the packet's first byte, r8 = linear bytes from there on, fewer than COPY_BYTES. Out: r9 = the copy's first byte, a plain
 * address, r6 = how many bytes it holds. Loses r0-r8. To `unreadable` when there is nothing to gain: there
 * is no fragment, or it is no memory of the kernel's.
 */
export function copyWithFragment(frame: CopyFrame): Code {
  const { kernel, access, memory, scratch, key, temp, unreadable } = frame;
  const { page, length, offset } = fragmentFields(kernel);
  const shift = Math.log2(memory.pageBytes / memory.structPageBytes);
  if (!Number.isInteger(shift)) {
    throw new AssemblyError(`struct page has ${memory.structPageBytes} bytes here`);
  }
  const fits = label("fits");
  return [
    st(at(fp, key, u32), 0),
    ldMap(r1, scratch),
    lea(r2, at(fp, key, u32)),
    call("bpf_map_lookup_elem"),
    jeq(r0, 0, unreadable),
    mov(r9, r0), // r9 = scratch
    stx(at(r9, u64), r9), // its address, to be loaded back as a plain number

    mov(r1, r9),
    add(r1, COPY_START),
    mov(r2, r8), // 0 .. COPY_BYTES - 1
    mov(r3, r7),
    call("bpf_probe_read_kernel"),
    jne(r0, 0, unreadable),

    mov(r6, r8), // r6 = bytes copied
    frame.loadSharedInfo, // r8 = skb_shared_info
    access.read(r1, r8, kernel.field("skb_shared_info", "nr_frags"), temp),
    jeq(r1, 0, unreadable),
    access.read(r7, r8, page, temp),
    jset32(r7, 1, unreadable), // device memory
    lddw(r1, memory.pageArray),
    sub(r7, r1),
    shift >= 0 ? lsh(r7, shift) : rsh(r7, -shift),
    lddw(r1, memory.directMap),
    add(r7, r1), // r7 = the page's bytes
    access.read(r1, r8, offset, temp),
    add(r7, r1),
    access.read(r8, r8, length, temp),
    jle(r8, COPY_BYTES, fits),
    mov(r8, COPY_BYTES),
    fits,

    mov(r1, r9),
    add(r1, COPY_START),
    add(r1, r6),
    mov(r2, r8),
    mov(r3, r7),
    call("bpf_probe_read_kernel"),
    jne(r0, 0, unreadable),
    add(r6, r8),
    ldx(r9, at(r9, u64)),
    add(r9, COPY_START),
  ];
}
