/** The perf events behind kprobes: one on a tracepoint for many probes, or one of the kprobe PMU for each. */
import { closeSync } from "node:fs";
import { struct, u32, u64 } from "../../asm/layout.ts";
import { scope } from "../sys/arena.ts";
import { errnoName } from "../sys/errno.ts";
import { kernelError, trySyscall } from "../sys/ffi.ts";
import type { TracepointEvents } from "./kprobe_events.ts";
import type { PmuEvents } from "./kprobe_pmu.ts";
const attr = struct("perf_event_attr", { type: u32, size: u32, config: u64, sample_period: u64, sample_type: u64, read_format: u64, flags: u64, wakeup: u32, bp_type: u32, config1: u64, config2: u64 });
function open(members: Parameters<typeof attr.encode>[2], program: number): number {
  using memory = scope();
  const a = memory.struct(attr, { size: attr.size, sample_period: 1n, ...members });
  const fd = trySyscall("perf_event_open", a.address, -1, 0, -1, 8);
  if (fd < 0) return fd;
  let r = trySyscall("ioctl", fd, 0x40042408, program);
  if (r >= 0) r = trySyscall("ioctl", fd, 0x2400, 0);
  if (r < 0) { closeSync(fd); return r; }
  return fd;
}
export const tracepointEvents: TracepointEvents = {
  open(id, program) {
    const fd = open({ type: 2, config: BigInt(id) }, program);
    if (fd < 0) throw kernelError("perf_event_open", -fd);
    return { [Symbol.dispose]: () => closeSync(fd) };
  },
};
export const pmuEvents: PmuEvents = {
  open(type, address, program) {
    const fd = open({ type, config2: address }, program);
    return fd < 0 ? errnoName(-fd) : fd;
  },
};
