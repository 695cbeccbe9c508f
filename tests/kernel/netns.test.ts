/** Interfaces in other network namespaces, with ip(8) as the witness. */
import { expect } from "bun:test";
import { InterfaceTable } from "../../lib/output/interfaces.ts";
import { linksOf, Netns, ownNetnsInode, reachableNetns } from "../../lib/sys/netns.ts";
import { kernelTest } from "./requires.ts";

const hasIp = Bun.which("ip") !== null;

function ip(...args: string[]): string {
  const { exitCode, stdout, stderr } = Bun.spawnSync(["ip", ...args]);
  if (exitCode !== 0) throw new Error(`ip ${args.join(" ")}: ${stderr}`);
  return stdout.toString();
}

kernelTest([4, 11], "interfaces of another namespace, also those that come later", () => {
  const name = `pwru-test-${process.pid}`;
  ip("netns", "add", name);
  try {
    const home = ownNetnsInode();
    using netns = new Netns(`/run/netns/${name}`);
    expect(reachableNetns().get(netns.inode)).toEqual([`/run/netns/${name}`]);

    const table = new InterfaceTable();
    expect(table.scan()).toEqual([]);
    expect(table.nameOf(netns.inode, 1)).toBe("lo");
    expect(table.indexOf(home, "lo")).toBe(1);

    ip("-n", name, "link", "add", "left", "index", "4242", "type", "veth", "peer", "name", "right");
    expect(table.nameOf(netns.inode, 4242)).toBe("left");
    expect(table.indexOf(netns.inode, "left")).toBe(4242);
    expect(table.indexOf(home, "left")).toBeUndefined();

    const witness = [...ip("-o", "-n", name, "link").matchAll(/^(\d+): ([^:@]+)/gm)].map((
      [, index, name],
    ) => ({
      ifindex: Number(index),
      name,
      altNames: [],
    }));
    expect(linksOf(netns.inode, [`/run/netns/${name}`])).toEqual(witness as never);
    expect(linksOf(netns.inode, ["/proc/self/ns/net", "/nowhere"])).toBeUndefined();
    expect(ownNetnsInode()).toBe(home);
  } finally {
    ip("netns", "delete", name);
  }
}, hasIp);

kernelTest([4, 11], "two hundred interfaces are more than one datagram", () => {
  const name = `pwru-many-${process.pid}`;
  ip("netns", "add", name);
  try {
    const batch = Array.from({ length: 100 }, (_, i) => `link add left${i} type veth peer name right${i}`);
    Bun.spawnSync(["ip", "-n", name, "-batch", "-"], { stdin: Buffer.from(batch.join("\n")) });
    using netns = new Netns(`/run/netns/${name}`);
    const names = linksOf(netns.inode, [`/run/netns/${name}`])?.map((link) => link.name) ?? [];
    expect(names).toContain("right99");
    expect(names.filter((name) => /^(left|right)\d+$/.test(name))).toHaveLength(200);
  } finally {
    ip("netns", "delete", name);
  }
}, hasIp);

kernelTest([4, 11], "a file that is no network namespace is refused", () => {
  const refused: [path: string, reason: string][] = [
    ["/proc/self/ns/pid", "ioctl(NS_GET_NSTYPE): EINVAL"],
    ["/dev/null", "ioctl(NS_GET_NSTYPE): ENOTTY"],
    ["/nowhere", "open: ENOENT"],
  ];
  for (const [path, reason] of refused) {
    expect(() => new Netns(path)).toThrow(`Cannot open "${path}" as a network namespace: ${reason}`);
  }
});
