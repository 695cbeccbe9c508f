/**
 * Builds one executable: `bun build.ts [OUTFILE]`, by default ./pwru.
 *
 * - `--bytecode` wants ESM: with CommonJS it refuses top-level await and leaks the build path.
 * - Without the two `--no-compile-autoload` flags a bunfig.toml or .env of the working directory would
 *   run inside a tool that is started as root.
 * - @colors/colors is an optional part of cli-table3 that makes stdio non-blocking when it is loaded.
 */
import manifest from "./package.json" with { type: "json" };

const outfile = Bun.argv[2] ?? "./pwru";

const commit = Bun.spawnSync(["git", "describe", "--always", "--dirty"], {
  cwd: import.meta.dir,
  stderr: "ignore",
});
const revision = commit.success ? commit.stdout.toString().trim() : "";
const version = revision === "" ? manifest.version : `${manifest.version} (${revision})`;

const build = Bun.spawnSync([
  process.execPath,
  "build",
  "main.ts",
  "--compile",
  "--minify",
  "--bytecode",
  "--format=esm",
  "--no-compile-autoload-bunfig",
  "--no-compile-autoload-dotenv",
  "--external=@colors/colors",
  `--define=PWRU_VERSION=${JSON.stringify(version)}`,
  `--outfile=${outfile}`,
], { cwd: import.meta.dir, stdio: ["ignore", "inherit", "inherit"] });
process.exit(build.exitCode);
