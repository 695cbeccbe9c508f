/** `npm start`: builds, then runs the words behind `--`, or the demonstration. */
import { expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { scripts } from "../../package.json";

test.skipIf(Bun.which("npm") === null).each<[words: string[], seen: string]>([
  [[], "<--demo>"],
  [["icmp"], "<icmp>"],
  [["--output-json", "host 10.0.0.7 and port 53"], "<--output-json><host 10.0.0.7 and port 53>"],
])("npm start -- %j", (words, seen) => {
  const folder = mkdtempSync(join(tmpdir(), "pwru-start-"));
  try {
    const program = (name: string, text: string) => {
      writeFileSync(join(folder, name), `#!/bin/sh\n${text}\n`);
      chmodSync(join(folder, name), 0o755);
    };
    writeFileSync(join(folder, "package.json"), JSON.stringify({ scripts: { start: scripts.start } }));
    program("bun", 'test "$1" = build.ts && echo built');
    program("pwru", `printf '<%s>' "$@"`);
    const { stdout, exitCode } = Bun.spawnSync(["npm", "start", "--silent", "--", ...words], {
      cwd: folder,
      env: { ...process.env, PATH: `${folder}:${process.env["PATH"]}` },
    });
    expect({ exitCode, stdout: stdout.toString() }).toEqual({ exitCode: 0, stdout: `built\n${seen}` });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
