/**
 * The one seam to the kernel, and the only import of bun:ffi: a system call becomes a number or a
 * KernelError; nothing above this file sees -1 or errno.
 *
 * Addresses are numbers: user space ends below 2^47 (x86-64) or 2^52 (arm64), so they are exact.
 */
import { dlopen, FFIType, type Pointer, read, toArrayBuffer } from "bun:ffi";
import { KernelError } from "../errors.ts";
import { errno, errnoName } from "./errno.ts";
import { type SyscallName, syscallNumber } from "./syscalls.ts";

/** An argument: an integer up to 2^53 as a number, anything above as a bigint. */
export type Argument = number | bigint;

const { i32, i64, i64_fast, ptr } = FFIType;

/** A number comes back, not a bigint, and an i64 may be given as either: 10 ns each. */
const { symbols: libc } = dlopen("libc.so.6", {
  syscall: { args: [i64, i64, i64, i64, i64, i64, i64], returns: i64_fast },
  __errno_location: { args: [], returns: ptr },
  getpagesize: { args: [], returns: i32 },
});

/** Of this thread; each Worker has its own. */
const errnoLocation = libc.__errno_location() as Pointer;

/** Bytes in a page of memory: 4096, 16384 or 65536. */
export const pageSize: number = libc.getpagesize();

/** Makes one system call; gives its result, or the negative errno. */
export type Kernel = (
  name: SyscallName,
  a: Argument,
  b: Argument,
  c: Argument,
  d: Argument,
  e: Argument,
  f: Argument,
) => number;

/** The real one. A block body on purpose: errno is read before anything else can run. */
const linux: Kernel = (name, a, b, c, d, e, f) => {
  const result = libc.syscall(syscallNumber[name], a, b, c, d, e, f);
  if (result === -1) return -read.i32(errnoLocation, 0);
  return Number(result);
};

let kernel: Kernel = linux;

/**
 * Puts `fake` in the kernel's place until the result is disposed. For tests; a fake that wants the real
 * thing for some call uses the second argument.
 */
export function replaceKernel(fake: (real: Kernel) => Kernel): Disposable {
  const before = kernel;
  kernel = fake(before);
  return {
    [Symbol.dispose]() {
      kernel = before;
    },
  };
}

/** The result of a system call, or its negative errno where the caller has a use for some of them. */
export function trySyscall(
  name: SyscallName,
  a: Argument = 0,
  b: Argument = 0,
  c: Argument = 0,
  d: Argument = 0,
  e: Argument = 0,
  f: Argument = 0,
): number {
  return kernel(name, a, b, c, d, e, f);
}

/** @throws {KernelError} the kernel said no */
export function syscall(
  name: SyscallName,
  a: Argument = 0,
  b: Argument = 0,
  c: Argument = 0,
  d: Argument = 0,
  e: Argument = 0,
  f: Argument = 0,
): number {
  const result = kernel(name, a, b, c, d, e, f);
  if (result < 0) throw kernelError(name, -result);
  return result;
}

/** The error for a call that gave `-number`; `call` is what a person reads: "bpf(BPF_MAP_CREATE)". */
export function kernelError(
  call: string,
  number: number,
  facts: { doing?: string; hint?: string; cause?: unknown } = {},
): KernelError {
  return new KernelError(call, number, errnoName(number), facts);
}

/**
 * The memory at `address` as a buffer; nothing is copied, and the collector never frees it. The mapping
 * behind it has to outlive every view.
 */
export function memoryAt(address: number, length: number): ArrayBuffer {
  return toArrayBuffer(address as Pointer, 0, length);
}

const PROT_READ = 1, PROT_WRITE = 2, MAP_PRIVATE = 2, MAP_ANONYMOUS = 0x20;

/** Fresh zeroed pages for our own use, taken from the real kernel even while a test plays it. */
export function anonymousPages(length: number): { address: number; buffer: ArrayBuffer } {
  const address = linux("mmap", 0, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address < 0) throw kernelError("mmap", -address);
  return { address, buffer: memoryAt(address, length) };
}

/** Gives pages back. Views are detached first: they have length 0 from then on and cannot crash. */
export function releasePages(address: number, buffer: ArrayBuffer): void {
  const length = buffer.byteLength;
  structuredClone(buffer, { transfer: [buffer] });
  const result = linux("munmap", address, length, 0, 0, 0, 0);
  if (result < 0) throw kernelError("munmap", -result);
}

/** Whether `error` is a KernelError with one of these errno names. */
export function isErrno(error: unknown, ...names: (keyof typeof errno)[]): error is KernelError {
  return error instanceof KernelError && names.includes(error.code);
}
