/** Which source this is: the version, the commit, and when it was made. */
import manifest from "../package.json" with { type: "json" };
import { repository } from "./host.ts";

/** Characters of a commit's hash. git's own abbreviation grows with the clone, and builds should not. */
const HASH_LENGTH = 12;

export interface Source {
  /** of package.json */
  readonly release: string;
  /** "0.1.0 (57c2b1a9d0e4)": with the commit when this is its checkout, marked when something was changed */
  readonly version: string;
  /** the commit's time, or $SOURCE_DATE_EPOCH, or the beginning of time */
  readonly date: Date;
}

function git(...words: string[]): string | undefined {
  if (Bun.which("git") === null) return undefined;
  const done = Bun.spawnSync(["git", ...words], { cwd: repository, stderr: "ignore" });
  return done.success ? done.stdout.toString() : undefined;
}

export function source(): Source {
  const release = manifest.version;
  // The prefix is empty in a checkout of ours; unpacked inside another one, its commit says nothing.
  const [prefix, hash = ""] = git("rev-parse", "--show-prefix", "HEAD")?.split("\n") ?? [];
  const commit = prefix === "" ? hash.slice(0, HASH_LENGTH) : "";
  const changed = commit !== "" && git("status", "--porcelain", "--untracked-files=no") !== "";
  const seconds = process.env["SOURCE_DATE_EPOCH"] ??
    (commit === "" ? "0" : git("log", "-1", "--format=%ct"));
  return {
    release,
    version: commit === "" ? release : `${release} (${commit}${changed ? "-dirty" : ""})`,
    date: new Date(Number(seconds) * 1000),
  };
}
