/**
 * Deletes definitions of probes that nobody uses any more: our own at exit, those of killed processes later.
 *
 * Each deletion is a grace period of the kernel (15 to 20 ms) under a mutex that all tracing needs, and
 * nothing batches them: half a minute for a full set. So a helper process that outlives us does it line by
 * line. Safe to be interrupted at any point: a definition without its perf event is inert, and the next
 * start finds it. Only groups named after a process of ours (owner.ts) are ever touched.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { spawnHelper } from "./helper.ts";
import type { ReleaseOptions } from "./kprobe_backend.ts";
import { lock } from "./lock.ts";
import { type Processes, runningProcesses, stateOf } from "./owner.ts";
import { formatDeletion, type ListedProbe, parseListing } from "./probe_definition.ts";
import { openTracefs, type ProbeControl } from "./tracefs.ts";

/** Deletions under one hold of the lock, and the gap after it, in which others get their turn. */
const deletionsPerLock = 8, gapMs = 20;

/** How long a sweeper waits for the probes lock: attaching a full set takes up to 10 s under emulation. */
const lockPatienceMs = 30_000;

export interface SweepResult {
  readonly deleted: number;
  /** refused by the kernel: someone enabled one of our events */
  readonly busy: number;
}

/** The probes of `text` that nobody uses: those of `released` groups, and those of dead owners. */
export function leftovers(text: string, released: ReadonlySet<string>, processes: Processes): ListedProbe[] {
  const unused = new Map<string, boolean>();
  return parseListing(text).filter(({ group, owner }) => {
    let answer = unused.get(group);
    if (answer === undefined) {
      answer = released.has(group) || stateOf(owner, processes) === "dead";
      unused.set(group, answer);
    }
    return answer;
  });
}

/**
 * Deletes the leftovers, those of `groups` (whose perf events are closed) and of dead owners. One sweeper
 * works at a time on a machine; another one waits for it here.
 */
export async function sweep(
  groups: readonly string[],
  { control, processes = runningProcesses(), signal }: {
    control: ProbeControl;
    processes?: Processes;
    signal?: AbortSignal | undefined;
  },
): Promise<SweepResult> {
  const released = new Set(groups), tried = new Set<string>();
  let deleted = 0, busy = 0;
  if (!await lock(control, "sweeper", "exclusive", { signal })) return { deleted, busy };
  try {
    for (;;) { // who died meanwhile is found by the next round
      const lines = leftovers(control.listing(), released, processes).filter(({ line }) => !tried.has(line));
      if (lines.length === 0) return { deleted, busy };
      for (let i = 0; i < lines.length; i += deletionsPerLock) {
        const locked = await lock(control, "probes", "exclusive", { patienceMs: lockPatienceMs, signal });
        try {
          for (const probe of lines.slice(i, i + deletionsPerLock)) {
            tried.add(probe.line);
            const code = control.write(formatDeletion(probe));
            if (code === undefined) deleted++;
            else if (code !== "ENOENT") busy++;
          }
        } finally {
          if (locked) control.unlock("probes");
        }
        await sleep(gapMs);
        if (signal?.aborted === true) return { deleted, busy };
      }
    }
  } finally {
    control.unlock("sweeper");
  }
}

/** What the helper process does. */
export async function sweepInHelper(groups: readonly string[]): Promise<void> {
  using control = openTracefs();
  await sweep(groups, { control });
}

/**
 * Starts a helper for what killed processes left, unless a sweeper is at work already: that one will find
 * it. For a start, after attaching: until then the two would fight for the same mutex.
 *
 * @returns whether there was anything to do
 */
export function sweepDeadOwners(
  control: ProbeControl,
  processes: Processes = runningProcesses(),
  spawn: (words: string[]) => void = spawnHelper,
): boolean {
  if (leftovers(control.listing(), new Set(), processes).length === 0) return false;
  if (!control.tryLock("sweeper", "exclusive")) return false;
  control.unlock("sweeper");
  spawn(["sweep"]);
  return true;
}

/**
 * Has the definitions of `groups` deleted after us. Where nothing outlives us (process 1 of a container) or
 * no helper can be started, the work is done here and the user is told.
 */
export async function sweepAtExit(groups: string[], { say, signal }: ReleaseOptions): Promise<void> {
  if (process.pid !== 1) {
    try {
      return spawnHelper(["sweep", ...groups]);
    } catch {
      // no /dev/null or no memory: do it here
    }
  }
  using control = openTracefs();
  const own = new Set(groups);
  const count = parseListing(control.listing()).filter(({ group }) => own.has(group)).length;
  say(`Deleting ${count} probe definitions, about ${Math.ceil(count / 50)} s; interrupt again to leave them`);
  const { deleted } = await sweep(groups, { control, signal });
  if (signal?.aborted === true) say(`Left ${count - deleted} probe definitions; they do nothing`);
}
