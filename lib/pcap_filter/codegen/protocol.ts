/** What a packet carries: abbreviations (`tcp`) and `proto`. */
import { and, anyOf, or, type Test } from "../graph.ts";
import {
  etherTypes,
  ipProtocols,
  isoProtocols,
  linkProtocolNames,
  type Protocol,
  protocolRow,
  serviceAccessPoints,
} from "../tables.ts";
import { linkType } from "./link.ts";
import { equals } from "./load.ts";
import { checkMaximum, fail, invalidQualifier, type State } from "./state.ts";

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
