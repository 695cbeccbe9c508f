/** Functions that a livepatch redirects (Documentation/ABI/testing/sysfs-kernel-livepatch). */
import { readdirSync } from "node:fs";

const root = "/sys/kernel/livepatch";

function entries(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return []; // no livepatch, or it went away: nothing is redirected
  }
}

/** Names out of PATCH/OBJECT/FUNCTION,NUMBER; attributes have no comma. */
export function livepatchedFunctions(list: (path: string) => string[] = entries): Set<string> {
  const names = new Set<string>();
  for (const patch of list(root)) {
    for (const object of list(`${root}/${patch}`)) {
      for (const entry of list(`${root}/${patch}/${object}`)) {
        const name = /^(.+),\d+$/.exec(entry)?.[1];
        if (name !== undefined) names.add(name);
      }
    }
  }
  return names;
}
