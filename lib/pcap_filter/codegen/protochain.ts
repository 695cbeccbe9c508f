/**
 * `protochain`: follows the headers of a packet to one that carries the wanted protocol.
 *
 * The loop goes backwards, which is why such a program runs in libpcap's interpreter and ours, but not as classic
 * BPF in the kernel; the optimiser leaves it alone. As in libpcap, what stands behind an authentication header is
 * looked for in the wrong place.
 */
import { cbpf } from "../../../asm/cbpf.ts";
import { and, compare, jeq, or, type Statement, statement, type Test } from "../graph.ts";
import { etherTypes, ipProtocols, type Protocol } from "../tables.ts";
import { linkType } from "./link.ts";
import { ip4PayloadToX, ip6HeaderSize, load, loadIndexed, networkConstant } from "./load.ts";
import { ip4ProtocolOffset, ip6NextHeaderOffset } from "./protocol.ts";
import { checkMaximum, fail, freeWord, invalidQualifier, type State, takeWord } from "./state.ts";

/** `[ip|ip6] protochain v` */
export function protocolChain(state: State, value: number, over: Protocol | undefined): Test {
  if (state.linkPayload.word !== undefined) {
    fail(state, "'protochain' not supported with variable length headers");
  }
  if (over !== undefined && over !== "ip" && over !== "ip6") invalidQualifier(state, over, "protochain");
  checkMaximum(state, "protocol number", value, 0xff);
  state.optimizable = false;
  if (over !== undefined) return follow(state, value, over);
  takeWord(state); // the reference takes one for the pair and never returns it
  const ip4 = follow(state, value, "ip");
  return or(ip4, follow(state, value, "ip6"));
}

/** A = next protocol, X = bytes from the network header to the header that A names. */
function follow(state: State, value: number, version: "ip" | "ip6"): Test {
  const word = takeWord(state);
  const carried = linkType(state, version === "ip" ? etherTypes.ip : etherTypes.ip6);
  const start = version === "ip"
    ? [...load(state, "network", ip4ProtocolOffset, 1), ...ip4PayloadToX(state)]
    : [...load(state, "network", ip6NextHeaderOffset, 1), statement(cbpf.ldxImm, ip6HeaderSize)];

  const end = statement(cbpf.add.k, 0);
  const authentication = authenticationHeader(state, word);
  const isAuthentication = branches([ipProtocols.ah], authentication.code[0]!, end);
  const extension = version === "ip" ? nothing() : extensionHeader(state, word, isAuthentication[0]!);
  const loop = branches([value, ipProtocols.noNextHeader], end, extension.code[0]!);
  for (const jump of [...authentication.jumps, ...extension.jumps]) jump.target = loop[0]!;
  freeWord(state, word);

  const code = [...start, ...loop, ...extension.code, ...isAuthentication, ...authentication.code, end];
  return and(carried, compare(code, jeq, value));
}

/** Code that ends in jumps to a place which is not known yet. */
interface Step {
  readonly code: readonly Statement[];
  readonly jumps: readonly Statement[];
}

/** IPv4 has no extension headers; the reference puts a filler here. */
function nothing(): Step {
  return { code: [statement(cbpf.add.k, 0)], jumps: [] };
}

/** IPv6 extension headers count in units of eight bytes, the first one not included. */
function extensionHeader(state: State, word: number, otherwise: Statement): Step {
  const at = networkConstant(state);
  const again = statement(cbpf.ja);
  const skip = [
    loadIndexed(at, 1),
    statement(cbpf.st, word),
    loadIndexed(at + 1, 1),
    statement(cbpf.add.k, 1),
    statement(cbpf.mul.k, 8),
    statement(cbpf.add.x),
    statement(cbpf.tax),
    statement(cbpf.ldMem, word),
    again,
  ];
  const { hopByHop, destinationOptions, routing, fragment } = ipProtocols;
  const tests = branches([hopByHop, destinationOptions, routing, fragment], skip[0]!, otherwise);
  return { code: [...tests, ...skip], jumps: [again] };
}

/** Authentication headers count in units of four bytes, two not included. X is overwritten, not moved on. */
function authenticationHeader(state: State, word: number): Step {
  const at = networkConstant(state);
  const again = statement(cbpf.ja);
  const code = [
    loadIndexed(at, 1),
    statement(cbpf.st, word),
    statement(cbpf.txa),
    statement(cbpf.add.k, 1),
    statement(cbpf.tax),
    loadIndexed(at, 1),
    statement(cbpf.add.k, 2),
    statement(cbpf.mul.k, 4),
    statement(cbpf.tax),
    statement(cbpf.ldMem, word),
    again,
  ];
  return { code, jumps: [again] };
}

/** Comparisons one after the other: any that holds goes to `onTrue`, the last one that does not to `onFalse`. */
function branches(values: readonly number[], onTrue: Statement, onFalse: Statement): Statement[] {
  const chain: Statement[] = [];
  let next = onFalse;
  for (const k of values.toReversed()) {
    next = { code: jeq, k, onTrue, onFalse: next };
    chain.unshift(next);
  }
  return chain;
}
