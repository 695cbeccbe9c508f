/** An executable of Bun and the C library as one static file. */
import { readFileSync } from "node:fs";
import { libc } from "./libc.ts";
import type { Machine } from "./machines.ts";
import { merge } from "./merge.ts";

/**
 * The merged bytes of a compiled executable.
 *
 * @throws {BuildError} the C library cannot be had, or something is not as merge() wants it
 */
export function staticFile(machine: Machine, executable: string, say: (line: string) => void): Uint8Array {
  const { interpreter, libraries } = libc(machine, say);
  return merge(machine, new Uint8Array(readFileSync(executable)), interpreter, libraries);
}
