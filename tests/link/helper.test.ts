import { expect, test } from "bun:test";
import { helperCommand, helperWords } from "../../lib/link/helper.ts";
import { livepatchedFunctions } from "../../lib/link/livepatch.ts";
import { findTracefs } from "../../lib/link/tracefs.ts";
import { tracefsMountPoints } from "../../lib/sys/tracefs.ts";

test.each<[how: string, execPath: string, main: string, command: string[]]>([
  ["compiled", "/usr/bin/pwru", "/$bunfs/root/pwru", ["/usr/bin/pwru", "--internal-helper", "sweep", "g"]],
  ["from source", "/bun", "/src/main.ts", ["/bun", "/src/main.ts", "--internal-helper", "sweep", "g"]],
])("The helper is started again %s", (_, execPath, main, command) => {
  expect(helperCommand(["sweep", "g"], execPath, main)).toEqual(command);
});

test.each<[argv: string[], words: string[] | undefined]>([
  [["bun", "/$bunfs/root/pwru", "--internal-helper", "sweep", "g"], ["sweep", "g"]],
  [["bun", "main.ts", "--internal-helper"], []],
  [["bun", "main.ts", "udp"], undefined],
  [["bun", "main.ts"], undefined],
  [["bun", "main.ts", "--", "--internal-helper"], undefined],
])("%j is told from a command line of the user", (argv, words) => {
  expect(helperWords(argv)).toEqual(words);
});

test.each<[files: string[], found: string]>([
  [["/sys/kernel/tracing/kprobe_events"], "/sys/kernel/tracing"],
  [["/sys/kernel/debug/tracing/kprobe_events"], "/sys/kernel/debug/tracing"],
  [["/sys/kernel/tracing/trace"], "Cannot define kprobe events: this kernel is built without them"],
  [[], "Cannot define kprobe events: tracefs is not mounted"],
])("tracefs with %j", (files, found) => {
  const find = () => findTracefs((path) => files.includes(path), () => false, tracefsMountPoints);
  if (found.startsWith("/")) expect(find()).toBe(found);
  else expect(find).toThrow(found);
});

test("tracefs that is root's alone is not taken for one that is missing", () => {
  const find = () =>
    findTracefs(() => false, (path) => path === "/sys/kernel/tracing/trace", tracefsMountPoints);
  expect(find).toThrow("Cannot define kprobe events: tracefs is not for this user");
});

test("Livepatched functions are read out of sysfs", () => {
  const tree: Record<string, string[]> = {
    "/sys/kernel/livepatch": ["fix"],
    "/sys/kernel/livepatch/fix": ["enabled", "vmlinux"],
    "/sys/kernel/livepatch/fix/vmlinux": ["ip_rcv,1", "patched"],
  };
  expect([...livepatchedFunctions((path) => tree[path] ?? [])]).toEqual(["ip_rcv"]);
  expect([...livepatchedFunctions(() => [])]).toEqual([]);
});
