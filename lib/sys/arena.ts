/**
 * Memory whose address the kernel is given. It is mapped, never collected and never moved: a small typed
 * array moves when its `.buffer` is taken, and one that is collected too early corrupts the heap.
 *
 * `scope()` is for one call: everything taken from it is free again when the scope ends. `allocate()` is
 * for good.
 */
import type { Struct } from "../../asm/layout.ts";
import { anonymousPages, releasePages } from "./ffi.ts";

/** Bytes at an address. */
export interface Block {
  readonly address: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
}

interface Chunk {
  readonly address: number;
  readonly buffer: ArrayBuffer;
}

/** What one mmap adds; a larger request gets a mapping of its own size. */
const chunkBytes = 0x10000;
/** Larger chunks go back to the kernel when the scope that needed them ends. */
const keptBytes = 0x100000;

function newChunk(length: number): Chunk {
  return anonymousPages(Math.max(chunkBytes, Math.ceil(length / chunkBytes) * chunkBytes));
}

function block(chunk: Chunk, offset: number, length: number): Block {
  return {
    address: chunk.address + offset,
    bytes: new Uint8Array(chunk.buffer, offset, length),
    view: new DataView(chunk.buffer, offset, length),
  };
}

/** Every block starts at a multiple of this. */
const alignment = 8;

/** A stack of chunks filled from the bottom. */
class Bump {
  readonly #chunks: Chunk[] = [];
  /** chunk in use, and the first free byte in it */
  chunk = 0;
  offset = 0;

  take(length: number): Block {
    while (this.chunk < this.#chunks.length) {
      const chunk = this.#chunks[this.chunk] as Chunk;
      if (this.offset + length <= chunk.buffer.byteLength) return this.#cut(chunk, length);
      this.chunk++;
      this.offset = 0;
    }
    const chunk = newChunk(length);
    this.#chunks.push(chunk);
    return this.#cut(chunk, length);
  }

  #cut(chunk: Chunk, length: number): Block {
    const taken = block(chunk, this.offset, length);
    this.offset = Math.ceil((this.offset + length) / alignment) * alignment;
    taken.bytes.fill(0);
    return taken;
  }

  rewind(chunk: number, offset: number): void {
    this.chunk = chunk;
    this.offset = offset;
    for (let index = this.#chunks.length - 1; index > chunk; index--) {
      const { address, buffer } = this.#chunks[index] as Chunk;
      if (buffer.byteLength <= keptBytes) continue;
      this.#chunks.splice(index, 1);
      releasePages(address, buffer);
    }
  }
}

const forCalls = new Bump(), forGood = new Bump();
let depth = 0;

/** Memory until the end of a `using` block. Scopes nest, and end in the reverse order. */
export class Scope implements Disposable {
  readonly #chunk = forCalls.chunk;
  readonly #offset = forCalls.offset;
  readonly #depth = ++depth;

  /** `length` zeroed bytes. */
  alloc(length: number): Block {
    this.#assertInnermost();
    return forCalls.take(length);
  }

  /** A copy of `bytes`. */
  copy(bytes: ArrayBufferView): Block {
    const to = this.alloc(bytes.byteLength);
    to.bytes.set(new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    return to;
  }

  /** A NUL-terminated copy of `text` in UTF-8. */
  string(text: string): Block {
    if (text.includes("\0")) throw new RangeError(`A C string cannot hold a NUL: ${JSON.stringify(text)}`);
    return this.copy(new TextEncoder().encode(`${text}\0`));
  }

  /** A struct with these members; the others are zero. */
  struct<S extends Struct>(layout: S, members: Parameters<S["encode"]>[2]): Block {
    const to = this.alloc(layout.size);
    layout.encode(to.view, 0, members);
    return to;
  }

  #assertInnermost(): void {
    if (this.#depth !== depth) throw new Error("Only the innermost scope can be used or ended");
  }

  [Symbol.dispose](): void {
    this.#assertInnermost();
    depth--;
    forCalls.rewind(this.#chunk, this.#offset);
  }
}

/** Starts a scope: `using memory = scope()`. It must not live across an `await`. */
export function scope(): Scope {
  return new Scope();
}

/** `length` zeroed bytes for the life of the process. */
export function allocate(length: number): Block {
  return forGood.take(length);
}
