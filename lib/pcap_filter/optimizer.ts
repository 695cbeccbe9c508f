/**
 * Makes a program smaller without changing what it matches: the algorithm of McCanne and Jacobson's BPF paper
 * (USENIX 1993) with value numbering, in two phases. The first moves branches, the second rewrites statements.
 * A load that is optimised away can no longer fail on a short packet; that is the only permitted difference.
 *
 * A step is left out where it would read something else than the original program (see branches.ts and the
 * index folding of peephole.ts); libpcap takes it and then matches other packets.
 */
import { classOf } from "../../asm/cbpf.ts";
import { BPF_RET } from "../../asm/cbpf.ts";
import { BPF_X } from "../../asm/opcodes.ts";
import { type Block, nop } from "./graph.ts";
import { pullUp, shortcut } from "./optimizer/branches.ts";
import {
  atomA,
  atomX,
  findDominators,
  findEdgeDominators,
  findIncoming,
  findLevels,
} from "./optimizer/flow.ts";
import {
  findUses,
  type Flow,
  fromRoot,
  isReturn,
  makeFlow,
  postorder,
  type Vertex,
} from "./optimizer/flow.ts";
import { dropDeadStores, peephole } from "./optimizer/peephole.ts";
import { type Changes, followStatement, progress, unknown, ValueTable } from "./optimizer/values.ts";

/** Passes in a row that only move branches: they may go round in circles. */
const maxBranchPasses = 100;

/**
 * @returns the root of a graph of its own; `root` stays as it is
 * @throws {FoldError} the program divides by the constant 0 or shifts by a constant of more than 31
 */
export function optimize(root: Block): Block {
  const flow = makeFlow(root, true);
  repeat(flow, false);
  repeat(flow, true);
  mergeEqual(flow);
  return skipEmptyRoot(flow);
}

/** One phase: passes until nothing changes. */
function repeat(flow: Flow, rewrite: boolean): void {
  for (let idle = 0; idle < maxBranchPasses;) {
    const changes: Changes = { changed: false, progressed: false };
    pass(flow, rewrite, changes);
    if (!changes.changed) return;
    idle = changes.progressed ? 0 : idle + 1;
  }
}

function pass(flow: Flow, rewrite: boolean, changes: Changes): void {
  findLevels(flow);
  findUses(flow);
  if (!rewrite) {
    findDominators(flow);
    findEdgeDominators(flow);
  }
  findIncoming(flow);
  const table = new ValueTable();
  for (const vertex of fromRoot(flow)) processVertex(vertex, table, rewrite, changes);
  if (rewrite) return;

  for (const vertex of toRoot(flow)) for (const edge of vertex.edges) shortcut(flow, edge, changes);
  findIncoming(flow);
  for (const vertex of toRoot(flow)) {
    pullUp(flow, vertex, "onFalse", changes);
    pullUp(flow, vertex, "onTrue", changes);
  }
}

/** Branching vertices from the returns upwards. */
function toRoot({ levels }: Flow): Vertex[] {
  return levels.slice(1).flat();
}

function processVertex(vertex: Vertex, table: ValueTable, rewrite: boolean, changes: Changes): void {
  const { values, incoming } = vertex;
  const [first, ...others] = incoming;
  if (first === undefined) values.fill(unknown);
  else values.set(first.from.values);
  for (const { from } of others) {
    for (let atom = 0; atom < values.length; atom++) {
      if (values[atom] !== from.values[atom]) values[atom] = unknown;
    }
  }
  const a = values[atomA], x = values[atomX];
  for (const one of vertex.statements) followStatement(one, values, table, rewrite, changes);

  const sameRegisters = a !== unknown && values[atomA] === a && x !== unknown && values[atomX] === x;
  if (rewrite && (isReturn(vertex) || (vertex.neededAfter === 0 && sameRegisters))) {
    if (vertex.statements.length > 0) {
      vertex.statements = [];
      progress(changes);
    }
  } else {
    peephole(vertex, table, changes);
    dropDeadStores(vertex, changes);
  }
  vertex.operandValue = (vertex.code & BPF_X) !== 0 && !isReturn(vertex)
    ? values[atomX]!
    : table.constant(vertex.k);
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

/** A root whose exits agree decides nothing; its statements move to where it leads. */
function skipEmptyRoot({ root }: Flow): Vertex {
  let start = root;
  while (!isReturn(start) && start.onTrue === start.onFalse) start = start.onTrue!;
  if (start !== root) start.statements = [...root.statements, ...start.statements];
  if (classOf(start.code) === BPF_RET) start.statements = [];
  return start;
}
