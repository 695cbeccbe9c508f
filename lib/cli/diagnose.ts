/** `--doctor`, from options to exit status. */
import { examine } from "../doctor/examine.ts";
import { isatty, STDOUT, terminalColumns } from "../sys/fd.ts";
import type { SessionOptions } from "../trace/session.ts";
import { jsonText, plainText, tableText } from "./doctor.ts";
import type { Options } from "./options.ts";
import { EXIT_FAILURE } from "./report.ts";
import { raiseLimits, requireRights } from "./rights.ts";
import { printText } from "./stdout.ts";

/**
 * Prints what works here.
 *
 * @param session the trace that would follow
 * @returns the exit status: 0 when something works
 */
export async function diagnose({ outputJson }: Options, session: SessionOptions): Promise<number> {
  raiseLimits();
  const examination = await examine(session, requireRights);
  const text = outputJson
    ? jsonText(examination)
    : isatty(STDOUT)
    ? await tableText(examination, terminalColumns(STDOUT))
    : plainText(examination);
  printText(text);
  return examination.backend === undefined ? EXIT_FAILURE : 0;
}
