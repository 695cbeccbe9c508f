/**
 * The kernels we test on: Debian's own cloud builds, newest of each series, kept in a cache folder.
 *
 * cache/kernels/SERIES/ | package (name and version) | vmlinuz | modules.cpio |; written aside, then renamed.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { command } from "./command.ts";
import { archive as cpio, directory, type Entry, treeOf } from "./cpio.ts";
import { Archive, compareVersions, type Suite } from "./debian.ts";

/** One row per series. `names` matches its image packages; `why` says what the series adds to the tests. */
export const kernelTable = [
  { kernel: "5.10", names: "5\\.10\\.", why: "kprobes only, no BTF of modules, no bpf_get_func_ip" },
  { kernel: "6.1", names: "6\\.1\\.", why: "kprobes only (built without FPROBE), BTF of modules" },
  { kernel: "6.12", names: "6\\.12\\.", why: "kprobe-multi" },
  { kernel: "6.18", names: "6\\.18\\.", why: "kprobe-multi on the fgraph base" },
  { kernel: "7.3", names: "7\\.", why: "the newest there is" },
] as const;
export type KernelName = (typeof kernelTable)[number]["kernel"];
export const kernelNames: readonly KernelName[] = kernelTable.map((row) => row.kernel);

/** A kernel that can be booted. */
export interface Image {
  readonly kernel: KernelName;
  /** Debian package and its version */
  readonly package: string;
  readonly vmlinuz: string;
  /** cpio archive of the modules */
  readonly modules: string;
}

/** Where downloads live; outside the repository, so that a fresh clone finds them again. */
export const cacheFolder = process.env["PWRU_VM_CACHE"] ?? "/var/tmp/pwru-vm";

const kernelSuites: readonly Suite[] = [
  { at: "Debian", suite: "trixie" }, //                      6.12
  { at: "Debian-Security", suite: "trixie-security" },
  { at: "Debian", suite: "trixie-backports" }, //            6.18 and later
  { at: "Debian", suite: "bookworm" }, //                    6.1
  { at: "Debian-Security", suite: "bookworm-security" },
  { at: "Debian-Security", suite: "bullseye-security" }, //  5.10
];

/** The kernel from the cache, or from Debian's archive.
 * @throws {Error} the archive has no kernel of this series */
export function image(kernel: KernelName, say: (line: string) => void): Image {
  const folder = join(cacheFolder, "kernels", kernel);
  if (!existsSync(folder)) download(kernel, folder, say);
  return {
    kernel,
    package: readFileSync(join(folder, "package"), "utf8").trim(),
    vmlinuz: join(folder, "vmlinuz"),
    modules: join(folder, "modules.cpio"),
  };
}

function download(kernel: KernelName, folder: string, say: (line: string) => void): void {
  const archive = new Archive(join(cacheFolder, "apt"), kernelSuites);
  archive.update();
  const { name, version } = newest(archive, kernel);
  say(`downloading ${name} ${version}`);
  const work = `${folder}.new-${process.pid}`, root = join(work, "root");
  mkdirSync(root, { recursive: true });
  try {
    archive.unpack(name, root);
    // From 7.0 on the image package is empty: kernel and modules are packages of their own.
    for (const part of archive.dependencies(name).filter((d) => /^linux-(binary|modules|image)-\d/.test(d))) {
      archive.unpack(part, root);
    }
    const [vmlinuz] = [...new Bun.Glob("**/vmlinuz*").scanSync({ cwd: root, onlyFiles: true })];
    if (vmlinuz === undefined) throw new Error(`Cannot find a kernel in "${name}"`);
    renameSync(join(root, vmlinuz), join(work, "vmlinuz"));
    writeFileSync(join(work, "modules.cpio"), modulesOf(root));
    writeFileSync(join(work, "package"), `${name} ${version}\n`);
    rmSync(root, { recursive: true });
    renameSync(work, folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The image package with the highest version; the signed one of two equals. */
function newest(archive: Archive, kernel: KernelName): { name: string; version: string } {
  const series = kernelTable.find((row) => row.kernel === kernel)?.names;
  const names = archive.names(`^linux-image-${series}.*cloud-amd64(-unsigned)?$`);
  const unsigned = (name: string) => Number(name.endsWith("-unsigned"));
  const best = [...(names.length === 0 ? [] : archive.versions(names))]
    .map(([name, version]) => ({ name, version }))
    .sort((a, b) => compareVersions(a.version, b.version) || unsigned(b.name) - unsigned(a.name)).at(-1);
  if (best === undefined) {
    throw new Error(`Cannot find Linux ${kernel} in Debian's archive: no image package`);
  }
  return best;
}

/** Module folders the tests may need; hardware drivers are left out. */
const wanted = /^kernel\/(net|drivers\/net|lib|crypto|arch\/x86\/crypto)\//;
const unwanted = /^kernel\/drivers\/net\/(ethernet|wireless|usb|phy|can|fddi|hamradio|wan|hyperv)\//;

/** The modules of an unpacked package as an archive, with the index that modprobe reads. */
function modulesOf(root: string): Uint8Array {
  const base = [join(root, "usr/lib/modules"), join(root, "lib/modules")].find((path) => existsSync(path));
  const release = base === undefined ? undefined : readdirSync(base)[0];
  if (base === undefined || release === undefined) throw new Error(`Cannot find modules in "${root}"`);
  const from = join(base, release);
  for (const path of new Bun.Glob("**/*.ko{,.xz,.zst}").scanSync({ cwd: from })) {
    if (!wanted.test(path) || unwanted.test(path)) rmSync(join(from, path));
  }
  // depmod wants ROOT/lib/modules/RELEASE
  const staged = join(root, "staged");
  mkdirSync(join(staged, "lib/modules"), { recursive: true });
  renameSync(from, join(staged, "lib/modules", release));
  command(["/usr/sbin/depmod", "-b", staged, release]);
  const keep = (entry: Entry) =>
    entry.kind !== "link" && !/^(vmlinuz|config|System\.map)/.test(basename(entry.path));
  return cpio([directory("lib/modules"), ...treeOf("lib/modules", join(staged, "lib/modules")).filter(keep)]);
}
