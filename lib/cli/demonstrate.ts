/** `--demo`, from options to exit status. */
import { type Demonstration, isAsTold } from "../demo/paths.ts";
import { play } from "../demo/play.ts";
import { recording } from "../demo/recording.ts";
import { ANSWER_FILTER } from "../demo/scene.ts";
import { type KernelError, UnsupportedError, UsageError, VerifierError } from "../errors.ts";
import type { Names } from "../output/printer.ts";
import { resolvedNames } from "../pcap_filter/names_files.ts";
import { isErrno } from "../sys/ffi.ts";
import { compilePacketFilter } from "../trace/filter.ts";
import type { Session } from "../trace/session.ts";
import { demoJson, demoText } from "./demo.ts";
import type { Log } from "./log.ts";
import type { Options } from "./options.ts";
import { EXIT_FAILURE } from "./report.ts";
import { raiseLimits, requireRights } from "./rights.ts";
import { onSignals } from "./signals.ts";
import { printText } from "./stdout.ts";

/**
 * Shows the story of the lost answer: live where that is allowed, else as it was recorded.
 *
 * @param names of functions and places, for a session
 * @throws {UsageError} there is a filter
 * @returns the exit status: 0 when it went as told
 */
export async function demonstrate(
  { outputJson, debug, backend }: Options,
  filter: string,
  names: (session: Session) => Names,
  log: Log,
): Promise<number> {
  if (filter !== "") {
    throw new UsageError(`Cannot use "${filter}" with --demo: it has a filter of its own`, "--demo");
  }
  const stop = new AbortController();
  using _signals = onSignals((signal) => stop.abort(signal));
  let demonstration: Demonstration | undefined, reason: string | undefined;
  try {
    requireRights();
    raiseLimits();
    demonstration = await play({
      ...(backend === "" ? {} : { backend }),
      filter: compilePacketFilter(ANSWER_FILTER, await resolvedNames(ANSWER_FILTER)),
      signal: stop.signal,
      names,
      onBackend: (via) => log.info("Attaching probes", { via }),
      onProgress: (done, total) => log.progress(done, total, "Attached"),
    });
    log.clearProgress();
  } catch (error) {
    if (!isOutOfReach(error)) throw error;
    reason = error.hint === undefined ? error.message : `${error.message}; ${error.hint}`;
    demonstration = await recording();
  }
  if (demonstration === undefined) {
    log.info("Received signal, exiting program..");
    return EXIT_FAILURE;
  }
  const shown = { demonstration, reason };
  printText(outputJson ? demoJson(shown) : demoText(shown, debug));
  return isAsTold(demonstration) ? 0 : EXIT_FAILURE;
}

/** Whether this machine or these rights do not suffice for a demonstration. */
function isOutOfReach(error: unknown): error is UnsupportedError | KernelError {
  return error instanceof UnsupportedError ||
    (isErrno(error, "EPERM", "EACCES") && !(error instanceof VerifierError));
}
