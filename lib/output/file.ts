/**
 * Events in a file of limited size: before a write would exceed the limit, the file is renamed and a new one
 * begins. Lines stay whole; one that is longer than the limit gets a file of its own.
 *
 * The file is opened before the trace begins, so that a wrong path is found out at once, and looked at before
 * each write: once another program has renamed or deleted it, events would go where nobody expects them, which is
 * an error. One that was emptied (`copytruncate` of logrotate) goes on from its start.
 *
 * A new file has mode 0644, less the umask, as pwru's has: who may enter its directory may read it; for others
 * use `umask 077`. A file that is there already keeps mode and owner, and its successors have the same. Never is a
 * symbolic link followed in the last part of the path, so nobody who may write to the directory can lead us to
 * another file.
 */
import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { dirname, resolve } from "node:path";
import { KernelError, OutputError } from "../errors.ts";
import { Backups, COMPRESSED, expired, type Retention } from "./backups.ts";
import { compressFile } from "./compress.ts";
import type { ByteTarget } from "./writer.ts";

export interface FileOptions extends Retention {
  readonly maxBytes: number;
  /** rotated files with gzip */
  readonly compress: boolean;
}

/** What a file needs from the system, and whom it tells what does not end the trace. */
export interface FileSystem {
  now(): Date;
  /** as node:fs */
  write(fd: number, bytes: Uint8Array, offset: number, length: number): number;
  warn(message: string, cause: Error): void;
}

const realSystem: FileSystem = {
  now: () => new Date(),
  write: (fd, bytes, offset, length) => writeSync(fd, bytes, offset, length),
  warn: () => {},
};

const { O_RDWR, O_CREAT, O_EXCL, O_APPEND, O_NOFOLLOW, O_NONBLOCK } = constants;
/** The same on every architecture we run on; node:fs does not name it. */
const O_CLOEXEC = 0o2000000;
/** Read too, for the last byte of what is there. Non-blocking, lest a FIFO makes us wait for a reader. */
const OPEN_FLAGS = O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
const FILE_MODE = 0o644, DIRECTORY_MODE = 0o755;

const NEWLINE = 0x0a;

export class RotatingFile implements ByteTarget, AsyncDisposable {
  readonly path: string;
  readonly #options: FileOptions;
  readonly #system: FileSystem;
  readonly #backups: Backups;
  readonly #giveUp = new AbortController();
  #fd = -1;
  /** bytes in the file */
  #size = 0;
  /** device and inode: the file that we opened */
  #identity = "";
  #compressing: Promise<void> | undefined;

  /** @throws {KernelError | OutputError} the file cannot be opened or created, or is none */
  constructor(path: string, options: FileOptions, system: Partial<FileSystem> = {}) {
    this.path = resolve(path);
    this.#options = options;
    this.#system = { ...realSystem, ...system };
    this.#backups = new Backups(this.path);
    this.#try("open", () => mkdirSync(dirname(this.path), { recursive: true, mode: DIRECTORY_MODE }));
    this.#open(OPEN_FLAGS);
    this.#tidy();
  }

  /**
   * Writes whole lines from `bytes`, as many as fit into one file.
   *
   * @returns how many bytes that were: at least those of one line
   * @throws {KernelError | OutputError} no more can be written; the file then ends with a whole line
   */
  write(bytes: Uint8Array, offset: number, length: number): number {
    this.#look();
    const { maxBytes } = this.#options;
    let count = wholeLines(bytes, offset, length, maxBytes - this.#size);
    if (count === 0) {
      if (this.#size > 0) this.#rotate();
      count = wholeLines(bytes, offset, length, maxBytes) || firstLine(bytes, offset, length);
    }
    this.#append(bytes, offset, count);
    return count;
  }

  /** A file never is too full for the moment. */
  waitWritable(): void {}

  /**
   * Closes the file, and waits for the compression of the last rotated ones.
   *
   * @param signal stops waiting; the next trace into this file will compress the rest
   */
  async close(signal?: AbortSignal): Promise<void> {
    const giveUp = () => this.#giveUp.abort();
    if (signal?.aborted) giveUp();
    else signal?.addEventListener("abort", giveUp, { once: true });
    try {
      this.#closeFile();
    } finally {
      await this.#compressing;
      signal?.removeEventListener("abort", giveUp);
    }
  }

  /** Closes without waiting for compression. Why the trace ended matters more than what goes wrong here. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close(AbortSignal.abort()).catch(() => {});
  }

  #open(flags: number): void {
    const fd = this.#try("open", () => openSync(this.path, flags, FILE_MODE));
    const stat = fstatSync(fd, { bigint: true });
    if (!stat.isFile()) {
      closeSync(fd);
      throw new OutputError(`Cannot write "${this.path}": it is no regular file`, {
        hint: "without --output-file events go to stdout, which a shell can redirect anywhere",
      });
    }
    this.#fd = fd;
    this.#size = Number(stat.size);
    this.#identity = identity(stat);
    // A program that was killed may have left half a line; ours are not to be the rest of it.
    const last = new Uint8Array(1);
    if (readSync(fd, last, 0, 1, Math.max(0, this.#size - 1)) === 1 && last[0] !== NEWLINE) {
      this.#append(Uint8Array.of(NEWLINE), 0, 1);
    }
  }

  /** Is the path still that of our file, and how long is it? */
  #look(): void {
    if (this.#fd < 0) throw new TypeError(`"${this.path}" is closed`);
    const now = this.#try("lstat", () => lstatSync(this.path, { bigint: true, throwIfNoEntry: false }));
    if (now === undefined || identity(now) !== this.#identity) {
      const what = now === undefined ? "renamed or deleted" : "replaced";
      throw new OutputError(`Cannot go on writing "${this.path}": another program has ${what} it`, {
        hint:
          "events keep within limits by themselves: see --output-file-max-size and --output-file-max-backups",
      });
    }
    this.#size = Number(now.size);
  }

  #append(bytes: Uint8Array, from: number, length: number): void {
    for (let done = 0; done < length;) {
      try {
        done += this.#system.write(this.#fd, bytes, from + done, length - done);
      } catch (cause) {
        if ((cause as { code?: string }).code === "EINTR") continue;
        this.#cutToLine(bytes.subarray(from, from + done));
        throw this.#failure("write", cause);
      }
    }
    this.#size += length;
  }

  /** Takes half a line away again, of bytes that have just been written, unless others have written since. */
  #cutToLine(written: Uint8Array): void {
    const whole = written.lastIndexOf(NEWLINE) + 1;
    if (whole === written.length) return;
    try {
      if (fstatSync(this.#fd).size === this.#size + written.length) {
        ftruncateSync(this.#fd, this.#size + whole);
      }
    } catch {
      // The write has failed, and that is what will be said.
    }
  }

  #rotate(): void {
    const { mode, uid, gid } = fstatSync(this.#fd);
    this.#closeFile();
    this.#try("rename", () => renameSync(this.path, this.#freePath()));
    this.#open(OPEN_FLAGS | O_EXCL);
    try {
      fchownSync(this.#fd, uid, gid);
      fchmodSync(this.#fd, mode & 0o777);
    } catch (cause) {
      this.#system.warn("Cannot give a new output file the owner and mode of the last one", cause as Error);
    }
    this.#tidy();
  }

  /** A name of now that no file has: two rotations may fall into one millisecond, or clocks be set back. */
  #freePath(): string {
    for (let ms = this.#system.now().getTime();; ms++) {
      const path = this.#backups.pathAt(new Date(ms));
      if (!existsSync(path) && !existsSync(path + COMPRESSED)) return path;
    }
  }

  /** Deletes what has had its time, at once, and begins to compress the rest. */
  #tidy(): void {
    this.#deleteExpired();
    if (this.#options.compress && this.#nextPlain() !== undefined) {
      this.#compressing ??= this.#compressAll().finally(() => this.#compressing = undefined);
    }
  }

  #deleteExpired(): void {
    try {
      for (const { files } of expired(this.#backups.list(), this.#options, this.#system.now())) {
        for (const file of files) rmSync(file, { force: true });
      }
    } catch (cause) {
      this.#system.warn("Cannot delete old output files", cause as Error);
    }
  }

  /** One file after the other, the newest first: the oldest may be deleted before their turn comes. */
  async #compressAll(): Promise<void> {
    const { signal } = this.#giveUp;
    try {
      for (let next; !signal.aborted && (next = this.#nextPlain()) !== undefined;) {
        await compressFile(next, signal);
        this.#deleteExpired(); // this one too, if the trace was faster
      }
    } catch (cause) {
      if (!signal.aborted) this.#system.warn("Cannot compress an output file", cause as Error);
    }
  }

  #nextPlain(): string | undefined {
    return this.#backups.list().find(({ plain }) => plain !== undefined)?.plain;
  }

  #closeFile(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    // Some file systems report here what they could not store.
    this.#try("close", () => closeSync(fd));
  }

  #try<T>(call: string, action: () => T): T {
    try {
      return action();
    } catch (cause) {
      throw this.#failure(call, cause);
    }
  }

  /** What node:fs says of a failed call, in our words. A bug stays one. */
  #failure(call: string, cause: unknown): unknown {
    const { code, errno = 0, syscall = call } = cause as { code?: string; errno?: number; syscall?: string };
    if (code === undefined) return cause;
    const doing = call === "rename" ? `Cannot rotate "${this.path}"` : `Cannot write "${this.path}"`;
    const hint = hints[code];
    return new KernelError(syscall, Math.abs(errno), code, {
      doing,
      cause,
      ...(hint === undefined ? {} : { hint }),
    });
  }
}

const hints: Readonly<Record<string, string>> = {
  ELOOP: "it is a symbolic link: name the file itself",
  ENOSPC: "--output-file-max-size and --output-file-max-backups limit the space that events take",
  EDQUOT: "--output-file-max-size and --output-file-max-backups limit the space that events take",
};

function identity({ dev, ino }: { dev: bigint; ino: bigint }): string {
  return `${dev}:${ino}`;
}

/** How many of `length` bytes are lines that fit into `room`. */
function wholeLines(bytes: Uint8Array, offset: number, length: number, room: number): number {
  if (length <= room) return length;
  return room <= 0 ? 0 : bytes.subarray(offset, offset + room).lastIndexOf(NEWLINE) + 1;
}

function firstLine(bytes: Uint8Array, offset: number, length: number): number {
  return bytes.subarray(offset, offset + length).indexOf(NEWLINE) + 1 || length;
}
