/**
 * From a name to the rows that carry it, without a string per row: kernel symbols and traceable functions keep their
 * names as NUL-terminated bytes in one blob, as BTF does.
 *
 * Names are read as Latin-1, which is ASCII for everything the kernel gives.
 */

/** FNV-1a, 32 bits: `hash = Math.imul(hash ^ byte, FNV_PRIME)` from FNV_OFFSET, read as unsigned. */
export const FNV_OFFSET = 0x811c9dc5, FNV_PRIME = 0x01000193;

/** The hash of a name: as a reader of lines (line_parser.ts) makes it of the bytes. */
export function hashText(name: string): number {
  let hash = FNV_OFFSET;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ (name.charCodeAt(i) & 0xff), FNV_PRIME);
  return hash >>> 0;
}

/** The text from `start` to the NUL, or to the end of the blob. */
export function textAt(blob: Uint8Array, start: number): string {
  let end = blob.indexOf(0, start);
  if (end < 0) end = blob.length;
  return Buffer.from(blob.buffer, blob.byteOffset + start, end - start).toString("latin1");
}

/** Rows by hash; the caller compares the names of what it gets. Rows of one hash keep their order. */
export class NameIndex {
  readonly #heads: Int32Array;
  readonly #next: Int32Array;
  readonly #hashes: Uint32Array;
  readonly #mask: number;

  /** @param hashes hashText() of each row's name */
  constructor(hashes: Uint32Array) {
    const size = 2 ** Math.ceil(Math.log2(hashes.length + 1));
    this.#mask = size - 1;
    this.#hashes = hashes;
    this.#heads = new Int32Array(size).fill(-1);
    this.#next = new Int32Array(hashes.length);
    for (let row = hashes.length - 1; row >= 0; row--) { // backwards: the chain then runs forwards
      const slot = hashes[row]! & this.#mask;
      this.#next[row] = this.#heads[slot]!;
      this.#heads[slot] = row;
    }
  }

  /** The rows whose hash is that of `name`, in ascending order. */
  candidates(name: string): number[] {
    const hash = hashText(name), rows: number[] = [];
    for (let row = this.#heads[hash & this.#mask]!; row >= 0; row = this.#next[row]!) {
      if (this.#hashes[row] === hash) rows.push(row);
    }
    return rows;
  }
}
