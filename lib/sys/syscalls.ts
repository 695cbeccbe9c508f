/** Numbers of the system calls we make (arch/x86/entry/syscalls/syscall_64.tbl, scripts/syscall.tbl). */

const numbers = {
  //                  x64  arm64
  bind: /*         */ [49, 200],
  bpf: /*          */ [321, 280],
  capget: /*       */ [125, 90],
  clock_gettime: /**/ [228, 113],
  close: /*        */ [3, 57],
  flock: /*        */ [73, 32],
  fsconfig: /*     */ [431, 431],
  fsmount: /*      */ [432, 432],
  fsopen: /*       */ [430, 430],
  geteuid: /*      */ [107, 175],
  getppid: /*      */ [110, 173],
  ioctl: /*        */ [16, 29],
  madvise: /*      */ [28, 233],
  mmap: /*         */ [9, 222],
  munmap: /*       */ [11, 215],
  perf_event_open: [298, 241],
  ppoll: /*        */ [271, 73],
  prctl: /*        */ [157, 167],
  prlimit64: /*    */ [302, 261],
  recvfrom: /*     */ [45, 207],
  recvmmsg: /*     */ [299, 243],
  seccomp: /*      */ [317, 277],
  sendmmsg: /*     */ [307, 269],
  sendto: /*       */ [44, 206],
  setns: /*        */ [308, 268],
  setsockopt: /*   */ [54, 208],
  socket: /*       */ [41, 198],
  socketpair: /*   */ [53, 199],
  unshare: /*      */ [272, 97],
  write: /*        */ [1, 64],
  writev: /*       */ [20, 66],
} as const;

export type SyscallName = keyof typeof numbers;

function forMachine(arch: string): Readonly<Record<SyscallName, number>> {
  const column = ["x64", "arm64"].indexOf(arch);
  if (column < 0) throw new Error(`System call numbers are known for x64 and arm64, this is "${arch}"`);
  return Object.fromEntries(Object.entries(numbers).map(([name, row]) => [name, row[column]])) as Record<
    SyscallName,
    number
  >;
}

/** The numbers for this machine. */
export const syscallNumber: Readonly<Record<SyscallName, number>> = forMachine(process.arch);
