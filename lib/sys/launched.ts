/**
 * What the launcher of a static file (build/launcher.ts) leaves behind: the variable LD_PRELOAD, by which
 * ld.so got its libraries, and the files it names. The libraries are mapped by now; children must not try.
 *
 * Bun.spawn without `env` passes on the variables we began with, not process.env: always give it one.
 */
import { trySyscall } from "./ffi.ts";

const preload = /^\/proc\/self\/fd\/\d+(:\/proc\/self\/fd\/\d+)*$/;

/** Forgets both. Not for a program that ld.so was not launched for: there the variable is the user's. */
export function forgetLauncher(env: Record<string, string | undefined> = process.env): void {
  const value = env["LD_PRELOAD"];
  if (value === undefined || !preload.test(value)) return;
  delete env["LD_PRELOAD"];
  for (const path of value.split(":")) trySyscall("close", Number(path.split("/").at(-1)));
}
