/** Bun's part: its executable for each architecture, and compiling main.ts into it. */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import lock from "../package-lock.json" with { type: "json" };
import manifest from "../package.json" with { type: "json" };
import { BuildError } from "./error.ts";
import { cacheFolder, command, digest, ownCache, repository, TemporaryFolder } from "./host.ts";
import type { Machine } from "./machines.ts";

/** The only version that builds, because its own executable is the larger part of what is built. */
export const bunVersion: string = manifest.devDependencies.bun;

const locked: Readonly<Record<string, { version?: string; integrity?: string }>> = lock.packages;

/**
 * Path of Bun's executable for a machine, unpacked into `folder`. npm installs it for this machine only, so
 * the package is fetched into the cache, and checked against package-lock.json there before each use.
 *
 * @throws {BuildError} it cannot be had, or is not what is locked
 */
export function bunExecutable(machine: Machine, folder: string, say: (line: string) => void): string {
  const name = machine.bunPackage, { version, integrity } = locked[`node_modules/${name}`] ?? {};
  if (version !== bunVersion || integrity === undefined) {
    throw new BuildError(
      `Cannot use "${name}": package-lock.json has version ${version}, want ${bunVersion}`,
    );
  }
  const archive = join(ownCache(), `${name.slice(1).replace("/", "-")}-${version}.tgz`);
  if (!existsSync(archive)) {
    say(`fetching ${name} ${version}`);
    using aside = new TemporaryFolder(cacheFolder);
    command(["npm", "pack", `${name}@${version}`, "--silent", "--pack-destination", aside.path]);
    const [file] = [...new Bun.Glob("*.tgz").scanSync(aside.path)];
    if (file === undefined) throw new BuildError(`Cannot fetch ${name} ${version}: npm pack gave no file`);
    renameSync(join(aside.path, file), archive);
  }
  const found = `sha512-${digest("sha512", readFileSync(archive)).toString("base64")}`;
  if (found !== integrity) {
    throw new BuildError(`Cannot use "${archive}": its integrity is ${found}, want ${integrity}; delete it`);
  }
  mkdirSync(folder, { recursive: true });
  command(["tar", "-xzf", archive, "-C", folder, "package/bin/bun"]);
  return join(folder, "package/bin/bun");
}

export interface CompileOptions {
  /** what to compile */
  readonly main?: string;
  /** --version says so */
  readonly version: string;
  /** it will be merged: then main.ts tidies up after the launcher */
  readonly launched: boolean;
  /** for another machine: it, and Bun's executable for it */
  readonly target?: { readonly machine: Machine; readonly executable: string };
}

/**
 * Compiles main.ts to an executable named pwru in `folder`.
 *
 * - `--bytecode` wants ESM: with CommonJS it refuses top-level await and leaks the build path.
 * - Without the two `--no-compile-autoload` flags a bunfig.toml or .env of the working directory would
 *   run inside a tool that is started as root.
 * - @colors/colors is an optional part of cli-table3 that makes stdio non-blocking when it is loaded.
 * - The output's name is compiled in, so it is always the same, and so are two builds of one commit.
 *
 * @throws {BuildError} bun build failed
 */
export function compile(
  folder: string,
  { main = "main.ts", version, launched, target }: CompileOptions,
): string {
  if (Bun.version !== bunVersion) {
    throw new BuildError(`Cannot build: this is Bun ${Bun.version}, want ${bunVersion} (npm ci installs it)`);
  }
  const outfile = join(folder, "pwru");
  rmSync(outfile, { force: true });
  command([
    process.execPath,
    "build",
    main,
    "--compile",
    "--minify",
    "--bytecode",
    "--format=esm",
    "--no-compile-autoload-bunfig",
    "--no-compile-autoload-dotenv",
    "--external=@colors/colors",
    `--define=PWRU_VERSION=${JSON.stringify(version)}`,
    `--define=PWRU_LAUNCHED=${launched}`,
    ...target === undefined
      ? []
      : [`--target=bun-linux-${target.machine.arch}`, `--compile-executable-path=${target.executable}`],
    `--outfile=${outfile}`,
  ], { cwd: repository });
  return outfile;
}
