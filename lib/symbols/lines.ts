/**
 * Text files of the kernel as bytes, whole lines at a time.
 *
 * A read of a /proc or tracefs file gives a page at most, however much is asked for, so pages are gathered
 * first. Strings would cost more than the kernel's own work: kallsyms is 10 MB in 200,000 lines.
 */
import { closeSync, openSync, readSync } from "node:fs";

const NEWLINE = 0x0a;
const CHUNK_BYTES = 1 << 18;

/**
 * Views of whole lines; the last line of the file may lack its newline. A view is valid until the next one
 * is asked for.
 */
export function* chunksOfLines(path: string, chunkBytes: number = CHUNK_BYTES): Generator<Uint8Array> {
  const fd = openSync(path, "r");
  try {
    let buffer = new Uint8Array(chunkBytes), filled = 0;
    for (;;) {
      const count = readSync(fd, buffer, filled, buffer.length - filled, null);
      filled += count;
      if (count !== 0 && filled < buffer.length / 2) continue;
      const end = count === 0 ? filled : buffer.lastIndexOf(NEWLINE, filled - 1) + 1;
      if (end > 0) {
        yield buffer.subarray(0, end);
        buffer.copyWithin(0, end, filled);
        filled -= end;
      }
      if (count === 0) return;
      if (filled === buffer.length) {
        const larger = new Uint8Array(2 * filled);
        larger.set(buffer);
        buffer = larger;
      }
    }
  } finally {
    closeSync(fd);
  }
}
