/** A pcap-filter expression -> what the programs run, for packets with and without a link header. */
import type { CbpfInsn } from "../../asm/cbpf.ts";
import type { PacketFilter } from "../../bpf-programs/frame.ts";
import type { TunnelFilter } from "../../bpf-programs/tunnel.ts";
import { FilterSyntaxError } from "../errors.ts";
import type { LinkType } from "../pcap_filter/codegen/state.ts";
import { compileFilter } from "../pcap_filter/compile.ts";
import type { Names } from "../pcap_filter/names.ts";

/**
 * Compiles `expression` for both places where a packet can begin. One that makes no sense without a link
 * header (`arp`, `ether host ...`, `vlan`) matches nothing there, which is not an error.
 *
 * @throws {FilterSyntaxError} it cannot be compiled from the link header on
 */
export function compilePacketFilter(expression: string, names: Names): PacketFilter {
  return { l2: compileFor("EN10MB", expression, names), l3: withoutLinkHeader(expression, names) };
}

/**
 * One of the two.
 *
 * @throws {FilterSyntaxError} it cannot be compiled for packets that start so
 */
export function compileFor(linkType: LinkType, expression: string, names: Names): readonly CbpfInsn[] {
  return compileFilter(expression, { linkType, names, ancillary: true }).insns;
}

/**
 * Filters for what tunnels carry, each for one place where the inner packet can begin; undefined without any.
 *
 * @param namesIn finds what an expression's names mean
 * @throws {FilterSyntaxError} one cannot be compiled there, or asks for what is beside the bytes of a packet
 */
export async function compileTunnelFilter(
  expressions: { readonly l2: string | undefined; readonly l3: string | undefined },
  namesIn: (expression: string) => Promise<Names>,
): Promise<TunnelFilter | undefined> {
  const { l2, l3 } = expressions;
  if (l2 === undefined && l3 === undefined) return undefined;
  const compile = async (linkType: LinkType, expression: string) =>
    compileFilter(expression, { linkType, names: await namesIn(expression), ancillary: false }).insns;
  return {
    ...(l2 === undefined ? {} : { l2: await compile("EN10MB", l2) }),
    ...(l3 === undefined ? {} : { l3: await compile("RAW", l3) }),
  };
}

/** What the compiler says of expressions that only a link header can satisfy. */
const needsLinkHeader = [
  /^expression rejects all packets$/,
  / not supported on DLT_RAW /,
  /^unsupported protocol over mpls$/,
];

function withoutLinkHeader(expression: string, names: Names): PacketFilter["l3"] {
  try {
    return compileFor("RAW", expression, names);
  } catch (error) {
    if (error instanceof FilterSyntaxError && needsLinkHeader.some((text) => text.test(error.message))) {
      return undefined;
    }
    throw error;
  }
}
