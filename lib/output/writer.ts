/**
 * Lines on their way to where they are read, in batches of at most 32 KiB: a pipe holds 64, and larger batches
 * wait for its reader (3.5 million lines a second at 32 KiB, 2.5 at 64).
 *
 * A reader that stands still must not make us deaf: signals are heard when the event loop turns. So no write may
 * block, and one that would is left for later; meanwhile the ring fills, and counts what it cannot take.
 *
 * Never through `process.stdout`: looking at it makes the shared open file non-blocking for everybody.
 */
import { setImmediate as turn } from "node:timers/promises";
import { KernelError, OutputError } from "../errors.ts";
import { unblocked } from "../sys/fd.ts";

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

/**
 * What a flush met. "closed": nobody reads any more, which is a reason to end, not an error. "blocked": the reader
 * does not read for the moment, so that bytes are left.
 */
export type FlushResult = "written" | "closed" | "blocked";

/** Where a writer's bytes go. They are whole lines until `write` takes less than all of them. */
export interface ByteTarget {
  /**
   * @returns how many bytes went; 0: none for the moment
   * @throws {Error} as node:fs, with `code`: EAGAIN and EINTR are tried again, EPIPE ends it
   * @throws {KernelError | OutputError} passed on as it is
   */
  write(bytes: Uint8Array, offset: number, length: number): number;
  /** returns when bytes can be written again, or earlier */
  waitWritable(): void;
}

/** So long nobody hears signals. */
const WAIT_MS = 50;

/** An open file descriptor, which stays the caller's. Writing to it does not block. */
export function descriptor(fd: number): ByteTarget {
  const file = unblocked(fd);
  return {
    write: (bytes, offset, length) => file.write(bytes, offset, length),
    waitWritable: () => void file.wait(WAIT_MS),
  };
}

const BATCH_BYTES = 32 * 1024;
/** ms: whoever has read nothing for so long does not want the rest. */
const PATIENCE_MS = 2000;

export class BatchWriter implements LineSink {
  #bytes = new Uint8Array(BATCH_BYTES);
  view = new DataView(this.#bytes.buffer);
  /** the reader has gone; whatever is written from now on is thrown away */
  closed = false;
  /** the reader does not read for the moment: what is written meanwhile takes memory */
  blocked = false;
  #used = 0;
  readonly #target: ByteTarget;

  constructor(target: ByteTarget) {
    this.#target = target;
  }

  /** An event that is larger than a batch is one of its own. @throws {KernelError} from the flush that makes room */
  room(size: number): number {
    const wanted = this.#used + size;
    if (wanted > BATCH_BYTES && !(this.blocked && wanted <= this.#bytes.length)) {
      if (!this.blocked) this.flush();
      const length = this.#used + size;
      if (length > this.#bytes.length) this.#grow(this.#used === 0 ? length : 2 * length);
    }
    return this.#used;
  }

  #grow(length: number): void {
    const bytes = new Uint8Array(length);
    bytes.set(this.#bytes.subarray(0, this.#used));
    this.#bytes = bytes;
    this.view = new DataView(bytes.buffer);
  }

  commit(end: number): void {
    this.#used = end;
  }

  /**
   * Writes what is committed so far, however many calls that takes. To be called at the end of each
   * drain, so that a quiet trace appears at once.
   *
   * @throws {KernelError | OutputError} the file cannot take the bytes, for another reason than a reader that left
   */
  flush(): FlushResult {
    let from = 0, waited = false;
    this.blocked = false;
    while (from < this.#used && !this.closed) {
      const count = this.#write(from);
      from += count;
      if (count > 0) waited = false;
      else if (!this.closed) {
        if (waited) return this.#keep(from);
        this.#target.waitWritable();
        waited = true;
      }
    }
    this.#used = 0;
    return this.closed ? "closed" : "written";
  }

  /**
   * The same to the last byte, with turns of the event loop while the reader does not read.
   *
   * @throws {OutputError} it has not read for seconds
   */
  async flushAll(): Promise<void> {
    for (let left = Infinity, since = performance.now(); this.flush() === "blocked"; await turn()) {
      if (this.#used < left) since = performance.now();
      else if (performance.now() - since > PATIENCE_MS) {
        throw new OutputError("Cannot write the last events: nobody reads them", {
          hint: "what stdout is piped into stands still",
        });
      }
      left = this.#used;
    }
  }

  /** Bytes that went; 0: none for the moment, or the reader has gone. */
  #write(from: number): number {
    try {
      return this.#target.write(this.#bytes, from, this.#used - from);
    } catch (cause) {
      const { code, errno } = cause as { code?: string; errno?: number };
      if (code === "EPIPE") this.closed = true;
      else if (code === "EINTR") return this.#write(from);
      else if (code !== "EAGAIN") {
        // The bytes are lost; kept, they would come out twice after a partial write.
        this.#used = 0;
        if (code === undefined || cause instanceof KernelError) throw cause;
        throw new KernelError("write", Math.abs(errno ?? 0), code, { doing: "Cannot write events", cause });
      }
      return 0;
    }
  }

  /** What is left moves to the front. */
  #keep(from: number): FlushResult {
    this.#bytes.copyWithin(0, from, this.#used);
    this.#used -= from;
    this.blocked = true;
    return "blocked";
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
