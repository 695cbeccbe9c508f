/**
 * BPF programs that are loaded while a trace runs. They are looked for: the kernel's own announcement, PERF_RECORD_BPF_EVENT,
 * comes by a ring buffer that would have to be looked into as well. What a program does before it is found and its probes
 * are attached is not seen.
 */
import { KernelError } from "../errors.ts";
import type { ProbeBackend } from "./backend.ts";
import { programsAfter } from "./loaded_programs.ts";

/** ms between two looks for programs that are new: a system call where there is none. */
const LOOK_EVERY_MS = 50;
/** As many looks there are for each at all programs: some have gone, and maps for tail calls are filled later. */
const LOOKS_PER_SWEEP = 10;

/** Has the backend take in new programs until it is disposed of, or the trace is to end. */
export function watchPrograms(
  backend: Pick<ProbeBackend, "followPrograms">,
  { signal, onRemark, everyMs = LOOK_EVERY_MS }: {
    readonly signal: AbortSignal;
    readonly onRemark: (remark: string) => void;
    readonly everyMs?: number;
  },
): Disposable {
  let newest = 0, looks = 0, busy = false;
  const look = async () => {
    const before = newest;
    for (const id of programsAfter(newest)) newest = id;
    if (newest === before && ++looks % LOOKS_PER_SWEEP !== 0) return;
    for (const remark of await backend.followPrograms?.(newest, signal) ?? []) onRemark(remark);
  };
  const timer = setInterval(async () => {
    if (busy || signal.aborted) return;
    busy = true;
    try {
      await look();
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      onRemark(`BPF programs that were loaded now are not followed: ${error.message}`);
    } finally {
      busy = false;
    }
  }, everyMs);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
