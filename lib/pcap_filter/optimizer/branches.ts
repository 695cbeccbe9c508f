/**
 * Shorter ways through the graph: an edge skips a block whose outcome is already decided on that edge, and a
 * block is moved up in a chain of alternatives to where its operand is still in A.
 */
import { usesX } from "../../../asm/cbpf.ts";
import { jeq } from "../graph.ts";
import { atomA, atomCount, type Edge, findUses, type Flow, isReturn, type Vertex } from "./flow.ts";
import { type Changes, progress } from "./values.ts";

/** Redirects one edge as far as it goes. */
export function shortcut(flow: Flow, edge: Edge, changes: Changes): void {
  const { from, side } = edge;
  const target = () => from[side]!;
  if (isReturn(target())) return;
  if (target().onTrue === target().onFalse && maySkip(edge, target().onTrue!)) {
    redirect(target().onTrue!);
  }
  for (let found = decided(flow, edge); found !== undefined; found = decided(flow, edge)) {
    redirect(found);
    if (isReturn(found)) return;
  }

  function redirect(to: Vertex): void {
    from[side] = to;
    progress(changes);
    // What was written by the skipped block must now come from before it.
    if ((to.neededBefore & ~from.neededAfter) !== 0) findUses(flow);
  }
}

/** Where the target of `edge` leads for sure, because of a branch that every way to here has taken. */
function decided(flow: Flow, edge: Edge): Vertex | undefined {
  const target = edge.from[edge.side]!;
  if (isReturn(target)) return undefined;
  const { dominators } = edge;
  for (let index = 0; index < dominators.length; index++) {
    for (let rest = dominators[index]!; rest !== 0; rest &= rest - 1) {
      const id = index * 32 + 31 - Math.clz32(rest & -rest);
      const found = outcome(target, flow.edges[id]!);
      if (found !== undefined && maySkip(edge, found)) return found;
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

/**
 * `edge` may lead to `to` instead of to the block before it. What `to` needs must be the same without that block,
 * and what is needed after `to` must not differ on its other ways in.
 */
function maySkip({ from, side }: Edge, to: Vertex): boolean {
  const skipped = from[side]!;
  const written = to.neededBefore & skipped.defined;
  for (let atom = 0; atom < atomCount; atom++) {
    const bit = 1 << atom;
    if ((written & bit) !== 0 && from.values[atom] !== skipped.values[atom]) return false;
    if ((to.neededAfter & bit) !== 0 && from.values[atom] !== to.values[atom]) return false;
  }
  return true;
}

/**
 * `b`, d1, d2, ... is a chain of alternatives: each is reached only from the one before, by its `along` exit,
 * and all have the other exit in common. The first block of the chain that compares what A holds on the way to `b` is
 * moved in front of those that compare something else.
 */
export function pullUp(b: Vertex, along: Edge["side"], changes: Changes): void {
  const across = along === "onTrue" ? "onFalse" : "onTrue";
  const [first, ...others] = b.incoming;
  if (first === undefined) return;
  const value = first.from.values[atomA];
  if (others.some((edge) => edge.from.values[atomA] !== value)) return;
  const member = (vertex: Vertex | undefined): vertex is Vertex =>
    vertex !== undefined && vertex[across] !== undefined && vertex[across] === b[across] &&
    (vertex === b || vertex.incoming.length === 1);

  // A link is the exit of a block; the first one leads to b.
  let link = first;
  let different: Vertex | undefined;
  for (;;) {
    different = link.from[link.side];
    if (!member(different)) return;
    if (different.values[atomA] !== value) break;
    link = edgeOf(different, along);
  }
  const passed: Vertex[] = [different];
  for (;;) {
    const same = passed.at(-1)![along];
    if (!member(same)) return;
    if (same.values[atomA] === value) break;
    passed.push(same);
  }

  const before = passed.at(-1)!;
  const pulled = before[along]!;
  if (!independent(pulled, passed, along)) return;
  const rest = pulled[along]!;
  const [toRest, toDifferent] = [edgeOf(before, along), edgeOf(pulled, along)];
  before[along] = rest;
  if (!isReturn(rest)) rest.incoming = rest.incoming.map((edge) => edge === toDifferent ? toRest : edge);
  pulled[along] = different;
  pulled.incoming = different === b ? b.incoming : [link];
  for (const { from, side } of pulled.incoming) from[side] = pulled;
  different.incoming = [toDifferent];
  changes.changed = true;
}

function edgeOf(vertex: Vertex, side: Edge["side"]): Edge {
  return vertex.edges[side === "onTrue" ? 0 : 1];
}

/**
 * Whether `pulled` can be tested before `passed` instead of after them: none reads what another writes, nothing
 * after them cares about the order. What `pulled` puts into A was computed before, so it cannot fail; what it puts
 * into X may, and then it must not matter which of them rejects the packet.
 */
function independent(pulled: Vertex, passed: readonly Vertex[], along: Edge["side"]): boolean {
  const across = along === "onTrue" ? "onFalse" : "onTrue";
  let used = 0, defined = 0;
  for (const vertex of passed) {
    used |= vertex.used;
    defined |= vertex.defined;
  }
  const neededAcross = pulled[across]!.neededBefore, neededAlong = pulled[along]!.neededBefore;
  const rejects = isReturn(pulled[across]!) && pulled[across]!.k === 0;
  return (!usesX(pulled.code) || rejects) &&
    (pulled.used & defined) === 0 &&
    (used & pulled.defined) === 0 &&
    (neededAcross & (pulled.defined | defined)) === 0 &&
    (neededAlong & pulled.defined & defined) === 0;
}
