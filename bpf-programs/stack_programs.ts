// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/** Probes on functions that have no packet, for those whose stack is at work on one (stacks.ts). */
import { type Code, type Label, label, type ProgramSpec } from "../asm/code.ts";
import { withoutDeadCode } from "../asm/dead_code.ts";
import { withinReach } from "../asm/far_jumps.ts";
import {
  add,
  at,
  call,
  fp,
  ja,
  jeq,
  lddw,
  ldx,
  lea,
  mov,
  r1,
  r2,
  r3,
  r6,
  r7,
  r8,
  type Register,
  ret,
  st,
  stx,
} from "../asm/insn.ts";
import { u64 } from "../asm/layout.ts";
import { requireCodeOfPrograms, requireProgramCaller } from "./callers.ts";
import { collect, type HookStores } from "./collect.ts";
import { packetEvent } from "./events.ts";
import { skbView, slot, type TraceOptions } from "./frame.ts";
import { collectMapOperation, type MapOperation } from "./map_operation.ts";
import type { ProbeContext } from "./registers.ts";
import { beneathPacket, FRAME_SLOT, takeStamp, watchStack } from "./stacks.ts";
import {
  BPF_PROG_TYPE_KPROBE,
  BPF_PROG_TYPE_TRACING,
  BPF_TRACE_FEXIT,
  BPF_TRACE_KPROBE_MULTI,
} from "../asm/uapi.ts";
import { callerStores, functionEntry, storeArguments } from "./function_programs.ts";
import { argumentOffset } from "./registers.ts";
import { stackLink } from "./tracking.ts";
import { collectFrame } from "./xdp.ts";

/** Which calls of functions without a packet are shown, and how. */
export interface BeneathProbe {
  /** only those from the code of BPF programs that work on packets (callers.ts) */
  readonly fromPrograms: boolean;
  /** their first argument is a map, which is to be shown too */
  readonly map?: MapOperation;
}

/** A probe on functions that have no packet: shown where the stack is at work on one, with that packet as it is then. */
export function stackProgram(
  options: TraceOptions,
  context: ProbeContext,
  hook: "kprobe" | "kprobe-multi",
  { fromPrograms, map }: BeneathProbe = { fromPrograms: false },
): ProgramSpec {
  const miss = label("miss"), found = label("found"), multi = hook === "kprobe-multi";
  const address = [ldx(r2, at(r1, context.instructionPointer, u64)), storeArguments(context, r2)];
  return {
    name: multi ? "multi_stack" : "kprobe_stack",
    type: BPF_PROG_TYPE_KPROBE,
    ...(multi ? { expectedAttachType: BPF_TRACE_KPROBE_MULTI } : {}),
    license: "Dual BSD/GPL",
    code: withinReach(withoutDeadCode([
      stx(at(fp, slot.context, u64), r1),
      beneathPacket(options.maps, context, ja(found)),
      ja(miss),
      found,
      fromPrograms ? requireProgramCaller(options.maps, context, miss) : [],
      collectBeneath(options, {
        identify: multi ? functionEntry(context) : address,
        ...callerStores(context),
        ...(map === undefined ? {} : {
          mapOperation: (layout) =>
            collectMapOperation(options, layout, map, {
              argument: (dst, position) => [
                ldx(r1, at(fp, slot.context, u64)),
                ldx(dst, at(r1, argumentOffset(context, position), u64)),
              ],
            }),
        }),
      }, miss),
      miss,
      ret(0),
    ])),
  };
}

/** A kernel function that finds something in a map. */
export interface LookUpHook extends BeneathProbe {
  readonly map: MapOperation;
  readonly btfId: number;
  /** how many parameters it has */
  readonly parameters: number;
  /** goes into packet_event.address */
  readonly address: bigint;
}

/**
 * fexit, which has what the function was given and what it found. x86-64: what lies on the stack above its arguments is
 * arch_prepare_bpf_trampoline's (arch/x86/net/bpf_jit_comp.c): the result, the frame pointer, where in the function it
 * goes on, and where that returns to.
 */
export function lookUpProgram(
  options: TraceOptions,
  { fromPrograms, map, btfId, parameters, address }: LookUpHook,
): ProgramSpec {
  const miss = label("miss"), found = label("found"), event = packetEvent.fields;
  const above = (words: number): Code => [
    ldx(r3, at(fp, slot.callerFrame, u64)),
    add(r3, 8 * (parameters + words)),
  ];
  const word = (dst: Register, from: Code): Code => [
    from,
    lea(r1, at(fp, slot.temp, u64)),
    mov(r2, 8),
    call("bpf_probe_read_kernel"),
    ldx(dst, at(fp, slot.temp, u64)),
  ];
  const RESULT = 0, CALLER = 3;
  return {
    name: "map_look_up",
    type: BPF_PROG_TYPE_TRACING,
    expectedAttachType: BPF_TRACE_FEXIT,
    attachBtfId: btfId,
    license: "Dual BSD/GPL",
    code: withinReach(withoutDeadCode([
      stx(at(fp, slot.context, u64), r1),
      beneathPacket(options.maps, "program", ja(found)),
      ja(miss),
      found,
      fromPrograms ? requireCodeOfPrograms(options.maps, word(r1, above(CALLER)), miss) : [],
      collectBeneath(options, {
        identify: [
          lddw(r2, address),
          stx(at(r8, event.address), r2),
          st(at(r8, event.argument2), 0),
          st(at(r8, event.argument3), 0),
        ],
        caller: (field) => [word(r2, above(CALLER)), stx(at(r8, field), r2)],
        mapOperation: (layout) =>
          collectMapOperation(options, layout, map, {
            argument: (dst, position) => word(dst, above(position - 1 - parameters)),
            result: (dst) => word(dst, above(RESULT)),
          }),
      }, miss),
      miss,
      ret(0),
    ])),
  };
}

/** A record of the packet of the link at r7, be it an sk_buff or a frame. Ends the program. */
function collectBeneath(options: TraceOptions, stores: HookStores, miss: Label): Code {
  const link = stackLink.fields, view = skbView(options, miss), isSkb = label("is_skb");
  return [
    takeStamp,
    ldx(r6, at(r7, link.skb)),
    stx(at(fp, slot.skb, u64), r6),
    options.tracking?.frames !== true ? [] : [
      ldx(r1, at(r7, link.frame)),
      jeq(r1, 0, isSkb),
      stx(at(fp, FRAME_SLOT, u64), r1),
      mov(r6, r1),
      collectFrame(options, stores, miss),
      isSkb,
    ],
    view.skb.open,
    collect(options, view, stores, miss),
  ];
}

/**
 * A probe that shows nothing, on functions through which work on another packet begins: they end what their stack was
 * about (stacks.ts).
 */
export function stackWatchProgram(
  options: TraceOptions,
  context: ProbeContext,
  hook: "kprobe" | "kprobe-multi",
): ProgramSpec {
  const multi = hook === "kprobe-multi";
  return {
    name: multi ? "multi_watch" : "kprobe_watch",
    type: BPF_PROG_TYPE_KPROBE,
    ...(multi ? { expectedAttachType: BPF_TRACE_KPROBE_MULTI } : {}),
    license: "Dual BSD/GPL",
    code: withoutDeadCode([
      stx(at(fp, slot.context, u64), r1),
      watchStack(options.maps, context),
      ret(0),
    ]),
  };
}
