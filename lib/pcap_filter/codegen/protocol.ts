/** What a packet carries: abbreviations (`tcp`), `proto`, `protochain`. */
import { BPF_MISC, BPF_TAX, BPF_TXA } from "../../../asm/cbpf.ts";
import { aluOps, BPF_ALU, BPF_IMM, BPF_JA, BPF_JMP, BPF_K, BPF_LD } from "../../../asm/opcodes.ts";
import { BPF_LDX, BPF_MEM, BPF_ST, BPF_X } from "../../../asm/opcodes.ts";
import { and, anyOf, compare, jeq, or, type Statement, statement, type Test } from "../graph.ts";
import { etherTypes, ipProtocols, isoProtocols, linkProtocolNames, serviceAccessPoints } from "../tables.ts";
import { type Protocol, protocolRow } from "../tables.ts";
import { linkType } from "./link.ts";
import { equals, ip6HeaderSize, load, loadIndexed, networkConstant } from "./load.ts";
import { ip4PayloadToX } from "./load.ts";
import { checkMaximum, fail, freeWord, invalidQualifier, type State, takeWord } from "./state.ts";

/** Where the fixed headers say what follows them. */
export const ip4ProtocolOffset = 9, ip6NextHeaderOffset = 6;

/** A protocol keyword alone. */
export function abbreviation(state: State, keyword: Protocol): Test {
  const row = protocolRow(keyword).abbreviation;
  if (row === undefined) fail(state, `'${keyword}' cannot be used as an abbreviation`);
  switch (row.kind) {
    case "link":
      return linkType(state, row.type);
    case "ip":
      return protocol(state, row.protocol, "ip");
    case "ip6":
      return protocol(state, row.protocol, "ip6");
    case "both":
      return protocol(state, row.protocol, undefined);
    case "iso":
      return protocol(state, row.protocol, "iso");
    case "isis": {
      const [first, ...others] = row.pduTypes.map((type) => protocol(state, type, "isis"));
      return anyOf(first!, ...others);
    }
  }
}

function isoProtocolNumber(name: string): number | undefined {
  return Object.hasOwn(isoProtocols, name) ? isoProtocols[name as keyof typeof isoProtocols] : undefined;
}

/** `[P] proto v` */
export function protocol(state: State, value: number, over: Protocol | undefined): Test {
  switch (over) {
    case undefined: {
      const ip4 = protocol(state, value, "ip");
      return or(ip4, protocol(state, value, "ip6"));
    }
    case "ip": {
      checkMaximum(state, "protocol number", value, 0xff);
      const ip = linkType(state, etherTypes.ip);
      return and(ip, equals(state, "network", ip4ProtocolOffset, 1, value));
    }
    case "ip6": {
      checkMaximum(state, "protocol number", value, 0xff);
      const ip6 = linkType(state, etherTypes.ip6);
      const fragment = and(
        equals(state, "network", ip6NextHeaderOffset, 1, ipProtocols.fragment),
        equals(state, "ip6 payload", 0, 1, value), // one fragment header is looked through
      );
      return and(ip6, or(equals(state, "network", ip6NextHeaderOffset, 1, value), fragment));
    }
    case "link":
      return linkType(state, value);
    case "iso": {
      checkMaximum(state, "ISO protocol", value, 0xff);
      const iso = linkType(state, serviceAccessPoints.iso);
      return and(iso, equals(state, "network after LLC", 0, 1, value));
    }
    case "isis": {
      checkMaximum(state, "IS-IS PDU type", value, 0x1f);
      const isis = protocol(state, isoProtocols.isis, "iso");
      return and(isis, equals(state, "network after LLC", 4, 1, value, 0x1f));
    }
    default:
      invalidQualifier(state, over, "proto");
  }
}

/** The number that `[P] proto NAME` or `[P] protochain NAME` means. */
export function protocolNumber(
  state: State,
  name: string,
  over: Protocol | undefined,
  keyword: "proto" | "protochain",
): number {
  const lookUp = (): number | undefined => {
    switch (over) {
      case undefined:
      case "ip":
      case "ip6":
        return state.names.protocol(name);
      case "link":
        return linkProtocolNames.get(name);
      case "iso":
        return isoProtocolNumber(name);
      default:
        return undefined;
    }
  };
  const value = lookUp();
  const context = over === undefined ? keyword : `${over} ${keyword}`;
  return value ?? fail(state, `unknown '${context}' value '${name}'`);
}

/**
 * `[ip|ip6] protochain v`: follows the chain of extension headers to `v` or to a header it does not know.
 *
 * A = next protocol, X = bytes from the network header to it. The loop goes backwards, which is why such a
 * program runs in libpcap's interpreter and ours, but not as classic BPF in the kernel.
 */
export function protocolChain(state: State, value: number, over: Protocol | undefined): Test {
  if (state.linkPayload.word !== undefined) {
    fail(state, "'protochain' not supported with variable length headers");
  }
  if (over !== undefined && over !== "ip" && over !== "ip6") invalidQualifier(state, over, "protochain");
  checkMaximum(state, "protocol number", value, 0xff);
  state.optimizable = false;
  if (over === undefined) {
    takeWord(state); // the reference takes one for the pair and never returns it
    const ip4 = protocolChain(state, value, "ip");
    return or(ip4, protocolChain(state, value, "ip6"));
  }

  const word = takeWord(state);
  const carried = linkType(state, over === "ip" ? etherTypes.ip : etherTypes.ip6);
  const at = networkConstant(state);
  const alu = (op: "add" | "mul", k: number) => statement(BPF_ALU | aluOps[op].bits | BPF_K, k);
  const end = alu("add", 0);
  const again = (): Statement => {
    const jump = statement(BPF_JMP | BPF_JA);
    jumps.push(jump);
    return jump;
  };
  const jumps: Statement[] = [];
  const rememberNext = [loadIndexed(at, 1), statement(BPF_ST, word)];

  // Authentication headers count in units of four bytes, and the reference forgets what came before them.
  const authentication = [
    ...rememberNext,
    statement(BPF_MISC | BPF_TXA),
    alu("add", 1),
    statement(BPF_MISC | BPF_TAX),
    loadIndexed(at, 1),
    alu("add", 2),
    alu("mul", 4),
    statement(BPF_MISC | BPF_TAX),
    statement(BPF_LD | BPF_MEM, word),
    again(),
    end,
  ];
  const isAuthentication: Statement = branch(ipProtocols.ah, authentication[0]!, end);

  let body: Statement[];
  if (over === "ip6") {
    const extension = [
      { ...rememberNext[0]! },
      { ...rememberNext[1]! },
      loadIndexed(at + 1, 1),
      alu("add", 1),
      alu("mul", 8),
      statement(BPF_ALU | aluOps.add.bits | BPF_X),
      statement(BPF_MISC | BPF_TAX),
      statement(BPF_LD | BPF_MEM, word),
      again(),
    ];
    const { hopByHop, destinationOptions, routing, fragment } = ipProtocols;
    const tests = branchChain(
      [hopByHop, destinationOptions, routing, fragment],
      extension[0]!,
      isAuthentication,
    );
    body = [...tests, ...extension];
  } else {
    body = [alu("add", 0)];
  }
  const [loop, atLast] = branchChain([value, ipProtocols.noNextHeader], end, body[0]!) as [
    Statement,
    Statement,
  ];

  for (const jump of jumps) jump.target = loop;
  const start = over === "ip"
    ? [...load(state, "network", ip4ProtocolOffset, 1), ...ip4PayloadToX(state)]
    : [...load(state, "network", ip6NextHeaderOffset, 1), statement(BPF_LDX | BPF_IMM, ip6HeaderSize)];
  const code = [...start, loop, atLast, ...body, isAuthentication, ...authentication];
  freeWord(state, word);
  return and(carried, compare(code, jeq, value));
}

function branch(value: number, onTrue: Statement, onFalse: Statement): Statement {
  return { code: jeq, k: value, onTrue, onFalse };
}

/** Comparisons one after the other: any that holds goes to `onTrue`, the last one that does not to `onFalse`. */
function branchChain(values: readonly number[], onTrue: Statement, onFalse: Statement): Statement[] {
  const chain: Statement[] = [];
  let next = onFalse;
  for (const value of values.toReversed()) {
    next = branch(value, onTrue, next);
    chain.unshift(next);
  }
  return chain;
}
