// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/** The program on a raw tracepoint that carries a packet. */
import type { Code, ProgramSpec } from "../asm/code.ts";
import { at, ldx, r1, r2, r6, r8, type Register, st, stx } from "../asm/insn.ts";
import { type Field, u64 } from "../asm/layout.ts";
import { BPF_PROG_TYPE_RAW_TRACEPOINT } from "../asm/uapi.ts";
import { packetEvent } from "./events.ts";
import type { TraceOptions } from "./frame.ts";
import { type Fate, trace } from "./trace.ts";

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
  const packet = (dst: Register) => ldx(dst, at(r1, hook.skb * 8, u64));
  return {
    name: `tp_${hook.name}`,
    type: BPF_PROG_TYPE_RAW_TRACEPOINT,
    license: "Dual BSD/GPL",
    code: trace(options, {
      fate: hook.fate ?? "lives",
      prologue: packet(r6),
      packet,
      identify: [
        st(at(r8, event.address), hook.index),
        argument(event.argument2, hook.location),
        argument(event.argument3, hook.reason),
      ],
    }),
  };
}
