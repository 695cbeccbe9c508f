/** Chooses how classic kprobes are attached on this machine. */
import { UnsupportedError } from "../errors.ts";
import type { KprobeBackend, KprobeTarget } from "./kprobe_backend.ts";
import { KprobeEvents } from "./kprobe_events.ts";
import { KprobePmu, kprobePmuType, probeAllowance } from "./kprobe_pmu.ts";
import { livepatchedFunctions } from "./livepatch.ts";
import { pmuEvents, tracepointEvents } from "./perf_probe.ts";
import { sweepDeadOwners, sweepInHelper } from "./sweep.ts";
import { openTracefs } from "./tracefs.ts";

export interface ChosenKprobes<T extends KprobeTarget> {
  readonly backend: KprobeBackend<T>;
  /** why it is the slow one, when it is */
  readonly fallback: UnsupportedError | undefined;
  /** For after the attaching: has the leftovers of killed processes deleted, if there are any. */
  readonly sweepDeadOwners: () => void;
}

/**
 * Kprobe events if tracefs lets us, else the kprobe PMU.
 *
 * @throws {UnsupportedError} neither is to be had
 */
export function openKprobes<T extends KprobeTarget>(): ChosenKprobes<T> {
  try {
    const control = openTracefs();
    return {
      backend: new KprobeEvents<T>({ control, perf: tracepointEvents, livepatched: livepatchedFunctions() }),
      fallback: undefined,
      sweepDeadOwners: () => void sweepDeadOwners(control),
    };
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    const parts = { perf: pmuEvents, pmuType: kprobePmuType(), allowance: probeAllowance() };
    return { backend: new KprobePmu<T>(parts), fallback: error, sweepDeadOwners: () => {} };
  }
}

/** What a helper process of ours (helper.ts) is there for. */
export async function runHelper([task, ...words]: readonly string[]): Promise<void> {
  if (task === "sweep") await sweepInHelper(words);
  // "hold" ends at once: its end closes the probes that it was given
}
