/**
 * Builds the executable, or a release of it:
 *
 *   bun build.ts [OUTFILE]             for this machine, by default ./pwru
 *   bun build.ts --plain [OUTFILE]     without the C library: starts where there is glibc 2.17 or later
 *   bun build.ts --release [FOLDER]    static files for x64 and arm64, checksums, notices; by default ./dist
 *
 * The executable is a static file where the C library to put into it can be had (build/libc.ts), else a plain
 * one; what it has become is said on stderr.
 */
import { chmodSync, renameSync, writeFileSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { parseArgs } from "node:util";
import { compile } from "./build/bun.ts";
import { BuildError } from "./build/error.ts";
import { TemporaryFolder } from "./build/host.ts";
import { machines } from "./build/machines.ts";
import { release } from "./build/release.ts";
import { staticFile } from "./build/static.ts";
import { source } from "./build/version.ts";

const say = (line: string) => console.error(line);

function build(outfile: string, plain: boolean): void {
  const { version } = source();
  // Beside the result, so that it can be renamed: a running ./pwru keeps its file.
  using work = new TemporaryFolder(dirname(resolve(outfile)));
  let executable: string | undefined, kind = "plain, needs glibc 2.17 or later where it runs";
  if (!plain) {
    try {
      const machine = machines.find(({ arch }) => arch === process.arch);
      if (machine === undefined) throw new BuildError(`Cannot build a static file for ${process.arch}`);
      executable = compile(work.path, { version, launched: true });
      writeFileSync(executable, staticFile(machine, executable, say));
      kind = "static, needs no libraries where it runs";
    } catch (error) {
      if (!(error instanceof BuildError)) throw error;
      say(`${error.message}\nbuilding a plain executable instead`);
      executable = undefined;
    }
  }
  executable ??= compile(work.path, { version, launched: false });
  chmodSync(executable, 0o755);
  renameSync(executable, outfile);
  say(`built ${outfile}: ${version}, ${kind}`);
}

function words() {
  try {
    return parseArgs({
      options: { plain: { type: "boolean", default: false }, release: { type: "boolean", default: false } },
      allowPositionals: true,
    });
  } catch (error) {
    throw new BuildError((error as Error).message, { cause: error });
  }
}

try {
  const { values, positionals: [target] } = words();
  if (values.release) release(target ?? "dist", say);
  else build(target ?? "pwru", values.plain);
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  say(`error: ${error.message}`);
  process.exit(1);
}
