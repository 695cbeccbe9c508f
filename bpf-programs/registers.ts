// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * Where a probe's context keeps the traced function's registers: struct pt_regs on x86-64
 * (arch/x86/include/asm/ptrace.h), struct user_pt_regs on arm64 (arch/arm64/include/uapi/asm/ptrace.h).
 */
import { AssemblyError } from "../asm/errors.ts";
import { type Struct, struct, u64 } from "../asm/layout.ts";

/** Of a kernel stack, on all of them. */
export const STACK_BYTES: number = 1 << 14;

/** The registers that a program asks for, by what the C calling convention uses them for. */
export interface ProbeContext {
  /** first to fifth argument */
  readonly arguments: readonly [number, number, number, number, number];
  readonly instructionPointer: number;
  readonly stackPointer: number;
  /** of a kernel stack, and what its place is a multiple of */
  readonly stackBytes: number;
  /**
   * Where a function finds its return address as it begins: in a register, or where one points to. Where it is in a
   * register the function saves it itself, in its frame record.
   */
  readonly returnAddress:
    | { readonly in: "memory"; readonly register: number }
    | { readonly in: "register"; readonly register: number; readonly framePointer: number };
  /** on return from the function */
  readonly returnValue: number;
}

const x64: Struct = struct("pt_regs", {
  r15: u64,
  r14: u64,
  r13: u64,
  r12: u64,
  bp: u64,
  bx: u64,
  r11: u64,
  r10: u64,
  r9: u64,
  r8: u64,
  ax: u64,
  cx: u64,
  dx: u64,
  si: u64,
  di: u64,
  orig_ax: u64,
  ip: u64,
  cs: u64,
  flags: u64,
  sp: u64,
  ss: u64,
});

function offsetIn(layout: Struct, register: string): number {
  const field = layout.fields[register];
  if (field === undefined) throw new AssemblyError(`${layout.name} has no register ${register}`);
  return field.offset;
}

const contexts: Readonly<Record<string, ProbeContext>> = {
  x64: {
    arguments: ["di", "si", "dx", "cx", "r8"].map((name) =>
      offsetIn(x64, name)
    ) as unknown as ProbeContext["arguments"],
    instructionPointer: offsetIn(x64, "ip"),
    stackPointer: offsetIn(x64, "sp"),
    stackBytes: STACK_BYTES, // THREAD_SIZE, IRQ_STACK_SIZE (arch/x86/include/asm/page_64_types.h); KASAN doubles them
    returnAddress: { in: "memory", register: offsetIn(x64, "sp") },
    returnValue: offsetIn(x64, "ax"),
  },
  // u64 regs[31], sp, pc, pstate
  arm64: {
    arguments: [0, 8, 16, 24, 32],
    instructionPointer: 256,
    stackPointer: 248,
    stackBytes: STACK_BYTES, // THREAD_SIZE (arch/arm64/include/asm/memory.h); KASAN doubles it
    returnAddress: { in: "register", register: 240, framePointer: 232 }, // x30, x29
    returnValue: 0,
  },
};

/**
 * @param architecture as `process.arch` names it
 * @param pageBytes of the running kernel: a stack has at least one page
 * @throws {AssemblyError} an architecture whose registers are not in the table
 */
export function probeContext(architecture: string, pageBytes = 4096): ProbeContext {
  const context = contexts[architecture];
  if (context === undefined) throw new AssemblyError(`Registers of ${architecture} are not known`);
  return { ...context, stackBytes: Math.max(context.stackBytes, pageBytes) };
}

/** Where a probe's context has the argument, counted from 1. */
export function argumentOffset(context: ProbeContext, argument: number): number {
  const offset = context.arguments[argument - 1];
  if (offset === undefined) throw new RangeError(`A probe sees arguments 1 to 5, not ${argument}`);
  return offset;
}
