import { expect, test } from "bun:test";

/** Waits for a signal for a second; says which came, or that none did. */
const program = `
  import { onSignals } from "${import.meta.dir}/../../lib/cli/signals.ts";
  const came = await new Promise((resolve) => {
    onSignals(resolve);
    setTimeout(resolve, 1000, "none");
    process.kill(process.pid, "SIGHUP");
  });
  console.log(came);
  process.exit(0);
`;

test.each([["trap - HUP", "SIGHUP"], ["trap '' HUP", "none"]])("a hangup after %s", (before, came) => {
  const shell = Bun.spawnSync(["sh", "-c", `${before}; exec "$BUN" -e "$PROGRAM"`], {
    env: { ...process.env, BUN: process.execPath, PROGRAM: program },
  });
  expect(shell.stdout.toString().trim()).toBe(came);
});
