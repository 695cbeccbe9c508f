// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * Where packets come from and go to, as far as that is not told by a function that has the packet and shows it.
 *
 *     skb_clone(parent)   -> child           joins the set if the parent is in it
 *     skb_segment(parent) -> child -> child  all do
 *     __alloc_skb(size)   -> packet          is nobody's child; its address leaves the set
 *
 *     skb_split(parent, child)               joins the set if the parent is in it
 *     inet_frag_reasm_finish(queue, parent)  all of its frag_list do
 *     kfree_skb_partial(packet, stolen)      leaves the set if `stolen` is true
 *     kmem_cache_free_bulk(cache, n, packets) all leave it
 *
 * One body serves the first three: the first argument of a function that allocates is no address of an sk_buff, so
 * it is in no set. While the set is empty each of them costs one load and one branch.
 *
 * Registers: r6 the context, r7 the child, r8 how many of the list may still come.
 */
import { type Code, type KernelTypes, type Label, label, type ProgramSpec } from "../asm/code.ts";
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
  r9,
  ret,
  stx,
} from "../asm/insn.ts";
import { u64 } from "../asm/layout.ts";
import { slot, type TraceOptions } from "./frame.ts";
import type { ProbeContext } from "./registers.ts";
import {
  BPF_PROG_TYPE_KPROBE,
  BPF_PROG_TYPE_TRACING,
  BPF_TRACE_FENTRY,
  BPF_TRACE_FEXIT,
} from "../asm/uapi.ts";
import { clearBuffer, followedCount, noteBuffer, takeBuffer } from "./buffers.ts";
import { adopt, countUntracked, forget, lookUp } from "./tracking.ts";

/** enum bpf_prog_type and bpf_attach_type (include/uapi/linux/bpf.h). */
export const BPF_TRACE_KPROBE_SESSION = 56;

/** The largest packet in segments of the usual size are 46; larger lists are cut, and that is counted. */
const MAX_CHILDREN = 128;
/** Packets are freed together by 64 at the most (NAPI_SKB_CACHE_SIZE in net/core/skbuff.c). */
const MAX_BULK = 64;
/** Kernel pointers from -4095 on are error numbers. */
const MAX_ERRNO = 4095;

/** The parent's address is at fp + slot.skb, the first child's at fp + slot.child. */
function inherit(options: TraceOptions): Code {
  const { maps, tracking } = options, frames = tracking?.frames === true;
  const orphan = label("orphan"), stranger = label("stranger"), found = label("found"), done = label("done");
  return [
    ldx(r7, at(fp, slot.child, u64)),
    jeq(r7, 0, done),
    jge(r7, -MAX_ERRNO, done),
    frames ? builtAround(options, found) : [],
    lookUp(maps, slot.skb, slot.stamp, orphan),
    ja(found),
    orphan,
    frames ? bornOfFrame(options, found, stranger) : [],
    stranger,
    forget(maps, slot.child),
    ja(done), // whoever is nobody's child comes alone
    found,
    adoptList(options),
    done,
  ];
}

/** All of the list that begins with r7, which is not NULL, get the stamp at fp + slot.stamp. */
function adoptList(options: TraceOptions): Code {
  const { maps, kernel, access } = options;
  const one = label("one"), done = label("all_adopted");
  return [
    mov(r8, MAX_CHILDREN),
    one,
    stx(at(fp, slot.child, u64), r7),
    adopt(maps, slot.child, slot.stamp),
    options.tracking?.frames === true ? noteHead(options, slot.child) : [],
    access.read(r7, r7, kernel.field("sk_buff", "next"), slot.temp),
    jeq(r7, 0, done),
    add(r8, -1),
    jne(r8, 0, one),
    countUntracked(maps),
    done,
  ];
}

/** The buffer of the sk_buff whose address is in r7 and at fp + skb: note that it is that packet's. */
function noteHead(options: TraceOptions, skb: number): Code {
  return [loadHead(options), noteBuffer(options.maps, slot.key, skb)];
}

/** The first byte of r7's buffer to its slot. Loses r0-r5. */
function loadHead({ kernel, access }: TraceOptions): Code {
  return [
    access.read(r1, r7, kernel.field("sk_buff", "head"), slot.temp),
    stx(at(fp, slot.key, u64), r1),
  ];
}

/**
 * r7 is what the function was given: memory to build an sk_buff in, or a packet that is the first of its own segments.
 * To `family`, with its stamp, if its buffer holds a frame: then it was the former.
 */
function builtAround(options: TraceOptions, family: Label): Code {
  const other = label("not_built_around");
  return [
    ldx(r1, at(fp, slot.skb, u64)),
    jne(r1, r7, other),
    loadHead(options),
    takeBuffer(options.maps, slot.key, slot.child, family),
    other,
  ];
}

/**
 * Of nobody's child, in r7: to `family`, with its stamp, if it was built in the buffer that the function was given, and that
 * holds a frame. All others have new memory.
 */
function bornOfFrame(options: TraceOptions, family: Label, stranger: Label): Code {
  const { maps } = options, fresh = label("fresh_memory");
  return [
    loadHead(options),
    ldx(r2, at(fp, slot.skb, u64)),
    jeq(r2, r7, stranger),
    jne(r2, r1, fresh),
    takeBuffer(maps, slot.key, slot.child, family),
    ja(stranger),
    fresh,
    clearBuffer(maps, slot.key),
  ];
}

/**
 * fentry on skb_copy_header(new, old), which whoever builds a packet anew calls: drivers do for XDP. Where it returns no
 * sk_buff there is no other place that knows both.
 */
export function headerCopyProgram(options: TraceOptions, traced: TracedByName): ProgramSpec {
  return tracing(options, { prefix: "head", attachType: BPF_TRACE_FENTRY, ...traced }, (idle) => [
    word(0, slot.child),
    word(1, slot.skb),
    lookUp(options.maps, slot.skb, slot.stamp, idle),
    adopt(options.maps, slot.child, slot.stamp),
    ldx(r7, at(fp, slot.child, u64)),
    noteHead(options, slot.child),
  ]);
}

/** fexit on pskb_expand_head(skb, ...), which gives a packet another buffer. */
export function headChangeProgram(options: TraceOptions, traced: TracedByName): ProgramSpec {
  return tracing(options, { prefix: "head", attachType: BPF_TRACE_FEXIT, ...traced }, (idle) => [
    word(0, slot.skb),
    lookUp(options.maps, slot.skb, slot.stamp, idle),
    ldx(r7, at(fp, slot.skb, u64)),
    noteHead(options, slot.skb),
  ]);
}

/** A function of the kernel that one program is for. */
export interface TracedByName {
  readonly name: string;
  readonly btfId: number;
}

/** fexit on a function whose first argument is a parent and whose result is a child. Linux 5.5. */
export function lineageExitProgram(
  options: TraceOptions,
  { parameters, ...traced }: TracedByName & { parameters: number },
): ProgramSpec {
  return tracing(options, { prefix: "child", attachType: BPF_TRACE_FEXIT, ...traced }, () => [
    word(0, slot.skb),
    word(parameters, slot.child),
    inherit(options),
  ]);
}

/** fexit on a function that makes its argument `child` of what its argument `parent` is; both from 0. Linux 5.5. */
export function handOverProgram(
  options: TraceOptions,
  { parent, child, ...traced }: TracedByName & { parent: number; child: number },
): ProgramSpec {
  return tracing(options, { prefix: "heir", attachType: BPF_TRACE_FEXIT, ...traced }, (idle) => [
    word(parent, slot.skb),
    lookUp(options.maps, slot.skb, slot.stamp, idle),
    word(child, slot.child),
    adopt(options.maps, slot.child, slot.stamp),
  ]);
}

/** fexit on a function that has made one of its argument `parent`, from 0, and the packets of its frag_list. Linux 5.5. */
export function joinedProgram(
  options: TraceOptions,
  { parent, ...traced }: TracedByName & { parent: number },
): ProgramSpec {
  const { kernel, access, maps } = options;
  const skb = (name: string) => kernel.field("sk_buff", name);
  return tracing(options, { prefix: "join", attachType: BPF_TRACE_FEXIT, ...traced }, (idle) => [
    word(parent, slot.skb),
    lookUp(maps, slot.skb, slot.stamp, idle),
    ldx(r8, at(fp, slot.skb, u64)),
    access.read(r7, r8, skb("head"), slot.temp),
    access.read(r8, r8, skb("end"), slot.temp), // an offset from head
    add(r8, r7),
    access.read(r7, r8, kernel.field("skb_shared_info", "frag_list"), slot.temp),
    jeq(r7, 0, idle),
    adoptList(options),
  ]);
}

/**
 * fexit on a function that has freed its first argument's sk_buff if its argument `when`, a bool, is true, and else has
 * had that done where it is seen. Linux 5.5.
 */
export function lateEndProgram(
  options: TraceOptions,
  { when, ...traced }: TracedByName & { when: number | undefined },
): ProgramSpec {
  return tracing(options, { prefix: "end", attachType: BPF_TRACE_FEXIT, ...traced }, (idle) => [
    when === undefined ? [] : [
      word(when, slot.temp),
      ldx(r1, at(fp, slot.temp, u64)),
      and32(r1, 0xff), // the rest of the register means nothing
      jeq(r1, 0, idle),
    ],
    word(0, slot.skb),
    forget(options.maps, slot.skb),
  ]);
}

/** fentry on kmem_cache_free_bulk(cache, number, array): whatever it is, it is no packet any more. Linux 5.5. */
export function bulkEndProgram(options: TraceOptions, traced: TracedByName): ProgramSpec {
  const one = label("one");
  return tracing(options, { prefix: "end", attachType: BPF_TRACE_FENTRY, ...traced }, (idle) => [
    word(1, slot.temp),
    ldx(r8, at(fp, slot.temp, u64)),
    word(2, slot.temp),
    ldx(r7, at(fp, slot.temp, u64)), // r7 = address of the next one's address
    mov(r9, MAX_BULK),
    one,
    jeq(r8, 0, idle),
    lea(r1, at(fp, slot.skb, u64)),
    mov(r2, 8),
    mov(r3, r7),
    call("bpf_probe_read_kernel"),
    forget(options.maps, slot.skb),
    add(r7, 8),
    add(r8, -1),
    add(r9, -1),
    jne(r9, 0, one),
  ]);
}

/** A program that does nothing while the set is empty, else `act`, which may leave by the label. r6 = context. */
function tracing(
  options: TraceOptions,
  { prefix, name, btfId, attachType }: TracedByName & { prefix: string; attachType: number },
  act: (idle: Label) => Code,
): ProgramSpec {
  const idle = label("idle");
  return {
    name: `${prefix}_${name}`.slice(0, 15),
    type: BPF_PROG_TYPE_TRACING,
    expectedAttachType: attachType,
    attachBtfId: btfId,
    license: "Dual BSD/GPL",
    code: withoutDeadCode([mov(r6, r1), followedCount(options), jeq(r1, 0, idle), act(idle), idle, ret(0)]),
  };
}

/**
 * An argument, or behind the last one the result, to fp + to. Arguments lie in a row; they are read as memory: as what
 * they are to the verifier they could not be compared.
 */
function word(index: number, to: number): Code {
  return [
    lea(r1, at(fp, to, u64)),
    mov(r2, 8),
    mov(r3, r6),
    index === 0 ? [] : add(r3, index * 8),
    call("bpf_probe_read_kernel"),
  ];
}

/** Whether programs can run on entry and on return with a word kept in between. Linux 6.10. */
export function hasSessions(kernel: KernelTypes): boolean {
  return kernel.functionId("bpf_session_is_return") !== undefined &&
    kernel.functionId("bpf_session_cookie") !== undefined;
}

/** A kprobe-multi session on all of the functions: on entry it keeps the first argument. Linux 6.10. */
export function lineageSessionProgram(options: TraceOptions, context: ProbeContext): ProgramSpec {
  const { kernel } = options;
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
      followedCount(options),
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
      stx(at(fp, slot.child, u64), r1),
      inherit(options),
      ret(0),
    ]),
  };
}
