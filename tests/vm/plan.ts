/** What is booted apart from the rest, because it is measured: nothing else may run on the host meanwhile. */
import { cpus, freemem } from "node:os";
import type { KernelName } from "./images.ts";

export const measured: { readonly scenario: string; readonly kernels: readonly KernelName[] } = {
  scenario: "start",
  kernels: ["5.10", "6.1", "6.12"],
};

/** How many guests may run beside each other. One has 3 GiB, and its processors are idle half of the time. */
export function guestsBeside(): number {
  return Math.max(1, Math.min(2, cpus().length, Math.floor(freemem() / 2 ** 32)));
}
