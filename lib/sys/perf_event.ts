/** perf_event_open(2) and its ioctls, as far as probes need them (include/uapi/linux/perf_event.h). */
import { type Decoded, s32, struct, u16, u32, u64 } from "../../asm/layout.ts";
import { scope } from "./arena.ts";
import { errno } from "./errno.ts";
import { kernelError, trySyscall } from "./ffi.ts";

/** enum perf_type_id; a PMU of its own, such as kprobe, has its number in /sys/bus/event_source/devices. */
export const PERF_TYPE_SOFTWARE = 1, PERF_TYPE_TRACEPOINT = 2;
/** enum perf_sw_ids */
export const PERF_COUNT_SW_DUMMY = 9;

/** struct perf_event_attr up to PERF_ATTR_SIZE_VER5, which every kernel with BPF links takes. */
export const perfEventAttr = struct("perf_event_attr", {
  type: u32,
  size: u32,
  config: u64,
  sample_period: u64,
  sample_type: u64,
  read_format: u64,
  /** the bitfield that starts with `disabled` */
  flags: u64,
  wakeup_events: u32,
  bp_type: u32,
  /** union with kprobe_func: address of a name, or 0 */
  config1: u64,
  /** union with kprobe_addr and probe_offset */
  config2: u64,
  branch_sample_type: u64,
  sample_regs_user: u64,
  sample_stack_user: u32,
  clockid: s32,
  sample_regs_intr: u64,
  aux_watermark: u32,
  sample_max_stack: u16,
  __reserved_2: u16,
});

const PERF_FLAG_FD_CLOEXEC = 8;

export interface PerfEventTarget {
  /** -1: all processes */
  readonly pid?: number;
  /** -1: all CPUs, with a pid. A probe fires on every CPU whichever is given. */
  readonly cpu?: number;
  /** false: a program that we start inherits the fd */
  readonly closeOnExec?: boolean;
}

/** Debian's kernels know a level of restriction that CAP_PERFMON does not lift (kernel.perf_event_paranoid=3). */
const RESTRICTED = "sysctl -w kernel.perf_event_paranoid=2 # or CAP_SYS_ADMIN";

/** @returns fd. @throws {KernelError} */
export function perfEventOpen(
  attr: Partial<Omit<Decoded<typeof perfEventAttr>, "size">>,
  { pid = -1, cpu = 0, closeOnExec = true }: PerfEventTarget = {},
): number {
  using memory = scope();
  const { address } = memory.struct(perfEventAttr, { ...attr, size: perfEventAttr.size });
  const flags = closeOnExec ? PERF_FLAG_FD_CLOEXEC : 0;
  const result = trySyscall("perf_event_open", address, pid, cpu, -1, flags);
  if (result >= 0) return result;
  const restricted = -result === errno.EACCES || -result === errno.EPERM;
  throw kernelError("perf_event_open", -result, restricted ? { hint: RESTRICTED } : {});
}

const requests = {
  PERF_EVENT_IOC_ENABLE: 0x2400,
  PERF_EVENT_IOC_DISABLE: 0x2401,
  PERF_EVENT_IOC_SET_BPF: 0x40042408,
} as const;

function ioctl(fd: number, request: keyof typeof requests, argument: number): void {
  const result = trySyscall("ioctl", fd, requests[request], argument);
  if (result < 0) throw kernelError(`ioctl(${request})`, -result);
}

export function perfEventEnable(fd: number): void {
  ioctl(fd, "PERF_EVENT_IOC_ENABLE", 0);
}

/** Stops counting. A BPF program goes on running: it is called before the kernel asks whether we count. */
export function perfEventDisable(fd: number): void {
  ioctl(fd, "PERF_EVENT_IOC_DISABLE", 0);
}

/** Runs a program whenever the event fires, until the event is closed. Works where BPF links do not (5.10). */
export function perfEventSetBpf(fd: number, prog_fd: number): void {
  ioctl(fd, "PERF_EVENT_IOC_SET_BPF", prog_fd);
}
