/** What netlink requests of ours do, with ip(8) as the witness; and namespaces that leave nothing behind. */
import { expect, test } from "bun:test";
import { readlinkSync } from "node:fs";
import { createNetns, inNetns, type Netns, ownNetnsInode } from "../../lib/sys/netns.ts";
import { request, routeSocket } from "../../lib/sys/rtnetlink.ts";
import {
  addAddress,
  defaultRoute,
  forwardFrom,
  linkMtu,
  linkUp,
  type RouteRequest,
  vethPair,
} from "../../lib/sys/rtnetlink_message.ts";
import { netFiles } from "../open_fds.ts";
import { isRoot } from "./requires.ts";

const hasTools = Bun.which("ip") !== null && Bun.which("nsenter") !== null;

/** A command's output inside a namespace of ours. */
function inside(netns: Netns, ...command: string[]): string {
  const file = `/proc/${process.pid}/fd/${netns.fd}`;
  const { exitCode, stdout, stderr } = Bun.spawnSync(["nsenter", `--net=${file}`, ...command]);
  if (exitCode !== 0) throw new Error(`${command.join(" ")}: ${stderr}`);
  return stdout.toString();
}

test.skipIf(!isRoot || !hasTools)("a network made by netlink (needs root, iproute2, util-linux)", () => {
  const home = readlinkSync("/proc/thread-self/ns/net");
  using here = createNetns(), there = createNetns();
  expect(readlinkSync("/proc/thread-self/ns/net")).toBe(home);
  expect(new Set([here.inode, there.inode, ownNetnsInode()]).size).toBe(3);
  using socket = inNetns(here, routeSocket), remote = inNetns(there, routeSocket);
  expect(readlinkSync("/proc/thread-self/ns/net")).toBe(home);

  request(socket, vethPair({ name: "left", mtu: 9001 }, { name: "right", mtu: 1400, netnsFd: there.fd }));
  const link = (netns: Netns, name: string) => {
    const [row] = JSON.parse(inside(netns, "ip", "-j", "-d", "link", "show", "dev", name));
    return row as { ifindex: number; mtu: number; flags: string[]; linkinfo: { info_kind: string } };
  };
  expect(link(here, "left")).toMatchObject({ mtu: 9001, linkinfo: { info_kind: "veth" } });
  expect(link(there, "right").mtu).toBe(1400);

  const left = link(here, "left").ifindex, right = link(there, "right").ifindex;
  const steps: [typeof socket, RouteRequest][] = [
    [socket, addAddress(left, [10, 9, 1, 1], 24)],
    [socket, linkUp(left)],
    [socket, linkMtu(left, 1500)],
    [socket, forwardFrom(left)],
    [remote, addAddress(right, [10, 9, 1, 2], 24)],
    [remote, linkUp(right)],
    [remote, defaultRoute([10, 9, 1, 1])],
  ];
  for (const [to, wanted] of steps) request(to, wanted);
  expect(link(here, "left")).toMatchObject({ mtu: 1500, flags: expect.arrayContaining(["UP"]) });
  expect(inside(here, "ip", "-o", "-4", "addr", "show", "dev", "left")).toContain("inet 10.9.1.1/24 ");
  expect(inside(here, "cat", "/proc/sys/net/ipv4/conf/left/forwarding")).toBe("1\n");
  expect(inside(there, "ip", "route")).toContain("default via 10.9.1.1 dev right");
  expect(() => request(remote, defaultRoute([10, 9, 1, 1]))).toThrow("netlink(RTM_NEWROUTE): EEXIST");
  expect(() => request(remote, linkUp(4711))).toThrow("netlink(RTM_SETLINK): ENODEV");
});

test.skipIf(!isRoot)("nothing stays open (needs root)", () => {
  const before = new Set(netFiles());
  {
    using netns = createNetns();
    using _socket = inNetns(netns, routeSocket);
    expect(() =>
      inNetns(netns, () => {
        throw new Error("in vain");
      })
    ).toThrow("in vain");
  }
  expect(netFiles().filter((file) => !before.has(file))).toEqual([]);
});
