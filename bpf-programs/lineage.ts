// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * Where packets come from: programs that run when a function returns a new sk_buff, or a list of them.
 *
 *     skb_clone(parent)   -> child           joins the set if the parent is in it
 *     skb_segment(parent) -> child -> child  all do
 *     __alloc_skb(size)   -> packet          is nobody's child; its address leaves the set
 *
 * One body serves all of them: the first argument of a function that allocates is no address of an sk_buff, so
 * it is in no set. While the set is empty this costs one load and one branch.
 *
 * Registers: r6 the context, r7 the child, r8 how many of the list may still come.
 */
import { type Code, type KernelTypes, label, type ProgramSpec } from "../asm/code.ts";
import { withoutDeadCode } from "../asm/dead_code.ts";
import { AssemblyError } from "../asm/errors.ts";
import {
  add,
  and32,
  at,
  call,
  callKfunc,
  fp,
  ja,
  jeq,
  jge,
  jne,
  ldx,
  lea,
  mov,
  r0,
  r1,
  r2,
  r3,
  r6,
  r7,
  r8,
  ret,
  st,
  stx,
} from "../asm/insn.ts";
import { u64 } from "../asm/layout.ts";
import { slot, type TraceOptions } from "./frame.ts";
import type { ProbeContext } from "./registers.ts";
import { BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_TRACING, BPF_TRACE_FEXIT } from "./trace.ts";
import { adopt, countUntracked, forget, lookUp, trackedCount } from "./tracking.ts";

/** enum bpf_prog_type and bpf_attach_type (include/uapi/linux/bpf.h). */
export const BPF_TRACE_KPROBE_SESSION = 56;

/** The largest packet in segments of the usual size are 46; larger lists are cut, and that is counted. */
const MAX_CHILDREN = 128;
/** Kernel pointers from -4095 on are error numbers. */
const MAX_ERRNO = 4095;

/** The parent's address is at fp + slot.skb, the first child's at fp + slot.view. */
function inherit(options: TraceOptions): Code {
  const { maps, kernel, access } = options;
  const orphan = label("orphan"), one = label("one"), child = label("child"), done = label("done");
  return [
    ldx(r7, at(fp, slot.view, u64)),
    jeq(r7, 0, done),
    jge(r7, -MAX_ERRNO, done),
    st(at(fp, slot.stamp, u64), 0),
    lookUp(maps, slot.skb, slot.stamp, orphan),
    orphan,
    mov(r8, MAX_CHILDREN),
    one,
    stx(at(fp, slot.view, u64), r7),
    ldx(r1, at(fp, slot.stamp, u64)),
    jne(r1, 0, child),
    forget(maps, slot.view),
    ja(done), // whoever is nobody's child comes alone
    child,
    adopt(maps, slot.view, slot.stamp),
    access.read(r7, r7, kernel.field("sk_buff", "next"), slot.temp),
    jeq(r7, 0, done),
    add(r8, -1),
    jne(r8, 0, one),
    countUntracked(maps),
    done,
  ];
}

/** fexit on one function: its arguments and its result lie in a row. Linux 5.5. */
export function lineageExitProgram(
  options: TraceOptions,
  { name, btfId, parameters }: { name: string; btfId: number; parameters: number },
): ProgramSpec {
  const idle = label("idle");
  // read as memory: as what they are to the verifier they could not be compared
  const word = (index: number, to: number): Code => [
    lea(r1, at(fp, to, u64)),
    mov(r2, 8),
    mov(r3, r6),
    index === 0 ? [] : add(r3, index * 8),
    call("bpf_probe_read_kernel"),
  ];
  return {
    name: `child_${name}`.slice(0, 15),
    type: BPF_PROG_TYPE_TRACING,
    expectedAttachType: BPF_TRACE_FEXIT,
    attachBtfId: btfId,
    license: "Dual BSD/GPL",
    code: withoutDeadCode([
      mov(r6, r1),
      trackedCount(options.maps),
      jeq(r1, 0, idle),
      word(0, slot.skb),
      word(parameters, slot.view),
      inherit(options),
      idle,
      ret(0),
    ]),
  };
}

/** Whether programs can run on entry and on return with a word kept in between. Linux 6.10. */
export function hasSessions(kernel: KernelTypes): boolean {
  return kernel.functionId("bpf_session_is_return") !== undefined &&
    kernel.functionId("bpf_session_cookie") !== undefined;
}

/** A kprobe-multi session on all of the functions: on entry it keeps the first argument. Linux 6.10. */
export function lineageSessionProgram(options: TraceOptions, context: ProbeContext): ProgramSpec {
  const { kernel, maps } = options;
  const idle = label("idle"), returned = label("returned");
  const kfunc = (name: string): Code => {
    const id = kernel.functionId(name);
    if (id === undefined) throw new AssemblyError(`This kernel has no ${name}`);
    return [mov(r1, r6), callKfunc(name, id)]; // newer ones want the context
  };
  return {
    name: "child_session",
    type: BPF_PROG_TYPE_KPROBE,
    expectedAttachType: BPF_TRACE_KPROBE_SESSION,
    license: "Dual BSD/GPL",
    code: withoutDeadCode([
      mov(r6, r1),
      kfunc("bpf_session_is_return"),
      and32(r0, 1),
      jne(r0, 0, returned),
      trackedCount(maps),
      jeq(r1, 0, idle),
      kfunc("bpf_session_cookie"),
      ldx(r1, at(r6, context.arguments[0], u64)),
      stx(at(r0, u64), r1),
      ret(0),
      idle,
      ret(1), // no need to come back on return

      returned,
      kfunc("bpf_session_cookie"),
      ldx(r1, at(r0, u64)),
      stx(at(fp, slot.skb, u64), r1),
      ldx(r1, at(r6, context.returnValue, u64)),
      stx(at(fp, slot.view, u64), r1),
      inherit(options),
      ret(0),
    ]),
  };
}
