/** Mappings of kernel objects. A view of one dies with it: length 0, not a crash. */
import { memoryAt, releasePages, syscall } from "./ffi.ts";

export const PROT_READ = 1, PROT_WRITE = 2;
const MAP_SHARED = 1, MAP_FIXED = 0x10;

/** Shared memory with the kernel. Plain loads and stores only: Atomics on a read-only page kill the process. */
export class Mapping implements Disposable {
  readonly address: number;
  readonly buffer: ArrayBuffer;

  /** @param offset a multiple of the page size; it selects the part of a BPF map or ring buffer */
  constructor(fd: number, length: number, protection: number, offset: number) {
    this.address = syscall("mmap", 0, length, protection, MAP_SHARED, fd, offset);
    this.buffer = memoryAt(this.address, length);
  }

  /** Shows another part at the same address: views stay valid and see the new bytes. */
  move(fd: number, protection: number, offset: number): void {
    syscall("mmap", this.address, this.buffer.byteLength, protection, MAP_SHARED | MAP_FIXED, fd, offset);
  }

  [Symbol.dispose](): void {
    if (!this.buffer.detached) releasePages(this.address, this.buffer);
  }
}
