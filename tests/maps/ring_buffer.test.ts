/** The reader against a ring in our own memory, written as kernel/bpf/ringbuf.c does. */
import { expect, test } from "bun:test";
import { RingBufferError } from "../../lib/errors.ts";
import { RingBuffer } from "../../lib/maps/ring_buffer.ts";
import { pageSize } from "../../lib/sys/ffi.ts";

const BUSY = 0x80000000, DISCARDED = 0x40000000;

/** The kernel's side. `start` is where both positions begin. */
class Producer {
  readonly size: number;
  readonly consumer = new ArrayBuffer(4096);
  readonly producer = new ArrayBuffer(4096);
  readonly data: ArrayBuffer;
  readonly words: Uint32Array;
  #position: bigint;

  constructor(size: number, start = 0n) {
    this.size = size;
    this.data = new ArrayBuffer(2 * size);
    this.words = new Uint32Array(this.data);
    this.#position = start;
    new BigUint64Array(this.consumer)[0] = start;
    this.#publish();
  }

  get consumed(): bigint {
    return new BigUint64Array(this.consumer)[0] as bigint;
  }

  #publish(): void {
    new BigUint64Array(this.producer)[0] = this.#position;
  }

  /** Appends `values` under a header of `flags` and 4 bytes each; false: full. Gives where it is. */
  write(values: readonly number[], flags = 0): number | false {
    const room = values.length * 4 + 8 + 7 & ~7;
    if (this.#position + BigInt(room) - this.consumed > BigInt(this.size - 1)) return false;
    const at = Number(this.#position & BigInt(this.size - 1)) >>> 2;
    [flags + values.length * 4 >>> 0, 0, ...values].forEach((value, index) => this.#store(at + index, value));
    this.#position += BigInt(room);
    this.#publish();
    return at;
  }

  /** Both views of the data show a store. */
  #store(word: number, value: number): void {
    const half = this.size / 4;
    this.words[word] = value;
    this.words[(word + half) % (2 * half)] = value;
  }

  commit(at: number, length: number, flags = 0): void {
    this.#store(at, flags + length >>> 0);
  }
}

/** @param windowBytes how much of the data the reader sees at a time; absent: all of it, twice */
function reader(
  producer: Producer,
  windowBytes?: number,
): { ring: RingBuffer; read: (limit?: number) => number[][]; moves: number[] } {
  const window = windowBytes === undefined ? producer.data : new ArrayBuffer(windowBytes),
    moves: number[] = [];
  const show = (offset: number) => {
    if (windowBytes === undefined) return;
    const part = new Uint8Array(
      producer.data,
      offset,
      Math.min(windowBytes, producer.data.byteLength - offset),
    );
    new Uint8Array(window).set(part);
  };
  const ring = new RingBuffer({
    consumer: producer.consumer,
    producer: producer.producer,
    size: producer.size,
    window,
    move(offset) {
      moves.push(offset);
      show(offset);
    },
  });
  const read = (limit?: number) => {
    show(moves.at(-1) ?? 0); // a mapping would see what has come meanwhile
    const got: number[][] = [];
    const count = ring.drain((offset, length) => {
      got.push([...ring.words.subarray(offset >>> 2, offset + length >>> 2)]);
    }, limit);
    expect(count).toBe(got.length);
    return got;
  };
  return { ring, read, moves };
}

test("Records come in order, of any length, and give their place back", () => {
  const producer = new Producer(4096), { ring, read } = reader(producer);
  expect(read()).toEqual([]);
  producer.write([1]);
  producer.write([2, 2, 2]);
  producer.write([]);
  expect(ring.unread).toBe(16 + 24 + 8);
  expect(read()).toEqual([[1], [2, 2, 2], []]);
  expect([ring.unread, producer.consumed]).toEqual([0, 48n]);
});

test("A record that wraps is contiguous", () => {
  const producer = new Producer(64), { read } = reader(producer);
  for (let i = 0; i < 100; i++) {
    expect(producer.write([i, i + 1, i + 2, i + 3, i + 4])).not.toBe(false);
    expect(read()).toEqual([[i, i + 1, i + 2, i + 3, i + 4]]);
  }
});

test("A busy record ends the batch; it comes when it is committed", () => {
  const producer = new Producer(4096), { read } = reader(producer);
  producer.write([1]);
  const busy = producer.write([2], BUSY) as number;
  producer.write([3]);
  expect(read()).toEqual([[1]]);
  expect(read()).toEqual([]);
  producer.commit(busy, 4);
  expect(read()).toEqual([[2], [3]]);
});

test("Discarded records are skipped, and give their place back", () => {
  const producer = new Producer(4096), { read } = reader(producer);
  producer.write([1], DISCARDED);
  producer.write([2]);
  producer.write([3], DISCARDED);
  expect(read()).toEqual([[2]]);
  expect(producer.consumed).toBe(48n);
});

test("A limit counts discarded records too", () => {
  const producer = new Producer(65536), { read } = reader(producer);
  for (let i = 0; i < 2000; i++) producer.write([i], i % 2 === 0 ? 0 : DISCARDED);
  expect(read(3)).toEqual([[0], [2]]);
  expect(read(1)).toEqual([]);
  expect(read().length).toBe(998);
});

test("Positions cross 4 GiB, with records over the edge", () => {
  const start = 2n ** 32n - 160n;
  const producer = new Producer(128, start), { read } = reader(producer);
  for (let i = 0; i < 40; i++) {
    producer.write([i, i, i, i]);
    expect(read()).toEqual([[i, i, i, i]]);
    expect(producer.consumed).toBe(start + BigInt(i + 1) * 24n);
  }
});

test("The position of a reader before us is taken over, its high half too", () => {
  const start = (7n << 32n) + 2n ** 32n - 16n;
  const producer = new Producer(128, start), { read } = reader(producer);
  producer.write([1]);
  expect(read()).toEqual([[1]]);
  expect(producer.consumed).toBe(8n << 32n);
});

test("A handler that throws has had its record", () => {
  const producer = new Producer(4096), { ring, read } = reader(producer);
  for (const value of [1, 2, 3]) producer.write([value]);
  const seen: number[] = [];
  const drain = () =>
    ring.drain((offset) => {
      seen.push(ring.words[offset >>> 2] as number);
      if (seen.length === 2) throw new Error("enough");
    });
  expect(drain).toThrow("enough");
  expect(seen).toEqual([1, 2]);
  expect(read()).toEqual([[3]]);
});

test("A record beyond the producer's position is an error, and nothing is consumed", () => {
  const producer = new Producer(4096), { read } = reader(producer);
  producer.write([1]);
  const at = producer.write([2]) as number;
  producer.commit(at, 0x1000);
  expect(() => read()).toThrow(
    new RingBufferError(
      "Cannot read the ring buffer: a record of 4096 bytes at 16 passes the producer at 32",
    ),
  );
  expect(producer.consumed).toBe(0n);
});

test("A size that is no power of two, and a closed ring", () => {
  const memory = {
    consumer: new ArrayBuffer(8),
    producer: new ArrayBuffer(8),
    size: 48,
    window: new ArrayBuffer(96),
    move() {},
  };
  expect(() => new RingBuffer(memory)).toThrow(new RangeError("A ring of 48 bytes is no power of two"));
  const { ring, read } = reader(new Producer(64));
  ring[Symbol.dispose]();
  ring[Symbol.dispose]();
  expect(() => read()).toThrow(new TypeError("RingBuffer is closed"));
});

test("Random traffic: what goes in comes out, once and in order", () => {
  let seed = 1;
  const random = (below: number) => (seed = Math.imul(seed, 1103515245) + 12345 >>> 0, (seed >>> 8) % below);
  const producer = new Producer(1024, 2n ** 32n - 500_000n), { ring } = reader(producer);
  let sent = 0, received = 0, ended = -1;
  const wanted: number[] = [];
  for (let round = 0; round < 30_000; round++) {
    const values = Array.from({ length: 1 + random(12) }, () => sent);
    const drop = random(5) === 0;
    if (producer.write(values, drop ? DISCARDED : 0) !== false) {
      if (!drop) wanted.push(sent);
      sent++;
    }
    if (random(4) === 0) {
      ring.drain((offset, length) => {
        ended = ring.words[(offset + length >>> 2) - 1] as number;
        if (ended !== wanted[received]) throw new Error(`${ended} instead of ${wanted[received]}`);
        received++;
      }, 1 + random(20));
    }
  }
  ring.drain(() => received++);
  expect(received).toBe(wanted.length);
});

test("A window that is smaller than the ring moves along and loses nothing", () => {
  const size = 1 << 16, producer = new Producer(size), { read, moves } = reader(producer, 2 * pageSize);
  let written = 0;
  const seen: number[] = [];
  for (let round = 0; round < 300; round++) {
    while (producer.write([written, ...Array(written % 60).keys()]) !== false) written++;
    for (const record of read(round % 3 === 0 ? 7 : undefined)) {
      expect(record.length).toBe(1 + record[0]! % 60);
      seen.push(record[0]!);
    }
  }
  while (seen.length < written) seen.push(...read().map((record) => record[0]!));
  expect(seen).toEqual([...Array(written).keys()]);
  expect(moves.length).toBeGreaterThan(100);
  expect(moves.every((offset) => offset % pageSize === 0 && offset < size)).toBe(true);
});

test("A record that does not fit the window is refused, not cut", () => {
  const producer = new Producer(1 << 16), { read } = reader(producer, pageSize);
  producer.write(Array(pageSize / 4).fill(1));
  expect(() => read()).toThrow(
    new RingBufferError(
      `Cannot read the ring buffer: a record of ${pageSize} bytes does not fit the window of ${pageSize}`,
    ),
  );
});
