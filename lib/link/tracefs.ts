/**
 * tracefs as far as kprobe events need it: where it is, one command per write, the listing, two locks.
 *
 * No setting of the machine is touched; where tracefs is missing and cannot be had we say what to do.
 */
import { constants, openSync, readFileSync, statSync } from "node:fs";
import { UnsupportedError } from "../errors.ts";
import { scope } from "../sys/arena.ts";
import { errnoName } from "../sys/errno.ts";
import { flock, LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, OwnedFd } from "../sys/fd.ts";
import { trySyscall } from "../sys/ffi.ts";
import { tracefsDirectories } from "../sys/tracefs.ts";

/** `probes` serialises changes to kprobe_events, `sweeper` lets one process at a time delete leftovers. */
export type LockName = "probes" | "sweeper";
export type LockMode = "shared" | "exclusive";

/** What the backend and the sweeper ask of tracefs; tests put a model in its place. */
export interface ProbeControl extends Disposable {
  /** Gives one command to the kernel; the errno's name when it refused. */
  write(command: string): string | undefined;
  /** All probes of the machine, ours and other people's. */
  listing(): string;
  /** How often the probes of the machine fired and were missed: `  event hits misses`, one per line. */
  profile(): string;
  /** The number for perf_event_attr.config. */
  eventId(group: string, event: string): number;
  /** Tries to take a lock; false: someone else has it. It is ours until `unlock` or dispose. */
  tryLock(name: LockName, mode: LockMode): boolean;
  unlock(name: LockName): void;
}

/** Files of tracefs that flock(2) is used on; both are there whenever the first is. */
const lockFiles: Readonly<Record<LockName, string>> = { probes: "kprobe_events", sweeper: "kprobe_profile" };

/** Not by access(2), which asks what the user may without capabilities. */
function isThere(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch {
    return false; // `isDenied` tells the reasons apart
  }
}

/** Whether we may not even look: tracefs is mounted for root alone (mode 0700). */
function isDenied(path: string): boolean {
  try {
    statSync(path);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES";
  }
}

/** Whether tracefs can be had; `denied`: it is mounted, or debugfs is, but not for us to see. */
export function tracefsPresence(
  exists: (path: string) => boolean = isThere,
  denied: (path: string) => boolean = isDenied,
  directories: readonly string[] = tracefsDirectories(),
): "mounted" | "absent" | "denied" {
  const files = directories.map((directory) => `${directory}/trace`);
  return files.some(exists) ? "mounted" : files.some(denied) ? "denied" : "absent";
}

/** What to do where tracefs is absent. */
export const mountHint =
  "mount -t tracefs tracefs /sys/kernel/tracing # in a container: that directory of the host";

/** The directory with `kprobe_events`. */
export function findTracefs(
  exists: (path: string) => boolean = isThere,
  denied: (path: string) => boolean = isDenied,
  directories: readonly string[] = tracefsDirectories(),
): string {
  const found = directories.find((directory) => exists(`${directory}/kprobe_events`));
  if (found !== undefined) return found;
  const presence = tracefsPresence(exists, denied, directories);
  if (presence === "denied") {
    throw new UnsupportedError("Cannot define kprobe events: tracefs is not for this user", {
      hint: "root is needed",
    });
  }
  if (presence === "mounted") {
    throw new UnsupportedError("Cannot define kprobe events: this kernel is built without them", {
      hint: "CONFIG_KPROBE_EVENTS=y is missing",
    });
  }
  throw new UnsupportedError("Cannot define kprobe events: tracefs is not mounted", {
    hint: mountHint,
  });
}

/**
 * Opens `kprobe_events` for adding. O_TRUNC would delete every probe of the machine, so neither it nor
 * anything that implies it (`writeFile`) may ever be used here.
 */
function openForCommands(path: string): OwnedFd {
  try {
    return new OwnedFd(openSync(path, constants.O_WRONLY | constants.O_APPEND));
  } catch (cause) {
    const code = String((cause as { code?: unknown }).code);
    throw new UnsupportedError(`Cannot define kprobe events: open ${path}: ${code}`, {
      cause,
      ...(hints[code] === undefined ? {} : { hint: hints[code] }),
    });
  }
}

const hints: Readonly<Record<string, string>> = {
  EACCES: "root is needed",
  EPERM: "root is needed, and a kernel that is not locked down (/sys/kernel/security/lockdown)",
  EROFS: "tracefs is mounted read-only here; in a container, mount it writable",
};

class TracefsControl implements ProbeControl {
  readonly #directory: string;
  readonly #commands: OwnedFd;
  readonly #locks: Partial<Record<LockName, OwnedFd>> = {};

  constructor(directory: string) {
    this.#directory = directory;
    this.#commands = openForCommands(`${directory}/kprobe_events`);
  }

  write(command: string): string | undefined {
    using memory = scope();
    const text = memory.copy(new TextEncoder().encode(command));
    const result = trySyscall("write", this.#commands.fd, text.address, text.bytes.length);
    return result < 0 ? errnoName(-result) : undefined;
  }

  listing(): string {
    return readFileSync(`${this.#directory}/kprobe_events`, "latin1");
  }

  profile(): string {
    return readFileSync(`${this.#directory}/kprobe_profile`, "latin1");
  }

  eventId(group: string, event: string): number {
    return Number(readFileSync(`${this.#directory}/events/${group}/${event}/id`, "latin1"));
  }

  tryLock(name: LockName, mode: LockMode): boolean {
    const path = `${this.#directory}/${lockFiles[name]}`;
    const { fd } = this.#locks[name] ??= new OwnedFd(openSync(path, constants.O_RDONLY));
    return flock(fd, (mode === "shared" ? LOCK_SH : LOCK_EX) | LOCK_NB);
  }

  unlock(name: LockName): void {
    const lock = this.#locks[name];
    if (lock !== undefined) flock(lock.fd, LOCK_UN);
  }

  [Symbol.dispose](): void {
    this.#commands[Symbol.dispose]();
    for (const lock of Object.values(this.#locks)) lock[Symbol.dispose]();
  }
}

/**
 * Opens the machine's `kprobe_events`.
 *
 * @throws {UnsupportedError} it is missing or not for us to write; the hint says what would help
 */
export function openTracefs(): ProbeControl {
  return new TracefsControl(findTracefs());
}
