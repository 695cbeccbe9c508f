/**
 * Lines on their way to where they are read, in batches of at most 32 KiB: a pipe holds 64, and larger batches
 * wait for its reader (3.5 million lines a second at 32 KiB, 2.5 at 64).
 *
 * Never through `process.stdout`: looking at it makes the shared open file non-blocking for everybody.
 */
import { writeSync } from "node:fs";
import { KernelError } from "../errors.ts";
import { poll, POLLOUT } from "../sys/fd.ts";

/** Where lines are written: room first, then bytes, then how far they went. */
export interface LineSink {
  /** to be read after `room()`, which may replace it */
  readonly view: DataView;
  /** Makes room for `size` bytes. Returns the position in `view` at which they may start. */
  room(size: number): number;
  /** Says that all bytes before `end` are written. */
  commit(end: number): void;
}

/** Writes `line` and ends it. Not for what is printed per event. */
export function putLine(sink: LineSink, line: string): void {
  const bytes = new TextEncoder().encode(`${line}\n`);
  const start = sink.room(bytes.length);
  new Uint8Array(sink.view.buffer).set(bytes, start);
  sink.commit(start + bytes.length);
}

/** What a flush met: "closed" means that nobody reads any more, which is a reason to end, not an error. */
export type FlushResult = "written" | "closed";

/** Where a writer's bytes go. They are whole lines until `write` takes less than all of them. */
export interface ByteTarget {
  /**
   * @returns how many bytes went
   * @throws {Error} as node:fs, with `code`: EAGAIN and EINTR are tried again, EPIPE ends it
   * @throws {KernelError | OutputError} passed on as it is
   */
  write(bytes: Uint8Array, offset: number, length: number): number;
  /** returns when bytes can be written again, or earlier */
  waitWritable(): void;
}

/** An open file descriptor, which stays the caller's. */
export function descriptor(fd: number): ByteTarget {
  return {
    write: (bytes, offset, length) => writeSync(fd, bytes, offset, length),
    waitWritable: () => void poll(fd, POLLOUT, 1000),
  };
}

const BATCH_BYTES = 32 * 1024;

export class BatchWriter implements LineSink {
  #bytes = new Uint8Array(BATCH_BYTES);
  view = new DataView(this.#bytes.buffer);
  /** the reader has gone; whatever is written from now on is thrown away */
  closed = false;
  #used = 0;
  readonly #target: ByteTarget;

  constructor(target: ByteTarget) {
    this.#target = target;
  }

  /** An event that is larger than a batch is one of its own. @throws {KernelError} from the flush that makes room */
  room(size: number): number {
    if (this.#used + size > BATCH_BYTES) {
      this.flush();
      if (size > this.#bytes.length) {
        this.#bytes = new Uint8Array(size);
        this.view = new DataView(this.#bytes.buffer);
      }
    }
    return this.#used;
  }

  commit(end: number): void {
    this.#used = end;
  }

  /**
   * Writes everything committed so far, however many calls that takes. To be called at the end of each
   * drain, so that a quiet trace appears at once.
   *
   * @throws {KernelError | OutputError} the file cannot take the bytes, for another reason than a reader that left
   */
  flush(): FlushResult {
    let from = 0;
    while (from < this.#used && !this.closed) {
      try {
        from += this.#target.write(this.#bytes, from, this.#used - from);
      } catch (cause) {
        const { code, errno } = cause as { code?: string; errno?: number };
        if (code === "EPIPE") this.closed = true;
        else if (code === "EAGAIN") this.#target.waitWritable();
        else if (code !== "EINTR") {
          // The bytes are lost; kept, they would come out twice after a partial write.
          this.#used = 0;
          if (code === undefined || cause instanceof KernelError) throw cause;
          throw new KernelError("write", Math.abs(errno ?? 0), code, { doing: "Cannot write events", cause });
        }
      }
    }
    this.#used = 0;
    return this.closed ? "closed" : "written";
  }
}

/** Keeps everything. */
export class MemorySink implements LineSink {
  #bytes = new Uint8Array(4096);
  view = new DataView(this.#bytes.buffer);
  #used = 0;

  room(size: number): number {
    if (this.#used + size > this.#bytes.length) {
      const grown = new Uint8Array((this.#used + size) * 2);
      grown.set(this.#bytes.subarray(0, this.#used));
      this.#bytes = grown;
      this.view = new DataView(grown.buffer);
    }
    return this.#used;
  }

  commit(end: number): void {
    this.#used = end;
  }

  /** Everything written since the last call. */
  take(): string {
    const text = new TextDecoder().decode(this.#bytes.subarray(0, this.#used));
    this.#used = 0;
    return text;
  }
}
