// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/** What programs on BPF programs of others have in common: where they run, what they are given, what was returned. */
import type { Code, ProgramSpec } from "../asm/code.ts";
import {
  add,
  at,
  call,
  fp,
  lddw,
  ldx,
  lea,
  mov,
  r1,
  r2,
  r3,
  r8,
  type Register,
  st,
  stx,
} from "../asm/insn.ts";
import { u64 } from "../asm/layout.ts";
import { BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY, BPF_TRACE_FEXIT } from "../asm/uapi.ts";
import { packetEvent } from "./events.ts";
import { slot } from "./frame.ts";

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
