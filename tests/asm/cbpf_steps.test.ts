/** Which loads are left as they lie in memory; that verdicts stay the same is for tests/kernel/filter_corpus.test.ts. */
import { expect, test } from "bun:test";
import { cbpf, type CbpfInsn } from "../../asm/cbpf.ts";
import { type Step, withoutSwaps } from "../../asm/cbpf_steps.ts";

const insn = (code: number, k = 0, jt = 0, jf = 0): CbpfInsn => ({ code, k, jt, jf });

/** Steps of a program without loops. */
function stepsOf(program: readonly CbpfInsn[]): Step[] {
  return program.map((insn, index) => {
    const branches = insn.jt !== insn.jf, ends = index === program.length - 1;
    const to = (distance: number) => ends ? undefined : index + 1 + distance;
    return {
      insn,
      fails: false,
      onTrue: to(insn.code === cbpf.ja ? insn.k : insn.jt),
      onFalse: branches ? to(insn.jf) : undefined,
    };
  });
}

const ret = insn(cbpf.ret, 1);

test.each<[name: string, program: CbpfInsn[], changed: Record<number, number | "load">]>([
  ["a value that is compared", [
    insn(cbpf.ldAbs[2], 12),
    insn(cbpf.jeq.k, 0x800, 1, 0),
    insn(cbpf.jset.k, 0x1fff, 0, 1),
    ret,
    ret,
  ], { 0: "load", 1: 0x0008, 2: 0xff1f }],
  ["a word", [insn(cbpf.ldAbs[4], 30), insn(cbpf.jeq.k, 0x0a000001, 1, 0), ret, ret], {
    0: "load",
    1: 0x0100000a,
  }],
  ["the larger of two", [insn(cbpf.ldAbs[2], 2), insn(cbpf.jgt.k, 1023, 1, 0), ret, ret], {}],
  ["compared, and larger", [
    insn(cbpf.ldAbs[2], 2),
    insn(cbpf.jeq.k, 53, 2, 0),
    insn(cbpf.jgt.k, 1023, 1, 0),
    ret,
    ret,
  ], {}],
  ["compared with X", [insn(cbpf.ldAbs[2], 2), insn(cbpf.jeq.x, 0, 1, 0), ret, ret], {}],
  ["a constant that it cannot have", [insn(cbpf.ldAbs[2], 2), insn(cbpf.jeq.k, 0x10000, 1, 0), ret, ret], {}],
  ["computed with", [
    insn(cbpf.ldAbs[2], 2),
    insn(cbpf.and.k, 0xff0),
    insn(cbpf.jeq.k, 0x10, 1, 0),
    ret,
    ret,
  ], {}],
  ["two loads that meet in one question", [
    insn(cbpf.ldAbs[1], 0),
    insn(cbpf.jeq.k, 1, 0, 2),
    insn(cbpf.ldAbs[2], 2),
    insn(cbpf.ja, 1),
    insn(cbpf.ldAbs[2], 4),
    insn(cbpf.jeq.k, 53, 1, 0),
    ret,
    ret,
  ], { 0: "load", 1: 1, 2: "load", 4: "load", 5: 0x3500 }],
  ["two of different sizes that meet", [
    insn(cbpf.ldAbs[1], 0),
    insn(cbpf.jeq.k, 1, 0, 2),
    insn(cbpf.ldAbs[2], 2),
    insn(cbpf.ja, 1),
    insn(cbpf.ldAbs[4], 4),
    insn(cbpf.jeq.k, 53, 1, 0),
    ret,
    ret,
  ], { 0: "load" }],
  ["one that meets a computed value", [
    insn(cbpf.ldAbs[2], 0),
    insn(cbpf.jeq.k, 1, 0, 1),
    insn(cbpf.ldLen),
    insn(cbpf.jeq.k, 53, 1, 0),
    ret,
    ret,
  ], {}],
])("%s", (_name, program, changed) => {
  const after = withoutSwaps(stepsOf(program));
  const wanted = program.map(({ k }, index) => changed[index] ?? k);
  expect(after.map(({ asItLies, insn: { k } }) => asItLies === true ? "load" : k)).toEqual(wanted);
});
