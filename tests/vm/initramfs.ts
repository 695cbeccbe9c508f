/**
 * What the guest boots into: three cpio archives, one after the other.
 *
 * | base: tools | modules of that kernel | job: scenarios, the tracers |
 *
 * They stay uncompressed: unpacking is slow under emulation, copying is not. The base is kept in the cache.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { archive, copyOf, directory, type Entry, file, link, treeOf } from "./cpio.ts";
import { Archive, guestPrograms } from "./debian.ts";
import { cached, cacheFolder, type Image } from "./images.ts";
import type { Machine } from "./machines.ts";
import { Userland } from "./userland.ts";

/** glibc pieces that nothing links to but Bun's loader or the name service opens. */
const extraLibraries = ["libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "libnss_files.so.2"];

/** Debian's own build of the tracer we are measured against. */
export const peerPath = "/usr/bin/pwru";

function peer(machine: Machine): string {
  const root = cached("peer", machine);
  if (!existsSync(root)) {
    const fresh = `${root}.new-${process.pid}`;
    const archive = new Archive(
      cached("apt-peer", machine),
      [{ at: "Debian", suite: "sid" }],
      machine.debian,
    );
    archive.update();
    archive.unpack("pwru", fresh);
    renameSync(fresh, root);
  }
  const found = ["usr/bin/pwru", "usr/sbin/pwru"].map((path) => join(root, path)).find((path) =>
    existsSync(path)
  );
  if (found === undefined) throw new Error(`Cannot find pwru in "${root}"`);
  return found;
}

function base(userland: Userland): Uint8Array {
  const { machine } = userland, xtables = "xtables";
  const entries: Entry[] = [
    ...["proc", "sys", "dev", "tmp", "run", "root", "job", "out", "bin", "sbin", "usr/sbin"].map((path) =>
      directory(path)
    ),
    ...Object.keys(guestPrograms).flatMap((name) =>
      userland.withLibraries(`usr/bin/${name}`, userland.program(name))
    ),
    ...userland.withLibraries(peerPath.slice(1), peer(machine)),
    ...userland.libraries(extraLibraries),
    ...treeOf(join("usr", machine.libraryFolder, xtables), userland.library(xtables)),
    ...["passwd", "group", "protocols", "services", "nsswitch.conf"].map((name) => `/etc/${name}`)
      .filter((path) => existsSync(path)).map((path) => copyOf(path.slice(1), path)),
    file("etc/hosts", "127.0.0.1 localhost\n"),
    link("var/run", "/run"),
  ];
  return archive(entries);
}

/** What makes the base archive what it is. */
const recipe = ["initramfs.ts", "userland.ts", "debian.ts", "machines.ts"];

/** The base archive of a machine, rebuilt when its recipe changes or the cache is new. */
export function baseArchive(userland: Userland): string {
  const hash = Bun.hash(recipe.map((name) => readFileSync(join(import.meta.dir, name), "utf8")).join(""));
  const prefix = `base-${userland.machine.debian}-`;
  const path = join(cacheFolder, `${prefix}${hash.toString(16).padStart(16, "0")}.cpio`);
  if (!existsSync(path)) {
    mkdirSync(cacheFolder, { recursive: true });
    for (const old of readdirSync(cacheFolder).filter((name) => name.startsWith(prefix))) {
      rmSync(join(cacheFolder, old));
    }
    writeFileSync(`${path}.${process.pid}`, base(userland));
    renameSync(`${path}.${process.pid}`, path);
  }
  return path;
}

/** $PWRU_VM_OPTIONS: words for every start of the tracer under test, to try something out. */
const guestSettings = `TRACER_OPTIONS='${process.env["PWRU_VM_OPTIONS"] ?? ""}'`;

/** One scenario as the guest sees it. */
export interface Job {
  readonly name: string;
  readonly script: string;
  /** after that long, times the machine's slowness, it is ended */
  readonly limitSeconds: number;
  /** files of the host to put beside the script */
  readonly files?: readonly string[];
}

/** The folder /job of the guest, one sub-folder per scenario, in order; and the binary under test. */
function jobArchive(userland: Userland, jobs: readonly Job[], binary: string): Uint8Array {
  const guestFile = (name: string, path: string, mode: number) =>
    file(path, readFileSync(join(import.meta.dir, name)), mode);
  const tested = binary === peerPath ? [] : userland.withLibraries("usr/local/bin/pwru", binary);
  const { slowness } = userland.machine;
  const pwru = binary === peerPath ? peerPath : "/usr/local/bin/pwru";
  return archive([
    guestFile("init.sh", "init", 0o755),
    guestFile("tracer.sh", "lib/guest/tracer.sh", 0o644),
    guestFile("topo.sh", "lib/guest/topo.sh", 0o644),
    ...tested,
    ...jobs.flatMap((job, index) => {
      const folder = `job/${String(index).padStart(2, "0")}-${job.name}`;
      const settings = `limit=${job.limitSeconds * slowness}\n` +
        `export PWRU=${pwru} PEER=${peerPath} SLOWNESS=${slowness} ${guestSettings}\n`;
      return [
        file(`${folder}/script.sh`, job.script),
        file(`${folder}/settings`, settings),
        ...(job.files ?? []).map((path) => copyOf(`${folder}/${basename(path)}`, path)),
      ];
    }),
  ]);
}

/** Writes the initramfs of one boot. `binary` is the tracer under test, a path of the host. */
export function writeInitramfs(path: string, image: Image, jobs: readonly Job[], binary: string): void {
  const userland = Userland.of(image.machine, console.error);
  const parts = [baseArchive(userland), image.modules].map((part) => readFileSync(part));
  parts.push(Buffer.from(jobArchive(userland, jobs, binary)));
  writeFileSync(path, Buffer.concat(parts));
}
