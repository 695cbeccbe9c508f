/**
 * The control flow graph with what the optimiser computes about it: levels, dominators, which registers are
 * used where. The graph has no cycles, so one walk by level settles each of these.
 */
import { BPF_MISC, BPF_RET, cbpf, classOf, usesX } from "../../../asm/cbpf.ts";
import { BPF_ALU, BPF_JMP, BPF_LD, BPF_LDX, BPF_ST, BPF_STX } from "../../../asm/opcodes.ts";
import { type Block, nop, type Statement } from "../graph.ts";

/** Places that hold a value: M[0] to M[15], A, X. A set of them is a bit mask. */
export const atomA = 16, atomX = 17, atomCount = 18;

/** One side of a branch. `id` is the vertex's for the true side, that plus the vertex count for the false side. */
export interface Edge {
  readonly id: number;
  readonly from: Vertex;
  readonly side: "onTrue" | "onFalse";
  /** bit n: edge n is on every path through this one, itself included */
  readonly dominators: Uint32Array;
}

/** A block of the graph under optimisation. */
export interface Vertex extends Block {
  onTrue: Vertex | undefined;
  onFalse: Vertex | undefined;
  /** in depth-first order, true side first; never changes */
  readonly id: number;
  readonly edges: readonly [Edge, Edge];
  /** longest way to a return */
  level: number;
  /** edges that lead here, latest found first */
  incoming: Edge[];
  /** atoms: read before written here; written here; needed at the start; needed after the end */
  used: number;
  defined: number;
  killed: number;
  neededBefore: number;
  neededAfter: number;
  /** value numbers of the atoms at the end */
  readonly values: Int32Array;
  /** value number of what A is compared with */
  operandValue: number;
}

export interface Flow {
  root: Vertex;
  /** by id, reachable or not */
  readonly vertices: readonly Vertex[];
  /** by id */
  readonly edges: readonly Edge[];
  /** reachable vertices by level; in a level the last one completed comes first */
  levels: Vertex[][];
}

/** Copies the graph that starts at `root`. Above `maxDominated` blocks there is no space for dominators. */
export function makeFlow(root: Block, maxDominated: number): Flow {
  const ids = number(root);
  const count = ids.size;
  const edgeWords = count <= maxDominated ? Math.ceil(2 * count / 32) : 0;
  const edgeSets = new Uint32Array(2 * count * edgeWords);
  const values = new Int32Array(count * atomCount);
  const edgeSet = (id: number) => edgeSets.subarray(id * edgeWords, (id + 1) * edgeWords);

  const byBlock = new Map<Block, Vertex>();
  for (const [block, id] of ids) {
    const edges: [Edge, Edge] = [undefined!, undefined!];
    const vertex: Vertex = {
      statements: block.statements.map((one) => ({ ...one })),
      code: block.code,
      k: block.k,
      onTrue: undefined,
      onFalse: undefined,
      id,
      edges,
      level: 0,
      incoming: [],
      used: 0,
      defined: 0,
      killed: 0,
      neededBefore: 0,
      neededAfter: 0,
      values: values.subarray(id * atomCount, (id + 1) * atomCount),
      operandValue: 0,
    };
    edges[0] = { id, from: vertex, side: "onTrue", dominators: edgeSet(id) };
    edges[1] = { id: id + count, from: vertex, side: "onFalse", dominators: edgeSet(id + count) };
    byBlock.set(block, vertex);
  }
  const vertices = [...byBlock.values()];
  for (const [block, vertex] of byBlock) {
    if (block.onTrue !== undefined) vertex.onTrue = byBlock.get(block.onTrue)!;
    if (block.onFalse !== undefined) vertex.onFalse = byBlock.get(block.onFalse)!;
  }
  const edges = [...vertices.map((vertex) => vertex.edges[0]), ...vertices.map((vertex) => vertex.edges[1])];
  return { root: byBlock.get(root)!, vertices, edges, levels: [] };
}

/** Depth first, true side first, numbered on the way down. */
function number(root: Block): Map<Block, number> {
  const ids = new Map<Block, number>();
  const stack: Block[] = [root];
  for (let block = stack.pop(); block !== undefined; block = stack.pop()) {
    if (ids.has(block)) continue;
    ids.set(block, ids.size);
    if (block.onFalse !== undefined) stack.push(block.onFalse);
    if (block.onTrue !== undefined) stack.push(block.onTrue);
  }
  return ids;
}

export function isReturn(vertex: Vertex): boolean {
  return classOf(vertex.code) === BPF_RET;
}

/** Reachable vertices, each after what it leads to; true side first. */
export function postorder(root: Vertex): Vertex[] {
  const order: Vertex[] = [];
  const seen = new Set<Vertex>([root]);
  const stack: { vertex: Vertex; step: number }[] = [{ vertex: root, step: 0 }];
  while (stack.length > 0) {
    const top = stack.at(-1)!;
    const { vertex } = top;
    const step = top.step++;
    if (step === 2) {
      stack.pop();
      order.push(vertex);
      continue;
    }
    const next = step === 0 ? vertex.onTrue : vertex.onFalse;
    if (next === undefined || seen.has(next)) continue;
    seen.add(next);
    stack.push({ vertex: next, step: 0 });
  }
  return order;
}

export function findLevels(flow: Flow): void {
  const levels: Vertex[][] = [];
  for (const vertex of postorder(flow.root)) {
    vertex.level = isReturn(vertex) ? 0 : 1 + Math.max(vertex.onTrue!.level, vertex.onFalse!.level);
    (levels[vertex.level] ??= []).push(vertex);
  }
  flow.levels = levels.map((level) => level.reverse());
}

/** Reachable vertices, each before what it leads to. */
export function* fromRoot({ levels }: Flow): Generator<Vertex> {
  for (let level = levels.length - 1; level >= 0; level--) yield* levels[level]!;
}

export function findIncoming(flow: Flow): void {
  for (const vertex of flow.vertices) vertex.incoming = [];
  for (const vertex of fromRoot(flow)) {
    if (isReturn(vertex)) continue;
    vertex.onTrue!.incoming.push(vertex.edges[0]);
    vertex.onFalse!.incoming.push(vertex.edges[1]);
  }
  for (const vertex of flow.vertices) vertex.incoming.reverse();
}

export function findEdgeDominators(flow: Flow): void {
  for (const edge of flow.edges) edge.dominators.fill(0xffffffff);
  for (const edge of flow.root.edges) edge.dominators.fill(0);
  for (const vertex of fromRoot(flow)) {
    if (isReturn(vertex)) continue;
    for (const edge of vertex.edges) {
      insert(edge.dominators, edge.id);
      for (const next of vertex[edge.side]!.edges) intersect(next.dominators, edge.dominators);
    }
  }
}

function insert(set: Uint32Array, member: number): void {
  set[member >>> 5]! |= 1 << (member & 31);
}

function intersect(set: Uint32Array, other: Uint32Array): void {
  for (let word = 0; word < set.length; word++) set[word]! &= other[word]!;
}

export function findUses(flow: Flow): void {
  for (const vertex of fromRoot(flow)) {
    findLocalUses(vertex);
    vertex.neededBefore = vertex.used;
    vertex.neededAfter = 0;
  }
  for (const level of flow.levels) {
    for (const vertex of level) {
      if (isReturn(vertex)) continue;
      vertex.neededAfter = vertex.onTrue!.neededBefore | vertex.onFalse!.neededBefore;
      vertex.neededBefore |= vertex.neededAfter & ~vertex.killed;
    }
  }
}

function findLocalUses(vertex: Vertex): void {
  let used = 0, defined = 0, killed = 0;
  for (const statement of vertex.statements) {
    used |= usedBy(statement) & ~defined;
    const atom = definedBy(statement);
    if (atom === undefined) continue;
    if ((used & (1 << atom)) === 0) killed |= 1 << atom;
    defined |= 1 << atom;
  }
  vertex.used = used | (usedBy(vertex) & ~defined);
  vertex.defined = defined;
  vertex.killed = killed;
}

const A = 1 << atomA, X = 1 << atomX;

/** The atoms that an instruction reads. */
export function usedBy({ code, k }: Pick<Statement, "code" | "k">): number {
  if (code === nop) return 0;
  switch (classOf(code)) {
    case BPF_LD:
    case BPF_LDX:
      if (code === cbpf.ldMem || code === cbpf.ldxMem) return 1 << k;
      return code === cbpf.ldInd[1] || code === cbpf.ldInd[2] || code === cbpf.ldInd[4] ? X : 0;
    case BPF_STX:
      return X;
    case BPF_ST:
      return A;
    case BPF_JMP:
    case BPF_ALU:
      return usesX(code) ? A | X : A;
    case BPF_MISC:
      return code === cbpf.txa ? X : A;
    default: // a return, of a constant
      return 0;
  }
}

/** The atom that an instruction writes. */
export function definedBy({ code, k }: Pick<Statement, "code" | "k">): number | undefined {
  if (code === nop) return undefined;
  switch (classOf(code)) {
    case BPF_LD:
    case BPF_ALU:
      return atomA;
    case BPF_LDX:
      return atomX;
    case BPF_ST:
    case BPF_STX:
      return k;
    case BPF_MISC:
      return code === cbpf.tax ? atomX : atomA;
    default:
      return undefined;
  }
}
