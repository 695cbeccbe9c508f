/** Maps in the running kernel, through every call we have for them. */
import { expect } from "bun:test";
import type { MapSpec } from "../../asm/code.ts";
import { at, atomicAdd, ldMapValue, ldx, mov, r0, r1, r2, ret } from "../../asm/insn.ts";
import { u64 } from "../../asm/layout.ts";
import {
  BPF_F_RDONLY_PROG,
  BPF_MAP_TYPE_ARRAY,
  BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE_PERCPU_ARRAY,
  BPF_PROG_TYPE_SOCKET_FILTER,
} from "../../asm/uapi.ts";
import { BpfMap, possibleCpus, readCounters } from "../../lib/maps/bpf_map.ts";
import { Maps } from "../../lib/maps/maps.ts";
import * as bpf from "../../lib/sys/bpf.ts";
import { loadProgram } from "../../lib/sys/program.ts";
import { openFds } from "../open_fds.ts";
import { kernelTest } from "./requires.ts";

const hash: MapSpec = { name: "h-1", type: BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 8, maxEntries: 4 };
const filter = { name: "count", type: BPF_PROG_TYPE_SOCKET_FILTER, license: "GPL" };

function value(number: bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(number).buffer);
}

kernelTest([4, 20], "create, look up, update, delete, walk", () => {
  const before = openFds();
  {
    using map = BpfMap.create(hash);
    expect(map.lookup(1)).toBeUndefined();
    expect(map.update(1, value(10n), bpf.BPF_EXIST)).toBe(false);
    expect(map.update(1, value(10n))).toBe(true);
    expect(map.update(1, value(11n), bpf.BPF_NOEXIST)).toBe(false);
    expect(map.update(2, value(20n), bpf.BPF_NOEXIST)).toBe(true);
    expect(map.lookup(1)?.getBigUint64(0, true)).toBe(10n);
    const keys = [...map.keys()].map((key) => key[0]);
    expect(keys.sort()).toEqual([1, 2]);
    expect(bpf.bpfMapLookupElem(map.fd, Uint8Array.of(2, 0, 0, 0), 8)).toEqual(value(20n));
    expect([map.delete(1), map.delete(1)]).toEqual([true, false]);
    const info = bpf.bpfObjGetInfoByFd(map.fd, bpf.bpfMapInfo);
    expect([info.type, info.key_size, info.value_size, info.max_entries]).toEqual([1, 4, 8, 4]);
    expect(bpf.infoName(info.name)).toBe("h_1");
    for (const number of [3n, 4n, 5n]) map.update(Number(number), value(number));
    expect(() => map.update(6, value(6n))).toThrow("bpf(BPF_MAP_UPDATE_ELEM): E2BIG");
  }
  expect(openFds()).toBe(before);
});

kernelTest([5, 6], "look up a batch", () => {
  using map = BpfMap.create({ ...hash, maxEntries: 1000 });
  for (let key = 0; key < 600; key++) map.update(key, value(BigInt(key) * 3n));
  const { count, keys, values } = bpf.bpfMapLookupBatch(map.fd, 4, 8, 1000);
  expect(count).toBe(600);
  const numbers = new Uint32Array(keys.buffer), results = new BigUint64Array(values.buffer);
  expect(new Set(numbers).size).toBe(600);
  expect(numbers.every((key, index) => results[index] === BigInt(key) * 3n)).toBe(true);
});

kernelTest([5, 5], "a program counts in a map it shares with another one", () => {
  const stats: MapSpec = {
    name: "stats",
    type: BPF_MAP_TYPE_ARRAY,
    keySize: 4,
    valueSize: 16,
    maxEntries: 1,
  };
  const code = (
    offset: number,
  ) => [ldMapValue(r1, stats, offset), mov(r2, 3), atomicAdd(at(r1, u64), r2), ret(7)];
  const before = openFds();
  {
    using maps = new Maps();
    using one = loadProgram({ ...filter, code: code(0) }, { maps });
    using two = loadProgram({ ...filter, code: code(8) }, { maps });
    expect(one.testRun({ data_in: new Uint8Array(14), repeat: 5 }).retval).toBe(7);
    expect(two.testRun({ data_in: new Uint8Array(14) }).retval).toBe(7);
    expect(readCounters(maps.get(stats))).toEqual([15n, 3n]);
  }
  expect(openFds()).toBe(before);
});

kernelTest([5, 5], "per-CPU values are summed", () => {
  using map = BpfMap.create({
    ...hash,
    name: "cpus",
    type: BPF_MAP_TYPE_PERCPU_ARRAY,
    valueSize: 12,
    maxEntries: 2,
  });
  const all = new Uint8Array(possibleCpus() * 16), view = new DataView(all.buffer);
  for (let cpu = 0; cpu < possibleCpus(); cpu++) view.setBigUint64(cpu * 16, BigInt(cpu + 1), true);
  expect(map.update(1, all)).toBe(true);
  const cpus = BigInt(possibleCpus());
  expect(readCounters(map, 1)).toEqual([cpus * (cpus + 1n) / 2n]);
  expect(() => readCounters(map, 2)).toThrow("bpf(BPF_MAP_LOOKUP_ELEM): ENOENT");
});

kernelTest([5, 5], "a frozen map is the verifier's to read", () => {
  const config: MapSpec = { ...hash, name: "config", type: 2, maxEntries: 1, flags: BPF_F_RDONLY_PROG };
  using maps = new Maps();
  maps.get(config).update(0, value(9n));
  maps.get(config).freeze();
  expect(() => maps.get(config).update(0, value(1n))).toThrow("bpf(BPF_MAP_UPDATE_ELEM): EPERM");
  const code = [ldMapValue(r1, config), ldx(r0, at(r1, u64)), mov(r0, r0), ret(1)];
  using program = loadProgram({ ...filter, code }, { maps });
  expect(program.testRun({ data_in: new Uint8Array(14) }).retval).toBe(1);
});
