/**
 * Network namespaces: which there are, what identifies one, and a look into one (network_namespaces(7)).
 *
 * A namespace is identified by the inode number of its file in nsfs, as in `net:[4026531840]`; the kernel gives
 * a number again once its namespace is gone.
 */
import { closeSync, fstatSync, openSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { basename } from "node:path";
import { kernelError, syscall, trySyscall } from "./ffi.ts";
import { dumpLinks, type NetworkLink, routeSocket } from "./rtnetlink.ts";
import { errno } from "./errno.ts";

const CLONE_NEWNET = 0x4000_0000;
/** _IO(0xb7, 3): the CLONE_NEW flag of a namespace (include/uapi/linux/nsfs.h, Linux 4.11). */
const NS_GET_NSTYPE = 0xb703;

/** The calling thread's own. */
const OWN = "/proc/thread-self/ns/net";
/** Where ip(8) and Docker keep namespaces that may have no process. */
const NAMED_DIRECTORIES = ["/run/netns", "/run/docker/netns"];
/** Paths remembered per namespace: processes end, so one is not enough, and a hundred are no better. */
const MAX_PATHS = 4;

/** An open namespace file, closed with the `using` block. */
export class Netns implements Disposable {
  readonly fd: number;
  readonly inode: number;

  /** @throws {KernelError} there is no such file, or it stands for no network namespace */
  constructor(path: string) {
    const doing = `Cannot open "${path}" as a network namespace`;
    try {
      this.fd = openSync(path, "r");
    } catch (cause) {
      const { errno: number = 0 } = cause as { errno?: number };
      throw kernelError("open", Math.abs(number), { doing });
    }
    const type = trySyscall("ioctl", this.fd, NS_GET_NSTYPE);
    if (type !== CLONE_NEWNET) {
      this[Symbol.dispose]();
      throw kernelError("ioctl(NS_GET_NSTYPE)", type < 0 ? -type : errno["EINVAL"] as number, { doing });
    }
    this.inode = fstatSync(this.fd).ino;
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

/** The inode number of our own namespace. */
export function ownNetnsInode(): number {
  return statSync(OWN).ino;
}

/** Files that stand for each namespace in reach, by inode number: named ones, and those of processes in /proc. */
export function reachableNetns(): Map<number, string[]> {
  const found = new Map<number, string[]>();
  const add = (path: string, inode: () => number | undefined) => {
    try {
      const number = inode();
      if (number === undefined) return;
      const paths = found.get(number);
      if (paths === undefined) found.set(number, [path]);
      else if (paths.length < MAX_PATHS) paths.push(path);
    } catch {
      // The process has ended, or is not ours to look at.
    }
  };
  add(OWN, ownNetnsInode);
  for (const [path, inode] of namedFiles()) add(path, () => inode);
  for (const pid of entries("/proc")) {
    if (!/^[0-9]/.test(pid)) continue;
    const path = `/proc/${pid}/ns/net`;
    // "net:[4026531840]"
    add(path, () => Number(/\d+/.exec(readlinkSync(path))?.[0] ?? undefined) || undefined);
  }
  return found;
}

/** Names that ip(8), or else Docker, gave to network namespaces, by inode number. */
export function namedNetns(): Map<number, string> {
  const found = new Map<number, string>();
  for (const [path, inode] of namedFiles()) if (!found.has(inode)) found.set(inode, basename(path));
  return found;
}

function* namedFiles(): Generator<[path: string, inode: number]> {
  for (const directory of NAMED_DIRECTORIES) {
    for (const name of entries(directory)) {
      const path = `${directory}/${name}`;
      try {
        yield [path, statSync(path).ino];
      } catch {
        // Removed since, or not ours to look at.
      }
    }
  }
}

function entries(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/**
 * The interfaces of the namespace that has this inode number and one of these files.
 *
 * The calling thread is elsewhere only while a socket is made; the socket then stays there for us.
 *
 * @returns undefined: no file leads there any more
 * @throws {KernelError} EPERM without CAP_SYS_ADMIN, ...
 */
export function linksOf(inode: number, paths: readonly string[]): NetworkLink[] | undefined {
  for (const path of paths) {
    let netns: Netns;
    try {
      netns = new Netns(path);
    } catch {
      continue;
    }
    using there = netns;
    if (there.inode !== inode) continue;
    using socket = there.inode === ownNetnsInode() ? routeSocket() : inNetns(there, routeSocket);
    return dumpLinks(socket);
  }
  return undefined;
}

/**
 * Runs `make` with the calling thread in another namespace; for opening sockets, which then stay there.
 *
 * @param make must not await
 * @throws {KernelError} EPERM without CAP_SYS_ADMIN
 */
export function inNetns<T>(there: Netns, make: () => T): T {
  using home = new Netns(OWN);
  syscall("setns", there.fd, CLONE_NEWNET);
  try {
    return make();
  } finally {
    syscall("setns", home.fd, CLONE_NEWNET);
  }
}

/**
 * A new, empty namespace without a name. It ends with the last open file or socket that belongs to it, so with
 * us at the latest, however we end.
 *
 * @throws {KernelError} EPERM without CAP_SYS_ADMIN
 */
export function createNetns(): Netns {
  using home = new Netns(OWN);
  syscall("unshare", CLONE_NEWNET);
  try {
    return new Netns(OWN);
  } finally {
    syscall("setns", home.fd, CLONE_NEWNET);
  }
}
