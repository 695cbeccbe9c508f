/**
 * A lab of real kernels, for scripts that want to try something on one of them:
 *
 *   bun tests/vm/lab.ts KERNEL|all [SCRIPT [FILE...]]
 *
 * SCRIPT runs as root in the guest with tracer.sh and topo.sh at hand, FILEs beside it; what it writes to $OUT
 * is printed, or lands in the folder $LAB_OUT. $PWRU_VM_BINARY is the tracer under test (default ./pwru, for another
 * architecture dist/pwru-linux-*, "peer" for Debian's pwru). Without SCRIPT the kernel is only fetched.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { boot, type BootOptions } from "./boot.ts";
import { harnessPrograms, installPrograms } from "./debian.ts";
import { image, type KernelName, kernelNames, machineFor } from "./images.ts";
import { baseArchive, peerPath } from "./initramfs.ts";
import { isNative } from "./machines.ts";
import { Userland } from "./userland.ts";

const repository = resolve(import.meta.dir, "../..");

const wantedBinary = process.env["PWRU_VM_BINARY"];

/**
 * The binary under test: $PWRU_VM_BINARY, by default the one the build leaves in the repository; for another
 * machine than this one that of a release.
 */
export function testedBinary(kernel: KernelName): string {
  const machine = machineFor(kernel);
  if (peerStandsIn()) return peerPath;
  return wantedBinary ?? join(repository, isNative(machine) ? "pwru" : `dist/pwru-linux-${machine.arch}`);
}

/** Whether Debian's pwru stands in for ours: then what only ours can do is not asked for. */
export const peerStandsIn = (): boolean => wantedBinary === "peer";

export const isKernelName = (name: string): name is KernelName =>
  (kernelNames as readonly string[]).includes(name);

/** Programs, kernel and base archive: everything a boot needs, from the network if it is not here yet. */
export function prepare(kernel: KernelName, say: (line: string) => void) {
  const { qemu, qemuPackage } = machineFor(kernel);
  installPrograms({ ...harnessPrograms, [qemu]: qemuPackage }, say);
  const found = image(kernel, say);
  baseArchive(Userland.of(found.machine, say));
  return found;
}

if (import.meta.main) {
  const [which = "", script, ...files] = process.argv.slice(2);
  const chosen = which === "all" ? kernelNames : [which].filter(isKernelName);
  if (chosen.length === 0) {
    console.error(`usage: bun tests/vm/lab.ts ${kernelNames.join("|")}|all [SCRIPT [FILE...]]`);
    process.exit(2);
  }
  for (const kernel of chosen) {
    const ready = prepare(kernel, console.error);
    if (script === undefined) continue;
    const options: BootOptions = {
      binary: testedBinary(kernel),
      cpus: Number(process.env["LAB_SMP"] ?? 2),
      append: process.env["LAB_APPEND"] ?? "",
      watch: process.env["LAB_WATCH"] !== undefined,
    };
    const limitSeconds = Number(process.env["LAB_TIMEOUT"] ?? 300);
    const job = { name: "script", script: readFileSync(script, "utf8"), limitSeconds, files };
    const booted = await boot(ready, [job], options);
    const outcome = booted.outcomes.get("script");
    console.error(
      `Linux ${kernel}: status ${outcome?.status ?? "none"}, ${booted.seconds.toFixed(1)} s in all`,
    );
    if (outcome?.status === undefined) console.error(booted.console);
    const folder = process.env["LAB_OUT"];
    if (folder !== undefined) mkdirSync(folder, { recursive: true });
    for (const name of outcome?.files ?? []) {
      const text = outcome?.read(name) ?? "";
      if (folder !== undefined) writeFileSync(join(folder, name), text);
      else if (text !== "") console.log(`== ${name}\n${text.trimEnd()}`);
    }
  }
}
