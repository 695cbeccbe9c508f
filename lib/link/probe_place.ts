/**
 * Where in a function a kprobe goes. Pure.
 *
 *     x86-64   [endbr64]  call __fentry__ or 5-byte nop   push ...
 *              entry      ftrace record                   behind the nop
 *     arm64    [bti c]    mov x9, lr or nop   bl or nop   stp ...
 *              entry      before the record   ftrace record
 *
 * On x86-64 a probe on the record rides on ftrace: 6 to 9 ms to arm and as much to disarm, each. Behind the
 * nop it is a plain breakpoint that the kernel soon turns into a jump, and registers and stack are still
 * those of the entry. arm64 has no kprobes on ftrace: the record is refused, the instruction before it is
 * as good as the entry (arch/arm64/kernel/ftrace.c); on Linux 6.12 all functions take a probe there.
 */

/** What the addresses of functions mean here. */
export interface PlaceRules {
  readonly arch: string;
  /** they are those of ftrace's records (available_filter_functions_addrs), else those of the symbols */
  readonly recordAddresses: boolean;
}

const nopBytes = 5n, endbrBytes = 4n, arm64InsnBytes = 4n;

/**
 * Where a function may begin that has its ftrace record there: on arm64 the instruction before it belongs to ftrace
 * too, and on both a landing pad may come first.
 */
export const entriesBefore = (record: bigint, arch: string): readonly bigint[] =>
  arch === "x64"
    ? [record, record - endbrBytes]
    : [record, record - arm64InsnBytes, record - 2n * arm64InsnBytes];

/** The first place to try. `entryOnly` is for livepatched functions, which leave before the nop ends. */
export function firstPlace(
  address: bigint,
  { arch, recordAddresses }: PlaceRules,
  entryOnly = false,
): bigint {
  if (arch === "x64") return entryOnly ? address : address + nopBytes;
  return recordAddresses ? address - arm64InsnBytes : address;
}

/**
 * The place to try after the kernel refused `place` with `code`, or undefined when nothing is left.
 *
 * EILSEQ is "in the middle of an instruction": the function starts with endbr64. Only then is the place four
 * bytes on right; in other functions it may well be accepted, some instructions too late. Whatever else is
 * refused (a jump label at that very place, a blacklisted range) gets its last chance at the entry.
 */
export function nextPlace(
  address: bigint,
  { arch, recordAddresses }: PlaceRules,
  place: bigint,
  code: string,
): bigint | undefined {
  if (arch !== "x64" || place === address || isFinal.has(code)) return undefined;
  if (code === "EILSEQ" && !recordAddresses && place === address + nopBytes) return place + endbrBytes;
  return address;
}

/**
 * Where a probe at `place` may say that it fired. A kernel with IBT moves a probe that was asked for at an
 * ENDBR on to the ftrace record behind it (arch_adjust_kprobe_addr, Linux 5.18).
 */
export function firingPlaces(
  address: bigint,
  { arch, recordAddresses }: PlaceRules,
  place: bigint,
): bigint[] {
  const mayMove = arch === "x64" && !recordAddresses && place === address;
  return mayMove ? [place, place + endbrBytes] : [place];
}

/** Refusals that do not depend on the place. */
const isFinal: ReadonlySet<string> = new Set(["EEXIST", "ENOMEM", "EPERM", "EACCES", "ENOSPC", "EBADF"]);
