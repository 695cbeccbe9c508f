import { expect, test } from "bun:test";
import { KprobeEvents } from "../../lib/link/kprobe_events.ts";
import { PerfModel, TracefsModel } from "./model.ts";

const group = "pwru_7_50";

function target(number: number, argument = 1) {
  return { address: BigInt(number) * 0x100n, name: `f${number}`, argument };
}

function range(from: number, to: number, argument = 1) {
  return Array.from({ length: to - from }, (_, i) => target(from + i, argument));
}

function setUp(more: Partial<ConstructorParameters<typeof KprobeEvents>[0]> = {}) {
  const control = new TracefsModel(), perf = new PerfModel(), swept: string[][] = [];
  const events = new KprobeEvents<ReturnType<typeof target>>({
    control,
    perf,
    group,
    arch: "x64",
    sweep: (groups) => Promise.resolve(void swept.push(groups)),
    ...more,
  });
  return { control, perf, swept, events };
}

/** event -> how many probes are on it */
function eventSizes(control: TracefsModel): number[] {
  const sizes = new Map<string, number>();
  for (const line of control.lines) {
    const event = line.split(" ")[0] as string;
    sizes.set(event, (sizes.get(event) ?? 0) + 1);
  }
  return [...sizes.values()];
}

test("A batch gives one event per program, and batches follow one another", async () => {
  const { control, perf, events } = setUp();
  const live: [number, number][] = [], lockModes = new Set<string | undefined>();
  control.onWrite = () => void lockModes.add(control.held.get("probes"));
  const result = await events.attach(
    [[...range(1, 11), target(11, 2), ...range(12, 14)], range(20, 120, 2)],
    new Map([[1, 101], [2, 102]]),
    { onLive: (attached) => void live.push([attached, perf.live.length]) },
  );
  expect(result).toEqual({ attached: 113, failed: [], interrupted: false });
  expect(eventSizes(control)).toEqual([12, 1, 100]);
  expect(perf.live.map(({ program }) => program)).toEqual([101, 102, 102]);
  expect(live).toEqual([[12, 1], [13, 2], [113, 3]]);
  expect([...lockModes]).toEqual(["shared"]);
  expect(control.held.size).toBe(0);
  expect(events.probes.get(0x105n)?.name).toBe("f1");
});

test("Positions that share a program share an event", async () => {
  const { perf, events } = setUp();
  await events.attach([[target(1, 1), target(2, 2), target(3, 5)]], new Map([[1, 9], [2, 9], [5, 9]]));
  expect(perf.live.length).toBe(1);
});

test("A position without a program is a mistake of the caller", () => {
  const { events } = setUp();
  expect(events.attach([[target(1, 3)]], new Map([[1, 9]]))).rejects.toThrow(
    "f1: no program takes the packet from argument 3",
  );
});

test("Refused places lead to the next one, refused functions are counted, none is fatal", async () => {
  const { control, events } = setUp();
  control.refusals.set(0x105n, "EILSEQ");
  control.refusals.set(0x205n, "EINVAL");
  for (const address of [0x300n, 0x305n]) control.refusals.set(address, "EINVAL");
  const reported: string[] = [];
  const result = await events.attach([range(1, 5)], new Map([[1, 9]]), {
    onFailure: ({ target: { name }, code }) => void reported.push(`${name} ${code}`),
  });
  expect(result.attached).toBe(3);
  expect(result.failed.map(({ target: { name }, code }) => [name, code])).toEqual([["f3", "EINVAL"]]);
  expect(reported).toEqual(["f3 EINVAL"]);
  expect([...events.probes.keys()]).toEqual([0x109n, 0x200n, 0x204n, 0x405n]);
});

test("An event without a single probe is not opened", async () => {
  const { control, perf, events } = setUp();
  for (const address of [0x100n, 0x105n]) control.refusals.set(address, "EINVAL");
  const result = await events.attach([[target(1)]], new Map([[1, 9]]));
  expect([result.attached, result.failed.length, perf.live.length]).toEqual([0, 1, 0]);
});

test("A signal stops at the next turn; what is half done is deleted all the same", async () => {
  const { control, perf, swept, events } = setUp();
  const stop = new AbortController();
  control.onWrite = () => {
    if (control.commands.length === 60) setTimeout(() => stop.abort(), 0);
  };
  const result = await events.attach([range(1, 41), range(100, 5000)], new Map([[1, 9]]), {
    signal: stop.signal,
  });
  expect([result.attached, result.interrupted, perf.live.length]).toEqual([40, true, 1]);
  expect(control.commands.length).toBeLessThan(1000);
  await events.release({ say: () => {} });
  expect(perf.live.length).toBe(0);
  expect(swept).toEqual([[group]]);
});

test("The event loop runs while a long batch is defined", async () => {
  const { events } = setUp();
  let turns = 0;
  const timer = setInterval(() => turns++, 0);
  await events.attach([range(1, 5000)], new Map([[1, 9]]));
  clearInterval(timer);
  expect(turns).toBeGreaterThan(5);
});

test("A batch is what is defined between two turns of the event loop", async () => {
  const { control, events } = setUp();
  let sizes: number[] = [], since = 0;
  control.onWrite = () => {
    if (since++ > 0) return;
    setImmediate(() => {
      sizes.push(since);
      since = 0;
    });
  };
  const sizesWith = async (batchSize?: number) => {
    sizes = [];
    await events.attach([range(1, 41)], new Map([[1, 9]]), { batchSize });
    return sizes;
  };
  expect(await sizesWith(20)).toEqual([20, 20]);
  expect(await sizesWith()).toEqual([10, 10, 10, 10]);
});

test("A lock that is not to be had delays, but does not prevent", async () => {
  const { control, events } = setUp();
  control.taken.add("probes");
  setTimeout(() => control.taken.delete("probes"), 30);
  const result = await events.attach([[target(1)]], new Map([[1, 9]]));
  expect(result.attached).toBe(1);
});

test("Closing pauses deleters, and goes on without their consent", async () => {
  const { control, perf, events } = setUp(), modes: (string | undefined)[] = [];
  await events.attach([[target(1)]], new Map([[1, 9]]));
  perf.onClose = () => void modes.push(control.held.get("probes"));
  events.close();
  await events.attach([[target(2)]], new Map([[1, 9]]));
  control.taken.add("probes");
  events.close();
  expect(modes).toEqual(["shared", undefined]);
  expect([perf.live.length, control.held.size]).toEqual([0, 0]);
});

test("Without a definition nothing is swept, and once is enough", async () => {
  const { swept, events } = setUp();
  await events.release({ say: () => {} });
  expect(swept).toEqual([]);
  await events.attach([[target(1)]], new Map([[1, 9]]));
  await events.release({ say: () => {} });
  await events.release({ say: () => {} });
  expect(swept).toEqual([[group]]);
});

test("Next to a record there is one place, and then the record itself", async () => {
  const { control, events } = setUp();
  control.refusals.set(0x205n, "EILSEQ");
  await events.attach([[target(1), target(2)]], new Map([[1, 9]]), { recordAddresses: true });
  expect([...events.probes.keys()]).toEqual([0x105n, 0x200n]);
});

test("Livepatched functions are probed at the entry", async () => {
  const { events } = setUp({ livepatched: new Set(["f1"]) });
  await events.attach([[target(1), target(2)]], new Map([[1, 9]]));
  expect([...events.probes.keys()]).toEqual([0x100n, 0x104n, 0x205n]);
});

test("Probes of two attachments in one process never share an event or a constant on it", async () => {
  const { control, events } = setUp();
  await events.attach([[target(1)]], new Map([[1, 9]]));
  await events.attach([[target(2)]], new Map([[1, 9]]));
  expect(eventSizes(control)).toEqual([1, 1]);
});

test("Misses are those of its own events, until they are swept", async () => {
  const { control, events } = setUp();
  expect(events.missed()).toBe(0n);
  await events.attach([range(1, 4), [target(5, 2)]], new Map([[1, 101], [2, 102]]));
  const names = new Set(control.lines.map((line) => /\/(\S+)/.exec(line)?.[1]));
  expect(names.size).toBe(2);
  control.profileText = ["e0_1 5 1000", ...[...names].map((name) => `  ${name} 7 3`)].join("\n");
  expect(events.missed()).toBe(6n);
  events.close();
  expect(events.missed()).toBe(6n);
  await events.release({ say() {} });
  expect(events.missed()).toBe(0n);
});
