// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * What options add to a record: copies of kernel memory, which user space makes readable. A call that formats a
 * struct in the kernel costs 140 us, a copy of it 40 ns.
 *
 * Registers are those of collect(): r6 the sk_buff's view, r8 the record; r7 and r9 are free.
 */
import type { Code } from "../asm/code.ts";
import { AssemblyError } from "../asm/errors.ts";
import { at, call, fp, ldx, lea, mov, r0, r1, r2, r3, r4, r8, stx } from "../asm/insn.ts";
import { u64 } from "../asm/layout.ts";
import type { HookStores } from "./collect.ts";
import type { RecordLayout } from "./events.ts";
import { slot, type TraceOptions } from "./frame.ts";

/** Fills everything of the record that lies behind its packetEvent. */
export function collectAdditions(
  { additions = {} }: TraceOptions,
  layout: RecordLayout,
  hook: HookStores,
): Code {
  return [
    additions.caller ? collectCaller(layout, hook) : [],
    additions.stack ? collectStack(layout) : [],
  ];
}

function collectCaller({ fields }: RecordLayout, { caller }: HookStores): Code {
  if (caller === undefined) throw new AssemblyError("This hook does not know who called");
  return [ldx(r1, at(fp, slot.context, u64)), caller(fields.caller!)];
}

function collectStack({ fields }: RecordLayout): Code {
  const { stack, stackBytes } = fields;
  return [
    ldx(r1, at(fp, slot.context, u64)),
    lea(r2, at(r8, stack!.offset, u64)),
    mov(r3, stack!.type.size),
    mov(r4, 0), // the kernel's stack, from its top
    call("bpf_get_stack"), // r0 = bytes, or an error
    stx(at(r8, stackBytes!), r0),
  ];
}
