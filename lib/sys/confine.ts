/**
 * What a tracer gives up once it is attached: system calls that need root and that it has no use for any more. The
 * filter of seccomp(2) (Linux 3.17) holds for all threads at once, where capabilities are each thread's own and
 * threads of the runtime cannot be told to drop theirs.
 */
import { cbpf, type CbpfInsn } from "../../asm/cbpf.ts";
import { bytes, struct, u16, u32, u64, u8 } from "../../asm/layout.ts";
import { scope } from "./arena.ts";
import { errnoName } from "./errno.ts";
import { trySyscall } from "./ffi.ts";

/** x64, arm64 (arch/x86/entry/syscalls/syscall_64.tbl, scripts/syscall.tbl); absent: the machine has no such call. */
type Numbers = readonly [x64: number, arm64?: number];

/** Another program in our place. */
const programs: Readonly<Record<string, Numbers>> = { execve: [59, 221], execveat: [322, 281] };

/** Other code in the kernel, other files in the tree, other people's memory, another user, another time. */
const machine: Readonly<Record<string, Numbers>> = {
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  reboot: [169, 142],
  swapon: [167, 224],
  swapoff: [168, 225],
  acct: [163, 89],
  iopl: [172],
  ioperm: [173],
  mknod: [133],
  mknodat: [259, 33],
  pivot_root: [155, 41],
  chroot: [161, 51],
  mount: [165, 40],
  umount2: [166, 39],
  open_tree: [428, 428],
  move_mount: [429, 429],
  mount_setattr: [442, 442],
  open_by_handle_at: [304, 265],
  ptrace: [101, 117],
  process_vm_readv: [310, 270],
  process_vm_writev: [311, 271],
  userfaultfd: [323, 282],
  setuid: [105, 146],
  setgid: [106, 144],
  setreuid: [113, 145],
  setregid: [114, 143],
  setresuid: [117, 147],
  setresgid: [119, 149],
  setgroups: [116, 159],
  setfsuid: [122, 151],
  setfsgid: [123, 152],
  settimeofday: [164, 170],
  clock_settime: [227, 112],
  adjtimex: [159, 171],
  clock_adjtime: [305, 266],
  sethostname: [170, 161],
  setdomainname: [171, 162],
};

/** AUDIT_ARCH_* (include/uapi/linux/audit.h) and the column of the numbers. */
const architectures: Readonly<Record<string, { readonly audit: number; readonly column: 0 | 1 }>> = {
  x64: { audit: 0xc000003e, column: 0 },
  arm64: { audit: 0xc00000b7, column: 1 },
};
/** Calls of x32 programs, which has all of the above under other numbers. */
const X32 = 0x4000_0000;

/** struct seccomp_data: u32 nr, u32 arch. */
const NR = 0, ARCH = 4;
const SECCOMP_RET_ALLOW = 0x7fff0000, SECCOMP_RET_ERRNO = 0x00050000, EPERM = 1;

/** The filter: EPERM for `denied` and for calls of another architecture. */
export function confinement(arch: string, denied: readonly string[]): CbpfInsn[] {
  const { audit, column } = architectures[arch] ?? unknown(arch);
  const numbers = denied.flatMap((name) => (programs[name] ?? machine[name])?.[column] ?? []);
  // Behind the test at `index` there are these many before the two returns.
  const before = (index: number) => numbers.length - index - 1;
  return [
    { code: cbpf.ldAbs[4], jt: 0, jf: 0, k: ARCH },
    { code: cbpf.jeq.k, jt: 0, jf: numbers.length + 3, k: audit },
    { code: cbpf.ldAbs[4], jt: 0, jf: 0, k: NR },
    { code: cbpf.jge.k, jt: numbers.length + 1, jf: 0, k: X32 },
    ...numbers.map((k, index) => ({ code: cbpf.jeq.k, jt: before(index) + 1, jf: 0, k })),
    { code: cbpf.ret, jt: 0, jf: 0, k: SECCOMP_RET_ALLOW },
    { code: cbpf.ret, jt: 0, jf: 0, k: SECCOMP_RET_ERRNO | EPERM },
  ];
}

function unknown(arch: string): never {
  throw new RangeError(`System call numbers are known for x64 and arm64, this is "${arch}"`);
}

const sockFilter = struct("sock_filter", { code: u16, jt: u8, jf: u8, k: u32 });
const sockFprog = struct("sock_fprog", { len: u16, pad: bytes(6), filter: u64 });
const PR_SET_NO_NEW_PRIVS = 38, SECCOMP_SET_MODE_FILTER = 1, SECCOMP_FILTER_FLAG_TSYNC = 1;

/**
 * Gives these calls up, in all threads and for good.
 *
 * @param mayStartPrograms whether a helper will have to be started
 * @returns undefined, or errno's name: this kernel has no such filters, or somebody forbids them
 */
export function confine({ mayStartPrograms }: { readonly mayStartPrograms: boolean }): string | undefined {
  const denied = [...Object.keys(machine), ...(mayStartPrograms ? [] : Object.keys(programs))];
  const insns = confinement(process.arch, denied);
  using memory = scope();
  const code = memory.alloc(insns.length * sockFilter.size);
  insns.forEach((insn, index) => sockFilter.encode(code.view, index * sockFilter.size, insn));
  const program = memory.struct(sockFprog, {
    len: insns.length,
    pad: new Uint8Array(6),
    filter: BigInt(code.address),
  });
  const privileges = trySyscall("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (privileges < 0) return errnoName(-privileges);
  const result = trySyscall("seccomp", SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, program.address);
  // Positive: the thread that could not be brought along, since it has a filter of its own.
  return result === 0 ? undefined : result < 0 ? errnoName(-result) : `thread ${result}`;
}
