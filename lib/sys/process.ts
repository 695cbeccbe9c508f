/** What this process may do and how much of it: user, capabilities, resource limits. */
import { readdirSync } from "node:fs";
import { s32, struct, u32, u64 } from "../../asm/layout.ts";
import { scope } from "./arena.ts";
import { isErrno, syscall } from "./ffi.ts";

export function geteuid(): number {
  return syscall("geteuid");
}

/** In the order of their numbers, from 0 (include/uapi/linux/capability.h). */
const capabilityNames =
  `CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE`
    .split(/\s+/).map((name) => `CAP_${name}`);

const capHeader = struct("__user_cap_header_struct", { version: u32, pid: s32 });
const capData = struct("__user_cap_data_struct", { effective: u32, permitted: u32, inheritable: u32 });
const _LINUX_CAPABILITY_VERSION_3 = 0x20080522;

/** The effective capabilities, by name: CAP_BPF and CAP_PERFMON came with Linux 5.8. */
export function capabilities(): ReadonlySet<string> {
  using memory = scope();
  const header = memory.struct(capHeader, { version: _LINUX_CAPABILITY_VERSION_3 });
  const data = memory.alloc(2 * capData.size);
  syscall("capget", header.address, data.address);
  const words = [0, capData.size].map((offset) => capData.decode(data.view, offset).effective);
  return new Set(capabilityNames.filter((_, number) => (words[number >>> 5] ?? 0) >>> (number & 31) & 1));
}

/** RLIMIT_MEMLOCK is what BPF memory counts against before Linux 5.11. */
export const RLIMIT_NOFILE = 7, RLIMIT_MEMLOCK = 8;
export const RLIM_INFINITY: bigint = 2n ** 64n - 1n;

const rlimit64 = struct("rlimit64", { rlim_cur: u64, rlim_max: u64 });

export interface ResourceLimit {
  /** what holds now */
  readonly soft: bigint;
  /** up to which we may raise it */
  readonly hard: bigint;
}

export function getrlimit(resource: number): ResourceLimit {
  using memory = scope();
  const old = memory.alloc(rlimit64.size);
  syscall("prlimit64", 0, resource, 0, old.address);
  const { rlim_cur, rlim_max } = rlimit64.decode(old.view);
  return { soft: rlim_cur, hard: rlim_max };
}

export function setrlimit(resource: number, { soft, hard }: ResourceLimit): void {
  using memory = scope();
  const limit = memory.struct(rlimit64, { rlim_cur: soft, rlim_max: hard });
  syscall("prlimit64", 0, resource, limit.address, 0);
}

/** Raises the number of open files to `wanted`, or as far as the hard limit allows; never lowers it. */
export function raiseOpenFiles(wanted: number): ResourceLimit {
  const { soft, hard } = getrlimit(RLIMIT_NOFILE);
  const target = BigInt(wanted) < hard ? BigInt(wanted) : hard;
  if (target > soft) setrlimit(RLIMIT_NOFILE, { soft: target, hard });
  return getrlimit(RLIMIT_NOFILE);
}

/** How many more files this process may open. */
export function freeFiles(): number {
  return Number(getrlimit(RLIMIT_NOFILE).soft) - readdirSync("/proc/self/fd").length;
}

/**
 * Lifts the limit on locked memory, or as far as the hard limit allows where we lack CAP_SYS_RESOURCE.
 *
 * @returns whether it is higher than before
 */
export function raiseLockedMemory(): boolean {
  const { soft, hard } = getrlimit(RLIMIT_MEMLOCK);
  if (soft === RLIM_INFINITY) return false;
  try {
    setrlimit(RLIMIT_MEMLOCK, { soft: RLIM_INFINITY, hard: RLIM_INFINITY });
    return true;
  } catch (error) {
    if (!isErrno(error, "EPERM")) throw error;
  }
  if (soft < hard) setrlimit(RLIMIT_MEMLOCK, { soft: hard, hard });
  return soft < hard;
}
