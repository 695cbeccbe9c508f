// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * What options add to a record: copies of kernel memory, which user space makes readable. A call that formats a
 * struct in the kernel costs 140 us, a copy of it 40 ns.
 *
 * Registers are those of collect(): r6 the sk_buff's view, r8 the record; r7 and r9 are free.
 */
import { type Code, type Label, label } from "../asm/code.ts";
import { AssemblyError } from "../asm/errors.ts";
import {
  add,
  at,
  call,
  fp,
  ja,
  jeq,
  jle,
  jsle,
  ldx,
  lea,
  mov,
  or,
  r0,
  r1,
  r2,
  r3,
  r4,
  r7,
  r8,
  r9,
  st,
  stx,
} from "../asm/insn.ts";
import { type Field, u64 } from "../asm/layout.ts";
import { copyHeaders, type HookStores } from "./collect.ts";
import { MISSING, type RecordLayout } from "./events.ts";
import type { ExpressionFrame, ValueExpression } from "./expression.ts";
import { type LoadSkb, skbExpressionFrame, type SkbView, slot, type TraceOptions } from "./frame.ts";

/** Fills everything of the record that lies behind its packetEvent. Loses r7 and r9. */
export function collectAdditions(
  options: TraceOptions,
  layout: RecordLayout,
  view: SkbView,
  hook: HookStores,
): Code {
  const { kernel, additions = {} } = options, { fields } = layout;
  const loadSkb = ldx(r3, at(fp, slot.skb, u64));
  return [
    fields.caller === undefined ? [] : collectCaller(fields.caller, hook),
    fields.stack === undefined ? [] : collectStack(layout, hook),
    fields.missing === undefined ? [] : st(at(r8, fields.missing), 0),
    fields.skb === undefined ? [] : copyTo(layout, "skb", loadSkb),
    fields.sharedInfo === undefined ? [] : copyTo(layout, "sharedInfo", [
      view.load(r3, "head"),
      view.load(r2, "end"), // an offset from head
      add(r3, r2),
    ]),
    fields.controlBlock === undefined ? [] : copyTo(layout, "controlBlock", [
      loadSkb,
      add(r3, kernel.field("sk_buff", "cb").offset + kernel.field("qdisc_skb_cb", "data").offset),
    ]),
    fields.tunnel === undefined ? [] : collectTunnel(layout, view.load),
    collectValues(
      layout,
      { ofFrame: 0, values: additions.values ?? [] },
      (none) => skbExpressionFrame(options, view, [r7, r9], none),
    ),
  ];
}

function collectCaller(field: Field, { caller }: HookStores): Code {
  if (caller === undefined) throw new AssemblyError("This hook does not know who called");
  return [ldx(r1, at(fp, slot.context, u64)), caller(field)];
}

export function collectStack(
  { fields }: RecordLayout,
  { linkRegister }: Pick<HookStores, "linkRegister"> = {},
): Code {
  const stack = fields.stack!, stackBytes = fields.stackBytes!, done = label("stack_done");
  const frame = (index: number) => at(r8, stack.offset + 8 * index, u64);
  const whole = getStack(stack.offset, stack.type.size);
  if (linkRegister === undefined) return [whole, stx(at(r8, stackBytes), r0)];
  // Where return addresses are in a register first, the unwinder knows only those that have been put on the stack: it
  // leaves out who called the function that was just entered. Room for that one, then.
  const known = label("caller_known");
  return [
    getStack(stack.offset + 8, stack.type.size - 8),
    stx(at(r8, stackBytes), r0),
    jsle(r0, 0, done),
    ldx(r1, at(fp, slot.context, u64)),
    ldx(r1, at(r1, linkRegister, u64)),
    ldx(r2, frame(1)),
    ldx(r3, frame(2)),
    jeq(r1, r3, known),
    stx(frame(0), r2),
    stx(frame(1), r1),
    add(r0, 8),
    stx(at(r8, stackBytes), r0),
    ja(done),
    known,
    whole,
    stx(at(r8, stackBytes), r0),
    done,
  ];
}

/** The kernel's stack to there in the record, the innermost frame first: r0 = bytes, or an error. */
function getStack(offset: number, size: number): Code {
  return [
    ldx(r1, at(fp, slot.context, u64)),
    lea(r2, at(r8, offset, u64)),
    mov(r3, size),
    mov(r4, 0),
    call("bpf_get_stack"),
  ];
}

/**
 * A packet is in a tunnel while its inner network header lies behind the outer one. The offset alone says
 * nothing: it is a stale one in packets whose head was reallocated, and the bit `encapsulation` is off in those
 * that have no checksum left to compute.
 */
function collectTunnel({ fields }: RecordLayout, load: LoadSkb): Code {
  const { tunnel, tunnelBytes } = fields, none = label("no_tunnel");
  return [
    st(at(r8, tunnelBytes!), 0),
    load(r1, "inner_network_header"),
    load(r2, "network_header"),
    jle(r1, r2, none),
    copyHeaders(load, "inner_network_header", tunnel!, tunnelBytes!),
    none,
  ];
}

/** Copies memory into the record; a failure is noted there. `source` makes r3 its address and may lose r2. */
function copyTo({ fields }: RecordLayout, name: keyof typeof MISSING, source: Code): Code {
  const { offset, type } = fields[name]!, copied = label(`${name}_copied`);
  return [
    source,
    lea(r1, at(r8, offset, u64)),
    mov(r2, type.size),
    call("bpf_probe_read_kernel"),
    jeq(r0, 0, copied),
    setBit(fields.missing!, MISSING[name]),
    copied,
  ];
}

/** Sets a bit of one of the record's words. Loses r1. */
function setBit(field: Field, bit: number): Code {
  return [ldx(r1, at(r8, field)), or(r1, bit), stx(at(r8, field), r1)];
}

/** The value of each expression, or the note that it has none; nothing where records have no values. */
export function collectValues(
  { fields }: RecordLayout,
  { ofFrame, values }: { readonly ofFrame: 0 | 1; readonly values: readonly ValueExpression[] },
  frame: (none: Label) => ExpressionFrame,
): Code {
  if (fields.values === undefined) return [];
  return [
    st(at(r8, fields.valueless!), 0),
    st(at(r8, fields.ofFrame!), ofFrame),
    values.map((value, index) => {
      const none = label(`no_value_${index}`), done = label(`value_${index}_done`);
      return [
        value.code(frame(none), r7),
        stx(at(r8, fields.values!.offset + 8 * index, u64), r7),
        ja(done),
        none,
        setBit(fields.valueless!, 1 << index),
        done,
      ];
    }),
  ];
}
