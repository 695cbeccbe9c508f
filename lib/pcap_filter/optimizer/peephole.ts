/** Improvements within one block: short sequences with a shorter equivalent, and stores that nobody reads. */
import { cbpf, usesX } from "../../../asm/cbpf.ts";
import { BPF_X } from "../../../asm/opcodes.ts";
import { holds } from "../../../asm/cbpf_run.ts";
import { jeq, jset, nop, type Statement } from "../graph.ts";
import { atomA, atomCount, atomX, definedBy, usedBy, type Vertex } from "./flow.ts";
import { type Changes, maxIndex, progress, type ValueTable } from "./values.ts";

/** @returns whether statements changed */
export function peephole(vertex: Vertex, table: ValueTable, changes: Changes): boolean {
  if (vertex.statements.length === 0) return false;
  const live = vertex.statements.filter((one) => one.code !== nop);
  let changed = false;
  for (let index = 0; index + 1 < live.length; index++) {
    if (shortenPair(vertex, live, index)) changed = true;
  }
  const last = vertex.statements.findLast((one) => one.code !== nop);
  if (last !== undefined && joinWithBranch(vertex, last, table)) changed = true;
  if (changed) progress(changes);
  simplifyBranch(vertex, table, changes);
  return changed;
}

/** The sequences that start at `live[index]`. */
function shortenPair(vertex: Vertex, live: readonly Statement[], index: number): boolean {
  const one = live[index]!, next = live[index + 1]!;
  if (one.code === cbpf.st && next.code === cbpf.ldxMem && one.k === next.k) {
    next.code = cbpf.tax;
    return true;
  }
  if (one.code !== cbpf.ldImm) return false;
  if (next.code === cbpf.tax) {
    one.code = cbpf.ldxImm;
    next.code = cbpf.txa;
    return true;
  }
  return foldIndex(vertex, live, index);
}

/** ld #k; [ldxb 4*([j]&0xf)]; add x; tax; ld [x + m]: the constant belongs into the last load. */
function foldIndex(vertex: Vertex, live: readonly Statement[], index: number): boolean {
  const one = live[index]!;
  let at = index + 1;
  if (live[at]?.code === cbpf.ldxMsh) at++;
  const [add, tax, load] = [live[at], live[at + 1], live[at + 2]];
  if (add?.code !== cbpf.add.x) return false;
  if (tax?.code !== cbpf.tax) return false;
  if (load === undefined || !isIndexedLoad(load.code)) return false;
  if (load.k + one.k > maxIndex || readsX(vertex, live.slice(at + 3))) return false;
  load.k += one.k;
  one.code = add.code = tax.code = nop;
  return true;
}

function isIndexedLoad(code: number): boolean {
  return code === cbpf.ldInd[1] || code === cbpf.ldInd[2] || code === cbpf.ldInd[4];
}

/** Whether the rest of a block, or what comes after it, uses the X that it starts with. */
function readsX(vertex: Vertex, rest: readonly Statement[]): boolean {
  for (const one of [...rest, vertex]) {
    if ((usedBy(one) & (1 << atomX)) !== 0) return true;
    if (definedBy(one) === atomX) return false;
  }
  return (vertex.neededAfter & (1 << atomX)) !== 0;
}

/** An equality test of a value that nobody needs afterwards, with the arithmetic right before it. */
function joinWithBranch(vertex: Vertex, last: Statement, table: ValueTable): boolean {
  if (vertex.code !== jeq || (vertex.neededAfter & (1 << atomA)) !== 0) return false;
  switch (last.code) {
    case cbpf.sub.x: {
      const x = table.constantOf(vertex.values[atomX]!);
      if (x !== undefined) vertex.k = (vertex.k + x) >>> 0;
      else if (vertex.k === 0) vertex.code = cbpf.jeq.x;
      else return false;
      break;
    }
    case cbpf.sub.k:
      vertex.k = (vertex.k + last.k) >>> 0;
      break;
    case cbpf.and.k:
      if (vertex.k !== 0) return false;
      vertex.k = last.k;
      vertex.code = jset;
      swapExits(vertex);
      break;
    default:
      return false;
  }
  last.code = nop;
  return true;
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
  if (x !== undefined && usesX(vertex.code)) {
    vertex.code &= ~BPF_X;
    vertex.k = x;
  }
  const a = table.constantOf(vertex.values[atomA]!);
  if (a === undefined || usesX(vertex.code)) return;
  if (vertex.onTrue !== vertex.onFalse) progress(changes);
  if (holds(vertex.code, a, vertex.k)) vertex.onFalse = vertex.onTrue;
  else vertex.onTrue = vertex.onFalse;
}

/** Deletes what is written again before it is read, or never read. */
export function dropDeadStores(vertex: Vertex, table: ValueTable, changes: Changes): void {
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
    vertex.values[atom] = table.unknown();
    progress(changes);
  }
}
