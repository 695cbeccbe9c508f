/** What turns a program compiled by Bun into one that runs scripts: a folder to stand in, and settings. */
import { expect } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Trap {
  readonly folder: string;
  /** would say "hijacked" */
  readonly script: string;
  readonly settings: readonly (readonly [name: string, env: Record<string, string>])[];
}

/** Lays the trap in a new folder. */
export function trap(folder: string): Trap {
  const script = join(folder, "evil.js"), library = join(folder, "libc.so.6");
  mkdirSync(folder);
  writeFileSync(script, 'console.log("hijacked");');
  for (const name of ["bunfig.toml", ".bunfig.toml"]) {
    writeFileSync(join(folder, name), `preload = ["${script}"]\n`);
  }
  writeFileSync(join(folder, ".env"), `BUN_OPTIONS="--preload ${script}"\nBUN_BE_BUN=1\n`);
  writeFileSync(join(folder, "package.json"), '{ "scripts": { "pwru": "echo hijacked" }, "bin": "evil.js" }');
  writeFileSync(library, "no library");
  return {
    folder,
    script,
    settings: [
      ["LD_PRELOAD", { LD_PRELOAD: library }],
      ["LD_LIBRARY_PATH", { LD_LIBRARY_PATH: folder }],
      ["LD_AUDIT", { LD_AUDIT: library }],
      ["LD_DEBUG", { LD_DEBUG: "all" }],
      ["GLIBC_TUNABLES", { GLIBC_TUNABLES: "glibc.malloc.check=3:glibc.rtld.nns=0" }],
      ["BUN_OPTIONS", { BUN_OPTIONS: `--preload ${script}` }],
      ["BUN_OPTIONS --eval", { BUN_OPTIONS: '--eval console.log("hijacked")' }],
      ["BUN_BE_BUN", { BUN_BE_BUN: "1" }],
      ["BUN_INSPECT", { BUN_INSPECT: "ws://127.0.0.1:0/" }],
      ["BUN_INSPECT_PRELOAD", { BUN_INSPECT_PRELOAD: script }],
      ["NODE_OPTIONS", { NODE_OPTIONS: `--require ${script}` }],
      ["HOME", { HOME: folder, XDG_CONFIG_HOME: folder }],
    ],
  };
}

/** Names under which Bun is another program. */
export const otherNames = ["bun", "bunx", "node"];

/** A script's path is a filter to the tracer, and a bad one. */
export const notAScript = { status: 1, out: "", err: expect.stringContaining("filter expression") };
