/**
 * What the guest boots into: three cpio archives, one after the other.
 *
 * | base: tools of this machine | modules of that kernel | job: scenarios, the tracers |
 *
 * They stay uncompressed: unpacking is slow under emulation, copying is not. The base is kept in the cache.
 */
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { basename, join } from "node:path";
import { command, which } from "./command.ts";
import { archive, copyOf, directory, type Entry, file, link, treeOf } from "./cpio.ts";
import { Archive } from "./debian.ts";
import { cacheFolder, type Image } from "./images.ts";

/** Programs of the guest beside busybox; they come from this machine, with their libraries. */
const guestPrograms = [
  "busybox",
  "bash",
  "ip",
  "ss",
  "bridge",
  "tc",
  "nft",
  "xtables-nft-multi",
  "socat",
  "tcpdump",
  "ethtool",
  "conntrack",
  "bpftool",
  "ping",
  "kmod",
  "strace",
  "nc",
  "setpriv",
  "unshare",
];

/** glibc pieces that nothing links to but Bun's loader or the name service opens. */
const extraLibraries = ["libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "libnss_files.so.2"];
const libraryFolder = "/lib/x86_64-linux-gnu";

/** Debian's own build of the tracer we are measured against. */
export const peerPath = "/usr/bin/pwru";

/** Absolute paths of the libraries and the loader of a program; none for a static one. */
function librariesOf(program: string): string[] {
  const done = Bun.spawnSync(["ldd", program]);
  return [...done.stdout.toString().matchAll(/(?:=> |^\s*)(\/\S+)/gm)].map((match) => match[1] ?? "");
}

function withLibraries(path: string, hostPath: string): Entry[] {
  const libraries = librariesOf(hostPath).map((library) => copyOf(library.slice(1), library));
  return [{ ...copyOf(path, hostPath), mode: 0o755 } as Entry, ...libraries];
}

function peer(): string {
  const root = join(cacheFolder, "peer");
  if (!existsSync(root)) {
    const fresh = `${root}.new-${process.pid}`;
    const archive = new Archive(join(cacheFolder, "apt-peer"), [{ at: "Debian", suite: "sid" }]);
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

function base(): Uint8Array {
  const xtables = join("/usr", libraryFolder, "xtables");
  const entries: Entry[] = [
    ...["proc", "sys", "dev", "tmp", "run", "root", "job", "out", "bin", "sbin", "usr/sbin"].map((path) =>
      directory(path)
    ),
    ...guestPrograms.flatMap((name) => {
      const path = which(name);
      if (path === null) throw new Error(`Cannot find "${name}" on this machine`);
      return withLibraries(`usr/bin/${name}`, realpathSync(path));
    }),
    ...withLibraries(peerPath.slice(1), peer()),
    ...extraLibraries.map((name) => join(libraryFolder, name)).map((path) => copyOf(path.slice(1), path)),
    ...treeOf(xtables.slice(1), xtables),
    ...["passwd", "group", "protocols", "services", "nsswitch.conf"].map((name) => `/etc/${name}`)
      .filter((path) => existsSync(path)).map((path) => copyOf(path.slice(1), path)),
    file("etc/hosts", "127.0.0.1 localhost\n"),
    link("var/run", "/run"),
  ];
  return archive(entries);
}

/** The base archive, rebuilt when this recipe changes or the cache is new. */
export function baseArchive(): string {
  const recipe = Bun.hash(readFileSync(import.meta.path)).toString(16).padStart(16, "0");
  const path = join(cacheFolder, `base-${recipe}.cpio`);
  if (!existsSync(path)) {
    mkdirSync(cacheFolder, { recursive: true });
    for (const old of readdirSync(cacheFolder).filter((name) => /^base-.*\.cpio$/.test(name))) {
      command(["rm", "-f", join(cacheFolder, old)]);
    }
    writeFileSync(`${path}.${process.pid}`, base());
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
  /** after that long it is ended */
  readonly limitSeconds: number;
  /** files of the host to put beside the script */
  readonly files?: readonly string[];
}

/** The folder /job of the guest, one sub-folder per scenario, in order; and the binary under test. */
function jobArchive(jobs: readonly Job[], binary: string): Uint8Array {
  const guestFile = (name: string, path: string, mode: number) =>
    file(path, readFileSync(join(import.meta.dir, name)), mode);
  const tested = binary === peerPath ? [] : withLibraries("usr/local/bin/pwru", binary);
  const pwru = binary === peerPath ? peerPath : "/usr/local/bin/pwru";
  return archive([
    guestFile("init.sh", "init", 0o755),
    guestFile("tracer.sh", "lib/guest/tracer.sh", 0o644),
    guestFile("topo.sh", "lib/guest/topo.sh", 0o644),
    ...tested,
    ...jobs.flatMap((job, index) => {
      const folder = `job/${String(index).padStart(2, "0")}-${job.name}`;
      const settings = `limit=${job.limitSeconds}\nexport PWRU=${pwru} PEER=${peerPath} ${guestSettings}\n`;
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
  const parts = [readFileSync(baseArchive()), readFileSync(image.modules), jobArchive(jobs, binary)];
  writeFileSync(path, Buffer.concat(parts));
}
