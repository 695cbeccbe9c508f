import { expect, test } from "bun:test";
import {
  formatOwner,
  initialPidNamespace,
  ourselves,
  type Owner,
  parseOwner,
  parseStartTime,
  type Processes,
  runningProcesses,
  stateOf,
} from "../../lib/link/owner.ts";

const host = initialPidNamespace, pod = 4026532177;

test.each<[group: string, owner: Owner | undefined]>([
  ["pwru_4711_123456", { pid: 4711, startTime: 123456, pidNamespace: host }],
  ["pwru_1_99_4026532177", { pid: 1, startTime: 99, pidNamespace: pod }],
  ["pwru", undefined],
  ["pwru_4711", undefined],
  ["pwru_0_1", undefined],
  ["pwru_4711_x", undefined],
  ["pwru_4711_1_2_3", undefined],
  ["my_pwru_4711_1", undefined],
  ["kprobes", undefined],
])("group %s", (group, owner) => {
  expect(parseOwner(group)).toEqual(owner);
  if (owner !== undefined) expect(formatOwner(owner)).toBe(group);
});

test.each<[stat: string, startTime: number | undefined]>([
  ["7 (sh) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 5 6 7", 4242],
  ["7 (a) b) (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4243 5", 4243],
  ["7 (sh) S 1 7", undefined],
  ["", undefined],
])("stat %s", (stat, startTime) => {
  expect(parseStartTime(stat)).toBe(startTime);
});

/** Pids that live, by namespace, all started at tick 50. */
function processes(pidNamespace: number, living: Record<number, number[]>): Processes {
  return {
    pidNamespace,
    startTime: (pid) => living[pidNamespace]?.includes(pid) === true ? 50 : undefined,
    inNamespace: (other) => (living[other] ?? []).map((pid) => ({ pid, startTime: 50, pidNamespace: other })),
  };
}

test.each<[why: string, group: string, seenFrom: number, state: string]>([
  ["it runs", "pwru_7_50", host, "alive"],
  ["it is gone", "pwru_8_50", host, "dead"],
  ["its pid was given to another process", "pwru_7_49", host, "dead"],
  ["it runs in a container, seen from the host", "pwru_1_50_4026532177", host, "alive"],
  ["its container runs without it", "pwru_2_50_4026532177", host, "dead"],
  ["its container is gone", "pwru_1_50_4026532999", host, "dead"],
  ["it runs beside us in the container", "pwru_1_50_4026532177", pod, "alive"],
  ["it is gone from our container", "pwru_9_50_4026532177", pod, "dead"],
  ["it belongs to the host, we cannot see it", "pwru_8_50", pod, "unknown"],
  ["it belongs to another container", "pwru_1_50_4026532999", pod, "unknown"],
])("%s: %s", (_, group, seenFrom, state) => {
  const living = processes(seenFrom, { [host]: [7], [pod]: [1] });
  expect(stateOf(parseOwner(group) as Owner, living)).toBe(state as "alive");
});

test("We are alive by our own account, a neighbour's start time is not ours", () => {
  const us = ourselves();
  expect(us.startTime).toBeGreaterThan(0);
  expect(stateOf(us, runningProcesses())).toBe("alive");
  expect(stateOf({ ...us, startTime: us.startTime + 1 }, runningProcesses())).toBe("dead");
  expect(parseOwner(formatOwner(us))).toEqual(us);
});

test("The pids of a namespace are found through /proc", () => {
  const { pidNamespace } = ourselves();
  const found = runningProcesses().inNamespace(pidNamespace);
  expect(found.some(({ pid }) => pid === process.pid)).toBe(true);
});
