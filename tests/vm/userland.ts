/**
 * Where the programs of a guest come from: this machine, or for a guest of another architecture a folder with
 * Debian's packages for it, unpacked and not installed. Either is a root: files and libraries are found in it the
 * same way, by name, without running anything.
 */
import { existsSync, lstatSync, readFileSync, readlinkSync, renameSync, rmSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import { readElf } from "../../build/elf.ts";
import { programFolders, which } from "./command.ts";
import { copyOf, type Entry, file } from "./cpio.ts";
import { Archive, guestPrograms, installPrograms, type Suite } from "./debian.ts";
import { cached } from "./images.ts";
import { isNative, type Machine } from "./machines.ts";

/** The release that this machine is expected to run too: the same versions, whatever the guest's architecture. */
const suites: readonly Suite[] = [
  { at: "Debian", suite: "bookworm" },
  { at: "Debian-Security", suite: "bookworm-security" },
];

/** What no program depends on by its package: glibc, for what was compiled elsewhere. */
const libraries = ["libc6"];

export class Userland {
  readonly machine: Machine;
  /** folder of the host whose content looks like a Debian of that machine */
  readonly root: string;

  constructor(machine: Machine, root: string) {
    this.machine = machine;
    this.root = root;
  }

  /** The guest's programs have been installed or unpacked. */
  static of(machine: Machine, say: (line: string) => void): Userland {
    if (isNative(machine)) {
      installPrograms(guestPrograms, say);
      return new Userland(machine, "/");
    }
    const root = cached("userland", machine);
    if (!existsSync(root)) {
      say(`downloading programs for ${machine.debian}`);
      const archive = new Archive(cached("apt-userland", machine), suites, machine.debian);
      archive.update();
      const fresh = `${root}.new-${process.pid}`;
      rmSync(fresh, { recursive: true, force: true });
      archive.unpackWithDependencies([...new Set([...Object.values(guestPrograms), ...libraries])], fresh);
      renameSync(fresh, root);
    }
    return new Userland(machine, root);
  }

  /** Path on the host of a program. */
  program(name: string): string {
    const path = isNative(this.machine) ? which(name) : this.#find(name, programFolders);
    if (path === null) throw new Error(`Cannot find "${name}" for ${this.machine.debian}`);
    return this.#resolved(path);
  }

  /** Path on the host of a folder or file of the C library's directory. */
  library(name: string): string {
    const { libraryFolder } = this.machine;
    const path = this.#find(name, [libraryFolder, join("usr", libraryFolder)]);
    if (path === null) throw new Error(`Cannot find "${name}" for ${this.machine.debian}`);
    return path;
  }

  /** A program under `path`, with its loader and all libraries that it needs. */
  withLibraries(path: string, hostPath: string): Entry[] {
    const content = readFileSync(hostPath), { interpreter, needed } = readElf(hostPath, content);
    const loader = interpreter === undefined ? [] : [
      copyOf(interpreter.slice(1), join(this.root, interpreter)),
    ];
    return [file(path, content, 0o755), ...loader, ...this.libraries(needed)];
  }

  /** These libraries and those that they need. */
  libraries(names: readonly string[]): Entry[] {
    const found = new Map<string, string>(), queue = [...names];
    for (let name = queue.shift(); name !== undefined; name = queue.shift()) {
      if (found.has(name) || isLoader(name)) continue;
      const hostPath = this.library(name);
      found.set(name, hostPath);
      queue.push(...readElf(hostPath, readFileSync(hostPath)).needed);
    }
    return [...found].map(([name, hostPath]) => copyOf(join(this.machine.libraryFolder, name), hostPath));
  }

  /** Where a symbolic link ends, which may be absolute: then it begins at the root. */
  #resolved(path: string): string {
    if (!lstatSync(path).isSymbolicLink()) return path;
    const target = readlinkSync(path);
    return this.#resolved(isAbsolute(target) ? join(this.root, target) : join(dirname(path), target));
  }

  #find(name: string, folders: readonly string[]): string | null {
    return folders.map((folder) => join(this.root, folder, name)).find((path) => existsSync(path)) ?? null;
  }
}

/** Every program has brought it along. */
const isLoader = (name: string) => name.startsWith("ld-linux");
