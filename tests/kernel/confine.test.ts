/** A tracer that runs has given up what it does not need, in all of its threads. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isAtLeast, isRoot } from "./requires.ts";
import { rawTraceWhile } from "./tracer.ts";

const hasSeccomp = /^Seccomp:/m.test(readFileSync("/proc/self/status", "latin1"));

/** Runs this in a process of its own that has been confined. */
function confined(mayStartPrograms: boolean, code: string): string {
  const module = join(import.meta.dir, "../../lib/sys/confine.ts");
  const script = `import { confine } from ${JSON.stringify(module)};
    import { readFileSync } from "node:fs";
    const refused = confine({ mayStartPrograms: ${mayStartPrograms} });
    if (refused !== undefined) throw new Error(refused);
    const attempt = (run) => { try { return run(); } catch (error) { return error.code; } };
    ${code}`;
  const { stdout, stderr } = Bun.spawnSync([process.execPath, "-e", script], { env: {} });
  return stdout.toString().trim() || stderr.toString();
}

describe.skipIf(!isRoot || !isAtLeast(5, 8) || !hasSeccomp)(
  "confined (needs root, Linux 5.8, seccomp)",
  () => {
    test("every thread of a running tracer is", async () => {
      let seen: string[] = [];
      await rawTraceWhile(["host 192.0.2.1"], (pid) => {
        const tasks = readdirSync(`/proc/${pid}/task`);
        seen = tasks.map((task) => readFileSync(`/proc/${pid}/task/${task}/status`, "latin1"))
          .map((status) => /^NoNewPrivs:\t(\d)$/m.exec(status)![1]! + /^Seccomp:\t(\d)$/m.exec(status)![1]!);
      });
      expect(seen.length).toBeGreaterThan(1);
      expect(new Set(seen)).toEqual(new Set(["12"]));
    });

    const start = `console.log(attempt(() => Bun.spawnSync(["true"]).exitCode));`;

    test("no program can be started, unless a helper has to be", () => {
      expect(confined(false, start)).toBe("EPERM");
      expect(confined(true, start)).toBe("0");
    });

    test("nobody can become another user", () => {
      expect(confined(true, `console.log(attempt(() => process.setuid(65534)));`)).toContain("EPERM");
    });

    test("files can still be read and written", () => {
      const code = `console.log(readFileSync("/proc/self/comm", "latin1").length > 0);`;
      expect(confined(false, code)).toBe("true");
    });
  },
);
