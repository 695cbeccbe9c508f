/** argv -> run() -> exit code. */
import { run } from "./lib/cli/run.ts";
import { helperWords } from "./lib/link/helper.ts";
import { runHelper } from "./lib/link/kprobe.ts";

/** Put in by build.ts. */
declare const PWRU_VERSION: string | undefined;

const words = helperWords();
if (words === undefined) {
  process.exit(await run(process.argv.slice(2), typeof PWRU_VERSION === "string" ? PWRU_VERSION : "unbuilt"));
}
await runHelper(words);
