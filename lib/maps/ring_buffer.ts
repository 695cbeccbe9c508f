/**
 * BPF ring buffer, read in place (kernel/bpf/ringbuf.c). The only file that touches memory which the
 * kernel writes meanwhile.
 *
 * Memory: | consumer page, ours to write | producer page | data | the same data again |,
 * so a record that wraps is contiguous. A record is a u32 length with two flags, a u32 of the kernel's,
 * and its bytes, rounded up to 8.
 *
 * Of the data we map a window that moves along: every mapped page counts as our memory, and all of a
 * 16 MiB ring would count as 32. Moving it takes a system call per MiB, in the same place, so views stay.
 *
 * Order is what matters: producer position, headers, bytes, consumer position. JS has no fence and arm64
 * reorders plain loads, so a private word is hit twice with an atomic between the steps. Atomics on the
 * mapping itself are out: the JIT makes `Atomics.load` a read-modify-write, which kills the process on a
 * read-only page.
 */
import type { MapSpec } from "../../asm/code.ts";
import { RingBufferError } from "../errors.ts";
import { pageSize } from "../sys/ffi.ts";
import { Mapping, PROT_READ, PROT_WRITE } from "../sys/mmap.ts";

/** Flags of a record's length, and the bytes in front of it (BPF_RINGBUF_*_BIT, BPF_RINGBUF_HDR_SZ). */
const BUSY = 0x80000000, DISCARDED = 0x40000000, LENGTH = 0x3fffffff, HEADER_BYTES = 8;

/** Records between two publications of our position: the fences cost 10 ns each time, and space is freed. */
const BATCH = 512;

const fenceWord = new Int32Array(1);

/**
 * Orders all loads and stores before it against all after it. Once is not enough on arm64 without LSE:
 * only store-release followed by load-acquire orders there.
 */
function fence(): void {
  Atomics.add(fenceWord, 0, 1);
  Atomics.add(fenceWord, 0, 1);
}

/**
 * Gets one record: `length` bytes from `offset` (a multiple of 8) of `RingBuffer.bytes`, or from
 * `offset >>> 2` of `.words`. The place is the kernel's again once the handler returns; copy to keep.
 */
export type RecordHandler = (offset: number, length: number) => void;

/** The memory of a ring buffer; tests give their own. */
export interface RingMemory {
  /** at least 8 bytes: the consumer position */
  readonly consumer: ArrayBuffer;
  /** at least 4 bytes: the producer position */
  readonly producer: ArrayBuffer;
  /** bytes in the ring, a power of two */
  readonly size: number;
  /** where `window` looks at; less than two rings are seen at a time */
  readonly window: ArrayBuffer;
  /** Makes the window begin at this byte of the ring, a multiple of the page size. */
  move(offset: number): void;
}

/** What is asked of a map. */
export interface RingMap {
  readonly fd: number;
  /** `maxEntries`: bytes in the ring */
  readonly spec: Pick<MapSpec, "maxEntries">;
}

/** Bytes of data that are mapped at a time; a record has to fit, together with the page it begins in. */
const WINDOW_BYTES = 1 << 20;

/** Reads one ring buffer map. One reader per map. */
export class RingBuffer implements Disposable {
  /** the part of the data that is mapped now */
  readonly bytes: Uint8Array;
  /** the same, 4 bytes a time */
  readonly words: Uint32Array;
  readonly #memory: RingMemory;
  /** the byte of the ring that the window begins with */
  #start = 0;
  readonly #mappings: readonly Disposable[];
  /** low 32 bits of each position: what lies between them is below 2^31, and a u32 load cannot tear */
  readonly #consumer: Uint32Array;
  readonly #consumer64: BigUint64Array;
  readonly #producer: Uint32Array;
  readonly #mask: number;
  #low: number;
  #high: number;
  #closed = false;

  constructor(memory: RingMemory, mappings: readonly Disposable[] = []) {
    const { consumer, producer, size, window } = memory;
    if (size < 8 || (size & (size - 1)) !== 0) {
      throw new RangeError(`A ring of ${size} bytes is no power of two`);
    }
    this.#memory = memory;
    this.#mappings = mappings;
    this.#consumer = new Uint32Array(consumer, 0, 2);
    this.#consumer64 = new BigUint64Array(consumer, 0, 1);
    this.#producer = new Uint32Array(producer, 0, 1);
    this.bytes = new Uint8Array(window);
    this.words = new Uint32Array(window);
    this.#mask = size - 1;
    [this.#low = 0, this.#high = 0] = this.#consumer;
  }

  /** Maps the ring buffer of `map`. Linux 5.8. */
  static open(map: RingMap): RingBuffer {
    const size = map.spec.maxEntries;
    using stack = new DisposableStack();
    const consumer = stack.use(new Mapping(map.fd, pageSize, PROT_READ | PROT_WRITE, 0));
    const producer = stack.use(new Mapping(map.fd, pageSize, PROT_READ, pageSize));
    const window = stack.use(new Mapping(map.fd, Math.min(2 * size, WINDOW_BYTES), PROT_READ, 2 * pageSize));
    const ring = new RingBuffer({
      consumer: consumer.buffer,
      producer: producer.buffer,
      size,
      window: window.buffer,
      move: (offset) => window.move(map.fd, PROT_READ, 2 * pageSize + offset),
    }, [consumer, producer, window]);
    stack.move();
    return ring;
  }

  /** Bytes written and not yet consumed, headers included. */
  get unread(): number {
    return (this.produced - this.#low) >>> 0;
  }

  /** Where the kernel writes next: low 32 bits of a position that only grows. */
  get produced(): number {
    this.#assertOpen();
    return this.#producer[0] as number;
  }

  /** Where we read next, likewise. */
  get consumed(): number {
    return this.#low;
  }

  /**
   * Delivers committed records until the ring is empty, the next one is still being written, or `limit`
   * records have been passed. We are one thread: whoever finds a busy record comes back later.
   *
   * @param until stops in front of this position, which `produced` gave earlier
   * @returns records delivered; discarded ones are skipped and not counted, but count for `limit`
   * @throws {RingBufferError} a header contradicts the producer position; the ring is then unusable
   */
  drain(onRecord: RecordHandler, limit: number = 8192, until?: number): number {
    this.#assertOpen();
    let delivered = 0, left = limit;
    while (left > 0) {
      const passed = this.#committed(Math.min(left, BATCH), until);
      if (passed === 0) break;
      fence();
      delivered += this.#deliver(onRecord, passed);
      left -= passed;
    }
    return delivered;
  }

  /** How many records, at most `limit`, are complete from our position on. */
  #committed(limit: number, until: number | undefined): number {
    const end = until ?? this.#producer[0] as number;
    if (end === this.#low) return 0;
    fence();
    const words = this.words, mask = this.#mask;
    let position = this.#low, count = 0;
    while (position !== end && count < limit) {
      let place = (position & mask) - this.#start;
      if (!this.#isMapped(place, HEADER_BYTES)) {
        if (count > 0) break; // a batch lies in one window
        place = this.#moveTo(position & mask);
      }
      const header = words[place >>> 2] as number;
      if (header >= BUSY) break;
      const bytes = (header & LENGTH) + HEADER_BYTES + 7 & ~7, next = (position + bytes) >>> 0;
      if (bytes > (end - position) >>> 0) {
        throw new RingBufferError(
          `Cannot read the ring buffer: a record of ${
            header & LENGTH
          } bytes at ${position} passes the producer at ${end}`,
        );
      }
      if (!this.#isMapped(place, bytes)) {
        if (count > 0) break;
        place = this.#moveTo(position & mask);
        if (!this.#isMapped(place, bytes)) {
          throw new RingBufferError(
            `Cannot read the ring buffer: a record of ${
              header & LENGTH
            } bytes does not fit the window of ${this.bytes.length}`,
          );
        }
      }
      position = next;
      count++;
    }
    return count;
  }

  #isMapped(place: number, length: number): boolean {
    return place >= 0 && place + length <= this.bytes.length;
  }

  /** Moves the window to the page of this byte of the ring; gives the byte's place in it. */
  #moveTo(offset: number): number {
    this.#start = offset - offset % pageSize;
    this.#memory.move(this.#start);
    return offset - this.#start;
  }

  /** Hands `count` records over and gives their place back, also when the handler throws. */
  #deliver(onRecord: RecordHandler, count: number): number {
    const words = this.words, mask = this.#mask, windowStart = this.#start;
    let position = this.#low, delivered = 0;
    try {
      for (let i = 0; i < count; i++) {
        const start = (position & mask) - windowStart, header = words[start >>> 2] as number;
        const length = header & LENGTH;
        position = (position + (length + HEADER_BYTES + 7 & ~7)) >>> 0;
        if ((header & DISCARDED) !== 0) continue;
        delivered++;
        onRecord(start + HEADER_BYTES, length);
        if (this.#closed) break;
      }
    } finally {
      fence();
      this.#publish(position);
    }
    return delivered;
  }

  /** The high half changes every 4 GiB; then both are stored at once, or the kernel would see a wild position. */
  #publish(position: number): void {
    if (this.#closed) return;
    if (position < this.#low) {
      this.#high = (this.#high + 1) >>> 0;
      this.#consumer64[0] = BigInt(this.#high) << 32n | BigInt(position);
    } else {
      this.#consumer[0] = position;
    }
    this.#low = position;
  }

  #assertOpen(): void {
    if (this.#closed) throw new TypeError("RingBuffer is closed");
  }

  /** Unmaps. Views of the memory have length 0 from then on. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const mapping of this.#mappings) mapping[Symbol.dispose]();
  }
}
