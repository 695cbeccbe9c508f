/** musl, for roots that have it and no other C library. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { BuildError } from "../../build/error.ts";
import { cacheFolder, command } from "../../build/host.ts";

/**
 * Path of musl's library: installed, or from Debian's package of it, which is kept with the other downloads.
 *
 * @throws {BuildError} it is not to be had
 */
export function muslLibrary(): string {
  const kept = join(cacheFolder, "musl");
  const find = (root: string) =>
    [...new Bun.Glob("lib/*-linux-musl/libc.so").scanSync({ cwd: root, absolute: true })][0];
  const installed = find("/") ?? find("/usr");
  if (installed !== undefined) return installed;
  mkdirSync(kept, { recursive: true });
  if (find(kept) === undefined) {
    command(["apt-get", "-qq", "download", "musl"], { cwd: kept });
    for (const deb of new Bun.Glob("*.deb").scanSync({ cwd: kept, absolute: true })) {
      command(["dpkg-deb", "-x", deb, kept]);
    }
  }
  const found = find(kept);
  if (found === undefined) throw new BuildError('Cannot find libc.so in Debian\'s package "musl"');
  return found;
}
