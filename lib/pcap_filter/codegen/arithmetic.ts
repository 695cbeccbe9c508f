/**
 * Arithmetic on packet bytes. An operand is code that leaves its value in a scratch word, and perhaps a guard:
 * a test that must hold for the value to mean anything. A binary operator forgets the guard of its right side;
 * that is a property of the language (`1 + ip[9]` looks at every frame).
 */
import { cbpf, type WithOperand } from "../../../asm/cbpf.ts";
import type { BinaryOperator, Relation } from "../ast.ts";
import { allOf, and, compare, not, type Statement, statement, type Test } from "../graph.ts";
import { etherTypes, type Protocol, protocolRow } from "../tables.ts";
import { linkType } from "./link.ts";
import {
  equals,
  ip4PayloadToX,
  loadIndexed,
  loadWordToX,
  networkConstant,
  resolve,
  type Size,
} from "./load.ts";
import { firstFragment } from "./port.ts";
import { abbreviation, ip4ProtocolOffset } from "./protocol.ts";
import { fail, freeWord, type Offset, type State, takeWord } from "./state.ts";

/** Combining uses an operand up. */
export interface Operand {
  /** leaves the value in scratch word `word` */
  readonly statements: Statement[];
  readonly word: number;
  readonly guard: Test | undefined;
}

const operators: Readonly<Record<BinaryOperator, WithOperand>> = {
  "+": cbpf.add,
  "-": cbpf.sub,
  "*": cbpf.mul,
  "/": cbpf.div,
  "%": cbpf.mod,
  "&": cbpf.and,
  "|": cbpf.or,
  "^": cbpf.xor,
  "<<": cbpf.lsh,
  ">>": cbpf.rsh,
};

/** The comparison, and whether it stands for its opposite. */
const relations: Readonly<
  Record<Relation, { readonly jump: WithOperand; readonly inverted: boolean }>
> = {
  "=": { jump: cbpf.jeq, inverted: false },
  "!=": { jump: cbpf.jeq, inverted: true },
  ">": { jump: cbpf.jgt, inverted: false },
  "<=": { jump: cbpf.jgt, inverted: true },
  ">=": { jump: cbpf.jge, inverted: false },
  "<": { jump: cbpf.jge, inverted: true },
};

export function constant(state: State, value: number): Operand {
  return loaded(state, statement(cbpf.ldImm, value));
}

export function packetLength(state: State): Operand {
  return loaded(state, statement(cbpf.ldLen));
}

function loaded(state: State, load: Statement): Operand {
  const word = takeWord(state);
  return { statements: [load, statement(cbpf.st, word)], word, guard: undefined };
}

export function negate(operand: Operand): Operand {
  const { statements, word } = operand;
  statements.push(
    statement(cbpf.ldMem, word),
    statement(cbpf.neg),
    statement(cbpf.st, word),
  );
  return operand;
}

export function binary(state: State, operator: BinaryOperator, left: Operand, right: Operand): Operand {
  refuseConstant(state, operator, right);
  const { statements } = left;
  append(statements, right.statements);
  statements.push(
    loadWordToX(right.word),
    statement(cbpf.ldMem, left.word),
    statement(operators[operator].x),
  );
  freeWord(state, left.word);
  freeWord(state, right.word);
  const word = takeWord(state);
  statements.push(statement(cbpf.st, word));
  return { statements, word, guard: left.guard };
}

/** What the right operand starts with is taken for all of it, as the reference does: `x / ip[0]` is refused. */
function refuseConstant(state: State, operator: BinaryOperator, right: Operand): void {
  const first = right.statements[0];
  if (first?.code !== cbpf.ldImm) return;
  if (operator === "/" && first.k === 0) fail(state, "division by zero");
  if (operator === "%" && first.k === 0) fail(state, "modulus by zero");
  if ((operator === "<<" || operator === ">>") && first.k > 31) fail(state, "shift by more than 31 bits");
}

export function relation(state: State, kind: Relation, left: Operand, right: Operand): Test {
  const { jump, inverted } = relations[kind];
  const { statements } = left;
  append(statements, right.statements);
  statements.push(loadWordToX(right.word), statement(cbpf.ldMem, left.word));
  const compared = compare(statements, jump.x, 0);
  let test = inverted ? not(compared) : compared;
  if (left.guard !== undefined) test = and(left.guard, test);
  if (right.guard !== undefined) test = and(right.guard, test);
  freeWord(state, left.word);
  freeWord(state, right.word);
  return test;
}

/** `p[e:s]` */
export function accessor(state: State, protocol: Protocol, index: Operand, size: number): Operand {
  if (size !== 1 && size !== 2 && size !== 4) fail(state, "data size must be 1, 2, or 4");
  if (protocol === "radio") fail(state, "radio information not present in capture");
  const row = protocolRow(protocol);
  if (row.index === undefined) fail(state, `'${protocol}' does not support the index operation`);
  const word = takeWord(state);
  freeWord(state, index.word);
  const { statements } = index;
  let guard: Test | undefined;
  switch (row.index) {
    case "link":
      append(statements, indexedLoad(resolve(state, "link header"), index.word, size));
      break;
    case "network":
      append(statements, indexedLoad(resolve(state, "network"), index.word, size));
      guard = abbreviation(state, protocol);
      break;
    case "ip6 payload":
      guard = transportGuard(state, protocol);
      append(statements, indexedLoad(resolve(state, "ip6 payload"), index.word, size));
      break;
    case "ip4 payload":
      append(statements, addressInX(ip4PayloadToX(state), index.word));
      statements.push(loadIndexed(networkConstant(state), size));
      guard = transportGuard(state, protocol);
      break;
  }
  statements.push(statement(cbpf.st, word));
  if (index.guard !== undefined) guard = guard === undefined ? index.guard : and(index.guard, guard);
  return { statements, word, guard };
}

/** The bytes at a header plus the index in scratch word `index`. */
function indexedLoad({ constant, word }: Offset, index: number, size: Size): Statement[] {
  if (word === undefined) return [loadWordToX(index), loadIndexed(constant, size)];
  return [...addressInX([loadWordToX(word)], index), loadIndexed(constant, size)];
}

/** X = what `base` leaves in X, plus the index. */
function addressInX(base: Statement[], index: number): Statement[] {
  return [
    ...base,
    statement(cbpf.ldMem, index),
    statement(cbpf.add.x),
    statement(cbpf.tax),
  ];
}

/** The packet has the header whose bytes are asked for: `tcp[...]` is IPv4 only and no later fragment. */
function transportGuard(state: State, protocol: Protocol): Test {
  const row = protocolRow(protocol).abbreviation;
  const number = row !== undefined && "protocol" in row ? row.protocol : 0;
  if (row?.kind === "ip6") {
    const ip6 = linkType(state, etherTypes.ip6);
    return and(ip6, equals(state, "network", 6, 1, number));
  }
  const ip = linkType(state, etherTypes.ip);
  return allOf(ip, equals(state, "network", ip4ProtocolOffset, 1, number), firstFragment(state));
}

/** Not `push(...)`: a long chain has more elements than a call may have arguments. */
function append(statements: Statement[], more: readonly Statement[]): void {
  for (const one of more) statements.push(one);
}
