/** Compresses files while the trace goes on: Bun's threads do the work, a piece at a time. */
import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { promisify } from "node:util";
import { gzip as gzipWithCallback } from "node:zlib";
import { COMPRESSED } from "./backups.ts";

const { O_RDONLY, O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
const gzip = promisify(gzipWithCallback);

/** Each piece is a gzip member of its own, which is what a gzip file may consist of (RFC 1952, section 2.2). */
const PIECE_BYTES = 2 ** 20;

/**
 * Replaces `path` by `path.gz`, with the same owner and mode. Until that is complete and on disk, `path` stays and
 * the new file is called `path.gz.tmp`.
 *
 * @param signal gives up between two pieces, and leaves `path` as it was
 */
export async function compressFile(path: string, signal: AbortSignal): Promise<void> {
  const target = `${path}${COMPRESSED}`, unfinished = `${target}.tmp`;
  const from = openSync(path, O_RDONLY | O_NOFOLLOW);
  try {
    const { mode, uid, gid } = fstatSync(from);
    rmSync(unfinished, { force: true }); // of a program that was killed
    const to = openSync(unfinished, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
    try {
      await compressPieces(from, to, signal);
      fchownSync(to, uid, gid);
      fchmodSync(to, mode & 0o777);
      fsyncSync(to);
      renameSync(unfinished, target);
    } catch (error) {
      rmSync(unfinished, { force: true });
      throw error;
    } finally {
      closeSync(to);
    }
  } finally {
    closeSync(from);
  }
  rmSync(path, { force: true });
}

async function compressPieces(from: number, to: number, signal: AbortSignal): Promise<void> {
  const piece = new Uint8Array(PIECE_BYTES);
  while (true) {
    signal.throwIfAborted();
    const length = readSync(from, piece);
    if (length === 0) return;
    const packed = await gzip(piece.subarray(0, length));
    for (let done = 0; done < packed.length;) done += writeSync(to, packed, done);
  }
}
