/** Maps without a kernel: keys and sizes checked, per-CPU values summed, one map per spec. */
import { expect, test } from "bun:test";
import type { MapSpec } from "../../asm/code.ts";
import { BpfMap, countCpus, possibleCpus, readCounters } from "../../lib/maps/bpf_map.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { fakeKernel, memory } from "../sys/fake_kernel.ts";

const array: MapSpec = { name: "stats", type: 2, keySize: 4, valueSize: 16, maxEntries: 2 };

test.each<[list: string, count: number]>([["0", 1], ["0-1\n", 2], ["0-3,8-11", 8], ["0,2,4", 3]])(
  "CPUs %p: %i",
  (list, count) => {
    expect(countCpus(list)).toBe(count);
  },
);

test("A list of CPUs that is none", () => {
  expect(() => countCpus("all")).toThrow(new RangeError('Not a list of CPUs: "all"'));
});

test("Per-CPU values lie a multiple of 8 apart and are summed modulo 2^64", () => {
  const cpus = possibleCpus(), spec = { ...array, type: 6, valueSize: 20 };
  using _kernel = fakeKernel(({ name, args: [command, attr] }) => {
    if (name === "close" || command === 0) return 5;
    const value = memory(Number(memory(attr, 32).getBigUint64(16, true)), 24 * cpus);
    for (let cpu = 0; cpu < cpus; cpu++) {
      value.setBigUint64(cpu * 24, 10n, true);
      value.setBigUint64(cpu * 24 + 8, 2n ** 64n - 1n, true);
    }
    return 0;
  });
  using map = BpfMap.create(spec);
  expect(map.stride).toBe(24);
  expect(readCounters(map)).toEqual([10n * BigInt(cpus), 2n ** 64n - BigInt(cpus)]);
});

test("Keys and values of a wrong size never reach the kernel", () => {
  using kernel = fakeKernel(() => 5);
  using map = BpfMap.create(array);
  const calls = kernel.calls.length;
  expect(() => map.update(0, new Uint8Array(8))).toThrow('A value of map "stats" has 16 bytes, not 8');
  expect(() => map.lookup(new Uint8Array(8))).toThrow('A key of map "stats" has 4 bytes, not 8');
  using wide = BpfMap.create({ ...array, name: "wide", keySize: 8 });
  expect(() => wide.lookup(1)).toThrow('A key of map "wide" has 8 bytes, it is no number');
  expect(kernel.calls.length).toBe(calls + 1);
});

test("A closed map is not looked up: its fd may be another's", () => {
  using kernel = fakeKernel(() => 5);
  const map = BpfMap.create(array);
  map.lookup(0);
  map[Symbol.dispose]();
  const calls = kernel.calls.length;
  expect(() => map.lookup(0)).toThrow('Map "stats" is closed');
  expect(kernel.calls.length).toBe(calls);
});

test("One map per spec object, closed together", () => {
  let fd = 10;
  using kernel = fakeKernel(({ name }) => name === "bpf" ? fd++ : 0);
  const twin = { ...array };
  {
    using maps = new Maps();
    expect([maps.fd(array), maps.fd(twin), maps.fd(array)]).toEqual([10, 11, 10]);
  }
  expect(kernel.calls.filter(({ name }) => name === "close").map(({ args }) => args[0])).toEqual([10, 11]);
});

test("Before Linux 5.11 EPERM may mean the limit on locked memory: it is raised and the map tried again", () => {
  let limited = true;
  using _kernel = fakeKernel(({ name, args: [, , set, get] }) => {
    if (name === "bpf") return limited ? -1 : 5;
    if (name === "prlimit64") {
      if (set) limited = false;
      if (get) memory(get, 16).setBigUint64(0, 65536n, true);
    }
    return 0;
  });
  using map = BpfMap.create(array);
  expect(map.fd).toBe(5);
});

test("EPERM that stays says who may", () => {
  using _kernel = fakeKernel(({ name, args: [, , , get] }) => {
    if (name === "bpf") return -1;
    if (get) memory(get, 16).setBigUint64(0, 2n ** 64n - 1n, true);
    return 0;
  });
  try {
    BpfMap.create(array);
    expect.unreachable();
  } catch (error) {
    expect(String(error)).toBe('KernelError: Cannot create map "stats": bpf(BPF_MAP_CREATE): EPERM');
    expect((error as { hint?: string }).hint).toBe(
      "root is needed, or the capability CAP_BPF; before Linux 5.11 also CAP_SYS_RESOURCE or ulimit -l unlimited",
    );
  }
});
