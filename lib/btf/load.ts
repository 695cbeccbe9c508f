/**
 * Where the kernel's types come from: /sys/kernel/btf, a file the user names, or a vmlinux with debug data
 * that a distribution has installed. A live module's BTF is /sys/kernel/btf/NAME, split against vmlinux.
 */
import { readdirSync, readFileSync } from "node:fs";
import { release } from "node:os";
import { BtfError, UnsupportedError, UsageError } from "../errors.ts";
import { elfSection, isElf } from "./elf.ts";
import { type Btf, parseBtf } from "./parse.ts";

export const BTF_DIRECTORY = "/sys/kernel/btf";

/** Where distributions put a vmlinux with its sections, `R` being the running release. */
const installed = (R: string): readonly string[] => [
  `/boot/vmlinux-${R}`,
  `/lib/modules/${R}/vmlinux-${R}`,
  `/lib/modules/${R}/build/vmlinux`,
  `/usr/lib/modules/${R}/kernel/vmlinux`,
  `/usr/lib/debug/boot/vmlinux-${R}`,
  `/usr/lib/debug/boot/vmlinux-${R}.debug`,
  `/usr/lib/debug/lib/modules/${R}/vmlinux`,
];

/** The code of a failed file operation: "ENOENT". */
function codeOf(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}

/**
 * The types of the running kernel, or those in `file`: a raw blob or an ELF file with a .BTF section.
 *
 * @throws {UnsupportedError} this kernel shows none
 * @throws {UsageError} `file` cannot be read
 * @throws {BtfError} what was read is no BTF of a kernel
 */
export function loadKernelBtf(
  { file, directory = BTF_DIRECTORY, candidates = installed(release()) }: {
    file?: string;
    directory?: string;
    candidates?: readonly string[];
  } = {},
): Btf {
  if (file !== undefined) {
    try {
      return parseBtf(blobOf(readFileSync(file), file), { name: file });
    } catch (error) {
      if (error instanceof BtfError) throw error;
      throw new UsageError(`Cannot read "${file}": ${codeOf(error)}`, "--kernel-btf");
    }
  }
  let refused: unknown;
  for (const path of [`${directory}/vmlinux`, ...candidates]) {
    let data: Uint8Array;
    try {
      data = readFileSync(path);
    } catch (error) {
      if (!["ENOENT", "ENOTDIR"].includes(codeOf(error))) refused ??= error;
      continue;
    }
    return parseBtf(blobOf(data, path));
  }
  if (refused !== undefined) {
    throw new UnsupportedError(`Cannot read the kernel's BTF: ${codeOf(refused)}`, {
      hint: "run as root, with /sys mounted",
      cause: refused,
    });
  }
  throw new UnsupportedError(`Cannot find the kernel's BTF: there is no ${directory}/vmlinux`, {
    hint: "it takes a kernel with CONFIG_DEBUG_INFO_BTF=y and /sys mounted, or --kernel-btf FILE",
  });
}

function blobOf(file: Uint8Array, path: string): Uint8Array {
  if (!isElf(file)) return file;
  if (elfSection(file, ".BTF.base") !== undefined) {
    throw new BtfError(`Cannot use ${path}: it is a module, whose BTF describes only its own types`);
  }
  const blob = elfSection(file, ".BTF");
  if (blob === undefined) throw new BtfError(`Cannot use ${path}: it has no .BTF section`);
  return blob;
}

/** The loaded modules whose types the kernel shows, sorted. Before Linux 5.11 it shows none. */
export function modulesWithBtf(directory: string = BTF_DIRECTORY): string[] {
  try {
    return readdirSync(directory, { withFileTypes: true })
      .filter((entry) => !entry.isDirectory() && entry.name !== "vmlinux")
      .map((entry) => entry.name)
      .sort();
  } catch (cause) {
    throw new UnsupportedError(`Cannot list the modules in ${directory}: ${codeOf(cause)}`, {
      hint: "run as root, with /sys mounted",
      cause,
    });
  }
}

/**
 * The types of one loaded module on top of `base`, which has to be the running kernel's.
 *
 * @throws {UsageError} no such module is loaded, or it has no BTF
 * @throws {BtfError} it does not continue `base`
 */
export function loadModuleBtf(module: string, base: Btf, directory: string = BTF_DIRECTORY): Btf {
  const name = module.replaceAll("-", "_"); // as modprobe does: the kernel knows nf-nat as nf_nat
  if (!/^\w+$/.test(name) || name === "vmlinux") {
    throw new UsageError(`"${module}" is no module name`, "--kmods");
  }
  let data: Uint8Array;
  try {
    data = readFileSync(`${directory}/${name}`);
  } catch (error) {
    const why = codeOf(error) === "ENOENT" ? "is it loaded, and built with BTF" : codeOf(error);
    throw new UsageError(`Cannot read ${directory}/${name} for module "${module}": ${why}`, "--kmods");
  }
  return parseBtf(data, { base, name });
}

/** The same while a trace runs, where a module may come and go: undefined when there is nothing to be read. */
export function tryModuleBtf(module: string, base: Btf, directory: string = BTF_DIRECTORY): Btf | undefined {
  try {
    return loadModuleBtf(module, base, directory);
  } catch (error) {
    if (error instanceof UsageError || error instanceof BtfError) return undefined;
    throw error;
  }
}
