/** File descriptors: owning, waiting, writing, locking. Reading files is left to node:fs. */
import { constants, fstatSync, openSync, writeSync } from "node:fs";
import { struct, u16, u32, u64 } from "../../asm/layout.ts";
import { type Block, scope } from "./arena.ts";
import { errno } from "./errno.ts";
import { kernelError, syscall, trySyscall } from "./ffi.ts";

export const STDOUT = 1, STDERR = 2;

/** An fd that closes with its object. */
export class OwnedFd implements Disposable {
  #fd: number;
  constructor(fd: number) {
    this.#fd = fd;
  }

  /** @throws {TypeError} it is closed: the number may be another file's by now */
  get fd(): number {
    if (this.#fd < 0) throw new TypeError(`${this.constructor.name} is closed`);
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** Closes the fd, once. Errors are not reported: Linux has released the fd by then. */
  [Symbol.dispose](): void {
    if (this.#fd < 0) return;
    trySyscall("close", this.#fd);
    this.#fd = -1;
  }
}

/** struct pollfd; `fd` is signed in the kernel, ours are never negative. */
const pollfd = struct("pollfd", { fd: u32, events: u16, revents: u16 });
const timespec = struct("__kernel_timespec", { tv_sec: u64, tv_nsec: u64 });

export const POLLIN = 1, POLLOUT = 4, POLLERR = 8, POLLHUP = 16;

/**
 * Waits until one of `events` holds for `fd`, and blocks the thread meanwhile.
 *
 * @param timeoutMs -1 waits for ever
 * @returns what holds; 0 when time ran out or a signal came
 */
export function poll(fd: number, events: number, timeoutMs: number): number {
  using memory = scope();
  const entry = memory.struct(pollfd, { fd, events });
  const timeout = timeoutMs < 0 ? 0 : memory.struct(timespec, {
    tv_sec: BigInt(Math.trunc(timeoutMs / 1000)),
    tv_nsec: BigInt(Math.round((timeoutMs % 1000) * 1e6)),
  }).address;
  const result = trySyscall("ppoll", entry.address, 1, timeout, 0, 8);
  if (result === -(errno.EINTR as number)) return 0;
  if (result < 0) throw kernelError("ppoll", -result);
  return pollfd.fields.revents.type.decode(entry.view, pollfd.fields.revents.offset);
}

/**
 * Writes `length` bytes from `address`. A full pipe that was handed to us non-blocking is waited for.
 *
 * @returns bytes written; fewer than `length` when a signal came: turn the event loop, then go on
 * @throws {KernelError} EPIPE when the reader has gone, ENOSPC, ...
 */
export function write(fd: number, address: number, length: number): number {
  let done = 0;
  while (done < length) {
    const result = trySyscall("write", fd, address + done, length - done);
    if (result >= 0) done += result;
    else if (result === -(errno.EINTR as number)) break;
    else if (result !== -(errno.EAGAIN as number)) throw kernelError("write", -result);
    else if (poll(fd, POLLOUT, -1) === 0) break;
  }
  return done;
}

/** Copies `bytes` and writes them all; for small texts. Signals do not shorten it. */
export function writeAll(fd: number, bytes: Uint8Array): void {
  using memory = scope();
  const { address } = memory.copy(bytes);
  for (let done = 0; done < bytes.length;) done += write(fd, address + done, bytes.length - done);
}

/** A file that takes bytes or not, at once. */
export interface Unblocked {
  /**
   * @returns bytes that went; 0: none for the moment
   * @throws {Error} as node:fs, with `code`; EAGAIN means none for the moment, too
   */
  write(bytes: Uint8Array, offset: number, length: number): number;
  /** Returns false when it was not writable for so long. */
  wait(timeoutMs: number): boolean;
}

/** What a socket takes without blocking that says that it is writable. */
const UNBLOCKED_BYTES = 4096;

/**
 * The file behind `fd`, written to without blocking: what is no plain file is opened once more, as a file of our own,
 * since others who share the first one shall not notice. That stays open until the process ends.
 */
export function unblocked(fd: number): Unblocked {
  const own = reopened(fd) ?? fd, wary = own === fd && !isPlain(fd);
  return {
    write(bytes, offset, length) {
      if (!wary) return writeSync(own, bytes, offset, length);
      if (poll(fd, POLLOUT, 0) === 0) return 0;
      return writeSync(fd, bytes, offset, Math.min(length, UNBLOCKED_BYTES));
    },
    wait: (timeoutMs) => poll(own, POLLOUT, timeoutMs) !== 0,
  };
}

const { O_WRONLY, O_NONBLOCK, O_NOCTTY } = constants;

/** Pipes and terminals; sockets have no such thing. */
function reopened(fd: number): number | undefined {
  try {
    if (!fstatSync(fd).isFIFO() && !isatty(fd)) return undefined;
    return openSync(`/proc/self/fd/${fd}`, O_WRONLY | O_NONBLOCK | O_NOCTTY);
  } catch {
    return undefined; // not ours to open, or the reader has gone: writing will tell
  }
}

/** A file, or a device that always takes bytes. */
function isPlain(fd: number): boolean {
  try {
    const stat = fstatSync(fd);
    return !stat.isFIFO() && !stat.isSocket() && !isatty(fd);
  } catch {
    return true; // no such descriptor: writing will tell
  }
}

const iovec = struct("iovec", { iov_base: u64, iov_len: u64 });

/**
 * One writev(2). Files such as tracefs take each segment as a write of its own: the first refused one is
 * that after the bytes accepted.
 *
 * @returns bytes accepted
 * @throws {KernelError} the first segment was refused
 */
export function writev(fd: number, segments: readonly (Block | Uint8Array)[]): number {
  using memory = scope();
  const vector = memory.alloc(segments.length * iovec.size);
  segments.forEach((segment, index) => {
    const { address, bytes } = segment instanceof Uint8Array ? memory.copy(segment) : segment;
    iovec.encode(vector.view, index * iovec.size, {
      iov_base: BigInt(address),
      iov_len: BigInt(bytes.length),
    });
  });
  return syscall("writev", fd, vector.address, segments.length);
}

const TCGETS = 0x5401, TIOCGWINSZ = 0x5413;

/** Whether `fd` is a terminal. Asking process.stdout would make the shared pipe non-blocking. */
export function isatty(fd: number): boolean {
  using memory = scope();
  return trySyscall("ioctl", fd, TCGETS, memory.alloc(64).address) === 0;
}

const winsize = struct("winsize", { ws_row: u16, ws_col: u16, ws_xpixel: u16, ws_ypixel: u16 });

/** Columns of the terminal at `fd`; 80 where it does not say. */
export function terminalColumns(fd: number): number {
  using memory = scope();
  const size = memory.struct(winsize, {});
  if (trySyscall("ioctl", fd, TIOCGWINSZ, size.address) < 0) return 80;
  return winsize.decode(size.view, 0).ws_col || 80;
}

export const LOCK_SH = 1, LOCK_EX = 2, LOCK_NB = 4, LOCK_UN = 8;

/**
 * Takes or drops the lock on an open file. With LOCK_NB nobody waits.
 *
 * @returns false: someone else has it (LOCK_NB), or a signal ended the wait
 */
export function flock(fd: number, operation: number): boolean {
  const result = trySyscall("flock", fd, operation);
  if (result === -(errno.EAGAIN as number) || result === -(errno.EINTR as number)) return false;
  if (result < 0) throw kernelError("flock", -result);
  return true;
}
