/**
 * Shorter ways through the graph: an edge skips a block whose outcome is already decided on that edge, and a
 * block is moved up in a chain of alternatives to where its operand is still in A.
 */
import { jeq } from "../graph.ts";
import {
  atomA,
  atomCount,
  contains,
  type Edge,
  findDominators,
  type Flow,
  isReturn,
  type Vertex,
} from "./flow.ts";
import type { Changes } from "./values.ts";

/** Redirects one edge as far as it goes. */
export function shortcut(flow: Flow, edge: Edge, changes: Changes): void {
  const { from, side } = edge;
  const target = () => from[side]!;
  if (isReturn(target())) return;
  if (target().onTrue === target().onFalse && !conflict(from, target().onTrue!)) {
    from[side] = target().onTrue;
    changes.changed = changes.progressed = true;
  }
  for (let found = decided(flow, edge); found !== undefined; found = decided(flow, edge)) {
    from[side] = found;
    changes.changed = changes.progressed = true;
    if (isReturn(found)) return;
  }
}

/** Where the target of `edge` leads for sure, because of a branch that every way to here has taken. */
function decided(flow: Flow, edge: Edge): Vertex | undefined {
  const target = edge.from[edge.side]!;
  if (isReturn(target)) return undefined;
  for (const [index, word] of edge.dominators.entries()) {
    for (let rest = word; rest !== 0; rest &= rest - 1) {
      const id = index * 32 + 31 - Math.clz32(rest & -rest);
      const found = outcome(target, flow.edges[id]!);
      if (found !== undefined && !conflict(edge.from, found)) return found;
    }
  }
  return undefined;
}

/** The exit of `target` that is taken after `dominator`, if the two compare the same value. */
function outcome(target: Vertex, { from, side }: Edge): Vertex | undefined {
  if (target.code !== from.code || target.values[atomA] !== from.values[atomA]) return undefined;
  if (target.operandValue === from.operandValue) return target[side];
  // Equal to one constant, so not equal to another.
  return side === "onTrue" && from.code === jeq ? target.onFalse : undefined;
}

/** Something that is needed after `target` would have another value there when coming from `from`. */
function conflict(from: Vertex, target: Vertex): boolean {
  for (let atom = 0; atom < atomCount; atom++) {
    if ((target.neededAfter & (1 << atom)) !== 0 && from.values[atom] !== target.values[atom]) return true;
  }
  return false;
}

/**
 * `b`, d1, d2, ... is a chain of alternatives: each is reached from the one before by its `along` exit, and all
 * have the other exit in common. The first block of the chain that compares what A holds on the way to `b` is
 * moved in front of those that compare something else.
 */
export function pullUp(
  flow: Flow,
  b: Vertex,
  along: "onTrue" | "onFalse",
  changes: Changes,
): void {
  const across = along === "onTrue" ? "onFalse" : "onTrue";
  const [first, ...others] = b.incoming;
  if (first === undefined) return;
  const value = first.from.values[atomA];
  if (others.some((edge) => edge.from.values[atomA] !== value)) return;
  const member = (vertex: Vertex | undefined): vertex is Vertex =>
    vertex !== undefined && vertex[across] !== undefined && vertex[across] === b[across] &&
    contains(vertex.dominators, b.id);

  // A link is the exit of a block; the first one leads to b.
  let link: { vertex: Vertex; side: "onTrue" | "onFalse" } = {
    vertex: first.from,
    side: first.from.onTrue === b ? "onTrue" : "onFalse",
  };
  let atTop = true;
  let different: Vertex | undefined;
  for (;;) {
    different = link.vertex[link.side];
    if (!member(different)) return;
    if (different.values[atomA] !== value) break;
    link = { vertex: different, side: along };
    atTop = false;
  }
  let before: Vertex = different;
  for (;;) {
    const same = before[along];
    if (!member(same)) return;
    if (same.values[atomA] === value) break;
    before = same;
  }

  const pulled = before[along]!;
  before[along] = pulled[along];
  pulled[along] = different;
  if (atTop) {
    for (const edge of b.incoming) edge.from[edge.from.onTrue === b ? "onTrue" : "onFalse"] = pulled;
  } else {
    link.vertex[link.side] = pulled;
  }
  changes.changed = true;
  findDominators(flow);
}
