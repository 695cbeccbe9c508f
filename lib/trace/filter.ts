/** A pcap-filter expression -> what the programs run, for packets with and without a link header. */
import type { CbpfInsn } from "../../asm/cbpf.ts";
import type { PacketFilter } from "../../bpf-programs/frame.ts";
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
