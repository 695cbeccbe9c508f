/** Improvements within one block: short sequences with a shorter equivalent, and stores that nobody reads. */
import { BPF_MISC, BPF_MSH, BPF_TAX, BPF_TXA } from "../../../asm/cbpf.ts";
import { holds } from "../../../asm/cbpf_run.ts";
import { aluOps, BPF_ALU, BPF_IMM, BPF_IND, BPF_K, BPF_LD, BPF_LDX } from "../../../asm/opcodes.ts";
import { BPF_MEM, BPF_ST, BPF_X, sizes } from "../../../asm/opcodes.ts";
import { jeq, jset, nop, type Statement } from "../graph.ts";
import { atomA, atomCount, atomX, definedBy, usedBy, type Vertex } from "./flow.ts";
import { type Changes, progress, unknown, type ValueTable } from "./values.ts";

/** Indexed loads do not wrap: an index that could be a negative number stays out of their constant. */
const maxIndex = 0x7fffffff;

export function peephole(vertex: Vertex, table: ValueTable, changes: Changes): void {
  if (vertex.statements.length === 0) return;
  const live = vertex.statements.filter((one) => one.code !== nop);
  for (let index = 0; index + 1 < live.length; index++) shortenPair(vertex, live, index, changes);
  const last = vertex.statements.findLast((one) => one.code !== nop);
  if (last !== undefined) joinWithBranch(vertex, last, table, changes);
  simplifyBranch(vertex, table, changes);
}

/** The sequences that start at `live[index]`. */
function shortenPair(vertex: Vertex, live: readonly Statement[], index: number, changes: Changes): void {
  const one = live[index]!, next = live[index + 1]!;
  if (one.code === nop) return;
  // st M[k]; ldx M[k]
  if (one.code === BPF_ST && next.code === (BPF_LDX | BPF_MEM) && one.k === next.k) {
    next.code = BPF_MISC | BPF_TAX;
    progress(changes);
  }
  // ld #k; tax
  if (one.code === (BPF_LD | BPF_IMM) && next.code === (BPF_MISC | BPF_TAX)) {
    one.code = BPF_LDX | BPF_IMM;
    next.code = BPF_MISC | BPF_TXA;
    progress(changes);
  }
  if (one.code === (BPF_LD | BPF_IMM)) foldIndex(vertex, live, index, changes);
}

/** ld #k; [ldxb 4*([j]&0xf)]; add x; tax; ld [x + m]: the constant belongs into the last load. */
function foldIndex(vertex: Vertex, live: readonly Statement[], index: number, changes: Changes): void {
  if ((vertex.neededAfter & (1 << atomX)) !== 0) return;
  const one = live[index]!;
  let at = index + 1;
  if (live[at]?.code === (BPF_LDX | sizes[1].bits | BPF_MSH)) at++;
  const [add, tax, load] = [live[at], live[at + 1], live[at + 2]];
  if (add?.code !== (BPF_ALU | aluOps.add.bits | BPF_X)) return;
  if (tax?.code !== (BPF_MISC | BPF_TAX)) return;
  if (load === undefined || (load.code & 0xe7) !== (BPF_LD | BPF_IND)) return;
  if (load.k + one.k > maxIndex) return;
  load.k += one.k;
  one.code = add.code = tax.code = nop;
  progress(changes);
}

/** An equality test of a value that nobody needs afterwards, with the arithmetic right before it. */
function joinWithBranch(vertex: Vertex, last: Statement, table: ValueTable, changes: Changes): void {
  if (vertex.code !== jeq || (vertex.neededAfter & (1 << atomA)) !== 0) return;
  const { sub, and } = aluOps;
  if (last.code === (BPF_ALU | sub.bits | BPF_X)) {
    const x = table.constantOf(vertex.values[atomX]!);
    if (x !== undefined) vertex.k = (vertex.k + x) >>> 0;
    else if (vertex.k === 0) vertex.code = jeq | BPF_X;
    else return;
    last.code = nop;
    progress(changes);
  } else if (last.code === (BPF_ALU | sub.bits | BPF_K)) {
    vertex.k = (vertex.k + last.k) >>> 0;
    last.code = nop;
    progress(changes);
  } else if (last.code === (BPF_ALU | and.bits | BPF_K) && vertex.k === 0) {
    vertex.k = last.k;
    vertex.code = jset;
    last.code = nop;
    swapExits(vertex);
    progress(changes);
  }
}

function swapExits(vertex: Vertex): void {
  [vertex.onTrue, vertex.onFalse] = [vertex.onFalse, vertex.onTrue];
}

function simplifyBranch(vertex: Vertex, table: ValueTable, changes: Changes): void {
  if (vertex.code === jset && vertex.k === 0) vertex.onTrue = vertex.onFalse;
  if (vertex.code === jset && vertex.k === 0xffffffff) {
    vertex.code = jeq;
    vertex.k = 0;
    swapExits(vertex);
  }
  const x = table.constantOf(vertex.values[atomX]!);
  if (x !== undefined && (vertex.code & BPF_X) !== 0) {
    vertex.code &= ~BPF_X;
    vertex.k = x;
  }
  const a = table.constantOf(vertex.values[atomA]!);
  if (a === undefined || (vertex.code & BPF_X) !== 0) return;
  if (vertex.onTrue !== vertex.onFalse) progress(changes);
  if (holds(vertex.code, a, vertex.k)) vertex.onFalse = vertex.onTrue;
  else vertex.onTrue = vertex.onFalse;
}

/** Deletes what is written again before it is read, or never read. */
export function dropDeadStores(vertex: Vertex, changes: Changes): void {
  const pending = new Array<Statement | undefined>(atomCount).fill(undefined);
  const readAtoms = (one: Pick<Statement, "code" | "k">) => {
    const atoms = usedBy(one);
    for (let atom = 0; atom < atomCount; atom++) if ((atoms & (1 << atom)) !== 0) pending[atom] = undefined;
  };
  for (const one of vertex.statements) {
    readAtoms(one);
    const atom = definedBy(one);
    if (atom === undefined) continue;
    const earlier = pending[atom];
    if (earlier !== undefined) {
      earlier.code = nop;
      progress(changes);
    }
    pending[atom] = one;
  }
  readAtoms(vertex);
  for (const [atom, one] of pending.entries()) {
    if (one === undefined || (vertex.neededAfter & (1 << atom)) !== 0) continue;
    one.code = nop;
    vertex.values[atom] = unknown;
    progress(changes);
  }
}
