// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * Which packet a kernel stack is about: what runs beneath a function that has a packet belongs to it, with a packet of
 * its own or with none.
 *
 *     address            | frame of the caller        |
 *     link.callerFrame   | link.returnTo              |  <- a function that has the packet was entered here
 *                        | frames beneath             |
 *     now                | return address             |  <- belongs to the packet: deeper, link.returnTo is still there
 *
 * A stack is told by its bottom, since stacks are aligned to their size, and a function that has returned by what
 * lies where it was entered: the next call from the same frame puts another return address there. That can be the
 * same one, or a frame can have a hole there. So probes end links, too: one that fires where the link's function was
 * entered, or further out, shows that it has returned, and where work on a packet begins there always is one.
 *
 * On x86-64 the frame's end is the stack pointer on entry, and the return address lies there: one read. On arm64 it
 * comes in a register, and the function stores it in a frame record at a distance of its own. There the frame is told
 * by the frame pointer on entry, which is the address of the caller's record, and records are followed from here
 * outwards: the one that names the caller's is that of the function which was called from there last.
 *
 *     record of the caller                          <- link.callerFrame
 *     { link.callerFrame, link.returnTo, signed }   of the link's function, while it runs
 *     { ..., ... }                                  of those beneath
 *
 * A BPF program is a function in this sense where its entry and its exit are traced together: the kernel then calls
 * it from a frame that holds its first argument all the while, which stands in for the return address.
 */
import { type Code, type Label, label } from "../asm/code.ts";
import {
  add,
  and,
  at,
  atomicAdd,
  call,
  fp,
  ja,
  jeq,
  jge,
  jgt,
  jne,
  ldMap,
  ldMapValue,
  ldx,
  lea,
  lsh,
  mov,
  r0,
  r1,
  r2,
  r3,
  r4,
  r7,
  st,
  stx,
} from "../asm/insn.ts";
import { struct, u64 } from "../asm/layout.ts";
import { slot } from "./frame.ts";
import type { TraceMaps } from "./maps.ts";
import { type ProbeContext, STACK_BYTES } from "./registers.ts";
import { countUntracked, stackLink, trackingState } from "./tracking.ts";

/** A frame record: where the caller's is, and where to return to (Procedure Call Standard for the Arm 64-bit Architecture). */
const frameRecord = struct("frame_record", { callersRecord: u64, returnTo: u64 });
/** Deeper beneath the link's function nothing is taken to belong to it. */
const MAX_RECORDS = 64;
/**
 * Bits of a return address that may be a signature: those above the address proper, which has 36 bits at least
 * (CONFIG_ARM64_VA_BITS). The kernel's text and its modules lie close enough to be told apart by the rest.
 */
const SIGNATURE_BITS = 28;
/** One of those between here and the link's function. The packet filter's words are free here. */
const FRAME_RECORD = slot.scratch;
const BPF_NOEXIST = 1, BPF_EXIST = 2;

/** How many stacks are at work on a packet: r1. */
function linkedCount({ tracking }: TraceMaps): Code {
  return [ldMapValue(r1, tracking, trackingState.fields.linked), ldx(r1, at(r1, u64))];
}

function count({ tracking }: TraceMaps, by: 1 | -1): Code {
  return [ldMapValue(r1, tracking, trackingState.fields.linked), mov(r2, by), atomicAdd(at(r1, u64), r2)];
}

/** What traces BPF programs: its context is a pointer to the arguments of one, on the stack. */
export type StackHook = ProbeContext | "program";

/** The caller's frame to its slot, the stack's bottom to the one of the key; the context is in its slot. Loses r0-r5. */
function whereAmI(hook: StackHook): Code {
  if (hook === "program") {
    return [ // the context becomes a number on the way
      lea(r3, at(fp, slot.context, u64)),
      read(slot.callerFrame, u64.size),
      ldx(r1, at(fp, slot.callerFrame, u64)),
      and(r1, -STACK_BYTES),
      stx(at(fp, slot.stack, u64), r1),
    ];
  }
  const { stackPointer, stackBytes, returnAddress } = hook;
  return [
    ldx(r1, at(fp, slot.context, u64)),
    returnAddress.in === "memory" ? [] : [
      ldx(r2, at(r1, returnAddress.framePointer, u64)),
      stx(at(fp, slot.callerFrame, u64), r2),
    ],
    ldx(r1, at(r1, stackPointer, u64)),
    returnAddress.in === "memory" ? stx(at(fp, slot.callerFrame, u64), r1) : [],
    and(r1, -stackBytes),
    stx(at(fp, slot.stack, u64), r1),
  ];
}

/**
 * r7 = this stack's link, or to `none`; its key is in the slot. Stacks for interrupts are not aligned, so that one can
 * lie in two blocks, and what is above us in the upper one. No other stack is there: all have a gap behind them.
 */
function findLink({ stacks }: TraceMaps, hook: StackHook, none: Label): Code {
  const stackBytes = hook === "program" ? STACK_BYTES : hook.stackBytes;
  const found = label("link_found");
  const lookUp = [ldMap(r1, stacks), lea(r2, at(fp, slot.stack, u64)), call("bpf_map_lookup_elem")];
  return [
    lookUp,
    jne(r0, 0, found),
    ldx(r1, at(fp, slot.stack, u64)),
    add(r1, stackBytes),
    stx(at(fp, slot.stack, u64), r1),
    lookUp,
    jeq(r0, 0, none),
    found,
    mov(r7, r0),
  ];
}

/**
 * To `stale` unless the function of the link at r7 is still running, above us; to `unknown` where a hook cannot tell.
 * Keeps r6-r9.
 */
function stillAbove(hook: StackHook, stale: Label, unknown: Label): Code {
  const link = stackLink.fields, word = label("no_records"), running = label("still_above");
  const byWord = [
    ldx(r3, at(r7, link.callerFrame)),
    read(slot.temp, u64.size),
    ldx(r1, at(fp, slot.temp, u64)),
    ldx(r2, at(r7, link.returnTo)),
    jne(r1, r2, stale),
  ];
  const records = ldx(r2, at(r7, link.records));
  return [
    ldx(r3, at(r7, link.callerFrame)),
    ldx(r1, at(fp, slot.callerFrame, u64)),
    jge(r1, r3, stale),
    hook === "program"
      ? [records, jne(r2, 0, unknown), byWord]
      : hook.returnAddress.in === "memory"
      ? byWord
      : [records, jeq(r2, 0, word), stillOnRecord(stale), ja(running), word, byWord, running],
  ];
}

/** The same, by frame records from r1 on outwards. */
function stillOnRecord(stale: Label): Code {
  const link = stackLink.fields, found = label("record_found"), outwards = label("outwards");
  const part = (name: keyof typeof frameRecord.fields) =>
    at(fp, FRAME_RECORD + frameRecord.fields[name].offset, u64);
  return [
    mov(r2, 0),
    outwards,
    stx(at(fp, slot.temp, u64), r2), // how many have been read, which the verifier counts along
    mov(r3, r1),
    read(FRAME_RECORD, frameRecord.size),
    jne(r0, 0, stale),
    ldx(r1, part("callersRecord")),
    ldx(r2, at(r7, link.callerFrame)),
    jeq(r1, r2, found),
    jgt(r1, r2, stale),
    ldx(r2, at(fp, slot.temp, u64)),
    add(r2, 1),
    jne(r2, MAX_RECORDS, outwards),
    ja(stale),

    found,
    ldx(r1, part("returnTo")),
    ldx(r2, at(r7, link.returnTo)),
    lsh(r1, SIGNATURE_BITS),
    lsh(r2, SIGNATURE_BITS),
    jne(r1, r2, stale),
  ];
}

/** Memory at r3 to fp + place; zeros where that cannot be read. */
function read(place: number, bytes: number): Code {
  return [lea(r1, at(fp, place, u64)), mov(r2, bytes), call("bpf_probe_read_kernel")];
}

/** Ends the link of this stack. */
function unlink(maps: TraceMaps): Code {
  const absent = label("not_linked");
  return [
    ldMap(r1, maps.stacks),
    lea(r2, at(fp, slot.stack, u64)),
    call("bpf_map_delete_elem"),
    jne(r0, 0, absent),
    count(maps, -1),
    absent,
  ];
}

/**
 * Goes on at `beneath`, which leaves for good, when this stack is at work on a packet: r7 = the link. Falls through when it is not. A link whose function has returned is ended. Keeps r6.
 */
export function beneathPacket(maps: TraceMaps, context: StackHook, beneath: Code): Code {
  const none = label("no_link"), stale = label("stale_link");
  return [
    linkedCount(maps),
    jeq(r1, 0, none),
    whereAmI(context),
    findLink(maps, context, none),
    stillAbove(context, stale, none),
    beneath,
    stale,
    unlink(maps),
    none,
  ];
}

/** The stamp of the packet that the link at r7 is about, to its slot. Loses r1. */
export const takeStamp: Code = [
  ldx(r1, at(r7, stackLink.fields.stamp)),
  stx(at(fp, slot.stamp, u64), r1),
];

/** Where a program keeps the xdp_buff that it is about: in what it may note. */
export const FRAME_SLOT: number = slot.link + stackLink.fields.frame.offset;

/**
 * Notes that this stack is at work on the packet in its slot, unless it is noted already. A frame's xdp_buff is in
 * FRAME_SLOT. Loses r7. Keeps r6.
 */
export function linkStack(
  maps: TraceMaps,
  context: StackHook,
  { stamped, frame = false }: { readonly stamped: boolean; readonly frame?: boolean },
): Code {
  const note = label("note_link"), done = label("linked");
  const returnAddress = context === "program" ? { in: "memory" } as const : context.returnAddress;
  const link = stackLink.fields,
    value = (name: keyof typeof link) => at(fp, slot.link + link[name].offset, u64);
  const update = (flags: number): Code => [
    ldMap(r1, maps.stacks),
    lea(r2, at(fp, slot.stack, u64)),
    lea(r3, at(fp, slot.link, u64)),
    mov(r4, flags),
    call("bpf_map_update_elem"),
  ];
  return [
    whereAmI(context),
    findLink(maps, context, note),
    ldx(r1, at(r7, link.skb)),
    ldx(r2, at(fp, slot.skb, u64)),
    jne(r1, r2, note),
    stillAbove(context, note, note),
    ja(done),

    note,
    whereAmI(context),
    ldx(r3, at(fp, slot.callerFrame, u64)),
    stx(value("callerFrame"), r3),
    returnAddress.in === "memory" ? read(slot.link + link.returnTo.offset, link.returnTo.type.size) : [
      ldx(r1, at(fp, slot.context, u64)),
      ldx(r1, at(r1, returnAddress.register, u64)),
      stx(value("returnTo"), r1),
    ],
    stamped ? ldx(r1, at(fp, slot.stamp, u64)) : mov(r1, 0),
    stx(value("stamp"), r1),
    ldx(r1, at(fp, slot.skb, u64)),
    stx(value("skb"), r1),
    frame ? [] : st(value("frame"), 0),
    st(value("records"), returnAddress.in === "memory" ? 0 : 1),
    count(maps, 1), // before it is there: the count is never too small
    update(BPF_NOEXIST),
    jeq(r0, 0, done),
    count(maps, -1),
    update(BPF_EXIST),
    jeq(r0, 0, done),
    countUntracked(maps),
    done,
  ];
}

/** Ends the link of this stack if its function has returned. Loses r7. */
export function watchStack(maps: TraceMaps, context: StackHook): Code {
  const running = label("still_running");
  return [beneathPacket(maps, context, ja(running)), running];
}

/** At the end of a packet: the stack that is at work on it is no more. Keeps r6. Loses r7. */
export function unlinkEnded(maps: TraceMaps, context: StackHook): Code {
  const other = label("not_its_stack");
  return [
    linkedCount(maps),
    jeq(r1, 0, other),
    whereAmI(context),
    findLink(maps, context, other),
    ldx(r1, at(r7, stackLink.fields.skb)),
    ldx(r2, at(fp, slot.skb, u64)),
    jne(r1, r2, other),
    unlink(maps),
    other,
  ];
}
