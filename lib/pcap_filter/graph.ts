/**
 * The control flow graph that the generator builds and the optimiser changes: blocks of straight-line
 * statements that end in one comparison with two exits, or in a return.
 */
import { cbpf } from "../../asm/cbpf.ts";

/** The opcode of a statement that was deleted in place. No instruction has it. */
export const nop = -1;

/** One instruction before it has a position. `code` and `k` are rewritten by the optimiser. */
export interface Statement {
  code: number;
  k: number;
  /** a comparison inside a block (geneve): where it goes */
  readonly onTrue?: Statement;
  readonly onFalse?: Statement;
  /** a jump inside a block (protochain) */
  target?: Statement;
}

export interface Block {
  statements: Statement[];
  /** a comparison, or a return when there are no exits */
  code: number;
  k: number;
  onTrue: Block | undefined;
  onFalse: Block | undefined;
}

/** A way out of a block. */
export interface Exit {
  readonly block: Block;
  readonly side: "onTrue" | "onFalse";
}

/**
 * A condition: where it starts, and the exits that are still to be connected. Combining two uses them up.
 * `constant` marks one whose answer the compiler knows; combinations drop it or what it makes irrelevant.
 */
export interface Test {
  readonly head: Block;
  readonly whenTrue: Exit[];
  readonly whenFalse: Exit[];
  readonly constant: boolean | undefined;
}

export const jeq: number = cbpf.jeq.k;
export const jgt: number = cbpf.jgt.k;
export const jge: number = cbpf.jge.k;
export const jset: number = cbpf.jset.k;

export function statement(code: number, k = 0): Statement {
  return { code, k };
}

/** The condition that one comparison after `statements` decides. */
export function compare(statements: Statement[], code: number, k: number): Test {
  const block: Block = { statements, code, k, onTrue: undefined, onFalse: undefined };
  return {
    head: block,
    whenTrue: [{ block, side: "onTrue" }],
    whenFalse: [{ block, side: "onFalse" }],
    constant: undefined,
  };
}

/** A condition whose answer is known. Code comes of it only if it is all that is left in the end. */
export function constantTest(constant: boolean): Test {
  return { ...compare([statement(cbpf.ldImm, constant ? 0 : 1)], jeq, 0), constant };
}

export function and(left: Test, right: Test): Test {
  if (left.constant === false || right.constant === true) return left;
  if (left.constant === true || right.constant === false) return right;
  connect(left.whenTrue, right.head);
  return {
    head: left.head,
    whenTrue: right.whenTrue,
    whenFalse: joined(left.whenFalse, right.whenFalse),
    constant: undefined,
  };
}

export function or(left: Test, right: Test): Test {
  if (left.constant === true || right.constant === false) return left;
  if (left.constant === false || right.constant === true) return right;
  connect(left.whenFalse, right.head);
  return {
    head: left.head,
    whenTrue: joined(left.whenTrue, right.whenTrue),
    whenFalse: right.whenFalse,
    constant: undefined,
  };
}

export function not({ head, whenTrue, whenFalse, constant }: Test): Test {
  return {
    head,
    whenTrue: whenFalse,
    whenFalse: whenTrue,
    constant: constant === undefined ? undefined : !constant,
  };
}

/** The tests joined with `or`, left to right. */
export function anyOf(first: Test, ...others: Test[]): Test {
  return others.reduce(or, first);
}

/** The tests joined with `and`, left to right. */
export function allOf(first: Test, ...others: Test[]): Test {
  return others.reduce(and, first);
}

/** Finishes a program: the packet is kept up to `snaplen` bytes where `test` holds. */
export function program(test: Test, snaplen: number): Block {
  connect(test.whenTrue, returning(snaplen));
  connect(test.whenFalse, returning(0));
  return test.head;
}

export function returning(value: number): Block {
  return { statements: [], code: cbpf.ret, k: value, onTrue: undefined, onFalse: undefined };
}

function connect(exits: readonly Exit[], target: Block): void {
  for (const { block, side } of exits) block[side] = target;
}

/** Order does not matter, so the shorter list is added to the longer one: chains stay linear. */
function joined(a: Exit[], b: Exit[]): Exit[] {
  const [long, short] = a.length >= b.length ? [a, b] : [b, a];
  for (const exit of short) long.push(exit);
  return long;
}
