import { expect, test } from "bun:test";
import { NetnsNameTable } from "../../lib/output/netns_names.ts";

/** Names that a test can change, a clock that it moves, and a count of how often they were read. */
function world(names: Record<number, string>) {
  const state = { names, nowMs: 0, costMs: 0, scans: 0 };
  return Object.assign(state, {
    system: {
      names() {
        state.scans++;
        state.nowMs += state.costMs;
        return new Map(Object.entries(state.names).map(([inode, name]) => [Number(inode), name]));
      },
      now: () => state.nowMs,
    },
  });
}

test("what is there at the start is known without reading again", () => {
  const earth = world({ 10: "blue", 20: "red" });
  const table = new NetnsNameTable(earth.system);
  expect(table.scan()).toBe(2);
  expect([table.nameOf(10), table.nameOf(20), earth.scans]).toEqual(["blue", "red", 1]);
});

test("a namespace born later is found", () => {
  const earth = world({ 10: "blue" });
  const table = new NetnsNameTable(earth.system);
  table.scan();
  earth.names[30] = "green";
  expect(table.nameOf(30)).toBe("green");
  expect(table.generation).toBe(0);
});

test("looks in vain become rare, for that namespace alone", () => {
  const earth = world({});
  const table = new NetnsNameTable(earth.system);
  const scansAt = (netns: number, ms: number) => {
    earth.nowMs = ms;
    expect(table.nameOf(netns)).toBeUndefined();
    return earth.scans;
  };
  expect([0, 249, 250, 749, 750, 751].map((ms) => scansAt(10, ms))).toEqual([1, 1, 2, 2, 3, 3]);
  expect(scansAt(11, 751)).toBe(4);
  expect(scansAt(0, 752)).toBe(4);
});

test("looks take a twentieth of the time", () => {
  const earth = world({});
  earth.costMs = 10;
  const table = new NetnsNameTable(earth.system);
  table.nameOf(10);
  for (const [ms, scans] of [[11, 1], [209, 1], [210, 2]] as const) {
    earth.nowMs = ms;
    table.nameOf(ms);
    expect({ ms, scans: earth.scans }).toEqual({ ms, scans });
  }
});

test("an inode number that changes hands changes its name, and says so", () => {
  const earth = world({ 10: "blue", 20: "red" });
  const table = new NetnsNameTable(earth.system);
  table.scan();
  earth.names = { 20: "purple" };
  table.nameOf(99);
  expect([table.nameOf(20), table.generation]).toEqual(["purple", 2]);
  expect(table.nameOf(10)).toBeUndefined();
});

test("names that have expired are read again, once, when one is asked for", () => {
  const earth = world({ 10: "blue", 20: "red" });
  const table = new NetnsNameTable(earth.system);
  table.scan();
  earth.names = { 10: "green" };
  expect(table.nameOf(10)).toBe("blue");
  const generation = table.generation;
  table.expire();
  expect(table.generation).toBeGreaterThan(generation);
  expect([table.nameOf(10), table.nameOf(20), table.nameOf(10)]).toEqual(["green", undefined, "green"]);
  expect(earth.scans).toBe(2 + 1); // 20 has no name, which is a reason of its own to look
});
