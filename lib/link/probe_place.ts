/**
 * Where in a function a kprobe goes. Pure.
 *
 *     x86-64   [endbr64 4]  call __fentry__ / nop 5   push ...
 *              ^entry       ^ftrace record            ^behind the nop
 *
 * A probe at the entry rides on ftrace: 6 to 9 ms to arm and as much to disarm, each. Behind the nop it is a
 * plain breakpoint that the kernel soon turns into a jump, and registers and stack are still those of the
 * entry. Elsewhere than on x86-64 there is no such cost, and the entry is the place.
 */

/** The function to be probed, as far as its place is concerned. */
export interface ProbedFunction {
  /** the function's first byte */
  readonly address: bigint;
  /** the address in its ftrace record (available_filter_functions_addrs, Linux 6.5), if known */
  readonly ftraceAddress?: bigint;
}

const nopBytes = 5n, endbrBytes = 4n;

/** The first place to try. `entryOnly` is for livepatched functions, which leave before the nop ends. */
export function firstPlace(target: ProbedFunction, arch: string, entryOnly = false): bigint {
  if (arch !== "x64" || entryOnly) return target.address;
  return (target.ftraceAddress ?? target.address) + nopBytes;
}

/**
 * The place to try after the kernel refused `place` with `code`, or undefined when nothing is left.
 *
 * EILSEQ is "in the middle of an instruction": the function starts with endbr64. Only then is the place four
 * bytes on right; in other functions it may well be accepted, some instructions too late. Whatever else is
 * refused (a jump label at that very place, a blacklisted range) gets its last chance at the entry.
 */
export function nextPlace(target: ProbedFunction, place: bigint, code: string): bigint | undefined {
  if (place === target.address || retryIsUseless.has(code)) return undefined;
  const behindNop = target.address + nopBytes;
  if (code === "EILSEQ" && target.ftraceAddress === undefined && place === behindNop) {
    return behindNop + endbrBytes;
  }
  return target.address;
}

/** Refusals that do not depend on the place. */
const retryIsUseless: ReadonlySet<string> = new Set([
  "EEXIST",
  "ENOMEM",
  "EPERM",
  "EACCES",
  "ENOSPC",
  "EBADF",
]);
