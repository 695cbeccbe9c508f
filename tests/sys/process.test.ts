/** Rights and limits: raised as far as they go, never lowered. */
import { expect, test } from "bun:test";
import { CLOCK_BOOTTIME, CLOCK_MONOTONIC, CLOCK_REALTIME, clockGettime } from "../../lib/sys/clock.ts";
import {
  capabilities,
  geteuid,
  getrlimit,
  raiseLockedMemory,
  raiseOpenFiles,
  RLIM_INFINITY,
  RLIMIT_NOFILE,
} from "../../lib/sys/process.ts";
import { fakeKernel, memory } from "./fake_kernel.ts";

/** A process with this limit; a hard limit above `most` is refused. */
function limited(soft: bigint, hard: bigint, most: bigint) {
  const limit = { soft, hard };
  const kernel = fakeKernel(({ args: [, , set, get] }) => {
    if (set) {
      const wanted = memory(set, 16), hard = wanted.getBigUint64(8, true);
      if (hard > limit.hard && hard > most) return -1;
      Object.assign(limit, { soft: wanted.getBigUint64(0, true), hard });
    }
    if (get) {
      memory(get, 16).setBigUint64(0, limit.soft, true);
      memory(get, 16).setBigUint64(8, limit.hard, true);
    }
    return 0;
  });
  return { limit, [Symbol.dispose]: () => kernel[Symbol.dispose]() };
}

test.each<[soft: bigint, hard: bigint, wanted: number, after: bigint]>([
  [1024n, 4096n, 2000, 2000n],
  [1024n, 4096n, 100_000, 4096n],
  [3000n, 4096n, 2000, 3000n],
  [1024n, RLIM_INFINITY, 100_000, 100_000n],
  [RLIM_INFINITY, RLIM_INFINITY, 100_000, RLIM_INFINITY],
])("open files: %p of %p, wanted %p, gives %p", (soft, hard, wanted, after) => {
  using _process = limited(soft, hard, hard);
  expect(raiseOpenFiles(wanted)).toEqual({ soft: after, hard });
});

test.each<[soft: bigint, hard: bigint, most: bigint, raised: boolean, after: bigint]>([
  [65536n, 65536n, RLIM_INFINITY, true, RLIM_INFINITY],
  [65536n, 131072n, 131072n, true, 131072n],
  [65536n, 65536n, 65536n, false, 65536n],
  [RLIM_INFINITY, RLIM_INFINITY, RLIM_INFINITY, false, RLIM_INFINITY],
])("locked memory: %p of %p, may go to %p: raised %p to %p", (soft, hard, most, raised, after) => {
  using process = limited(soft, hard, most);
  expect(raiseLockedMemory()).toBe(raised);
  expect(process.limit.soft).toBe(after);
});

test("The real ones", () => {
  expect(geteuid()).toBe(process.geteuid?.() as number);
  expect(getrlimit(RLIMIT_NOFILE).soft).toBeGreaterThan(0n);
  if (geteuid() === 0) expect(capabilities()).toContain("CAP_NET_ADMIN");
});

test("Capabilities by name: bits 0 and 39", () => {
  using _kernel = fakeKernel(({ args: [header, data] }) => {
    expect(memory(header, 4).getUint32(0, true)).toBe(0x20080522);
    memory(data, 24).setUint32(0, 1, true);
    memory(data, 24).setUint32(12, 1 << 7, true);
    return 0;
  });
  expect([...capabilities()]).toEqual(["CAP_CHOWN", "CAP_BPF"]);
});

test("Clocks go forward, and REALTIME is the time of day", () => {
  for (const clock of [CLOCK_MONOTONIC, CLOCK_BOOTTIME]) {
    const before = clockGettime(clock);
    expect(clockGettime(clock)).toBeGreaterThanOrEqual(before);
  }
  expect(Math.abs(Number(clockGettime(CLOCK_REALTIME) / 1_000_000n) - Date.now())).toBeLessThan(1000);
});
