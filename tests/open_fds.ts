import { readdirSync } from "node:fs";

/** How many fds this process has open. */
export function openFds(): number {
  return readdirSync("/proc/self/fd").length;
}
