/** What the filter of a tracer that runs says to each system call. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { runCbpf } from "../../asm/cbpf_run.ts";
import { confinement } from "../../lib/sys/confine.ts";
import { syscallNumber } from "../../lib/sys/syscalls.ts";

const ALLOW = 0x7fff0000, EPERM = 0x00050001;
const audit = { x64: 0xc000003e, arm64: 0xc00000b7 } as const;
const denied = ["execve", "init_module", "iopl", "mount", "setdomainname"];

/** The verdict on struct seccomp_data; the machine for packets reads big endian. */
function verdict(arch: keyof typeof audit, nr: number, caller: number = audit[arch]): number {
  const data = new Uint8Array(64), view = new DataView(data.buffer);
  view.setUint32(0, nr);
  view.setUint32(4, caller);
  return runCbpf(confinement(arch, denied), data);
}

test.each<[arch: keyof typeof audit, nrs: number[]]>([
  ["x64", [59, 175, 172, 165, 171]],
  ["arm64", [221, 105, 40, 162]],
])("%s: these are denied, and their neighbours are not", (arch, nrs) => {
  for (const nr of nrs) expect(verdict(arch, nr)).toBe(EPERM);
  const others = Array.from({ length: 460 }, (_, nr) => nr).filter((nr) => !nrs.includes(nr));
  expect(others.filter((nr) => verdict(arch, nr) !== ALLOW)).toEqual([]);
});

test("calls of other architectures are denied, whatever their number", () => {
  expect(verdict("x64", 1, 0x40000003)).toBe(EPERM);
  expect(verdict("arm64", 1, audit.x64)).toBe(EPERM);
  expect(verdict("x64", 0x40000001)).toBe(EPERM);
});

test("nothing that we call ourselves is ever denied", () => {
  const text = readFileSync(new URL("../../lib/sys/confine.ts", import.meta.url), "utf8");
  const names = [...text.matchAll(/^ {2}(\w+): \[\d+/gm)].map((match) => match[1]!);
  expect(names.length).toBeGreaterThan(35);
  expect(names.filter((name) => name in syscallNumber)).toEqual([]);
});
