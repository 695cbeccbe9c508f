/** DECnet Phase IV addresses, in the short and the long form of the packet header, padded or not. */
import type { IdNode, Qualifiers } from "../ast.ts";
import { and, anyOf, type Test } from "../graph.ts";
import { etherTypes } from "../tables.ts";
import { eitherEnd, linkType } from "./link.ts";
import { equals } from "./load.ts";
import { fail, invalidQualifier, type State } from "./state.ts";

/** `decnet [dir] [host] A.N`: area and node of a DECnet Phase IV address. */
export function decnetId(
  state: State,
  { text, prefix, mask }: Extract<IdNode, { kind: "ipv4" }>,
  { type, direction }: Qualifiers,
): Test {
  if (prefix !== undefined || mask !== undefined || (type !== undefined && type !== "host")) {
    invalidQualifier(state, "decnet", type ?? "host");
  }
  const parts = text.split(".");
  const [area, node] = parts.map((part) => /^[0-9]+$/.test(part) ? Number(part) : NaN) as [number, number];
  if (parts.length !== 2 || !(area <= 63) || !(node <= 1023)) {
    fail(state, `invalid DECnet address '${text}'`);
  }
  const address = (area << 10) | node;
  const swapped = ((address & 0xff) << 8) | (address >>> 8);
  const carried = linkType(state, etherTypes.decnet);
  const test = eitherEnd(
    state,
    direction,
    () => decnetSource(state, swapped),
    () => decnetDestination(state, swapped),
  );
  return and(carried, test);
}

/** The flags byte follows two bytes of length; one byte of padding may come in between. */
const decnetFlags = 2;

function decnetSource(state: State, address: number): Test {
  const short = and(
    equals(state, "network", decnetFlags, 1, 0x02, 0x07),
    equals(state, "network", decnetFlags + 3, 2, address),
  );
  const paddedShort = and(
    equals(state, "network", decnetFlags, 2, 0x8102, 0xff07),
    equals(state, "network", decnetFlags + 1 + 3, 2, address),
  );
  return anyOf(short, paddedShort, ...decnetLong(state, 15, address));
}

function decnetDestination(state: State, address: number): Test {
  // In a short header flags and destination are so close that one load sees both.
  const short = equals(state, "network", decnetFlags, 4, (0x02000000 | (address << 8)) >>> 0, 0x07ffff00);
  const paddedShort = equals(state, "network", decnetFlags, 4, (0x81020000 | address) >>> 0, 0xff07ffff);
  return anyOf(short, paddedShort, ...decnetLong(state, 7, address));
}

function decnetLong(state: State, offset: number, address: number): [Test, Test] {
  const long = and(
    equals(state, "network", decnetFlags, 1, 0x06, 0x07),
    equals(state, "network", decnetFlags + offset, 2, address),
  );
  const paddedLong = and(
    equals(state, "network", decnetFlags, 2, 0x8106, 0xff07),
    equals(state, "network", decnetFlags + 1 + offset, 2, address),
  );
  return [long, paddedLong];
}
