/** The reason in a verifier log: logs as kernels wrote them. */
import { expect, test } from "bun:test";
import { readVerifierLog, type Verdict } from "../../lib/sys/verifier_log.ts";

const count =
  "processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0";

test.each<[name: string, log: string, verdict: Verdict | undefined]>([
  ["nothing", "", undefined],
  ["only a count", `${count}\n`, undefined],
  [
    "a reason behind its instruction",
    `0: R1=ctx() R10=fp0\n0: (61) r6 = *(u32 *)(r1 +0)          ; R1=ctx() R6=scalar()\n` +
    `1: (61) r0 = *(u32 *)(r6 +112)\nR6 invalid mem access 'scalar'\n${count}\n\n`,
    { reason: "1: (61) r0 = *(u32 *)(r6 +112): R6 invalid mem access 'scalar'", slot: 1, hidden: 3 },
  ],
  [
    "a reason that names the instruction itself",
    `unreachable insn 3\n${count}\n`,
    { reason: "unreachable insn 3", slot: 3, hidden: 1 },
  ],
  [
    "a function before the first instruction",
    `func#0 @0\nR1 type=ctx expected=fp\n${count}`,
    { reason: "R1 type=ctx expected=fp", slot: undefined, hidden: 2 },
  ],
  [
    "5.10 prints types without colons",
    `0: (bf) r6 = r1\n1: (85) call bpf_ktime_get_coarse_ns#160\nunknown func bpf_ktime_get_coarse_ns#160\n${count}`,
    {
      reason: "1: (85) call bpf_ktime_get_coarse_ns#160: unknown func bpf_ktime_get_coarse_ns#160",
      slot: 1,
      hidden: 2,
    },
  ],
  [
    "walks back and forth before the reason",
    `from 3 to 5: R0=0 R10=fp0\n5: R0=0 R10=fp0\n5: (95) exit\nUnreleased reference id=2 alloc_insn=3\n${count}`,
    { reason: "5: (95) exit: Unreleased reference id=2 alloc_insn=3", slot: 5, hidden: 3 },
  ],
  [
    "7.3 explains itself, with advice",
    `0: R1=ctx() R10=fp0\n0: (85) call bpf_ktime_get_ns#5       ;\n1: (bf) r0 = r1\nR1 !read_ok\n\n` +
    "Verification failed: Register Type Safety: Unreadable register\n\nReason:\n  R1 is not readable here.\n\n" +
    "At:\n  insn 1\n       | ^-- error: R1 is not readable\n  Instruction context:\n" +
    `  >>> 1 | (bf) r0 = r1\n\nSuggestion:\n  Avoid using the register.\n\n${count}\n`,
    { reason: "1: (bf) r0 = r1: R1 !read_ok", slot: 1, hidden: 13 },
  ],
  [
    "nothing but the explanation",
    `Verification failed: Policy: Operation is not allowed\n\nReason:\n  Not here.\n${count}\n`,
    { reason: "Policy: Operation is not allowed", slot: undefined, hidden: 3 },
  ],
])("%s", (_, log, verdict) => {
  expect(readVerifierLog(log)).toEqual(verdict as Verdict);
});
