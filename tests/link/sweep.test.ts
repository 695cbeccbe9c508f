import { expect, test } from "bun:test";
import { initialPidNamespace, type Processes } from "../../lib/link/owner.ts";
import { sweep, sweepDeadOwners } from "../../lib/link/sweep.ts";
import { TracefsModel } from "./model.ts";

/** Pid 7 lives and was started at tick 50; nobody else does. */
const processes: Processes = {
  pidNamespace: initialPidNamespace,
  startTime: (pid) => pid === 7 ? 50 : undefined,
  inNamespace: () => [],
};

function lines(group: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `p:${group}/e0 0x${(i + 16).toString(16)} i=\\${i}:u32`);
}

const foreign = ["p:kprobes/p1 vfs_read", "p:pwru_x/e0 0x10 i=\\0:u32", "r:pwru_8_1/ret 0x10 i=\\0:u32"];

test("The released group and dead owners go, everything else stays", async () => {
  const control = new TracefsModel(), live = lines("pwru_7_50", 3);
  control.lines = [...foreign, ...lines("pwru_9_1", 20), ...live, ...lines("pwru_8_1", 5)];
  expect(await sweep(["pwru_9_1"], { control, processes })).toEqual({ deleted: 25, busy: 0 });
  expect(control.lines).toEqual([...foreign, ...live]);
  expect(control.held.size).toBe(0);
});

test("The group of a live process goes only when that process released it", async () => {
  const control = new TracefsModel();
  control.lines = lines("pwru_7_50", 3);
  expect(await sweep([], { control, processes })).toEqual({ deleted: 0, busy: 0 });
  expect(await sweep(["pwru_7_50"], { control, processes })).toEqual({ deleted: 3, busy: 0 });
});

test("The lock is given up after every 8 deletions", async () => {
  const control = new TracefsModel(), holds: number[] = [];
  control.lines = lines("pwru_8_1", 20);
  const { unlock } = control;
  let since = 0;
  control.unlock = (name) => {
    if (name === "probes") {
      holds.push(control.commands.length - since);
      since = control.commands.length;
    }
    unlock.call(control, name);
  };
  await sweep([], { control, processes });
  expect(holds).toEqual([8, 8, 4]);
});

test("Who dies during the sweep is swept too", async () => {
  const control = new TracefsModel();
  control.lines = lines("pwru_8_1", 2);
  control.onWrite = () => {
    if (control.commands.length === 2) control.lines.push(...lines("pwru_10_1", 3));
  };
  expect((await sweep([], { control, processes })).deleted).toBe(5);
  expect(control.lines).toEqual([]);
});

test("A refusal is counted and not repeated", async () => {
  const control = new TracefsModel();
  control.lines = lines("pwru_8_1", 3);
  const { write } = control;
  control.write = (command) => command.includes("\\1:") ? "EBUSY" : write.call(control, command);
  expect(await sweep([], { control, processes })).toEqual({ deleted: 2, busy: 1 });
});

test("A signal ends the sweep after the deletions at hand", async () => {
  const control = new TracefsModel(), stop = new AbortController();
  control.lines = lines("pwru_8_1", 30);
  control.onWrite = () => stop.abort();
  expect((await sweep([], { control, processes, signal: stop.signal })).deleted).toBe(8);
  expect(control.held.size).toBe(0);
});

test.each<[why: string, group: string, sweeperRuns: boolean, helpers: string[][]]>([
  ["a dead owner left something", "pwru_8_1", false, [["sweep"]]],
  ["its helper is still at it", "pwru_8_1", true, []],
  ["the owner lives", "pwru_7_50", false, []],
  ["it is not ours", "pwru_x", false, []],
])("At a start a helper is spawned if needed: %s", (_, group, sweeperRuns, helpers) => {
  const control = new TracefsModel(), spawned: string[][] = [];
  control.lines = lines(group, 2);
  if (sweeperRuns) control.taken.add("sweeper");
  sweepDeadOwners(control, processes, (words) => void spawned.push(words));
  expect(spawned).toEqual(helpers);
  expect(control.lines.length).toBe(2);
});
