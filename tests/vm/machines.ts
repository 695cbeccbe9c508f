/** The machines that QEMU plays for a guest: a row per architecture, all that differs between them. */
import { type Machine as Target, machines as targets } from "../../build/machines.ts";

export type MachineName = Target["arch"];

export interface Machine extends Pick<Target, "arch" | "debian" | "libraryFolder"> {
  /** QEMU's program, and the Debian package it is in */
  readonly qemu: string;
  readonly qemuPackage: string;
  /** what QEMU emulates, in its words */
  readonly emulated: readonly string[];
  /** how many times as long everything may take, and is waited for, as on the fastest */
  readonly slowness: number;
  /** the guest's name of the first serial port, its console */
  readonly console: string;
  /** the guest's name of the second one, which takes the results */
  readonly results: string;
  /** the second one in QEMU's words: what is written there lands in `path` */
  readonly resultsInto: (path: string) => readonly string[];
}

/**
 * arm64's "virt" has one serial port of its own, so the second is a card. Of what "max" can do the guest is
 * spared what costs emulation most: QEMU has a cheaper cipher for pointer authentication, and SVE is not asked for.
 */
const rows: Readonly<Record<MachineName, Omit<Machine, keyof Target>>> = {
  x64: {
    qemu: "qemu-system-x86_64",
    qemuPackage: "qemu-system-x86",
    emulated: ["-cpu", "max"],
    slowness: 1,
    console: "ttyS0",
    results: "ttyS1",
    resultsInto: (path) => ["-serial", `file:${path}`],
  },
  arm64: {
    qemu: "qemu-system-aarch64",
    qemuPackage: "qemu-system-arm",
    emulated: ["-M", "virt", "-cpu", "max,pauth-impdef=on,sve=off"],
    slowness: 4,
    console: "ttyAMA0",
    results: "ttyS0",
    resultsInto: (
      path,
    ) => ["-chardev", `file,id=results,path=${path}`, "-device", "pci-serial,chardev=results"],
  },
};

export const machines: readonly Machine[] = targets.map(({ arch, debian, libraryFolder }) => ({
  arch,
  debian,
  libraryFolder,
  ...rows[arch],
}));

export function machineOf(arch: string): Machine {
  const machine = machines.find((row) => row.arch === arch);
  if (machine === undefined) throw new Error(`There is no guest of architecture "${arch}"`);
  return machine;
}

/** Whether a guest can run what this machine runs. */
export const isNative = ({ arch }: Machine): boolean => arch === process.arch;
