/** Each row says yes, no for its own errno only, and "unknown" for the rest. */
import { expect, test } from "bun:test";
import type { KernelTypes } from "../asm/code.ts";
import { features, probe } from "../lib/features.ts";
import { errno } from "../lib/sys/errno.ts";
import { fixtureTypes } from "./fixtures/kernel_types.ts";
import { fakeKernel } from "./sys/fake_kernel.ts";

const types: KernelTypes = { ...fixtureTypes("void"), structId: () => 4711 };
const names = features.map(({ name }) => name);

test.each(names)("%s: yes", (name) => {
  const open = new Set<number>();
  let next = 100;
  using _kernel = fakeKernel(({ name, args: [fd] }) => {
    if (name === "close") return open.delete(fd as number) ? 0 : -9;
    open.add(next);
    return next++;
  });
  expect(probe(name, { types })).toEqual({ supported: true });
  expect(open.size).toBe(0);
});

test.each(features.flatMap(({ name, no }) => no.map((code) => [name, code] as const)))(
  "%s: %s is no",
  (name, code) => {
    using _kernel = fakeKernel(({ name }) => name === "close" ? 0 : -(errno[code] as number));
    expect(probe(name, { types }).supported).toBe(false);
  },
);

test.each(names)("%s: EPERM, ENOMEM and EMFILE are no answer", (name) => {
  for (const code of ["EPERM", "ENOMEM", "EMFILE"]) {
    using _kernel = fakeKernel(({ name }) => name === "close" ? 0 : -(errno[code] as number));
    const { supported } = probe(name, { types });
    expect(supported).toBe("unknown");
  }
});

test("Without the kernel's types there is no bpf_rdonly_cast", () => {
  expect(probe("bpf_rdonly_cast to void").supported).toBe(false);
});
