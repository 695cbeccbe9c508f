// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * What every program that sees a packet does: decide first, collect later.
 *
 * One body serves every hook. A hook's prologue puts the sk_buff into r6 and the context into its slot;
 * the body decides with as few loads as the filter needs, and only a packet that matches pays for the
 * rest: counting, reserving a record, filling it. Code for an option that is off is not emitted.
 *
 * Registers: r6 the sk_buff's view (while the packet filter runs: its X), r7 the filter's A, r8 how much of
 * the packet can be read, r9 the packet. While collecting: r6 the view, r7 a pointer being followed, r8 the
 * record, r9 the counters.
 */
import { type Code, type Label, label } from "../asm/code.ts";
import { withoutDeadCode } from "../asm/dead_code.ts";
import { withinReach } from "../asm/far_jumps.ts";
import { at, fp, ja, jeq, jne, ldx, r1, r6, type Register, ret, st, stx } from "../asm/insn.ts";
import { u64 } from "../asm/layout.ts";
import { leaveBuffer, noteBuffer, takeBuffer } from "./buffers.ts";
import { collect, countLook, countUnreadable, type HookStores } from "./collect.ts";
import { type LoadSkb, skbView, slot, type TraceOptions } from "./frame.ts";
import { matchesDevice, matchesExpression, matchesFilter, matchesMark } from "./match.ts";
import { argumentOffset, type ProbeContext } from "./registers.ts";
import { beneathPacket, linkStack, type StackHook, takeStamp, unlinkEnded } from "./stacks.ts";
import {
  adopt,
  forget,
  forgetSilently,
  keepsSet,
  lookUp,
  newStamp,
  remember,
  trackedCount,
} from "./tracking.ts";
import { matchesTunnel } from "./tunnel.ts";
import { behindTheUsual } from "./usual.ts";

/**
 * What a hook means for the packet that it sees: it lives on; it is a new one, whatever its address stood for; it is made
 * after the packet in the argument behind it, whose child it is; or its memory is about to be freed, so that its address
 * is to be forgotten. `unseen` is the same without a record, where nobody wants to see that function.
 */
export type Fate = "lives" | SeenFate | UnseenFate;
export type SeenFate = "begins" | "takes after" | "ends";
export type UnseenFate = "takes after unseen" | "ends unseen";

/** Where a function of the fate "takes after" has the packet, and where the one that it is made after. */
export const HEIR_ARGUMENT = 1;
const MODEL_ARGUMENT = 2;

/** What differs between hooks. */
export interface Hook extends HookStores {
  readonly fate?: Fate;
  /** where on the stack it is; absent: it cannot tell */
  readonly stack?: StackHook;
  /** what runs beneath it is not told by where it is: it is being left, or called by what is */
  readonly leaves?: boolean;
  /** r6 = the sk_buff; the context is in r1; may lose r0-r5 but r1 */
  readonly prologue: Code;
  /** dst = the sk_buff, where that is a mere load through r1, the context */
  readonly packet?: (dst: Register) => Code;
}

/** The whole program around a hook's parts. */
export function trace(
  options: TraceOptions,
  { fate = "lives", stack, leaves = false, prologue, packet, ...stores }: Hook,
): Code {
  const { tracking, maps } = options, stacks = tracking?.stacks === true ? stack : undefined;
  const context = stack === "program" ? undefined : stack;
  const miss = label("miss"), unreadable = label("unreadable"), matched = label("matched");
  const shown = label("shown");
  const view = skbView(options, miss), { skb, load } = view, open = [skb.open, skb.complete];
  const device = matchesDevice(options, load, miss), deviceFirst = options.access.name === "direct";
  if (fate === "takes after unseen") {
    return [
      stx(at(fp, slot.context, u64), r1),
      prologue,
      stx(at(fp, slot.skb, u64), r6),
      takesAfter(options, context, miss),
      ret(0),
    ];
  }
  if (fate === "ends unseen") {
    return [
      stacks === undefined ? [] : stx(at(fp, slot.context, u64), r1),
      prologue,
      jeq(r6, 0, miss),
      stacks === undefined ? [] : [stx(at(fp, slot.skb, u64), r6), unlinkEnded(maps, stacks)],
      tracking !== undefined && keepsSet(tracking) ? forgetSilently(maps, r6, slot.skb, miss) : [],
      bufferLeft(options),
      miss,
      ret(0),
    ];
  }
  const whole = withinReach(withoutDeadCode([
    stx(at(fp, slot.context, u64), r1),
    prologue,
    jeq(r6, 0, miss),
    stx(at(fp, slot.skb, u64), r6),
    countLook(options),
    stacks !== undefined && fate === "ends" ? unlinkEnded(maps, stacks) : [],
    fate === "takes after" ? takesAfter(options, context, label("of_nobody")) : [],
    followed(options, fate, [open, ja(matched)]),
    stacks === undefined ? [] : beneathPacket(maps, stacks, [takeStamp, open, ja(shown)]),
    skb.open,

    matchesMark(options, load, miss),
    deviceFirst ? device : [], // a load for each pointer on the way; else a call, of which the filter needs one
    matchesFilter(options, view, miss, unreadable),
    matchesTunnel(options, view, miss, unreadable),
    skb.complete,
    deviceFirst ? [] : device,
    matchesExpression(options, view, miss),

    enrolled(options, fate, load),
    matched,
    stacks !== undefined && fate !== "ends" && !leaves
      ? linkStack(maps, stacks, { stamped: tracking?.ids === true })
      : [],
    shown,
    collect(options, view, stores, miss),
    miss,
    ret(0),
    unreadable,
    countUnreadable(options),
  ]));
  return packet === undefined || fate !== "lives" ? whole : behindTheUsual(options, packet, whole);
}

/**
 * Before the filter is asked: a packet of the set goes the way of `known`, if the set is what is shown. One whose memory
 * is about to be freed leaves the set.
 */
function followed(options: TraceOptions, fate: Fate, known: Code): Code {
  const { tracking, maps } = options;
  const stranger = label("stranger"), ends = fate === "ends";
  if (tracking !== undefined && fate === "begins" && keepsSet(tracking)) {
    return [trackedCount(maps), jeq(r1, 0, stranger), forget(maps, slot.skb), stranger];
  }
  if (tracking === undefined || !(tracking.follow || (tracking.ids && ends))) return [];
  return [
    tracking.follow ? [] : st(at(fp, slot.stamp, u64), 0),
    trackedCount(maps),
    jeq(r1, 0, stranger),
    lookUp(maps, slot.skb, slot.stamp, stranger),
    ends ? [forget(maps, slot.skb), bufferLeft(options)] : [],
    tracking.follow ? known : [],
    stranger,
  ];
}

/** Puts the packet into the set if the one that it is made after is there, and it is not. Places `next` behind itself. */
function takesAfter({ tracking, maps }: TraceOptions, context: ProbeContext | undefined, next: Label): Code {
  if (context === undefined) throw new RangeError("Only functions have a second packet");
  if (tracking === undefined || !keepsSet(tracking)) return next;
  const unknown = label("unknown");
  return [
    trackedCount(maps),
    jeq(r1, 0, next),
    lookUp(maps, slot.skb, slot.stamp, unknown),
    ja(next),
    unknown,
    ldx(r1, at(fp, slot.context, u64)),
    ldx(r1, at(r1, argumentOffset(context, MODEL_ARGUMENT), u64)),
    stx(at(fp, slot.key, u64), r1),
    lookUp(maps, slot.key, slot.stamp, next),
    adopt(maps, slot.skb, slot.stamp),
    next,
  ];
}

/** A packet that matched by itself gets a stamp, and a place in the set unless this is the last that is seen of it. */
function enrolled({ tracking, maps }: TraceOptions, fate: Fate, load: LoadSkb): Code {
  if (tracking === undefined || !keepsSet(tracking)) return [];
  const fresh = label("fresh"), done = label("enrolled");
  if (fate === "ends") {
    const known = [ldx(r1, at(fp, slot.stamp, u64)), jne(r1, 0, done)];
    return [tracking.follow ? [] : known, newStamp(slot.stamp), done];
  }
  const known = [
    trackedCount(maps),
    jeq(r1, 0, fresh),
    lookUp(maps, slot.skb, slot.stamp, fresh),
    ja(done),
    fresh,
  ];
  const head = () => [load(r1, "head"), stx(at(fp, slot.key, u64), r1)];
  const frames = tracking.frames === true, numbered = label("numbered");
  return [
    tracking.follow ? [] : known,
    // an XDP program may have had it, as a frame, before any function had the sk_buff
    frames ? [head(), takeBuffer(maps, slot.key, slot.skb, numbered)] : [],
    newStamp(slot.stamp),
    numbered,
    remember(maps, slot.skb, slot.stamp),
    frames ? [head(), noteBuffer(maps, slot.key, slot.skb)] : [],
    done,
  ];
}

/** Where r6, the packet at fp + slot.skb, is freed: its buffer is nobody's, if it has not been taken from it. */
function bufferLeft({ tracking, maps, access, kernel }: TraceOptions): Code {
  if (tracking?.frames !== true || !keepsSet(tracking)) return [];
  return [
    access.read(r1, r6, kernel.field("sk_buff", "head"), slot.temp),
    stx(at(fp, slot.key, u64), r1),
    leaveBuffer(maps, slot.key, slot.skb),
  ];
}
