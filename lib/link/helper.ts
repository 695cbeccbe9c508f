/**
 * A helper is this same executable, started again in a session of its own, that finishes slow work of the
 * kernel after we are gone. It shows in `ps` as `pwru --internal-helper sweep pwru_4711_123456`.
 */

const mark = "--internal-helper";

/**
 * The command line that starts us again. In a compiled program `main` lies in Bun's embedded file system
 * and the executable is ours; from source, bun needs to be told the script.
 */
export function helperCommand(
  words: readonly string[],
  execPath = process.execPath,
  main = Bun.main,
): string[] {
  return main.startsWith("/$bunfs/") ? [execPath, mark, ...words] : [execPath, main, mark, ...words];
}

/** The helper's task when this process is one: main asks first of all. */
export function helperWords(argv: readonly string[] = process.argv): string[] | undefined {
  return argv[2] === mark ? argv.slice(3) : undefined;
}

/**
 * Starts a helper and forgets it.
 *
 * @param fds are open in the helper too
 * @throws what Bun.spawn throws, for want of /dev/null, memory or fds
 */
export function spawnHelper(words: readonly string[], fds: readonly number[] = []): void {
  Bun.spawn(helperCommand(words), {
    cwd: "/",
    env: {}, // none of the user's BUN_* and LD_* settings
    detached: true,
    stdio: ["ignore", "ignore", "ignore", ...fds],
  }).unref();
}
