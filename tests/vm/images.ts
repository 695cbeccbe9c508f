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
import { isNative, type Machine, type MachineName, machineOf } from "./machines.ts";

/**
 * One row per series and machine: `packages` matches the series' image packages, `fprobe` is whether Debian builds
 * it with CONFIG_FPROBE, which kprobe-multi needs. What the series add to the tests:
 *
 *     5.10         no BTF of modules, no bpf_get_func_ip         6.1    BTF of modules
 *     6.12         kprobe-multi on ftrace; arm64 has no FPROBE before 6.14
 *     6.18, 7.3    kprobe-multi on the function graph tracer; the newest there is
 */
export const kernelTable = [
  { kernel: "5.10", series: "5.10", arch: "x64", packages: "5\\.10\\.", fprobe: false },
  { kernel: "6.1", series: "6.1", arch: "x64", packages: "6\\.1\\.", fprobe: false },
  { kernel: "6.12", series: "6.12", arch: "x64", packages: "6\\.12\\.", fprobe: true },
  { kernel: "6.18", series: "6.18", arch: "x64", packages: "6\\.18\\.", fprobe: true },
  { kernel: "7.3", series: "7.3", arch: "x64", packages: "7\\.", fprobe: true },
  { kernel: "6.12-arm64", series: "6.12", arch: "arm64", packages: "6\\.12\\.", fprobe: false },
  { kernel: "6.18-arm64", series: "6.18", arch: "arm64", packages: "6\\.18\\.", fprobe: true },
] as const;
type Row = (typeof kernelTable)[number];
export type KernelName = Row["kernel"];
export type Series = Row["series"];

const rowOf = (kernel: KernelName): Row => kernelTable.find((row) => row.kernel === kernel) as Row;
const namesOn = (arch: MachineName): readonly KernelName[] =>
  kernelTable.filter((row) => row.arch === arch).map(({ kernel }) => kernel);

export const kernelNames: readonly KernelName[] = kernelTable.map((row) => row.kernel);
/** Those of the usual set of tests. */
export const x64Kernels = namesOn("x64");
/** Those of the long set alone: most machines that run the tests emulate them more slowly. */
export const arm64Kernels = namesOn("arm64");

export const machineFor = (kernel: KernelName): Machine => machineOf(rowOf(kernel).arch);
export const seriesOf = (kernel: KernelName): Series => rowOf(kernel).series;
export const hasFprobe = (kernel: KernelName): boolean => rowOf(kernel).fprobe;

/** Debian's archive has no kernel of this series (any more). */
export class NoSuchKernel extends Error {
  override readonly name = "NoSuchKernel";
  readonly kernel: KernelName;
  constructor(kernel: KernelName) {
    super(`Cannot find Linux ${kernel} in Debian's archive: no image package`);
    this.kernel = kernel;
  }
}

/** A kernel that can be booted. */
export interface Image {
  readonly kernel: KernelName;
  readonly machine: Machine;
  /** Debian package and its version */
  readonly package: string;
  readonly vmlinuz: string;
  /** cpio archive of the modules */
  readonly modules: string;
}

/** Where downloads live; outside the repository, so that a fresh clone finds them again. */
export const cacheFolder = process.env["PWRU_VM_CACHE"] ?? "/var/tmp/pwru-vm";

/** Where in it something lies that there is for each machine. */
export const cached = (name: string, machine: Machine): string =>
  join(cacheFolder, isNative(machine) ? name : `${name}-${machine.debian}`);

const kernelSuites: readonly Suite[] = [
  { at: "Debian", suite: "trixie" }, //                      6.12
  { at: "Debian-Security", suite: "trixie-security" },
  { at: "Debian", suite: "trixie-backports" }, //            6.18 and later
  { at: "Debian", suite: "bookworm" }, //                    6.1
  { at: "Debian-Security", suite: "bookworm-security" },
  { at: "Debian-Security", suite: "bullseye-security" }, //  5.10
];

/** The kernel from the cache, or from Debian's archive.
 * @throws {NoSuchKernel} */
export function image(kernel: KernelName, say: (line: string) => void): Image {
  const folder = join(cacheFolder, "kernels", kernel);
  if (!existsSync(folder)) download(kernel, folder, say);
  return {
    kernel,
    machine: machineFor(kernel),
    package: readFileSync(join(folder, "package"), "utf8").trim(),
    vmlinuz: join(folder, "vmlinuz"),
    modules: join(folder, "modules.cpio"),
  };
}

function download(kernel: KernelName, folder: string, say: (line: string) => void): void {
  const machine = machineFor(kernel);
  const archive = new Archive(cached("apt", machine), kernelSuites, machine.debian);
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
  const { debian } = machineFor(kernel);
  const names = archive.names(`^linux-image-${rowOf(kernel).packages}.*cloud-${debian}(-unsigned)?$`);
  const unsigned = (name: string) => Number(name.endsWith("-unsigned"));
  const best = [...(names.length === 0 ? [] : archive.versions(names))]
    .map(([name, version]) => ({ name, version }))
    .sort((a, b) => compareVersions(a.version, b.version) || unsigned(b.name) - unsigned(a.name)).at(-1);
  if (best === undefined) throw new NoSuchKernel(kernel);
  return best;
}

/** Module folders the tests may need; hardware drivers are left out. */
const wanted = /^kernel\/(net|drivers\/net|lib|crypto|arch\/\w+\/crypto)\//;
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
    entry.kind !== "link" && !/^(vmlinuz|config|System\.map)|\.dtb$/.test(basename(entry.path));
  return cpio([directory("lib/modules"), ...treeOf("lib/modules", join(staged, "lib/modules")).filter(keep)]);
}
