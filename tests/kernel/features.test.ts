/** The running kernel gives each feature a plain answer, and has what its version promises. */
import { expect } from "bun:test";
import { features, probe } from "../../lib/features.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { hasKernelBtf } from "../kernel_btf.ts";
import { openFds } from "../open_fds.ts";
import { isAtLeast, kernelTest } from "./requires.ts";

kernelTest([4, 20], "features: the answer fits the version", () => {
  const types = hasKernelBtf ? new BtfTypes(loadKernelBtf()) : undefined;
  const before = openFds();
  for (const { name, since } of features) {
    const answer = probe(name, { types });
    if (answer.supported === "unknown") throw answer.error;
    const [major = 0, minor = 0] = since.split(/[.,]/).map(Number);
    const depends = since.includes("CONFIG_") || (name.includes("rdonly") && !hasKernelBtf);
    if (!depends && isAtLeast(major, minor)) expect([name, answer.supported]).toEqual([name, true]);
  }
  expect(openFds()).toBe(before);
});
