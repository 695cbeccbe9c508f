/**
 * The verifier's log (kernel/bpf/verifier.c) -> what a person needs of it. Pure.
 *
 * An instruction is logged as `12: (61) r0 = *(u32 *)(r6 +112)   ; R0_w=scalar()`, register states between
 * instructions as `12: R0=... R10=fp0`. The last line that is neither of them, nor a count, is the reason.
 */

export interface Verdict {
  /** the reason, with the instruction before it when the reason follows one */
  readonly reason: string;
  /** of the instruction the reason is about */
  readonly slot: number | undefined;
  /** lines of the log that `reason` leaves out */
  readonly hidden: number;
}

const instruction = /^(\d+): \([0-9a-f]{2}\) ([^;]*)/;
/** Lines about the walk, not about what is wrong. */
const bookkeeping =
  /^(processed \d+ insns|verification time|stack depth|max_states|\d+: R\d|\d+: safe|R\d+=|from \d+ to \d+|propagating|last_idx|first_idx|parent |regs=|mark_precise|arg#\d+ |func#\d+ @|Live regs|;|\s*$)/;
const namesAnInsn = /\binsn (\d+)\b/;

/** Newer kernels (7.3) repeat the reason in prose, with advice; it starts here. */
const report = /^Verification failed: (.*)/;

/** Finds the reason in a log, or undefined in an empty one. */
export function readVerifierLog(log: string): Verdict | undefined {
  const all = log.split("\n").map((line) => line.trimEnd());
  const total = all.filter((line) => line !== "").length;
  const prose = all.findIndex((line) => report.test(line));
  const lines = prose < 0 ? all : all.slice(0, prose);

  const at = lines.findLastIndex((line) => !bookkeeping.test(line));
  const last = lines[at] ?? report.exec(all[prose] ?? "")?.[1];
  if (last === undefined) return undefined;
  const own = instruction.exec(last);
  if (own !== null) return { reason: last.trim(), slot: Number(own[1]), hidden: total - 1 };
  const named = namesAnInsn.exec(last);
  if (named !== null) return { reason: last, slot: Number(named[1]), hidden: total - 1 };

  const before = lines.slice(0, at).findLast((line) => instruction.test(line));
  const match = before === undefined ? null : instruction.exec(before);
  if (match === null) return { reason: last, slot: undefined, hidden: total - 1 };
  return { reason: `${match[0].trim()}: ${last}`, slot: Number(match[1]), hidden: total - 2 };
}
