import { readdirSync, readlinkSync } from "node:fs";

/** How many fds this process has open. */
export function openFds(): number {
  return readdirSync("/proc/self/fd").length;
}

/** Sockets and network namespaces that this process has open. */
export function netFiles(): string[] {
  return readdirSync("/proc/self/fd").flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return /^(socket|net):/.test(target) ? [target] : [];
    } catch {
      return []; // that of readdir itself
    }
  });
}
