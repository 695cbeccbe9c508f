/** The machine that builds: its programs, folders, and what is kept between builds. */
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { join, resolve } from "node:path";
import { BuildError } from "./error.ts";

export const repository = resolve(import.meta.dir, "..");

/** Downloads; outside the repository, so that a fresh clone finds them again. All are checked at each use. */
export const cacheFolder = process.env["PWRU_BUILD_CACHE"] ?? "/var/tmp/pwru-build";

/**
 * That folder, there to be used.
 *
 * @throws {BuildError} it cannot be made, or is somebody else's, who could exchange what was checked
 */
export function ownCache(): string {
  const hint = "PWRU_BUILD_CACHE=FOLDER names another";
  let owner: number;
  try {
    mkdirSync(cacheFolder, { recursive: true });
    owner = statSync(cacheFolder).uid;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new BuildError(`Cannot use "${cacheFolder}": ${code}; ${hint}`, { cause });
  }
  if (owner !== process.getuid?.()) {
    throw new BuildError(`Cannot use "${cacheFolder}": it belongs to user ${owner}; ${hint}`);
  }
  return cacheFolder;
}

/** @returns what the program wrote to stdout
 * @throws {BuildError} it is not installed, or ended with another status than 0 */
export function command(argv: readonly [string, ...string[]], { cwd }: { cwd?: string } = {}): string {
  if (Bun.which(argv[0]) === null) throw new BuildError(`Cannot run "${argv[0]}": it is not installed`);
  const done = Bun.spawnSync([...argv], {
    cwd: cwd ?? repository,
    env: { ...process.env, LC_ALL: "C" },
    stdin: "ignore",
  });
  if (done.exitCode === 0) return done.stdout.toString();
  const said = `${done.stdout}${done.stderr}`.trim().slice(-2000);
  throw new BuildError(`Cannot run "${argv.slice(0, 3).join(" ")}": exit status ${done.exitCode}\n${said}`);
}

/** A folder that goes with its object. */
export class TemporaryFolder implements Disposable {
  readonly path: string;
  /** @throws {BuildError} `parent` is not ours to write to */
  constructor(parent: string) {
    try {
      mkdirSync(parent, { recursive: true });
      this.path = mkdtempSync(join(parent, ".pwru-build-"));
    } catch (cause) {
      throw new BuildError(`Cannot write to "${parent}": ${(cause as NodeJS.ErrnoException).code}`, {
        cause,
      });
    }
  }
  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

export function digest(algorithm: "sha1" | "sha256" | "sha512", bytes: Uint8Array): Buffer {
  return createHash(algorithm).update(bytes).digest();
}

export const sha256 = (bytes: Uint8Array): string => digest("sha256", bytes).toString("hex");
