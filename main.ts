/** argv -> run() -> exit code. */
import { run } from "./lib/cli/run.ts";
import { helperWords } from "./lib/link/helper.ts";
import { runHelper } from "./lib/link/kprobe.ts";
import { forgetLauncher } from "./lib/sys/launched.ts";

/** Put in by the build (build/bun.ts). */
declare const PWRU_VERSION: string | undefined;
/** Whether this is a static file, started by the launcher. */
declare const PWRU_LAUNCHED: boolean | undefined;

if (typeof PWRU_LAUNCHED === "boolean" && PWRU_LAUNCHED) forgetLauncher();

const words = helperWords();
if (words === undefined) {
  process.exit(await run(process.argv.slice(2), typeof PWRU_VERSION === "string" ? PWRU_VERSION : "unbuilt"));
}
await runHelper(words);
