// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/** The programs on functions that are given a packet: by classic kprobes, and by kprobe-multi. */
import { type Code, label, type ProgramSpec } from "../asm/code.ts";
import {
  add,
  and,
  at,
  call,
  fp,
  ja,
  jeq,
  jle,
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
  rsh,
  stx,
  xor,
} from "../asm/insn.ts";
import { u64 } from "../asm/layout.ts";
import { BPF_PROG_TYPE_KPROBE, BPF_TRACE_KPROBE_MULTI } from "../asm/uapi.ts";
import type { HookStores } from "./collect.ts";
import { packetEvent } from "./events.ts";
import { slot, type TraceOptions } from "./frame.ts";
import { RECENT_POSITIONS } from "./maps.ts";
import { argumentOffset, type ProbeContext } from "./registers.ts";
import { type Fate, type Hook, trace } from "./trace.ts";

/** How a program comes to run where a function begins. */
interface Way {
  /** what its programs' names begin with */
  readonly name: string;
  readonly expectedAttachType?: number;
  /** r1 = the context -> the function and its arguments in the record */
  identify(context: ProbeContext): Code;
}

const byKprobe: Way = {
  name: "kprobe",
  // on x86-64 a breakpoint has been stepped over; lib/link knows where its probes sit
  identify: (context) => [ldx(r2, at(r1, context.instructionPointer, u64)), storeArguments(context, r2)],
};
const byKprobeMulti: Way = {
  name: "multi",
  expectedAttachType: BPF_TRACE_KPROBE_MULTI,
  identify: functionEntry,
};

function functionProgram(
  { name, identify, ...attachType }: Way,
  packets: string,
  options: TraceOptions,
  context: ProbeContext,
  hook: Pick<Hook, "prologue" | "packet" | "fate">,
): ProgramSpec {
  return {
    name: `${name}_skb_${packets}`,
    type: BPF_PROG_TYPE_KPROBE,
    ...attachType,
    license: "Dual BSD/GPL",
    code: trace(options, {
      ...hook,
      stack: context,
      identify: identify(context),
      ...callerStores(context),
    }),
  };
}

/** A program on functions that have the packet in `argument` (1-5). */
export type FunctionProgram = (
  options: TraceOptions,
  context: ProbeContext,
  argument: number,
  fate?: Fate,
) => ProgramSpec;

const withPacketIn = (way: Way): FunctionProgram => (options, context, argument, fate = "lives") => {
  const packet = (dst: Register) => ldx(dst, at(r1, argumentOffset(context, argument), u64));
  return functionProgram(way, String(argument), options, context, { fate, prologue: packet(r6), packet });
};

export const kprobeProgram: FunctionProgram = withPacketIn(byKprobe);

/** For a kprobe-multi link. Linux 5.18. */
export const kprobeMultiProgram: FunctionProgram = withPacketIn(byKprobeMulti);

/**
 * On functions with different positions: `maps.positions` knows each probe's. A program for each would be a little cheaper,
 * but every further perf event costs 0.1 s to close.
 */
export function kprobePositionsProgram(options: TraceOptions, context: ProbeContext): ProgramSpec {
  return functionProgram(byKprobe, "any", options, context, {
    prologue: [
      mov(r6, r1), // r6 = context, kept over the call
      ldx(r2, at(r1, context.instructionPointer, u64)),
      skbByPosition(options, context, r2),
    ],
  });
}

/** The same for kprobe-multi: `maps.positions` knows them by the function's entry. */
export function kprobeMultiPositionsProgram(options: TraceOptions, context: ProbeContext): ProgramSpec {
  return functionProgram(byKprobeMulti, "any", options, context, {
    prologue: [
      mov(r6, r1), // r6 = context, kept over the calls
      call("bpf_get_func_ip"),
      skbByPosition(options, context, r0),
    ],
  });
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
