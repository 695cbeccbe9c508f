/** What a tracer has to be allowed, asked before anything is opened, so that the answer names it; and how much. */
import { UnsupportedError } from "../errors.ts";
import { capabilities, raiseLockedMemory, raiseOpenFiles } from "../sys/process.ts";

/** Either of the names of each line will do. */
const needed: readonly (readonly [what: string, ...anyOf: string[]])[] = [
  ["load programs", "CAP_BPF", "CAP_SYS_ADMIN"],
  ["attach them to kernel functions", "CAP_PERFMON", "CAP_SYS_ADMIN"],
];

/** @throws {UnsupportedError} it names the capabilities that are missing */
export function requireRights(own: ReadonlySet<string> = capabilities()): void {
  const missing = needed.filter(([, ...anyOf]) => !anyOf.some((name) => own.has(name)));
  if (missing.length === 0) return;
  const names = missing.map(([what, name]) => `${name} to ${what}`).join(", ");
  throw new UnsupportedError(`Cannot trace packets: this process lacks ${names}`, {
    hint: "run it as root, for example with sudo; Linux before 5.8 wants CAP_SYS_ADMIN",
  });
}

/** Where kprobes can only be set through perf, each takes a file. */
const WANTED_FILES = 65536;

/** Lifts what limits memory of BPF (before Linux 5.11) and open files, as far as it may. */
export function raiseLimits(): void {
  raiseLockedMemory();
  raiseOpenFiles(WANTED_FILES);
}
