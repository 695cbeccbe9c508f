/** Programs of the host: their output, or an error that shows what they said. */

export class CommandError extends Error {
  override readonly name = "CommandError";
  readonly argv: readonly string[];
  readonly status: number;
  constructor(argv: readonly string[], status: number, said: string) {
    super(`Cannot run "${argv.slice(0, 4).join(" ")}": exit status ${status}\n${said.trim().slice(-2000)}`);
    this.argv = argv;
    this.status = status;
  }
}

/** Where Debian keeps programs; a user's PATH may lack the sbin half. */
export const programFolders = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

export const which = (program: string): string | null =>
  Bun.which(program, { PATH: programFolders.join(":") });

export interface CommandOptions {
  cwd?: string;
  env?: Record<string, string>;
}

/** @returns what the program wrote to stdout
 * @throws {CommandError} it ended with another status than 0 */
export function command(argv: string[], { cwd, env }: CommandOptions = {}): string {
  const done = Bun.spawnSync(argv, {
    ...(cwd === undefined ? {} : { cwd }),
    env: { ...process.env, LC_ALL: "C", ...env },
    stdout: "pipe",
    stderr: "pipe",
  });
  if (done.exitCode !== 0) throw new CommandError(argv, done.exitCode, done.stderr.toString());
  return done.stdout.toString();
}
