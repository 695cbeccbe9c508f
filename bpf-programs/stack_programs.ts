// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/** Probes on functions that have no packet, for those whose stack is at work on one (stacks.ts). */
import { label, type ProgramSpec } from "../asm/code.ts";
import { withoutDeadCode } from "../asm/dead_code.ts";
import { withinReach } from "../asm/far_jumps.ts";
import { at, fp, ja, ldx, r1, r2, r6, r7, ret, stx } from "../asm/insn.ts";
import { u64 } from "../asm/layout.ts";
import { collect } from "./collect.ts";
import { skbView, slot, type TraceOptions } from "./frame.ts";
import type { ProbeContext } from "./registers.ts";
import { beneathPacket, watchStack } from "./stacks.ts";
import {
  BPF_PROG_TYPE_KPROBE,
  BPF_TRACE_KPROBE_MULTI,
  callerStores,
  functionEntry,
  storeArguments,
} from "./trace.ts";
import { stackLink } from "./tracking.ts";

/**
 * A probe on functions that have no packet: shown where the stack is at work on one (stacks.ts), with that packet as it is
 * then.
 */
export function stackProgram(
  options: TraceOptions,
  context: ProbeContext,
  hook: "kprobe" | "kprobe-multi",
): ProgramSpec {
  const miss = label("miss"), shown = label("shown");
  const view = skbView(options, miss), multi = hook === "kprobe-multi";
  const address = [ldx(r2, at(r1, context.instructionPointer, u64)), storeArguments(context, r2)];
  return {
    name: multi ? "multi_stack" : "kprobe_stack",
    type: BPF_PROG_TYPE_KPROBE,
    ...(multi ? { expectedAttachType: BPF_TRACE_KPROBE_MULTI } : {}),
    license: "Dual BSD/GPL",
    code: withinReach(withoutDeadCode([
      stx(at(fp, slot.context, u64), r1),
      beneathPacket(options.maps, context, [
        ldx(r6, at(r7, stackLink.fields.skb)),
        stx(at(fp, slot.skb, u64), r6),
        view.skb.open,
        ja(shown),
      ]),
      ja(miss),
      shown,
      collect(options, view, {
        identify: multi ? functionEntry(context) : address,
        ...callerStores(context),
      }, miss),
      miss,
      ret(0),
    ])),
  };
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
