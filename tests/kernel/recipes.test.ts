/** The manual's recipes on this very kernel, with the best backend here; functions are not asked for. */
import { afterAll, beforeAll, describe, setDefaultTimeout, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Run } from "../vm/scenario.ts";
import { recipesHere } from "../vm/scenarios/recipes.ts";
import { isAtLeast, isRoot } from "./requires.ts";

setDefaultTimeout(120_000);

const root = join(import.meta.dir, "../.."),
  lacking = ["nft", "socat", "ping", "ip"].filter((name) => Bun.which(name) === null);

/** The names of drop reasons are younger than what frees with one. */
describe.skipIf(!isRoot || lacking.length > 0 || !isAtLeast(6, 1))(
  `recipes (needs root, Linux 6.1${lacking.map((name) => `, ${name}`).join("")})`,
  () => {
    const folder = mkdtempSync(join(tmpdir(), "pwru-recipes-")), out = join(folder, "out");
    afterAll(() => rmSync(folder, { recursive: true }));

    beforeAll(() => {
      mkdirSync(out);
      const tracer = join(folder, "pwru"), script = join(folder, "script.sh");
      writeFileSync(tracer, `#!/bin/sh\nexec ${process.execPath} ${root}/main.ts "$@"\n`);
      chmodSync(tracer, 0o755);
      writeFileSync(script, recipesHere.script);
      // In a network of its own, whose namespaces have names that nobody else sees.
      const inside = `mount -t tmpfs none /run; mount -t sysfs none /sys; ip link set lo up
        set -u; . tests/vm/tracer.sh; . tests/vm/topo.sh; . ${script}`;
      const { exitCode, stderr } = Bun.spawnSync(["unshare", "-n", "-m", "bash", "-c", inside], {
        cwd: root,
        env: { ...process.env, OUT: out, PWRU: tracer, PEER: "" },
        stdin: "ignore",
      });
      if (exitCode !== 0) throw new Error(stderr.toString());
    });

    /** What a guest would have brought back; no check asks which kernel it was. */
    const run = () =>
      new Run("6.18", {
        name: "recipes",
        status: 0,
        seconds: 0,
        files: readdirSync(out),
        read: (file) => readFileSync(join(out, file), "utf8"),
      });

    test.each(Object.entries(recipesHere.checks))("%s", (_, check) => check(run()));
  },
);
