/**
 * Executes every command of the pages that is the tracer's, on this kernel, as it stands there; recipes.test.ts
 * executes those of the recipes.
 */
import { afterAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { recipes } from "../../lib/cli/recipes.ts";
import { commands, isTracer, needFunctions } from "../commands.ts";
import { isAtLeast, isRoot } from "./requires.ts";

setDefaultTimeout(120_000);

const root = join(import.meta.dir, "../..");
const ofRecipes = new Set(recipes.map(({ command }) => `sudo ./${command}`));
const mine = commands.filter((command) => isTracer(command) && !ofRecipes.has(command));
const hasKprobes = existsSync("/sys/bus/event_source/devices/kprobe");

/** Ends by itself, and how. */
const ends = (command: string) => /--(man|doctor|demo)\b| -d /.test(command);

describe.skipIf(!isRoot || !isAtLeast(5, 8))("commands of the pages (needs root, Linux 5.8)", () => {
  const folder = mkdtempSync(join(tmpdir(), "pwru-commands-"));
  afterAll(() => rmSync(folder, { recursive: true }));
  const tracer = join(folder, "pwru");
  writeFileSync(tracer, `#!/bin/sh\nexec ${process.execPath} ${root}/main.ts "$@"\n`);
  chmodSync(tracer, 0o755);

  /** A shell with ./pwru and pwru, in a network with a namespace named blue; SIGINT once it listens. */
  async function execute(command: string, name: string) {
    const err = join(folder, `${name}.err`);
    const inside = `mount -t tmpfs none /run; ip netns add blue || exit 99; ${command.replace(/^sudo /, "")}`;
    await using child = Bun.spawn(["unshare", "-n", "-m", "bash", "-c", inside], {
      cwd: folder,
      env: { ...process.env, PATH: `${folder}:${process.env["PATH"]}` },
      stdin: "ignore",
      stdout: Bun.file(join(folder, `${name}.out`)),
      stderr: Bun.file(err),
      timeout: 60_000,
    });
    while (child.exitCode === null && !readFileSync(err, "utf8").includes("Listening for events")) {
      await Bun.sleep(20);
    }
    if (child.exitCode === null && !ends(command)) child.kill("SIGINT");
    const status = await child.exited;
    const read = (what: string) => readFileSync(join(folder, `${name}.${what}`), "utf8");
    return { status, out: read("out"), err: read("err") };
  }

  test.each(mine.map((command, index) => [command, String(index)] as const))("%s", async (command, name) => {
    const { status, out, err } = await execute(command, name);
    if (needFunctions[command] !== undefined && !hasKprobes) {
      expect({ status, err }).toEqual({ status: 1, err: expect.stringContaining("Cannot attach kprobes") });
      return;
    }
    expect({ command, status, err }).toEqual({ command, status: 0, err: expect.any(String) });
    if (ends(command)) expect(out).not.toBe("");
    else expect(err).toMatch(/^Attached to \d+ of \d+ \w+/m);
  });
});
