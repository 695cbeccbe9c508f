/** --filter-netns and --filter-ifname: what the user names -> the numbers that the programs compare. */
import { UsageError } from "../errors.ts";
import { linksOf, Netns, ownNetnsInode } from "../sys/netns.ts";
import type { Options } from "./options.ts";

/** Where packets are wanted; undefined: anywhere. */
export interface Target {
  readonly netns: number | undefined;
  readonly ifindex: number | undefined;
}

const OWN = "/proc/self/ns/net";

/** @throws {UsageError} no such namespace, or no such interface in it */
export function findTarget(
  { filterNetns, filterIfname }: Pick<Options, "filterNetns" | "filterIfname">,
): Target {
  if (filterNetns?.kind === "inode") {
    if (filterIfname !== undefined) {
      throw new UsageError(
        `Cannot look up "${filterIfname}": --filter-ifname needs a namespace's path or name, not its inode number`,
        "--filter-ifname",
      );
    }
    return { netns: filterNetns.inode, ifindex: undefined };
  }
  const inode = filterNetns === undefined ? ownNetnsInode() : inodeOf(filterNetns.path);
  if (filterIfname === undefined) {
    return { netns: filterNetns === undefined ? undefined : inode, ifindex: undefined };
  }
  const links = linksOf(inode, [filterNetns?.path ?? OWN]) ?? [];
  const link = links.find(({ name }) => name === filterIfname);
  if (link === undefined) {
    const known = links.map(({ name }) => name).join(", ");
    throw new UsageError(
      `Cannot find interface "${filterIfname}" in network namespace ${inode}; it has ${known}`,
      "--filter-ifname",
    );
  }
  return { netns: inode, ifindex: link.ifindex };
}

function inodeOf(path: string): number {
  try {
    using netns = new Netns(path);
    return netns.inode;
  } catch (cause) {
    const error = new UsageError(`${(cause as Error).message}`, "--filter-netns");
    error.cause = cause;
    throw error;
  }
}
