// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * Which packet a kernel stack is about: what runs beneath a function that has a packet belongs to it, with a packet of
 * its own or with none.
 *
 *     address   | frame of the caller        |
 *     link.sp   | link.returnTo              |  <- a function that has the packet was entered here
 *               | frames beneath             |
 *     sp now    | return address             |  <- belongs to the packet: deeper, and link.returnTo is still there
 *
 * No unwinding: a stack is told by its bottom, since stacks are aligned to their size, and a function that
 * has returned by what lies where it was entered: the next call from the same frame puts another return address
 * there. That can be the same one, or a frame can have a hole there. So probes end links, too: one that fires where
 * the link's function was entered, or further out, shows that it has returned, and where work on a packet begins
 * there always is one. x86-64 only: elsewhere the return address is not on the stack on entry.
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
  jne,
  ldMap,
  ldMapValue,
  ldx,
  lea,
  mov,
  r0,
  r1,
  r2,
  r3,
  r4,
  r7,
  stx,
} from "../asm/insn.ts";
import { u64 } from "../asm/layout.ts";
import { slot } from "./frame.ts";
import type { TraceMaps } from "./maps.ts";
import type { ProbeContext } from "./registers.ts";
import { countUntracked, stackLink, trackingState } from "./tracking.ts";

/** THREAD_SIZE and IRQ_STACK_SIZE (arch/x86/include/asm/page_64_types.h); KASAN doubles them. */
const STACK_BYTES = 1 << 14;
const BPF_NOEXIST = 1, BPF_EXIST = 2;

/** How many stacks are at work on a packet: r1. */
function linkedCount({ tracking }: TraceMaps): Code {
  return [ldMapValue(r1, tracking, trackingState.fields.linked), ldx(r1, at(r1, u64))];
}

function count({ tracking }: TraceMaps, by: 1 | -1): Code {
  return [ldMapValue(r1, tracking, trackingState.fields.linked), mov(r2, by), atomicAdd(at(r1, u64), r2)];
}

/** The stack pointer to its slot, the stack's bottom to the one of the key; the context is in its slot. Loses r1. */
function whereAmI({ stackPointer }: ProbeContext): Code {
  return [
    ldx(r1, at(fp, slot.context, u64)),
    ldx(r1, at(r1, stackPointer, u64)),
    stx(at(fp, slot.stackPointer, u64), r1),
    and(r1, -STACK_BYTES),
    stx(at(fp, slot.stack, u64), r1),
  ];
}

/**
 * r7 = this stack's link, or to `none`; its key is in the slot. Stacks for interrupts are not aligned, so that one can
 * lie in two blocks, and what is above us in the upper one. No other stack is there: all have a gap behind them.
 */
function findLink({ stacks }: TraceMaps, none: Label): Code {
  const found = label("link_found");
  const lookUp = [ldMap(r1, stacks), lea(r2, at(fp, slot.stack, u64)), call("bpf_map_lookup_elem")];
  return [
    lookUp,
    jne(r0, 0, found),
    ldx(r1, at(fp, slot.stack, u64)),
    add(r1, STACK_BYTES),
    stx(at(fp, slot.stack, u64), r1),
    lookUp,
    jeq(r0, 0, none),
    found,
    mov(r7, r0),
  ];
}

/** To `stale` unless the function of the link at r7 is still running, above us. Keeps r6-r9. */
function stillAbove(stale: Label): Code {
  const link = stackLink.fields;
  return [
    ldx(r3, at(r7, link.sp)),
    ldx(r1, at(fp, slot.stackPointer, u64)),
    jge(r1, r3, stale),
    readWord(slot.temp),
    ldx(r1, at(fp, slot.temp, u64)),
    ldx(r2, at(r7, link.returnTo)),
    jne(r1, r2, stale),
  ];
}

/** 8 bytes of memory at r3 to fp + place; zeros where that cannot be read. */
function readWord(place: number): Code {
  return [lea(r1, at(fp, place, u64)), mov(r2, 8), call("bpf_probe_read_kernel")];
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
 * Goes on at `beneath`, which leaves for good, when this stack is at work on a packet: r7 = the link, the packet's
 * stamp is in its slot. Falls through when it is not. A link whose function has returned is ended. Keeps r6.
 */
export function beneathPacket(maps: TraceMaps, context: ProbeContext, beneath: Code): Code {
  const none = label("no_link"), stale = label("stale_link");
  return [
    linkedCount(maps),
    jeq(r1, 0, none),
    whereAmI(context),
    findLink(maps, none),
    stillAbove(stale),
    ldx(r1, at(r7, stackLink.fields.stamp)),
    stx(at(fp, slot.stamp, u64), r1),
    beneath,
    stale,
    unlink(maps),
    none,
  ];
}

/** Notes that this stack is at work on the packet in its slot, unless it is noted already. Loses r7. Keeps r6. */
export function linkStack(maps: TraceMaps, context: ProbeContext, stamped: boolean): Code {
  const note = label("note_link"), done = label("linked");
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
    findLink(maps, note),
    ldx(r1, at(r7, link.skb)),
    ldx(r2, at(fp, slot.skb, u64)),
    jne(r1, r2, note),
    stillAbove(note),
    ja(done),

    note,
    whereAmI(context),
    ldx(r3, at(fp, slot.stackPointer, u64)),
    stx(value("sp"), r3),
    readWord(slot.link + link.returnTo.offset),
    stamped ? ldx(r1, at(fp, slot.stamp, u64)) : mov(r1, 0),
    stx(value("stamp"), r1),
    ldx(r1, at(fp, slot.skb, u64)),
    stx(value("skb"), r1),
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
export function watchStack(maps: TraceMaps, context: ProbeContext): Code {
  const running = label("still_running");
  return [beneathPacket(maps, context, ja(running)), running];
}

/** At the end of a packet: the stack that is at work on it is no more. Keeps r6. Loses r7. */
export function unlinkEnded(maps: TraceMaps, context: ProbeContext): Code {
  const other = label("not_its_stack");
  return [
    linkedCount(maps),
    jeq(r1, 0, other),
    whereAmI(context),
    findLink(maps, other),
    ldx(r1, at(r7, stackLink.fields.skb)),
    ldx(r2, at(fp, slot.skb, u64)),
    jne(r1, r2, other),
    unlink(maps),
    other,
  ];
}
