/**
 * `vlan`, `mpls`, `pppoed`, `pppoes`, `geneve`, `vxlan`: a test, and from then on other offsets. The offsets move
 * for everything that is generated later, wherever the keyword stands: under `not`, on one side of `or`.
 */
import { cbpf } from "../../../asm/cbpf.ts";
import type { Encapsulation } from "../ast.ts";
import { and, anyOf, compare, jeq, not, or, type Statement, statement, type Test } from "../graph.ts";
import { etherTypes, pppMpls } from "../tables.ts";
import { equalsAncillary, linkType } from "./link.ts";
import {
  type Base,
  equals,
  ip4PayloadToX,
  ip6HeaderSize,
  loadIndexed,
  loadWordToX,
  networkConstant,
  noneSet,
  resolve,
} from "./load.ts";
import { udpDestination } from "./port.ts";
import { checkMaximum, fail, type Offset, type State, takeWord, unsupported } from "./state.ts";

export function encapsulation(state: State, keyword: Encapsulation, number: number | undefined): Test {
  switch (keyword) {
    case "vlan":
      return vlan(state, number);
    case "mpls":
      return mpls(state, number);
    case "pppoes":
      return pppoeSession(state, number);
    case "geneve":
      return geneve(state, number);
    case "vxlan":
      return vxlan(state, number);
  }
}

/** Bytes of an 802.1Q tag, of an MPLS label, of a UDP header and of a VXLAN or bare Geneve header. */
const vlanTagSize = 4, mplsLabelSize = 4, udpHeaderSize = 8, tunnelHeaderSize = 8;
/** Bytes of a MAC header before its type field, and of that field. */
const macAddressesSize = 12, typeFieldSize = 2;

/** `vlan [n]` */
function vlan(state: State, number: number | undefined): Test {
  if (state.mplsDepth > 0) fail(state, "no VLAN match after MPLS");
  if (state.link !== "EN10MB") unsupported(state, "vlan");
  if (number !== undefined) checkMaximum(state, "VLAN tag", number, 0xfff);
  const outermost = state.vlanDepth === 0 && !state.encapsulated;
  state.vlanDepth++;
  if (state.ancillary && outermost) return vlanTakenOff(state, number);

  const test = vlanInPacket(state, number);
  moveBehindTag(state, vlanTagSize);
  return test;
}

function vlanInPacket(state: State, number: number | undefined): Test {
  const tag = anyOf(
    linkType(state, etherTypes.vlan),
    linkType(state, etherTypes.vlan8021ad),
    linkType(state, etherTypes.vlanQinQ),
  );
  return number === undefined ? tag : and(tag, equals(state, "link payload", 0, 2, number, 0xfff));
}

function moveBehindTag(state: State, bytes: number): void {
  const move = (offset: Offset): Offset => ({ ...offset, constant: offset.constant + bytes });
  if (state.linkTypeField !== undefined) state.linkTypeField = move(state.linkTypeField);
  state.linkPayload = move(state.linkPayload);
}

/**
 * Linux takes the outermost tag off the frame and keeps it beside the packet, on most paths. So the tag is
 * there, or else in the packet, and a scratch word tells everything behind it which: 0 or 4.
 * As in libpcap the word becomes 4 as soon as there is no tag beside the packet, tag or no tag in it.
 */
function vlanTakenOff(state: State, number: number | undefined): Test {
  const word = takeWord(state);
  state.prologue.push(statement(cbpf.ldImm, 0), statement(cbpf.st, word));
  const present = equalsAncillary("vlanTagPresent", 1, 1);
  const beside = number === undefined ? present : and(present, equalsAncillaryTag(number));
  const absent = not(equalsAncillary("vlanTagPresent", 1, 1));
  const inPacket = vlanInPacket(state, number);
  inPacket.head.statements.unshift(statement(cbpf.ldImm, vlanTagSize), statement(cbpf.st, word));

  const vary = (offset: Offset): Offset => ({ ...offset, word });
  if (state.linkTypeField !== undefined) state.linkTypeField = vary(state.linkTypeField);
  state.linkPayload = vary(state.linkPayload);
  return or(beside, and(absent, inPacket));
}

function equalsAncillaryTag(number: number): Test {
  const test = equalsAncillary("vlanTag", 2, number);
  test.head.statements.push(statement(cbpf.and.k, 0xfff));
  return test;
}

/** `mpls [n]` */
function mpls(state: State, number: number | undefined): Test {
  if (state.mplsDepth === 0 && state.link === "RAW") unsupported(state, "mpls");
  if (number !== undefined) checkMaximum(state, "MPLS label", number, 0xfffff);
  const stacked = state.mplsDepth > 0
    ? noneSet(state, "network", -2, 1, 1) // the bottom-of-stack bit of the label before
    : linkType(state, state.link === "PPP" ? pppMpls : etherTypes.mpls);
  const test = number === undefined
    ? stacked
    : and(stacked, equals(state, "network", 0, 4, (number << 12) >>> 0, 0xfffff000));
  state.network += mplsLabelSize;
  state.networkAfterLlc += mplsLabelSize;
  state.mplsDepth++;
  return test;
}

/** `pppoes [n]`: the payload is PPP from here on. */
function pppoeSession(state: State, number: number | undefined): Test {
  if (number !== undefined) checkMaximum(state, "PPPoE session number", number, 0xffff);
  const carried = linkType(state, etherTypes.pppoeSession);
  const test = number === undefined ? carried : and(carried, equals(state, "network", 2, 2, number));
  const pppoeHeaderSize = 6;
  const ppp: Offset = { ...state.linkPayload, constant: networkConstant(state) + pppoeHeaderSize };
  state.link = "PPP";
  state.linkHeader = ppp;
  state.linkTypeField = ppp;
  state.linkPayload = { ...ppp, constant: ppp.constant + typeFieldSize };
  state.network = 0;
  state.networkAfterLlc = 0;
  state.encapsulated = false;
  return test;
}

/** `vxlan [n]` */
function vxlan(state: State, number: number | undefined): Test {
  if (number !== undefined) checkMaximum(state, "VXLAN VNI", number, 0xffffff);
  const flags = (base: Base) => equals(state, base, udpHeaderSize, 1, 0x08); // exactly: the VNI is valid
  const outer = tunnel(state, 4789, flags, number);

  const header = takeWord(state), type = takeWord(state), payload = takeWord(state);
  const offsets = [
    add(networkConstant(state) + udpHeaderSize),
    add(tunnelHeaderSize),
    statement(cbpf.st, header),
    add(macAddressesSize),
    statement(cbpf.st, type),
    add(typeFieldSize),
    statement(cbpf.tax),
    statement(cbpf.stx, payload),
  ];
  return enter(state, outer, offsets, { header, type, payload });
}

/** `geneve [n]`: options make the header longer, and the payload need not be Ethernet. */
function geneve(state: State, number: number | undefined): Test {
  if (number !== undefined) checkMaximum(state, "Geneve VNI", number, 0xffffff);
  const version = (base: Base) => equals(state, base, udpHeaderSize, 1, 0, 0xc0);
  const outer = tunnel(state, 6081, version, number);
  state.optimizable = false;

  const type = takeWord(state), header = takeWord(state), payload = takeWord(state);
  const ethernet = [
    statement(cbpf.txa),
    add(macAddressesSize),
    statement(cbpf.st, type),
    add(typeFieldSize),
    statement(cbpf.tax),
  ];
  const done = statement(cbpf.stx, payload);
  const isEthernet: Statement = {
    code: jeq,
    k: etherTypes.transparentEthernet,
    onTrue: ethernet[0]!,
    onFalse: done,
  };
  const offsets = [
    add(networkConstant(state) + udpHeaderSize),
    statement(cbpf.tax),
    add(2), // the protocol type of the Geneve header, until an inner type field is known
    statement(cbpf.st, type),
    loadIndexed(0, 1),
    statement(cbpf.and.k, 0x3f), // options, in words
    statement(cbpf.mul.k, 4),
    add(tunnelHeaderSize),
    statement(cbpf.add.x),
    statement(cbpf.st, header),
    loadIndexed(2, 2),
    loadWordToX(header),
    isEthernet,
    ...ethernet,
    done,
  ];
  return enter(state, outer, offsets, { header, type, payload });
}

function add(k: number): Statement {
  return statement(cbpf.add.k, k);
}

/** The outer headers of a UDP tunnel over IPv4 or IPv6. Leaves the IP header's length in A and X. */
function tunnel(
  state: State,
  port: number,
  header: (base: Base) => Test,
  number: number | undefined,
): Test {
  const over = (version: "ip" | "ip6", length: Statement[]): Test => {
    const base: Base = version === "ip" ? "ip4 payload" : "ip6 payload";
    const test = and(udpDestination(state, version, port), header(base));
    const vni = number === undefined
      ? test
      : and(test, equals(state, base, udpHeaderSize + 4, 4, (number << 8) >>> 0, 0xffffff00));
    return and(vni, compare(length, cbpf.jeq.x, 0)); // A = X: always true
  };
  const ip4 = over("ip", [...ip4PayloadToX(state), statement(cbpf.txa)]);
  return or(ip4, over("ip6", ip6LengthToX(state)));
}

function ip6LengthToX(state: State): Statement[] {
  const { word } = resolve(state, "ip6 payload");
  const tax = statement(cbpf.tax);
  const length = statement(cbpf.ldImm, ip6HeaderSize);
  if (word === undefined) return [length, tax];
  return [loadWordToX(word), length, statement(cbpf.add.x), tax];
}

/** Where `outer` holds, `offsets` fill three scratch words, and the rest of the expression is inside the tunnel. */
function enter(
  state: State,
  outer: Test,
  offsets: Statement[],
  words: { readonly header: number; readonly type: number; readonly payload: number },
): Test {
  offsets.push(statement(cbpf.ldImm, 0));
  state.link = "EN10MB";
  state.linkHeader = { constant: 0, word: words.header };
  state.linkTypeField = { constant: 0, word: words.type };
  state.linkPayload = { constant: 0, word: words.payload };
  state.network = 0;
  state.encapsulated = true;
  return and(outer, compare(offsets, jeq, 0)); // 0 = 0: always true
}
