// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/** The program on BPF programs for tc. */
import type { ProgramSpec } from "../asm/code.ts";
import { at, r6, r8, st } from "../asm/insn.ts";
import type { TraceOptions } from "./frame.ts";
import { identifyProgram, programArgument, type ProgramHook, tracingProgram } from "./program_hook.ts";
import { trace } from "./trace.ts";

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
