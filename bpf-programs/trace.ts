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
import { type Code, label, type ProgramSpec } from "../asm/code.ts";
import { withoutDeadCode } from "../asm/dead_code.ts";
import { withinReach } from "../asm/far_jumps.ts";
import {
  at,
  call,
  fp,
  ja,
  jeq,
  ldMap,
  ldx,
  lea,
  mov,
  r0,
  r1,
  r2,
  r6,
  r7,
  r8,
  type Register,
  ret,
  st,
  stx,
} from "../asm/insn.ts";
import { type Field, u64 } from "../asm/layout.ts";
import { collect, countUnreadable } from "./collect.ts";
import { packetEvent } from "./events.ts";
import { skbView, slot, type TraceOptions } from "./frame.ts";
import { matchesDevice, matchesExpression, matchesFilter, matchesMark } from "./match.ts";
import type { ProbeContext } from "./registers.ts";

/** enum bpf_prog_type and bpf_attach_type (include/uapi/linux/bpf.h). */
export const BPF_PROG_TYPE_KPROBE = 2, BPF_PROG_TYPE_RAW_TRACEPOINT = 17, BPF_TRACE_KPROBE_MULTI = 42;

/** A classic kprobe on functions that have the packet in `argument` (1-5). */
export function kprobeProgram(options: TraceOptions, context: ProbeContext, argument: number): ProgramSpec {
  return {
    name: `kprobe_skb_${argument}`,
    type: BPF_PROG_TYPE_KPROBE,
    license: "Dual BSD/GPL",
    code: trace(options, {
      prologue: ldx(r6, at(r1, argumentOffset(context, argument), u64)),
      // on x86-64 a breakpoint has been stepped over; lib/link knows where its probes sit
      identify: [ldx(r2, at(r1, context.instructionPointer, u64)), storeArguments(context, r2)],
    }),
  };
}

/**
 * The same for functions with different positions: `maps.positions` knows each probe's. One program for all
 * costs a look-up per hit, but every further perf event costs 0.1 s to close.
 */
export function kprobePositionsProgram(options: TraceOptions, context: ProbeContext): ProgramSpec {
  return {
    name: "kprobe_skb_any",
    type: BPF_PROG_TYPE_KPROBE,
    license: "Dual BSD/GPL",
    code: trace(options, {
      prologue: [
        mov(r6, r1), // r6 = context, kept over the call
        ldx(r2, at(r1, context.instructionPointer, u64)),
        skbByPosition(options, context, r2),
      ],
      identify: [ldx(r2, at(r1, context.instructionPointer, u64)), storeArguments(context, r2)],
    }),
  };
}

/** r6, the context, becomes the sk_buff of the probe whose key is `key`, or 0; the context stays in r1. */
function skbByPosition(options: TraceOptions, context: ProbeContext, key: Register): Code {
  const found = label("found"), positions = [1, 2, 3, 4, 5].map((n) => label(`argument_${n}`));
  return [
    stx(at(fp, slot.temp, u64), key),
    ldMap(r1, options.maps.positions),
    lea(r2, at(fp, slot.temp, u64)),
    call("bpf_map_lookup_elem"),
    mov(r7, r6), // r7 = context
    mov(r6, 0),
    mov(r1, r7),
    jeq(r0, 0, found), // no position, no packet
    ldx(r2, at(r0, u64)),
    positions.map((place, index) => jeq(r2, index + 1, place)),
    ja(found),
    positions.map((place, index) => [
      place,
      ldx(r6, at(r7, argumentOffset(context, index + 1), u64)),
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
): ProgramSpec {
  return {
    name: `multi_skb_${argument}`,
    type: BPF_PROG_TYPE_KPROBE,
    expectedAttachType: BPF_TRACE_KPROBE_MULTI,
    license: "Dual BSD/GPL",
    code: trace(options, {
      prologue: ldx(r6, at(r1, argumentOffset(context, argument), u64)),
      identify: functionEntry(context),
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
      prologue: [
        mov(r6, r1), // r6 = context, kept over the calls
        call("bpf_get_func_ip"),
        skbByPosition(options, context, r0),
      ],
      identify: functionEntry(context),
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
      prologue: ldx(r6, at(r1, hook.skb * 8, u64)),
      identify: [
        st(at(r8, event.address), hook.index),
        argument(event.argument2, hook.location),
        argument(event.argument3, hook.reason),
      ],
    }),
  };
}

function argumentOffset(context: ProbeContext, argument: number): number {
  const offset = context.arguments[argument - 1];
  if (offset === undefined) throw new RangeError(`A probe sees arguments 1 to 5, not ${argument}`);
  return offset;
}

/** What differs between hooks. Both parts find the context in r1. */
interface Hook {
  /** r6 = the sk_buff; may lose r0-r5 but r1 */
  readonly prologue: Code;
  /** stores address, argument2 and argument3 into the record at r8; may lose r0-r5 */
  readonly identify: Code;
}

/** record.address = r2's value, the arguments from the context in r1. */
function storeArguments(context: ProbeContext, address: Register): Code {
  const event = packetEvent.fields;
  return [
    stx(at(r8, event.address), address),
    ldx(r2, at(r1, argumentOffset(context, 2), u64)),
    stx(at(r8, event.argument2), r2),
    ldx(r2, at(r1, argumentOffset(context, 3), u64)),
    stx(at(r8, event.argument3), r2),
  ];
}

function functionEntry(context: ProbeContext): Code {
  return [
    call("bpf_get_func_ip"), // r0 = the function's entry, ENDBR or not
    ldx(r1, at(fp, slot.context, u64)),
    storeArguments(context, r0),
  ];
}

/** The whole program around a hook's two parts. */
function trace(options: TraceOptions, { prologue, identify }: Hook): Code {
  const miss = label("miss"), unreadable = label("unreadable");
  const { fields, skb, load } = skbView(options, miss);
  const code = withoutDeadCode([
    stx(at(fp, slot.context, u64), r1),
    prologue,
    jeq(r6, 0, miss),
    stx(at(fp, slot.skb, u64), r6),
    skb.open,

    matchesMark(options, load, miss),
    matchesFilter(options, load, miss, unreadable),
    matchesDevice(options, load, miss),
    matchesExpression(options, skb, fields, miss),

    collect(options, load, identify, miss),
    miss,
    ret(0),
    unreadable,
    countUnreadable(options),
  ]);
  return withinReach(code);
}
