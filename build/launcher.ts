/**
 * The launcher: the code that the kernel starts in a merged file. What both architectures share of it: the
 * plan it is made from and the tables it reads. The code itself is in launcher_x64.ts and launcher_arm64.ts.
 *
 * It plays the kernel to ld.so. It puts each library into a file without a name, hands the files to ld.so in
 * LD_PRELOAD, drops the settings that could turn the tool into something else, and enters ld.so as if the
 * kernel had loaded Bun's executable with ld.so as its interpreter:
 *
 *     from the kernel                      for ld.so
 *     argc, argv                           the same
 *     envp                                 LD_PRELOAD=/proc/self/fd/3:...; the rest without `droppedSettings`,
 *                                          nothing of it when the start is a privileged one (AT_SECURE)
 *     auxv                                 the same but for the `patches`
 */
import { struct, u64 } from "../asm/layout.ts";
import { align, type Code, cString, Label, label, quad, row } from "./machine_code.ts";

/** What a launcher has to know; all addresses are in memory. */
export interface LauncherPlan {
  /** Bun's executable */
  readonly program: { readonly entry: number; readonly headers: number; readonly headerCount: number };
  /** ld.so */
  readonly interpreter: { readonly base: number; readonly entry: number };
  /** the library files as they lie in memory */
  readonly libraries: readonly { readonly name: string; readonly address: number; readonly size: number }[];
  /** the mapping that holds the library files; it is not needed once they are copied */
  readonly libraryPages: { readonly address: number; readonly size: number };
}

/** Numbers of system calls, and the one open flag that differs between the architectures. */
export interface SystemCalls {
  readonly faccessat: number;
  readonly openat: number;
  readonly memfd_create: number;
  readonly write: number;
  readonly close: number;
  readonly mmap: number;
  readonly munmap: number;
  readonly exit_group: number;
  readonly O_DIRECTORY: number;
}

export const AT_FDCWD = -100, STDERR = 2;
export const PROT_READ = 1, PROT_EXEC = 4, MAP_PRIVATE = 2;
export const AT_NULL = 0, AT_SECURE = 23;
const AT_PHDR = 3, AT_PHNUM = 5, AT_BASE = 7, AT_ENTRY = 9;
const MFD_CLOEXEC = 1, MFD_NOEXEC_SEAL = 8;
const O_RDWR = 2, O_CLOEXEC = 0o2000000, O_TMPFILE_BIT = 0o20000000;

/** Bytes of which one page is mapped to see whether a file may hold code. */
export const PROBE_BYTES = 4096;
/** Exit status when the program could not be started. */
export const FAILED = 1;

/** A library, as the code finds it. After the last comes a zero. */
export const libraryRow = struct("library", { address: u64, size: u64, name: u64 });

/**
 * A system call that makes an empty file without a name. Where `a` is 0 it is the library's name. After the
 * last comes a zero.
 */
export const sourceRow = struct("source", { number: u64, a: u64, b: u64, c: u64, d: u64 });

/** An entry of the auxiliary vector, and one that takes its place. After the last comes AT_NULL. */
export const auxvRow = struct("Elf64_auxv_t", { a_type: u64, a_val: u64 });

/** Prefixes of the variables that ld.so, libc, Bun and JavaScriptCore act upon before main.ts is asked. */
export const droppedSettings = ["LD_", "GLIBC_TUNABLES", "BUN_", "NODE_", "JSC_"];

/** Parts of the LD_PRELOAD variable, which is written from its end to its beginning. */
export const preloadName = "LD_PRELOAD", preloadPrefix = ":/proc/self/fd/";
/** As many digits as a file descriptor can have. */
const FD_DIGITS = 10;

/** Room for the variable on the stack, which has to stay a multiple of 16. */
export function preloadBytes(libraries: number): number {
  const most = preloadName.length + libraries * (preloadPrefix.length + FD_DIGITS) + 1;
  return Math.ceil(most / 16) * 16;
}

/** A text and its length, which the code needs to write it. */
export class Text {
  readonly label: Label;
  readonly value: string;
  constructor(name: string, value: string) {
    this.label = label(name);
    this.value = value;
  }
  get length(): number {
    return this.value.length;
  }
}

/** The tables and texts behind the code, and the labels by which it finds them. */
export function launcherData(plan: LauncherPlan, calls: SystemCalls) {
  const libraries = label("libraries"), sources = label("sources"), patches = label("patches");
  const settings = label("settings");
  const names = plan.libraries.map(({ name }) => new Text(name, name));
  const folders = ["/dev/shm", "/run", "/tmp"].map((path) => new Text(path, path));
  const descriptors = new Text("descriptors", "/proc/self/fd");
  const name = new Text("name", preloadName), prefix = new Text("prefix", preloadPrefix);
  const noProc = new Text("noProc", "error: Cannot start: /proc is not mounted\n");
  const noFile = new Text(
    "noFile",
    "error: Cannot start: no file to hold the C library: memfd_create(2), /dev/shm, /run and /tmp all refuse\n",
  );
  const memory = (flags: number) => ({ number: calls.memfd_create, a: 0, b: flags, c: 0, d: 0 });
  const openFlags = O_TMPFILE_BIT | calls.O_DIRECTORY | O_RDWR | O_CLOEXEC;
  const temporary = (folder: Text) => (
    { number: calls.openat, a: AT_FDCWD, b: folder.label, c: openFlags, d: 0o600 }
  );
  const code: Code = [
    align(8),
    libraries,
    plan.libraries.map(({ address, size }, index) =>
      row(libraryRow, { address, size, name: (names[index] as Text).label })
    ),
    quad(0),

    sources,
    row(sourceRow, memory(MFD_CLOEXEC | MFD_NOEXEC_SEAL)), //  Linux 6.3; the file is mapped, never executed
    row(sourceRow, memory(MFD_CLOEXEC)), //                    before it
    folders.map((folder) => row(sourceRow, temporary(folder))), // where a sandbox denies memfd_create
    quad(0),

    patches,
    row(auxvRow, { a_type: AT_PHDR, a_val: plan.program.headers }),
    row(auxvRow, { a_type: AT_PHNUM, a_val: plan.program.headerCount }),
    row(auxvRow, { a_type: AT_ENTRY, a_val: plan.program.entry }),
    row(auxvRow, { a_type: AT_BASE, a_val: plan.interpreter.base }),
    // In a secure start ld.so ignores LD_PRELOAD. Nothing that came in with the environment is left by then.
    row(auxvRow, { a_type: AT_SECURE, a_val: 0 }),
    quad(AT_NULL),

    settings,
    droppedSettings.map(cString),
    cString(""),
    [...names, ...folders, descriptors, name, prefix, noProc, noFile].map((text) => [
      text.label,
      cString(text.value),
    ]),
  ];
  return { code, libraries, sources, patches, settings, descriptors, name, prefix, noProc, noFile };
}
