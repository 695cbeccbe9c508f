/**
 * Where tracefs is: at a mount point, or in a mount of our own that is in no namespace, so that nobody else sees it
 * and nothing is left of it (fsopen(2), fsmount(2): Linux 5.2, CAP_SYS_ADMIN).
 */
import { statSync } from "node:fs";
import { scope } from "./arena.ts";
import { OwnedFd } from "./fd.ts";
import { trySyscall } from "./ffi.ts";

/** The mount point of today, and the one of kernels and distributions before it. */
export const tracefsMountPoints: readonly string[] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

const FSOPEN_CLOEXEC = 1, FSCONFIG_CMD_CREATE = 6, FSMOUNT_CLOEXEC = 1;

/** Held as long as the process lives. */
let ownMount: OwnedFd | undefined;

/** Directories to look into for files of tracefs, the best first; they need not exist. */
export function tracefsDirectories(): readonly string[] {
  if (tracefsMountPoints.some(isMounted)) return tracefsMountPoints;
  ownMount ??= mountUnseen("tracefs");
  return ownMount === undefined ? tracefsMountPoints : [`/proc/self/fd/${ownMount.fd}`];
}

/** Whether something is mounted there, be it that we may not look into it. */
function isMounted(directory: string): boolean {
  try {
    statSync(`${directory}/trace`);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EACCES";
  }
}

/** A mount of this file system that is attached nowhere; undefined where we may not, or the kernel has none. */
function mountUnseen(fileSystem: string): OwnedFd | undefined {
  using memory = scope();
  const name = memory.copy(new TextEncoder().encode(`${fileSystem}\0`));
  const context = trySyscall("fsopen", name.address, FSOPEN_CLOEXEC);
  if (context < 0) return undefined;
  using configured = new OwnedFd(context);
  if (trySyscall("fsconfig", configured.fd, FSCONFIG_CMD_CREATE, 0, 0, 0) < 0) return undefined;
  const mount = trySyscall("fsmount", configured.fd, FSMOUNT_CLOEXEC, 0);
  return mount < 0 ? undefined : new OwnedFd(mount);
}
