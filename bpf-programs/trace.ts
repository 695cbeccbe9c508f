// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * The programs that see packets: decide first, collect later.
 *
 * One body serves every hook. A hook's prologue puts the sk_buff into r6 and the context into its slot;
 * the body decides with as few loads as the filter needs, and only a packet that matches pays for the
 * rest: counting, reserving a record, filling it. Code for an option that is off is not emitted.
 *
 * Registers: r6 the sk_buff's view (while the packet filter runs: the packet's length), r7 and r8 the
 * filter's A and X, r9 the packet. While collecting: r6 the view, r7 a pointer being followed, r8 the
 * record, r9 the counters.
 */
import { type Code, type Label, label, type ProgramSpec } from "../asm/code.ts";
import { withoutDeadCode } from "../asm/dead_code.ts";
import { withinReach } from "../asm/far_jumps.ts";
import {
  add,
  and,
  at,
  call,
  fp,
  ja,
  jeq,
  jle,
  jne,
  lddw,
  ldMap,
  ldMapValue,
  ldx,
  lea,
  lsh,
  mov,
  or,
  r0,
  r1,
  r2,
  r3,
  r6,
  r7,
  r8,
  type Register,
  ret,
  rsh,
  st,
  stx,
  xor,
} from "../asm/insn.ts";
import { type Field, u64 } from "../asm/layout.ts";
import { collect, countLook, countUnreadable, type HookStores } from "./collect.ts";
import { packetEvent } from "./events.ts";
import { type LoadSkb, skbView, slot, type TraceOptions } from "./frame.ts";
import { matchesDevice, matchesExpression, matchesFilter, matchesMark } from "./match.ts";
import { RECENT_POSITIONS } from "./maps.ts";
import type { ProbeContext } from "./registers.ts";
import { leaveBuffer, noteBuffer, takeBuffer } from "./buffers.ts";
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

/** enum bpf_prog_type and bpf_attach_type (include/uapi/linux/bpf.h). */
export const BPF_PROG_TYPE_KPROBE = 2, BPF_PROG_TYPE_RAW_TRACEPOINT = 17, BPF_PROG_TYPE_TRACING = 26;
export const BPF_TRACE_FENTRY = 24, BPF_TRACE_FEXIT = 25, BPF_TRACE_KPROBE_MULTI = 42;

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

/** A classic kprobe on functions that have the packet in `argument` (1-5). */
export function kprobeProgram(
  options: TraceOptions,
  context: ProbeContext,
  argument: number,
  fate: Fate = "lives",
): ProgramSpec {
  return {
    name: `kprobe_skb_${argument}`,
    type: BPF_PROG_TYPE_KPROBE,
    license: "Dual BSD/GPL",
    code: trace(options, {
      fate,
      stack: context,
      prologue: ldx(r6, at(r1, argumentOffset(context, argument), u64)),
      // on x86-64 a breakpoint has been stepped over; lib/link knows where its probes sit
      identify: [ldx(r2, at(r1, context.instructionPointer, u64)), storeArguments(context, r2)],
      ...callerStores(context),
    }),
  };
}

/**
 * The same for functions with different positions: `maps.positions` knows each probe's. A program for each would be
 * a little cheaper, but every further perf event costs 0.1 s to close.
 */
export function kprobePositionsProgram(options: TraceOptions, context: ProbeContext): ProgramSpec {
  return {
    name: "kprobe_skb_any",
    type: BPF_PROG_TYPE_KPROBE,
    license: "Dual BSD/GPL",
    code: trace(options, {
      stack: context,
      prologue: [
        mov(r6, r1), // r6 = context, kept over the call
        ldx(r2, at(r1, context.instructionPointer, u64)),
        skbByPosition(options, context, r2),
      ],
      identify: [ldx(r2, at(r1, context.instructionPointer, u64)), storeArguments(context, r2)],
      ...callerStores(context),
    }),
  };
}

/** Low bits of a word of `maps.recentPositions`: the position; the others are the address, shifted by as many. */
const POSITION_BITS = 3;
/** How far functions lie from each other, at least. */
const FUNCTION_ALIGNMENT_BITS = 4;

/**
 * r6, the context, becomes the sk_buff of the probe whose key is `key`, or 0; the context goes to r1. Loses r7 and r8.
 *
 * Look-ups cost more than the decision on a packet (33 ns against 15), so the last answer for each place of a small
 * table is kept there; functions that share a place take turns.
 */
function skbByPosition({ maps }: TraceOptions, context: ProbeContext, key: Register): Code {
  const found = label("found"), known = label("position_known"), none = label("no_position");
  const positions = [3, 2, 4, 5, 1].map((n) => [n, label(`argument_${n}`)] as const);
  return [
    mov(r7, key),
    lsh(r7, POSITION_BITS), // r7 = the address as the table has it
    mov(r3, key),
    rsh(r3, FUNCTION_ALIGNMENT_BITS),
    and(r3, RECENT_POSITIONS - 1),
    lsh(r3, 3),
    ldMapValue(r8, maps.recentPositions),
    add(r8, r3), // r8 = its place
    ldx(r1, at(r8, u64)),
    xor(r1, r7),
    jle(r1, 5, known),

    stx(at(fp, slot.temp, u64), key),
    ldMap(r1, maps.positions),
    lea(r2, at(fp, slot.temp, u64)),
    call("bpf_map_lookup_elem"),
    jeq(r0, 0, none),
    ldx(r1, at(r0, u64)),
    or(r7, r1),
    stx(at(r8, u64), r7),
    known, // r1 = position
    positions.map(([n, place]) => jeq(r1, n, place)),
    none,
    mov(r1, r6),
    mov(r6, 0), // no position, no packet
    ja(found),
    positions.map(([n, place]) => [
      place,
      mov(r1, r6),
      ldx(r6, at(r6, argumentOffset(context, n), u64)),
      ja(found),
    ]),
    found,
  ];
}

/** A kprobe-multi link on functions that have the packet in `argument` (1-5). Linux 5.18. */
export function kprobeMultiProgram(
  options: TraceOptions,
  context: ProbeContext,
  argument: number,
  fate: Fate = "lives",
): ProgramSpec {
  return {
    name: `multi_skb_${argument}`,
    type: BPF_PROG_TYPE_KPROBE,
    expectedAttachType: BPF_TRACE_KPROBE_MULTI,
    license: "Dual BSD/GPL",
    code: trace(options, {
      fate,
      stack: context,
      prologue: ldx(r6, at(r1, argumentOffset(context, argument), u64)),
      identify: functionEntry(context),
      ...callerStores(context),
    }),
  };
}

/** The same for functions with different positions: `maps.positions` knows them by the function's entry. */
export function kprobeMultiPositionsProgram(options: TraceOptions, context: ProbeContext): ProgramSpec {
  return {
    name: "multi_skb_any",
    type: BPF_PROG_TYPE_KPROBE,
    expectedAttachType: BPF_TRACE_KPROBE_MULTI,
    license: "Dual BSD/GPL",
    code: trace(options, {
      stack: context,
      prologue: [
        mov(r6, r1), // r6 = context, kept over the calls
        call("bpf_get_func_ip"),
        skbByPosition(options, context, r0),
      ],
      identify: functionEntry(context),
      ...callerStores(context),
    }),
  };
}

/** A raw tracepoint that carries a packet. Positions count from 0, as TP_PROTO does. */
export interface TracepointHook {
  readonly name: string;
  /** goes into packet_event.address */
  readonly index: number;
  readonly skb: number;
  /** enum skb_drop_reason, from Linux 5.17 */
  readonly reason?: number;
  /** the code address that freed the packet */
  readonly location?: number;
  /** whether the packet survives it */
  readonly fate?: Fate;
}

export function tracepointProgram(options: TraceOptions, hook: TracepointHook): ProgramSpec {
  const event = packetEvent.fields;
  const argument = (field: Field, position: number | undefined): Code =>
    position === undefined
      ? st(at(r8, field), 0)
      : [ldx(r2, at(r1, position * 8, u64)), stx(at(r8, field), r2)];
  return {
    name: `tp_${hook.name}`,
    type: BPF_PROG_TYPE_RAW_TRACEPOINT,
    license: "Dual BSD/GPL",
    code: trace(options, {
      fate: hook.fate ?? "lives",
      prologue: ldx(r6, at(r1, hook.skb * 8, u64)),
      identify: [
        st(at(r8, event.address), hook.index),
        argument(event.argument2, hook.location),
        argument(event.argument3, hook.reason),
      ],
    }),
  };
}

/** Where it begins, where it is left, or where a function of its own begins that it gives the packet. */
export type ProgramPlace = "entry" | "exit" | "part";

/** Where a BPF program is traced. Linux 5.6; exits from 5.17, since which a program can ask for the result. */
export interface ProgramHook {
  /** BTF id of the function, in the traced program's own BTF */
  readonly btfId: number;
  readonly at: ProgramPlace;
  /** which argument is the packet, from 0 */
  readonly argument?: number;
  /** goes into packet_event.address; an exit's is another than the entry's */
  readonly address: bigint;
}

/** BPF programs for tc, which work on an sk_buff; argument2 of a record at the exit is the verdict. */
export function tcProgram(options: TraceOptions, hook: ProgramHook): ProgramSpec {
  return {
    name: `tc_${hook.at}`,
    ...tracingProgram(hook),
    code: trace(options, {
      stack: "program",
      leaves: hook.at !== "entry",
      prologue: programArgument(r6, hook.argument),
      identify: identifyProgram(hook),
      caller: (field) => st(at(r8, field), 0), // the dispatcher, or nothing that has a name
    }),
  };
}

/** Members of a ProgramSpec that runs where another program begins or ends. */
export function tracingProgram({ at, btfId }: ProgramHook): Omit<ProgramSpec, "name" | "code"> {
  return {
    type: BPF_PROG_TYPE_TRACING,
    expectedAttachType: at === "exit" ? BPF_TRACE_FEXIT : BPF_TRACE_FENTRY,
    attachBtfId: btfId,
    license: "Dual BSD/GPL",
  };
}

/**
 * dst = an argument of the traced program, counted from 0: the kernel's context, not the one that the program was written for.
 * Read as memory, since the verifier would forbid most of what can be done with a pointer that it knows. Loses r0-r5 but
 * r1, which is the context.
 */
export function programArgument(dst: Register, index: number = 0): Code {
  return [
    mov(r3, r1),
    index === 0 ? [] : add(r3, index * 8),
    lea(r1, at(fp, slot.temp, u64)),
    mov(r2, 8),
    call("bpf_probe_read_kernel"),
    ldx(dst, at(fp, slot.temp, u64)),
    ldx(r1, at(fp, slot.context, u64)),
  ];
}

/** record.address, and what the program returned if it did. */
export function identifyProgram({ at: where, address }: ProgramHook): Code {
  const event = packetEvent.fields;
  return [
    lddw(r2, address),
    stx(at(r8, event.address), r2),
    st(at(r8, event.argument2), 0),
    st(at(r8, event.argument3), 0),
    where !== "exit" ? [] : [
      programResult,
      ldx(r2, at(fp, slot.temp, u64)),
      stx(at(r8, event.argument2), r2),
    ],
  ];
}

/** What the traced program returned, to fp + slot.temp. Loses r0-r5. */
export const programResult: Code = [
  ldx(r1, at(fp, slot.context, u64)),
  lea(r2, at(fp, slot.temp, u64)),
  call("bpf_get_func_ret"),
];

export function argumentOffset(context: ProbeContext, argument: number): number {
  const offset = context.arguments[argument - 1];
  if (offset === undefined) throw new RangeError(`A probe sees arguments 1 to 5, not ${argument}`);
  return offset;
}

/** What differs between hooks. */
interface Hook extends HookStores {
  readonly fate?: Fate;
  /** where on the stack it is; absent: it cannot tell */
  readonly stack?: StackHook;
  /** what runs beneath it is not told by where it is: it is being left, or called by what is */
  readonly leaves?: boolean;
  /** r6 = the sk_buff; the context is in r1; may lose r0-r5 but r1 */
  readonly prologue: Code;
}

/** record.address = r2's value, the arguments from the context in r1. */
export function storeArguments(context: ProbeContext, address: Register): Code {
  const event = packetEvent.fields;
  return [
    stx(at(r8, event.address), address),
    ldx(r2, at(r1, argumentOffset(context, 2), u64)),
    stx(at(r8, event.argument2), r2),
    ldx(r2, at(r1, argumentOffset(context, 3), u64)),
    stx(at(r8, event.argument3), r2),
  ];
}

export function functionEntry(context: ProbeContext): Code {
  return [
    call("bpf_get_func_ip"), // r0 = the function's entry, ENDBR or not
    ldx(r1, at(fp, slot.context, u64)),
    storeArguments(context, r0),
  ];
}

/** At a function's first instruction. A fault leaves 0. */
export function callerStores({ returnAddress }: ProbeContext): Pick<HookStores, "caller" | "linkRegister"> {
  const { register } = returnAddress;
  if (returnAddress.in === "register") {
    return {
      linkRegister: register,
      caller: (field) => [ldx(r2, at(r1, register, u64)), stx(at(r8, field), r2)],
    };
  }
  return {
    caller: (field) => [
      ldx(r3, at(r1, register, u64)),
      lea(r1, at(r8, field.offset, u64)),
      mov(r2, field.type.size),
      call("bpf_probe_read_kernel"),
    ],
  };
}

/** The whole program around a hook's parts. */
function trace(
  options: TraceOptions,
  { fate = "lives", stack, leaves = false, prologue, ...stores }: Hook,
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
  const code = withoutDeadCode([
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
  ]);
  return withinReach(code);
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
