/** Waiting for tracefs locks: mostly without standing still, so that signals and the reader run meanwhile. */
import { setTimeout as sleep } from "node:timers/promises";
import type { LockMode, LockName, ProbeControl } from "./tracefs.ts";

/** Between two tries; the sweeper leaves a longer gap than this after every few deletions. */
const retryMs = 5;

/**
 * Takes a lock, at the latest after `patienceMs`; false when it was not to be had until then.
 * The locks are a courtesy among our own processes: who does not get one may go on.
 */
export async function lock(
  control: ProbeControl,
  name: LockName,
  mode: LockMode,
  { patienceMs = Infinity, signal }: { patienceMs?: number; signal?: AbortSignal | undefined } = {},
): Promise<boolean> {
  const end = performance.now() + patienceMs;
  while (!control.tryLock(name, mode)) {
    if (signal?.aborted === true || performance.now() >= end) return false;
    await sleep(retryMs);
  }
  return true;
}

/** The same where nothing else may run in between. */
export function lockBlocking(
  control: ProbeControl,
  name: LockName,
  mode: LockMode,
  patienceMs: number,
): boolean {
  const end = performance.now() + patienceMs;
  while (!control.tryLock(name, mode)) {
    if (performance.now() >= end) return false;
    Bun.sleepSync(retryMs);
  }
  return true;
}
