/**
 * Makes a program smaller without changing what it matches: the algorithm of McCanne and Jacobson's BPF paper
 * (USENIX 1993) with value numbering, in two phases. The first moves branches, the second rewrites statements.
 * A load that is optimised away can no longer fail on a short packet; that is the only permitted difference.
 *
 * A step is left out where it would read something else than the original program (see branches.ts and the
 * index folding of peephole.ts); libpcap takes it and then matches other packets.
 */
import { usesX } from "../../asm/cbpf.ts";
import { type Block, nop } from "./graph.ts";
import { pullUp, shortcut } from "./optimizer/branches.ts";
import {
  atomA,
  atomCount,
  atomX,
  findEdgeDominators,
  findIncoming,
  findLevels,
  findUses,
  type Flow,
  fromRoot,
  isReturn,
  makeFlow,
  postorder,
  type Vertex,
} from "./optimizer/flow.ts";
import { dropDeadStores, peephole } from "./optimizer/peephole.ts";
import { type Changes, followStatement, progress, ValueTable } from "./optimizer/values.ts";

/** Passes in a row that only move branches: they may go round in circles. */
const maxBranchPasses = 100;
/**
 * Above this many blocks branches stay where they are: the dominator sets take n^2 / 2 bytes, and a pass of the
 * first phase looks at all of them. Programs this size compile in 0.5 to 1.5 s with both phases.
 */
const maxBranchBlocks = 4096;
/** Words of dominator sets that the first phase may look at in all its passes. */
const maxBranchWork = 2 ** 28;

/**
 * @returns the root of a graph of its own; `root` stays as it is
 * @throws {FoldError} the program divides by the constant 0 or shifts by a constant of more than 31
 */
export function optimize(root: Block): Block {
  const flow = makeFlow(root, maxBranchBlocks);
  if (flow.vertices.length <= maxBranchBlocks) repeat(flow, false);
  repeat(flow, true);
  mergeEqual(flow);
  return skipEmptyRoot(flow);
}

/** One phase: passes until nothing changes, or until it gets too expensive; the program is right at any time. */
function repeat(flow: Flow, rewrite: boolean): void {
  const passes = rewrite ? Infinity : maxBranchWork / (flow.edges.length * flow.edges[0]!.dominators.length);
  for (let count = 0, idle = 0; idle < maxBranchPasses && count < passes; count++) {
    const changes: Changes = { changed: false, progressed: false };
    pass(flow, rewrite, changes);
    if (!changes.changed) return;
    idle = changes.progressed ? 0 : idle + 1;
  }
}

function pass(flow: Flow, rewrite: boolean, changes: Changes): void {
  findLevels(flow);
  findUses(flow);
  findIncoming(flow);
  const table = new ValueTable();
  for (const vertex of fromRoot(flow)) processVertex(vertex, table, rewrite, changes);
  if (rewrite) return;

  findEdgeDominators(flow); // now, not before: the peephole step may swap the exits of a block
  const reachable = new Set(postorder(flow.root));
  for (const vertex of toRoot(flow)) {
    if (reachable.has(vertex)) { for (const edge of vertex.edges) shortcut(flow, edge, changes); }
  }
  findIncoming(flow);
  for (const vertex of toRoot(flow)) {
    pullUp(vertex, "onFalse", changes);
    pullUp(vertex, "onTrue", changes);
  }
}

/** Branching vertices from the returns upwards. */
function toRoot({ levels }: Flow): Vertex[] {
  return levels.slice(1).flat();
}

function processVertex(vertex: Vertex, table: ValueTable, rewrite: boolean, changes: Changes): void {
  if (isReturn(vertex)) return;
  const { values } = vertex;
  const before = entryValues(vertex, table);
  values.set(before);
  for (const one of vertex.statements) followStatement(one, values, table, rewrite, changes);

  const same = (atom: number) => before[atom]! >= 0 && values[atom] === before[atom];
  if (rewrite && vertex.neededAfter === 0 && same(atomA) && same(atomX)) {
    if (vertex.statements.length > 0) {
      vertex.statements = [];
      values.set(before);
      progress(changes);
    }
  } else {
    if (peephole(vertex, table, changes)) { // what A and X hold in the end may be something else now
      values.set(before);
      for (const one of vertex.statements) followStatement(one, values, table, false, changes);
    }
    dropDeadStores(vertex, table, changes);
  }
  vertex.operandValue = usesX(vertex.code) ? values[atomX]! : table.constant(vertex.k);
}

/** What all ways to `vertex` agree on; a value of its own where they do not. */
function entryValues({ incoming }: Vertex, table: ValueTable): Int32Array {
  const [first, ...others] = incoming;
  if (first === undefined) return new Int32Array(atomCount).fill(table.unknown()); // all start at 0
  const values = first.from.values.slice();
  let disagreement = 0;
  for (const { from } of others) {
    for (let atom = 0; atom < atomCount; atom++) {
      if (values[atom] !== from.values[atom]) disagreement |= 1 << atom;
    }
  }
  for (let atom = 0; atom < atomCount; atom++) {
    if ((disagreement & (1 << atom)) !== 0) values[atom] = table.unknown();
  }
  return values;
}

/** Blocks that do the same and lead to the same places become one. */
function mergeEqual(flow: Flow): void {
  const bySignature = new Map<string, Vertex>();
  const replacement = new Map<Vertex, Vertex>();
  for (const vertex of postorder(flow.root)) {
    if (!isReturn(vertex)) {
      vertex.onTrue = replacement.get(vertex.onTrue!)!;
      vertex.onFalse = replacement.get(vertex.onFalse!)!;
    }
    const statements = vertex.statements.filter((one) => one.code !== nop);
    const signature = [
      vertex.code,
      vertex.k,
      vertex.onTrue?.id,
      vertex.onFalse?.id,
      ...statements.map((one) => `${one.code} ${one.k}`),
    ].join();
    const equal = bySignature.get(signature);
    if (equal === undefined) bySignature.set(signature, vertex);
    replacement.set(vertex, equal ?? vertex);
  }
}

/**
 * A root whose exits agree decides nothing; its statements move to where it leads. Those of further blocks that
 * are skipped are kept only if somebody reads what they write.
 */
function skipEmptyRoot(flow: Flow): Vertex {
  findLevels(flow);
  findUses(flow);
  const { root } = flow;
  let start = root;
  const statements = [...root.statements];
  while (!isReturn(start) && start.onTrue === start.onFalse) {
    start = start.onTrue!;
    const read = !isReturn(start) && (start.defined & start.neededAfter) !== 0;
    if (start.onTrue !== start.onFalse || read) statements.push(...start.statements);
  }
  if (start !== root) start.statements = isReturn(start) ? [] : statements;
  return start;
}
