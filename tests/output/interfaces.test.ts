import { expect, test } from "bun:test";
import { InterfaceTable } from "../../lib/output/interfaces.ts";

/** Namespaces that a test can change, with a clock that it moves, and a record of what was asked. */
function world(namespaces: Record<number, Record<number, string>>) {
  const state = { namespaces, nowMs: 0, costMs: 0, asked: [] as string[], broken: new Set<number>() };
  return Object.assign(state, {
    system: {
      namespaces() {
        state.asked.push("all");
        state.nowMs += state.costMs;
        return new Map(Object.keys(state.namespaces).map((inode) => [Number(inode), [`/ns/${inode}`]]));
      },
      links(inode: number) {
        state.asked.push(`links ${inode}`);
        if (state.broken.has(inode)) throw new Error("EPERM");
        const links = state.namespaces[inode];
        return links && Object.entries(links).map(([ifindex, name]) => ({
          ifindex: Number(ifindex),
          name,
          altNames: [`alt-${name}`],
        }));
      },
      now: () => state.nowMs,
    },
  });
}

test("what is there at the start is known without asking again", () => {
  const { system, asked } = world({ 10: { 1: "lo", 2: "eth0" }, 20: { 1: "lo" } });
  const table = new InterfaceTable(system);
  expect(table.scan()).toEqual([]);
  expect(asked).toEqual(["all", "links 10", "links 20"]);
  expect(table.nameOf(10, 2)).toBe("eth0");
  expect(table.nameOf(20, 1)).toBe("lo");
  expect(asked).toHaveLength(3);
});

test("an interface born later is found in its namespace", () => {
  const { system, asked, namespaces } = world({ 10: { 1: "lo" } });
  const table = new InterfaceTable(system);
  table.scan();
  asked.length = 0;
  namespaces[10] = { 1: "lo", 7: "veth7" };
  expect(table.nameOf(10, 7)).toBe("veth7");
  expect(asked).toEqual(["links 10"]);
});

test("so is a namespace born later", () => {
  const { system, asked, namespaces } = world({ 10: { 1: "lo" } });
  const table = new InterfaceTable(system);
  table.scan();
  asked.length = 0;
  namespaces[30] = { 2: "eth0" };
  expect(table.nameOf(30, 2)).toBe("eth0");
  expect(asked).toEqual(["all", "links 30"]);
});

test("looks in vain become rare, for that namespace alone", () => {
  const earth = world({ 10: { 1: "lo" } });
  const table = new InterfaceTable(earth.system);
  table.scan();
  const looks: number[] = [];
  for (; earth.nowMs < 10_000; earth.nowMs += 10) {
    earth.asked.length = 0;
    table.nameOf(99, 5);
    if (earth.asked.length > 0) looks.push(earth.nowMs);
  }
  expect(looks).toEqual([0, 250, 750, 1750, 3750, 7750]);
  earth.namespaces[10] = { 1: "lo", 2: "new" };
  expect(table.nameOf(10, 2)).toBe("new");
});

test("looking takes a twentieth of the time at most", () => {
  const earth = world({});
  earth.costMs = 40;
  const table = new InterfaceTable(earth.system);
  table.nameOf(1, 1);
  earth.nowMs += 799;
  earth.asked.length = 0;
  table.nameOf(2, 1);
  expect(earth.asked).toEqual([]);
  earth.nowMs += 1;
  table.nameOf(2, 1);
  expect(earth.asked).toEqual(["all"]);
});

test("nothing is looked for where there is nothing", () => {
  const { system, asked } = world({});
  const table = new InterfaceTable(system);
  expect(table.nameOf(0, 5)).toBeUndefined();
  expect(table.nameOf(5, 0)).toBeUndefined();
  expect(asked).toEqual([]);
});

test("a new name is a new generation; a gone interface keeps its name but has no index", () => {
  const earth = world({ 10: { 1: "lo", 2: "eth0", 3: "eth1" } });
  const table = new InterfaceTable(earth.system);
  table.scan();
  earth.namespaces[10] = { 1: "lo", 2: "wan" };
  table.scan();
  expect(table.generation).toBe(1);
  expect(table.nameOf(10, 2)).toBe("wan");
  expect(table.nameOf(10, 3)).toBe("eth1");
  expect(table.indexOf(10, "eth1")).toBeUndefined();
});

test("an index by name, by alternative name, and none", () => {
  const table = new InterfaceTable(world({ 10: { 1: "lo", 2: "eth0" } }).system);
  expect(table.indexOf(10, "eth0")).toBe(2);
  expect(table.indexOf(10, "alt-eth0")).toBe(2);
  expect(table.indexOf(10, "eth9")).toBeUndefined();
  expect(table.indexOf(11, "eth0")).toBeUndefined();
});

test("a namespace that cannot be read does not hide the others", () => {
  const earth = world({ 10: { 1: "lo" }, 20: { 1: "lo" } });
  earth.broken.add(10);
  const table = new InterfaceTable(earth.system);
  expect(table.scan()).toEqual([{ inode: 10, cause: new Error("EPERM") }]);
  expect(table.nameOf(20, 1)).toBe("lo");
  expect(table.nameOf(10, 1)).toBeUndefined();
});

test("a name that has expired is read again, once, when it is asked for", () => {
  const earth = world({ 10: { 1: "lo", 2: "veth7" }, 20: { 1: "lo" } });
  const table = new InterfaceTable(earth.system);
  table.scan();
  earth.namespaces[10] = { 1: "lo", 2: "eth0" };
  expect(table.nameOf(10, 2)).toBe("veth7");
  const generation = table.generation;
  table.expire();
  expect(table.generation).toBeGreaterThan(generation);
  earth.asked.length = 0;
  expect([table.nameOf(10, 2), table.nameOf(10, 1), table.nameOf(10, 2)]).toEqual(["eth0", "lo", "eth0"]);
  expect(earth.asked).toEqual(["links 10"]);
});

test("a name that cannot be read again stays, and reading takes a twentieth of the time at most", () => {
  const earth = world({ 10: { 1: "lo", 2: "eth0" } });
  const table = new InterfaceTable(earth.system);
  table.scan();
  delete earth.namespaces[10];
  earth.costMs = 40;
  let looks = 0;
  for (; earth.nowMs < 10_000; earth.nowMs += 10) {
    if (earth.nowMs % 100 < 10) table.expire();
    earth.asked.length = 0;
    expect(table.nameOf(10, 2)).toBe("eth0");
    if (earth.asked.includes("all")) looks++;
  }
  expect(looks).toBeGreaterThan(5);
  expect(looks * 40).toBeLessThanOrEqual(10_000 / 20 + 40);
});
