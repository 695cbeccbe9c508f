import { expect, test } from "bun:test";
import { KprobePmu } from "../../lib/link/kprobe_pmu.ts";
import { OwnedFd } from "../../lib/sys/fd.ts";

/** Never reaches the kernel: its numbers are nobody's files. */
class FakeFd extends OwnedFd {
  readonly #open: number[];
  constructor(open: number[], fd: number) {
    super(fd);
    this.#open = open;
  }
  override [Symbol.dispose](): void {
    this.#open.splice(this.#open.indexOf(this.fd), 1);
  }
}

function setUp({ pid = 99, allowance = 1000, spawnFails = false } = {}) {
  const open: number[] = [], spawned: [string[], number[]][] = [], said: string[] = [];
  const backend = new KprobePmu({
    pmuType: 8,
    allowance,
    pid,
    perf: {
      open(_, address) {
        if (address === 0x300n) return "EINVAL";
        open.push(Number(address));
        return new FakeFd(open, Number(address));
      },
    },
    spawn(words, fds) {
      if (spawnFails) throw new Error("ENOENT");
      spawned.push([words, [...fds]]);
    },
  });
  return { backend, open, spawned, said, say: (sentence: string) => void said.push(sentence) };
}

const targets = [1, 2, 3, 4].map((n) => ({ address: BigInt(n) * 0x100n, name: `f${n}`, argument: 1 }));
const programs = new Map([[1, 9]]);

test("Every function has its own fd, refusals are counted, fds are never used up", async () => {
  const { backend, open } = setUp({ allowance: 2 });
  const live: number[] = [];
  const result = await backend.attach([targets.slice(0, 3), targets.slice(3)], programs, {
    onLive: (attached) => void live.push(attached),
  });
  expect([open, live]).toEqual([[0x100, 0x200], [1, 2]]);
  expect(result.attached).toBe(2);
  expect(result.failed.map(({ target, code }) => [target.name, code])).toEqual([["f3", "EMFILE"], [
    "f4",
    "EMFILE",
  ]]);
});

test("At exit a helper gets the fds, and ours are closed", async () => {
  const { backend, open, spawned, said, say } = setUp();
  const result = await backend.attach([targets], programs);
  expect(result.failed.map(({ code }) => code)).toEqual(["EINVAL"]);
  await backend.release({ say });
  expect(spawned).toEqual([[["hold"], [0x100, 0x200, 0x400]]]);
  expect([open, said]).toEqual([[], []]);
});

test.each([["process 1", { pid: 1 }], ["no helper", { spawnFails: true }]])(
  "Where no helper helps (%s) the probes are closed here, and the user is told",
  async (_, how) => {
    const { backend, open, spawned, said, say } = setUp(how);
    await backend.attach([targets], programs);
    await backend.release({ say });
    expect([open, spawned]).toEqual([[], []]);
    expect(said).toEqual(["Closing 3 probes, about 1 s; the kernel cannot be hurried"]);
  },
);

test("A signal stops the attaching", async () => {
  const { backend, open } = setUp();
  const stop = new AbortController();
  const result = await backend.attach([targets], programs, {
    signal: stop.signal,
    onProgress: () => stop.abort(),
  });
  expect([result.interrupted, result.attached, open.length]).toEqual([true, 1, 1]);
});
