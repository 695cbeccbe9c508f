/** The demonstration on this very kernel: live as root, a recording for anybody else, and nothing left of it. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import type { Demonstration } from "../../lib/demo/paths.ts";
import { Scene } from "../../lib/demo/scene.ts";
import { netFiles } from "../open_fds.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { sh } from "./tracer.ts";

setDefaultTimeout(60_000);

const main = join(import.meta.dir, "../../main.ts");
const command = [process.execPath, main, "--demo"];
type Printed = Demonstration & { readonly recorded: boolean; readonly reason: string | null };

function run(before: readonly string[], ...words: string[]): { stdout: string; status: number } {
  const { stdout, exitCode } = Bun.spawnSync([...before, ...command, ...words]);
  return { stdout: stdout.toString(), status: exitCode };
}

/** What a demonstration could change around us; its own namespaces end with the files that it has open. */
function network(): unknown {
  return {
    links: sh("ls /sys/class/net"),
    named: sh("ls /run/netns 2>/dev/null || true"),
    routes: sh("cat /proc/net/route"),
  };
}

describe.skipIf(!isRoot || !isAtLeast(5, 8))("demo (needs root, Linux 5.8)", () => {
  test("the answer is delivered, then dropped with the reason, seen by tracepoints", () => {
    const before = network();
    const { stdout, status } = run([], "--output-json", "--backend", "tracepoint");
    const { recorded, backend, passages: [big, small] } = JSON.parse(stdout) as Printed;
    expect({ status, recorded, backend }).toEqual({ status: 0, recorded: false, backend: "tracepoint" });
    expect([big.mtu, big.arrived, small.mtu, small.arrived]).toEqual([9001, true, 1500, false]);
    expect([...new Set(big.steps.map(({ where }) => where))]).toEqual(["dns", "node", "pod"]);
    expect([...new Set(small.steps.map(({ where }) => where))]).toEqual(["dns", "node"]);
    const way = (steps: Printed["passages"][0]["steps"]) =>
      steps.filter(({ func }) => func === "net_dev_queue").map(({ where, iface }) => `${where} ${iface}`);
    expect(way(big.steps)).toEqual(["dns eth0", "node podveth"]);
    expect(way(small.steps)).toEqual(["dns eth0"]);
    if (isAtLeast(5, 17)) {
      expect(small.steps.at(-1)).toMatchObject({
        func: "kfree_skb(SKB_DROP_REASON_PKT_TOO_BIG)",
        reason: "SKB_DROP_REASON_PKT_TOO_BIG",
        location: expect.stringMatching(/^ip_forward\+0x/),
        len: 2379,
      });
    }
    expect(network()).toEqual(before);
  });

  test("the best backend, as text", () => {
    const { stdout, status } = run([]);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^-> node \S+ +\S+ +\| node dnsveth \S+$/m);
    expect(stdout).toContain("Seen just now");
  });

  test("a filter is refused", () => {
    expect(run([], "icmp")).toEqual({ stdout: "", status: 2 });
  });

  test("an interrupt ends it, and nothing is left", async () => {
    const before = network();
    const demo = Bun.spawn(command, { stdout: "pipe", stderr: "pipe" });
    const talk = demo.stderr.getReader();
    await talk.read(); // "Attaching probes": namespaces are there
    demo.kill("SIGINT");
    expect(await demo.exited).toBe(1);
    expect(await new Response(demo.stdout).text()).toBe("");
    expect(network()).toEqual(before);
  });

  test.each([
    ["nobody", ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"], /lacks CAP_BPF .*root/],
    ["root without CAP_SYS_ADMIN", ["setpriv", "--bounding-set=-sys_admin"], /EPERM/],
    ["root of another user namespace", ["unshare", "-Ur"], /EPERM/],
    [
      "root of one without network namespaces",
      ["unshare", "-Ur", "sh", "-c", 'echo 0 > /proc/sys/user/max_net_namespaces; exec "$@"', "sh"],
      /^Cannot make a network namespace: unshare: ENOSPC; sysctl user\.max_net_namespaces/,
    ],
    ["root without CAP_NET_ADMIN", ["setpriv", "--bounding-set=-net_admin"], /EPERM/],
  ])("%s sees a recording, and is told why", (_, before, why) => {
    const { stdout, status } = run(before, "--output-json");
    const { recorded, reason, passages } = JSON.parse(stdout) as Printed;
    expect({ status, recorded }).toEqual({ status: 0, recorded: true });
    expect(reason).toMatch(why);
    expect(passages.map(({ arrived }) => arrived)).toEqual([true, false]);
  });

  test("a scene: the path is learned by the server, and every file is closed at the end", () => {
    // Earlier tests' pipes may be closed meanwhile: they are sockets.
    const before = new Set(netFiles()), added = () => netFiles().filter((file) => !before.has(file));
    const links = readdirSync("/sys/class/net");
    {
      using scene = new Scene();
      expect(scene.answer(3000)).toBe(true);
      scene.setPodMtu(1500);
      expect(scene.answer(300)).toBe(false);
      expect(() => scene.answer(300)).toThrow("sendto: EMSGSIZE"); // the node's ICMP has arrived
      expect(readdirSync("/sys/class/net")).toEqual(links);
      expect(added().length).toBe(3 + 3 + 2); // namespaces, netlink, UDP
    }
    expect(added()).toEqual([]);
  });
});
