/**
 * Syntax tree -> control flow graph. Goes through the nodes in the order of their completion, which is the
 * order of the text, because encapsulation keywords change what everything after them means; the answers of
 * child nodes are kept until their parent asks for them.
 */
import { cbpf } from "../../asm/cbpf.ts";
import type { IdNode, Node, TestNode, ValueNode } from "./ast.ts";
import {
  accessor,
  binary,
  constant,
  negate,
  type Operand,
  packetLength,
  relation,
} from "./codegen/arithmetic.ts";
import {
  aidId,
  gateway,
  hostName,
  ipv4Id,
  ipv6Id,
  macId,
  networkName,
  numberAddress,
} from "./codegen/address.ts";
import { encapsulation } from "./codegen/encapsulation.ts";
import { checkWlanOperand, packetFilterLog } from "./codegen/foreign.ts";
import { broadcast, linkType, liveOnly, llc, multicast } from "./codegen/link.ts";
import { compareMasked, load } from "./codegen/load.ts";
import { portName, portNumber, portRangeName } from "./codegen/port.ts";
import { abbreviation, protocol, protocolNumber } from "./codegen/protocol.ts";
import { protocolChain } from "./codegen/protochain.ts";
import { checkMaximum, fail, invalidQualifier, type State, unsupported } from "./codegen/state.ts";
import { and, compare, jeq, jge, jgt, not, or, statement, type Test } from "./graph.ts";
import { etherTypes } from "./tables.ts";

/**
 * The answer of every node in order.
 *
 * @returns the answer to `root`; `undefined` without a root, when only the complete parts are to be checked
 * @throws {FilterSyntaxError} a part that is well-formed but means nothing here
 */
export function generate(state: State, nodes: readonly Node[], root: TestNode | undefined): Test | undefined {
  const tests = new Map<TestNode, Test>();
  const values = new Map<ValueNode, Operand>();
  const testOf = (node: TestNode): Test => taken(tests, node);
  const valueOf = (node: ValueNode): Operand => taken(values, node);
  for (const node of nodes) {
    state.at = node.at;
    switch (node.kind) {
      case "constant":
        values.set(node, constant(state, node.value));
        break;
      case "length":
        values.set(node, packetLength(state));
        break;
      case "negate":
        values.set(node, negate(valueOf(node.operand)));
        break;
      case "binary":
        values.set(node, binary(state, node.operator, valueOf(node.left), valueOf(node.right)));
        break;
      case "load":
        values.set(node, accessor(state, node.protocol, valueOf(node.index), node.size));
        break;
      case "wlan operand":
        checkWlanOperand(state, node);
        break;
      case "and":
        tests.set(node, and(testOf(node.left), testOf(node.right)));
        break;
      case "or":
        tests.set(node, or(testOf(node.left), testOf(node.right)));
        break;
      case "not":
        tests.set(node, not(testOf(node.operand)));
        break;
      case "relation":
        tests.set(node, relation(state, node.relation, valueOf(node.left), valueOf(node.right)));
        break;
      default:
        tests.set(node, primitive(state, node));
    }
  }
  return root === undefined ? undefined : tests.get(root);
}

function taken<K, V>(answers: Map<K, V>, node: K): V {
  const answer = answers.get(node);
  if (answer === undefined) throw new Error("A node was completed before its parts");
  answers.delete(node);
  return answer;
}

/** A test without parts of its own. */
function primitive(
  state: State,
  node: Exclude<TestNode, { kind: "and" | "or" | "not" | "relation" }>,
): Test {
  switch (node.kind) {
    case "name":
    case "number":
    case "mac":
    case "aid":
    case "ipv4":
    case "ipv6":
      return id(state, node);
    case "abbreviation":
      return abbreviation(state, node.protocol);
    case "broadcast":
      return broadcast(state, node.protocol);
    case "multicast":
      return multicast(state, node.protocol);
    case "less":
      return not(compare([statement(cbpf.ldLen)], jgt, node.length));
    case "greater":
      return compare([statement(cbpf.ldLen)], jge, node.length);
    case "byte":
      return byte(state, node);
    case "inbound":
    case "outbound":
      return liveOnly(state, node.kind, undefined);
    case "ifindex":
      return liveOnly(state, node.kind, node.index);
    case "pppoed":
      return linkType(state, etherTypes.pppoeDiscovery);
    case "encapsulation":
      return encapsulation(state, node.keyword, node.number);
    case "llc":
      return llc(state, node.name);
    case "wlan":
      unsupported(state, node.keyword);
      break;
    case "pf":
      return packetFilterLog(state, node.keyword, node.name);
    case "foreign":
      return fail(state, `'${node.keyword}' supported only on ${node.family}`);
    default:
      return node satisfies never;
  }
}

/** A name, number or address, by the words in front of it or those it inherits. */
function id(state: State, node: IdNode): Test {
  const { scope } = node;
  switch (node.kind) {
    case "ipv4":
      return ipv4Id(state, node, scope);
    case "ipv6":
      return ipv6Id(state, node, scope);
    case "mac":
      return macId(state, node.text, scope);
    case "aid":
      return aidId(state, scope);
  }
  if (scope === undefined) fail(state, "syntax error in filter expression");
  switch (scope.type) {
    case undefined:
    case "host":
      return node.kind === "name"
        ? hostName(state, node.name, scope)
        : numberAddress(state, node.value, scope);
    case "net":
      return node.kind === "name"
        ? networkName(state, node.name, scope)
        : numberAddress(state, node.value, scope);
    case "port":
    case "portrange":
      if (scope.protocol === "decnet") invalidQualifier(state, "decnet", scope.type);
      if (node.kind === "number") return portNumber(state, node.value, scope.type, scope);
      return scope.type === "port"
        ? portName(state, node.name, scope)
        : portRangeName(state, node.name, scope);
    case "proto":
    case "protochain": {
      const value = node.kind === "number"
        ? node.value
        : protocolNumber(state, node.name, scope.protocol, scope.type);
      return scope.type === "proto"
        ? protocol(state, value, scope.protocol)
        : protocolChain(state, value, scope.protocol);
    }
    case "gateway":
      if (node.kind === "number") invalidQualifier(state, "gateway", String(node.value));
      return gateway(state, node.name, scope);
    default:
      return scope.type satisfies never;
  }
}

/** `byte i op v` */
function byte(state: State, { index, operator, value }: Extract<TestNode, { kind: "byte" }>): Test {
  checkMaximum(state, "byte argument", value, 0xff);
  if (state.ancillary) checkMaximum(state, "byte offset", index, 0x7fffffff); // SKF_AD_OFF is no byte
  switch (operator) {
    case "=":
      return compareMasked(state, "link header", index, 1, jeq, value);
    case ">":
      return compareMasked(state, "link header", index, 1, jgt, value);
    case "<":
      return not(compareMasked(state, "link header", index, 1, jge, value));
    case "&":
    case "|": {
      const statements = load(state, "link header", index, 1);
      statements.push(statement(operator === "&" ? cbpf.and.k : cbpf.or.k, value));
      return not(compare(statements, jeq, 0));
    }
  }
}
