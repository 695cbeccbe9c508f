/** Loads from the headers of the packet, and the comparisons that most of the language consists of. */
import { cbpf } from "../../../asm/cbpf.ts";
import { compare, constantTest, jeq, jset, not, type Statement, statement, type Test } from "../graph.ts";
import type { Offset, State } from "./state.ts";

/** What an offset counts from. */
export type Base =
  /** link-layer header, its type field, what follows it */
  | "link header"
  | "link type"
  | "link payload"
  /** network header; the same when an LLC header comes first */
  | "network"
  | "network after LLC"
  /** behind the IPv4 header, whose length the program computes; behind the fixed IPv6 header */
  | "ip4 payload"
  | "ip6 payload";

export type Size = 1 | 2 | 4;

/** Bytes of the IPv6 header without extensions. */
export const ip6HeaderSize = 40;
const allOnes = 0xffffffff;

/** The constant part of the network header's offset. */
export function networkConstant(state: State): number {
  return state.linkPayload.constant + state.network;
}

/** Code that leaves the bytes in A. Overwrites X if a part of the offset is computed at run time. */
export function load(state: State, base: Base, offset: number, size: Size): Statement[] {
  if (base === "ip4 payload") {
    return [...ip4PayloadToX(state), loadIndexed(networkConstant(state) + offset, size)];
  }
  return loadAt(resolve(state, base), offset, size);
}

function loadAt({ constant, word }: Offset, offset: number, size: Size): Statement[] {
  if (word === undefined) return [statement(cbpf.ldAbs[size], (constant + offset) >>> 0)];
  return [loadWordToX(word), loadIndexed(constant + offset, size)];
}

/** X + offset */
export function loadIndexed(offset: number, size: Size): Statement {
  return statement(cbpf.ldInd[size], offset >>> 0);
}

export function loadWordToX(word: number): Statement {
  return statement(cbpf.ldxMem, word);
}

/** The offset that `base` stands for at this point of the expression. */
export function resolve(state: State, base: Exclude<Base, "ip4 payload">): Offset {
  const { linkPayload } = state;
  const payload = (distance: number): Offset => ({
    ...linkPayload,
    constant: linkPayload.constant + distance,
  });
  switch (base) {
    case "link header":
      return state.linkHeader;
    case "link type":
      return state.linkTypeField ?? state.linkHeader;
    case "link payload":
      return linkPayload;
    case "network":
      return payload(state.network);
    case "network after LLC":
      return payload(state.networkAfterLlc);
    case "ip6 payload":
      return payload(state.network + ip6HeaderSize);
    default:
      return base satisfies never;
  }
}

/** X = length of the IPv4 header, plus the variable part of the link payload's offset. */
export function ip4PayloadToX(state: State): Statement[] {
  const { word } = state.linkPayload;
  const at = networkConstant(state);
  if (word === undefined) return [statement(cbpf.ldxMsh, at)];
  return [
    loadWordToX(word),
    loadIndexed(at, 1),
    statement(cbpf.and.k, 0xf),
    statement(cbpf.lsh.k, 2),
    statement(cbpf.add.x),
    statement(cbpf.tax),
  ];
}

/** The bytes, masked, equal `value`. A mask of 0 decides without looking. */
export function equals(
  state: State,
  base: Base,
  offset: number,
  size: Size,
  value: number,
  mask = allOnes,
): Test {
  return compareMasked(state, base, offset, size, jeq, value, mask);
}

/** The bytes, masked, compared with `value` by `code`, one of the comparisons of graph.ts. */
export function compareMasked(
  state: State,
  base: Base,
  offset: number,
  size: Size,
  code: number,
  value: number,
  mask = allOnes,
): Test {
  if (mask === 0) return constantTest(value === 0);
  const statements = load(state, base, offset, size);
  if (mask !== allOnes) statements.push(statement(cbpf.and.k, mask));
  return compare(statements, code, value);
}

/** None of the bits in `mask` is set. */
export function noneSet(state: State, base: Base, offset: number, size: Size, mask: number): Test {
  return not(compare(load(state, base, offset, size), jset, mask));
}

/** The bytes equal `bytes`: whole words from the end towards the start, then what is left. */
export function equalsBytes(state: State, base: Base, offset: number, bytes: Uint8Array): Test[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tests: Test[] = [];
  let end = bytes.length;
  for (; end >= 4; end -= 4) {
    tests.push(equals(state, base, offset + end - 4, 4, view.getUint32(end - 4)));
  }
  for (; end >= 2; end -= 2) {
    tests.push(equals(state, base, offset + end - 2, 2, view.getUint16(end - 2)));
  }
  if (end === 1) tests.push(equals(state, base, offset, 1, view.getUint8(0)));
  return tests;
}
