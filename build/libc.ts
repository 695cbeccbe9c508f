/**
 * The C library that goes into a static file: ld.so and four libraries of one Debian package, at one version.
 *
 * The package comes from the machine's Debian mirror, into the cache, and is checked against its hash there
 * before each use. A version that has left the mirrors is on snapshot.debian.org for good: put the .deb into
 * the cache folder by hand. To move to another version: `bun build/libc.ts VERSION` prints the new pin.
 */
import { existsSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { BuildError } from "./error.ts";
import { cacheFolder, command, ownCache, sha256, TemporaryFolder } from "./host.ts";
import { type Machine, machines } from "./machines.ts";
import type { Library } from "./merge.ts";

/** Debian 12: old enough to start on Linux 3.2, new enough for Bun, which wants 2.17. */
export const pin = {
  package: "libc6",
  /** of the source package */
  source: "glibc",
  version: "2.36-9+deb12u14",
  /** SHA-256 of the .deb, by Debian's name of the architecture */
  sha256: {
    amd64: "ba4f88f73dbc3ae9055f3c20f4523bfdbaf1ad13ff95e258924f77d20b4fbedf",
    arm64: "01f4330719fd4f65580e16ea5a0527f372fca750e8f588d26deaf09f2d3b1cf4",
  },
} as const;

/** What Bun needs of it, besides ld.so: since 2.34 the last two are empty shells for old executables. */
export const libraryNames = ["libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2"] as const;

/** The files of one architecture. */
export interface Libc {
  readonly interpreter: Library;
  readonly libraries: readonly Library[];
  /** the package's copyright file */
  readonly copyright: string;
}

/**
 * The pinned C library for a machine; fetched unless it is in the cache.
 *
 * @throws {BuildError} it cannot be had, or is not what is pinned
 */
export function libc(machine: Machine, say: (line: string) => void): Libc {
  const deb = join(ownCache(), fileName(machine, pin.version)), wanted = pin.sha256[machine.debian];
  if (!existsSync(deb)) {
    say(`fetching ${pin.package} ${pin.version} for ${machine.debian}`);
    download(machine, pin.version, deb);
  }
  const found = sha256(readFileSync(deb));
  if (found !== wanted) {
    throw new BuildError(`Cannot use "${deb}": its SHA-256 is ${found}, want ${wanted}; delete it`);
  }
  return unpack(machine, deb);
}

const fileName = ({ debian }: Machine, version: string) => `${pin.package}_${version}_${debian}.deb`;

function unpack(machine: Machine, deb: string): Libc {
  using folder = new TemporaryFolder(cacheFolder);
  command(["dpkg-deb", "-x", deb, folder.path]);
  const library = (name: string): Library => ({
    name,
    file: new Uint8Array(readFileSync(join(folder.path, machine.libraryFolder, name))),
  });
  return {
    interpreter: library(machine.interpreter),
    libraries: libraryNames.map(library),
    copyright: readFileSync(join(folder.path, "usr/share/doc", pin.package, "copyright"), "utf8"),
  };
}

const APT_HELPER = "/usr/lib/apt/apt-helper";

/** By apt's own downloader, so that its mirrors and proxies count. */
function download(machine: Machine, version: string, target: string): void {
  if (!existsSync(APT_HELPER)) {
    throw new BuildError(`Cannot fetch ${fileName(machine, version)}: that takes apt, of Debian or Ubuntu`);
  }
  const aside = `${target}.new-${process.pid}`, causes: unknown[] = [];
  for (const url of addresses(fileName(machine, version))) {
    try {
      command([
        APT_HELPER,
        "-o",
        "Acquire::http::Timeout=10",
        "-o",
        "Acquire::Retries=0",
        "download-file",
        url,
        aside,
      ]);
      return renameSync(aside, target);
    } catch (error) {
      causes.push(error);
      rmSync(aside, { force: true });
    }
  }
  throw new BuildError(
    `Cannot fetch ${fileName(machine, version)}: no mirror has it; snapshot.debian.org does, put it into ` +
      `"${cacheFolder}"`,
    { cause: causes[0] },
  );
}

/** Where the package may be: the machine's own mirrors, or Debian's. Its hash is known, so any will do. */
function addresses(name: string): string[] {
  const listed = command(["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"])
    .split("\n").map((uri) => uri.replace(/\/$/, "")).filter((uri) => /\/debian(-security)?$/.test(uri));
  const mirrors = new Set([
    ...listed,
    "http://deb.debian.org/debian",
    "http://deb.debian.org/debian-security",
  ]);
  return [...mirrors].map((uri) =>
    `${uri}/pool/${uri.endsWith("-security") ? "updates/" : ""}main/g/${pin.source}/${name}`
  );
}

if (import.meta.main) {
  const version = process.argv[2] ?? pin.version;
  console.log(`version: "${version}",`);
  using folder = new TemporaryFolder(cacheFolder);
  for (const machine of machines) {
    const deb = join(folder.path, fileName(machine, version));
    download(machine, version, deb);
    console.log(`${machine.debian}: "${sha256(readFileSync(deb))}",`);
  }
}
