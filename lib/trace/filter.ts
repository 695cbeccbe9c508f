/** A pcap-filter expression -> what the programs run, for packets with and without a link header. */
import type { PacketFilter } from "../../bpf-programs/trace.ts";
import { FilterSyntaxError } from "../errors.ts";
import { compileFilter } from "../pcap_filter/compile.ts";
import type { Names } from "../pcap_filter/names.ts";

/**
 * Compiles `expression` for both places where a packet can begin. One that makes no sense without a link
 * header (`arp`, `ether host ...`, `vlan`) matches nothing there, which is not an error.
 *
 * @throws {FilterSyntaxError} it cannot be compiled from the link header on
 */
export function compilePacketFilter(expression: string, names: Names): PacketFilter {
  const { insns: l2 } = compileFilter(expression, { linkType: "EN10MB", names, ancillary: true });
  return { l2, l3: withoutLinkHeader(expression, names) };
}

/** What the compiler says of expressions that only a link header can satisfy. */
const needsLinkHeader = [
  /^expression rejects all packets$/,
  / not supported on DLT_RAW /,
  /^unsupported protocol over mpls$/,
];

function withoutLinkHeader(expression: string, names: Names): PacketFilter["l3"] {
  try {
    return compileFilter(expression, { linkType: "RAW", names, ancillary: true }).insns;
  } catch (error) {
    if (error instanceof FilterSyntaxError && needsLinkHeader.some((text) => text.test(error.message))) {
      return undefined;
    }
    throw error;
  }
}
