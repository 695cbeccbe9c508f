/**
 * Control flow graph -> instructions. A block is followed by what runs when its comparison holds; blocks that
 * several others lead to, and those behind a false exit, come later.
 */
import { BPF_RET, cbpf, type CbpfInsn, classOf } from "../../asm/cbpf.ts";
import { type Block, nop, type Statement } from "./graph.ts";

/** jt and jf have 8 bits. */
const maxBranch = 0xff;

interface Placed {
  readonly block: Block;
  readonly statements: readonly Statement[];
  /** where the block starts, counted from the end of the program */
  fromEnd: number;
  /** exits that are too far away and get a jump of their own */
  longTrue: boolean;
  longFalse: boolean;
}

/** The program that starts at `root`. */
export function emit(root: Block): CbpfInsn[] {
  const order = layout(root);
  while (!place(order)) { /* an exit became too long: once more with a jump for it */ }
  const byBlock = new Map(order.map((placed) => [placed.block, placed]));
  const size = order.at(-1)!.fromEnd;
  const insns: CbpfInsn[] = [];
  for (const placed of order.toReversed()) write(placed);
  return insns;

  function write({ block, statements, longTrue, longFalse }: Placed): void {
    const start = insns.length;
    const places = new Map(statements.map((one, index) => [one, index]));
    statements.forEach((one, index) => insns.push(encode(one, index, places)));
    if (classOf(block.code) === BPF_RET) {
      insns.push({ code: block.code, jt: 0, jf: 0, k: block.k });
      return;
    }
    const next = start + statements.length + 1;
    const jumps = Number(longTrue) + Number(longFalse);
    const distance = (target: Block, from: number) => size - byBlock.get(target)!.fromEnd - from;
    const falseJump = Number(longTrue);
    insns.push({
      code: block.code,
      jt: longTrue ? 0 : distance(block.onTrue!, next),
      jf: longFalse ? falseJump : distance(block.onFalse!, next),
      k: block.k,
    });
    if (longTrue) insns.push(jump(distance(block.onTrue!, next + 1)));
    if (longFalse) insns.push(jump(distance(block.onFalse!, next + jumps)));
  }
}

function jump(k: number): CbpfInsn {
  return { code: cbpf.ja, jt: 0, jf: 0, k: k >>> 0 };
}

/** Statements lead to other statements of the same block only, never beyond its end. */
function encode(one: Statement, index: number, places: ReadonlyMap<Statement, number>): CbpfInsn {
  const distance = (target: Statement) => places.get(target)! - index - 1;
  if (one.onTrue !== undefined && one.onFalse !== undefined) {
    return { code: one.code, jt: distance(one.onTrue), jf: distance(one.onFalse), k: one.k };
  }
  if (one.target !== undefined) return jump(distance(one.target));
  return { code: one.code, jt: 0, jf: 0, k: one.k };
}

/** Blocks in the order of completion of a walk that takes false exits first: the program backwards. */
function layout(root: Block): Placed[] {
  const order: Placed[] = [];
  const seen = new Set<Block>();
  const stack: { block: Block; step: number }[] = [{ block: root, step: 0 }];
  seen.add(root);
  while (stack.length > 0) {
    const top = stack.at(-1)!;
    const { block } = top;
    const next = top.step === 0 ? block.onFalse : top.step === 1 ? block.onTrue : undefined;
    if (top.step++ === 2) {
      stack.pop();
      const statements = block.statements.filter((one) => one.code !== nop);
      order.push({ block, statements, fromEnd: 0, longTrue: false, longFalse: false });
    } else if (next !== undefined && !seen.has(next)) {
      seen.add(next);
      stack.push({ block: next, step: 0 });
    }
  }
  return order;
}

/** Assigns positions; false if an exit turned out to need a jump, which moves everything before it. */
function place(order: readonly Placed[]): boolean {
  const starts = new Map<Block, number>();
  let size = 0;
  let fits = true;
  for (const placed of order) {
    const { block, statements } = placed;
    const jumps = Number(placed.longTrue) + Number(placed.longFalse);
    const afterBranch = size + jumps;
    size += statements.length + 1 + jumps;
    placed.fromEnd = size;
    starts.set(block, size);
    const tooFar = (target: Block | undefined) =>
      target !== undefined && afterBranch - starts.get(target)! > maxBranch;
    if (!placed.longTrue && tooFar(block.onTrue)) {
      placed.longTrue = true;
      fits = false;
    }
    if (!placed.longFalse && tooFar(block.onFalse)) {
      placed.longFalse = true;
      fits = false;
    }
  }
  return fits;
}
