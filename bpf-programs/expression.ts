// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/** What a program and an expression over a kernel struct have to know of each other. lib/expr compiles one. */
import type { Code, Label } from "../asm/code.ts";
import type { Register } from "../asm/insn.ts";
import type { Field } from "../asm/layout.ts";
import type { MemoryAccess } from "./memory_access.ts";

/** Where an expression finds the struct that it is about, and what it may use. Loses r0-r5. */
export interface ExpressionFrame {
  readonly access: MemoryAccess;
  /** dst = the struct's address, which is not NULL; touches no other register */
  root(dst: Register): Code;
  /** dst = a field of the struct from an open view, or undefined where none holds it; touches no other register */
  rootField?(dst: Register, field: Field): Code | undefined;
  /** r6-r9, at least one: lost */
  readonly registers: readonly Register[];
  /** 8 bytes at fp + this */
  readonly temp: number;
  /** negative, a multiple of 8; values of a large expression grow up from here, at most `spillBytes` */
  readonly spill: number;
  readonly spillBytes: number;
  /** where to go when there is no value: NULL on the way, a division by zero */
  readonly failed: Label;
}

interface OfRoot {
  /** what it loads from the struct itself: a view that holds these makes it cheap */
  readonly fields: readonly Field[];
}

/** A question about the struct. */
export interface FilterExpression extends OfRoot {
  /** Falls through when it is true, else goes to `noMatch` or to the frame's `failed`. */
  code(frame: ExpressionFrame, noMatch: Label): Code;
}

/** A number that the struct leads to. */
export interface ValueExpression extends OfRoot {
  /** result = the number, extended to 64 bits as its type says; `result` may be any register. */
  code(frame: ExpressionFrame, result: Register): Code;
}
