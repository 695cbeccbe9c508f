/**
 * Writes cpio archives in the "newc" format, the one an initramfs is made of
 * (Documentation/driver-api/early-userspace/buffer-format.rst).
 *
 * Entry: | "070701" | 13 fields of 8 hex digits | path, NUL, pad to 4 | content, pad to 4 |,
 * after the last one an entry named TRAILER!!!. Archives may be concatenated: later entries win.
 * Device nodes and hard links are left out.
 */
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { dirname, join } from "node:path";

const S_IFDIR = 0o040000, S_IFREG = 0o100000, S_IFLNK = 0o120000;

export type Entry =
  | { readonly path: string; readonly kind: "directory"; readonly mode?: number }
  | { readonly path: string; readonly kind: "link"; readonly target: string }
  | { readonly path: string; readonly kind: "file"; readonly mode?: number; readonly content: Uint8Array };

export const file = (path: string, content: Uint8Array | string, mode = 0o644): Entry => ({
  path,
  kind: "file",
  mode,
  content: typeof content === "string" ? new TextEncoder().encode(content) : content,
});
export const directory = (path: string, mode = 0o755): Entry => ({ path, kind: "directory", mode });
export const link = (path: string, target: string): Entry => ({ path, kind: "link", target });

/** A file of the host, under `path` in the archive; symbolic links are followed. */
export const copyOf = (path: string, hostPath: string): Entry =>
  file(path, readFileSync(hostPath), lstatSync(hostPath).mode & 0o111 ? 0o755 : 0o644);

/** Everything below a folder of the host; symbolic links stay links. */
export function treeOf(path: string, hostPath: string): Entry[] {
  return readdirSync(hostPath, { withFileTypes: true }).flatMap((item): Entry[] => {
    const to = join(path, item.name), from = join(hostPath, item.name);
    if (item.isDirectory()) return [directory(to), ...treeOf(to, from)];
    return [item.isSymbolicLink() ? link(to, readlinkSync(from)) : copyOf(to, from)];
  });
}

/** Entries with every parent folder before its first child, and each path once (the last one given). */
function complete(entries: readonly Entry[]): Entry[] {
  const byPath = new Map<string, Entry>();
  const addParents = (path: string) => {
    const parent = dirname(path);
    if (parent === "." || parent === "/") return;
    addParents(parent);
    if (!byPath.has(parent)) byPath.set(parent, directory(parent));
  };
  for (const entry of entries) {
    addParents(entry.path);
    byPath.set(entry.path, entry);
  }
  return [...byPath.values()];
}

const modeOf = (entry: Entry): number =>
  entry.kind === "directory"
    ? S_IFDIR | (entry.mode ?? 0o755)
    : entry.kind === "link"
    ? S_IFLNK | 0o777
    : S_IFREG | (entry.mode ?? 0o644);

/** One archive. Paths are relative to the root of the file system, without a leading slash. */
export function archive(entries: readonly Entry[]): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder(), parts: Uint8Array[] = [];
  const pad = (length: number) => new Uint8Array(-length & 3);
  let inode = 1;
  const put = (path: string, mode: number, content: Uint8Array) => {
    const name = text.encode(path + "\0");
    //              ino, mode, uid, gid, nlink, mtime, filesize, dev major, minor, rdev major, minor, namesize, check
    const fields = [inode++, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length, 0];
    const head = text.encode("070701" + fields.map((n) => n.toString(16).padStart(8, "0")).join(""));
    parts.push(head, name, pad(head.length + name.length), content, pad(content.length));
  };
  for (const entry of complete(entries)) {
    const content = entry.kind === "file"
      ? entry.content
      : text.encode(entry.kind === "link" ? entry.target : "");
    put(entry.path, modeOf(entry), content);
  }
  put("TRAILER!!!", 0, new Uint8Array(0));
  return new Uint8Array(Buffer.concat(parts));
}
