/** Programs of ours that run in a guest, which has no Bun. */
import { join } from "node:path";
import { bunExecutable } from "../../build/bun.ts";
import { machines as targets } from "../../build/machines.ts";
import { isNative, type Machine } from "./machines.ts";

function targetWords({ arch }: Machine, folder: string): string[] {
  const target = targets.find((row) => row.arch === arch);
  if (target === undefined) throw new Error(`Cannot compile for ${arch}`);
  const executable = bunExecutable(target, folder, console.error);
  return [`--target=bun-linux-${arch}`, `--compile-executable-path=${executable}`];
}

/** Compiles `NAME.ts` of this directory to `folder/NAME` for that machine; returns its path. */
export function compiled(name: string, machine: Machine, folder: string): string {
  const outfile = join(folder, name);
  const build = Bun.spawnSync([
    ...[process.execPath, "build", join(import.meta.dir, `${name}.ts`), "--compile", "--minify"],
    ...["--no-compile-autoload-bunfig", "--no-compile-autoload-dotenv", `--outfile=${outfile}`],
    ...(isNative(machine) ? [] : targetWords(machine, folder)),
  ]);
  if (!build.success) throw new Error(`Cannot build ${name}: ${build.stderr.toString()}`);
  return outfile;
}
