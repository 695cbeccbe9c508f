/** One link for many functions, on kernels that have it: the bad addresses among them are found. */
import { afterAll, expect } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import type { MapSpec } from "../../asm/code.ts";
import { at, atomicAdd, call, ldMapValue, r0, r1, ret } from "../../asm/insn.ts";
import { u64 } from "../../asm/layout.ts";
import { BPF_MAP_TYPE_ARRAY, BPF_PROG_TYPE_KPROBE, BPF_TRACE_KPROBE_MULTI } from "../../asm/uapi.ts";
import { probe } from "../../lib/features.ts";
import { attachKprobeMultiWherePossible } from "../../lib/link/kprobe_multi.ts";
import { readCounters } from "../../lib/maps/bpf_map.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { bpfLinkInfoKprobeMulti, bpfObjGetInfoByFd } from "../../lib/sys/bpf.ts";
import { syscall } from "../../lib/sys/ffi.ts";
import { loadProgram } from "../../lib/sys/program.ts";
import { openFds } from "../open_fds.ts";
import { isRoot, kernelTest } from "./requires.ts";

/** address, name and module of each function that can be traced. Linux 6.5 */
const list = "/sys/kernel/tracing/available_filter_functions_addrs";
const isThere = isRoot && existsSync(list) && probe("kprobe_multi link").supported === true;

const functions = isThere
  ? readFileSync(list, "latin1").split("\n").map((line) => line.split(" ")).filter(([address, name]) =>
    address !== "" && !name?.startsWith("__ftrace_invalid")
  )
  : [];

/**
 * A cookie is found by the function's entry. The list above has the place of the fentry nop, which lies 4
 * bytes behind it in functions that begin with endbr64.
 */
function getppidEntry(): bigint {
  const symbol = readFileSync("/proc/kallsyms", "latin1").match(
    /^([0-9a-f]+) \w __(?:x64|arm64)_sys_getppid$/m,
  );
  return BigInt(`0x${symbol?.[1]}`);
}

const sum: MapSpec = { name: "sum", type: BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: 8, maxEntries: 1 };
/** Adds its cookie to `sum`. */
const adding = {
  name: "adding",
  type: BPF_PROG_TYPE_KPROBE,
  expectedAttachType: BPF_TRACE_KPROBE_MULTI,
  license: "GPL",
  code: [call("bpf_get_attach_cookie"), ldMapValue(r1, sum), atomicAdd(at(r1, u64), r0), ret(0)],
};

const before = openFds();
afterAll(() => {
  expect(openFds()).toBe(before);
});

for (const bad of [0, 3]) {
  kernelTest([6, 5], `kprobe_multi on 300 functions with ${bad} bad addresses, with CONFIG_FPROBE`, () => {
    using maps = new Maps();
    using program = loadProgram(adding, { maps });
    const target = getppidEntry();
    const others = functions.filter(([, name]) => name?.startsWith("tcp_")).slice(0, 299);
    const addresses = BigUint64Array.from([...others.map(([address]) => BigInt(`0x${address}`)), target]);
    const places = [5, 150, 290].slice(0, bad);
    for (const index of places) addresses[index] = 1n;
    const cookies = addresses.map((address) => address === target ? 1000n : 0n);

    const { link, refused, trials } = attachKprobeMultiWherePossible(program, { addresses, cookies });
    using _link = link;
    expect(refused).toEqual(places);
    for (const trial of trials) trial[Symbol.dispose]();
    for (let i = 0; i < 10; i++) syscall("getppid");
    const [total = 0n] = readCounters(maps.get(sum));
    expect(total % 1000n).toBe(0n);
    expect(total).toBeGreaterThanOrEqual(10_000n);
    if (link !== undefined) {
      expect(bpfObjGetInfoByFd(link.fd, bpfLinkInfoKprobeMulti).count).toBe(300 - bad);
    }
  }, isThere);
}
