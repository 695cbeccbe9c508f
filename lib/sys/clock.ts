/** The kernel's clocks. process.hrtime and performance.now() count from our own start, not from these. */
import { s64, struct } from "../../asm/layout.ts";
import { allocate } from "./arena.ts";
import { syscall } from "./ffi.ts";

/** REALTIME is the time of day, MONOTONIC what bpf_ktime_get_ns() reads, BOOTTIME counts suspend too. */
export const CLOCK_REALTIME = 0, CLOCK_MONOTONIC = 1, CLOCK_BOOTTIME = 7;

const timespec = struct("__kernel_timespec", { tv_sec: s64, tv_nsec: s64 });
const now = allocate(timespec.size);

/** ns */
export function clockGettime(clock: number): bigint {
  syscall("clock_gettime", clock, now.address);
  const { tv_sec, tv_nsec } = timespec.decode(now.view);
  return tv_sec * 1_000_000_000n + tv_nsec;
}
