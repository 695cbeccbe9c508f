/** What is found out about loaded BPF programs. The probes on them are verified in programs.test.ts and run in virtual machines. */
import { expect } from "bun:test";
import { bpfObjGetInfoByFd, bpfProgInfo } from "../../lib/sys/bpf.ts";
import { examineProgram, LoadedProgram, programsAfter } from "../../lib/trace/loaded_programs.ts";
import { kernelTest } from "./requires.ts";
import { ENTRY_TYPE, loadTarget, type Target } from "./target_programs.ts";

const both = new Set(["tc", "xdp"] as const);
const idOf = (fd: number) => bpfObjGetInfoByFd(fd, bpfProgInfo).id;
const tc: Target = { kind: "tc", name: "count_packets", returns: 0 };

kernelTest([5, 6], "a program is found by its id, with the name that the kernel gives it", () => {
  using target = loadTarget(tc);
  using found = examineProgram(idOf(target.fd), both) as LoadedProgram;
  expect(found).toBeInstanceOf(LoadedProgram);
  expect(found).toMatchObject({ kind: "tc", btfId: ENTRY_TYPE });
  expect(found.symbol).toMatch(/^bpf_prog_[0-9a-f]{16}_count_packets\[bpf\]$/);
  expect(found.address).toBeGreaterThan(0xffff_0000_0000_0000n);
});

kernelTest([5, 6], "a program of another kind is none of our business", () => {
  using target = loadTarget(tc);
  expect(examineProgram(idOf(target.fd), new Set(["xdp"]))).toBeUndefined();
});

kernelTest([5, 6], "a program without BTF is named, with the reason", () => {
  using target = loadTarget({ ...tc, name: "plain", argument: "none" });
  const id = idOf(target.fd);
  expect(examineProgram(id, both)).toEqual({ id, name: "plain", why: "it was loaded without BTF" });
});

kernelTest([5, 6], "a program that has gone is nothing to speak of", () => {
  const target = loadTarget(tc), id = idOf(target.fd);
  target[Symbol.dispose]();
  expect(examineProgram(id, both)).toBeUndefined();
});

kernelTest([5, 6], "programs are listed by rising ids, the new ones alone after the last", () => {
  const last = Math.max(0, ...programsAfter(0));
  using one = loadTarget(tc), other = loadTarget({ ...tc, kind: "xdp" });
  const ids = [...programsAfter(last)];
  expect(ids).toEqual(expect.arrayContaining([idOf(one.fd), idOf(other.fd)]));
  expect(ids).toEqual([...ids].sort((a, b) => a - b));
});
