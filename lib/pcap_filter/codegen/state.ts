/**
 * What the generator knows while it goes through an expression: where the headers of the packet are by now,
 * which scratch words are in use, where an error would be. Keywords like `vlan` change it for all later text.
 */
import { BPF_MEMWORDS } from "../../../asm/cbpf.ts";
import { FilterSyntaxError } from "../../errors.ts";
import type { Statement } from "../graph.ts";
import type { Span } from "../lexer.ts";
import type { Names } from "../names.ts";

/** Link types that an expression can start on. */
export type LinkType = "EN10MB" | "RAW";
/** Link types that an expression can be on after an encapsulation keyword. */
export type Link = LinkType | "PPP";

/** How messages name a link type. */
export const linkDescriptions: Readonly<Record<Link, string>> = {
  EN10MB: "DLT_EN10MB (Ethernet)",
  RAW: "DLT_RAW (Raw IPv4/IPv6)",
  PPP: "DLT_PPP (Point-to-Point Protocol)",
};

/** A place in the packet: a constant plus, when the program has to find it, the content of a scratch word. */
export interface Offset {
  readonly constant: number;
  readonly word: number | undefined;
}

export interface State {
  readonly source: string;
  readonly names: Names;
  /** the IPv4 netmask of the interface, if known */
  readonly netmask: number | undefined;
  /** Linux tells packet type, interface and VLAN tag by loads from SKF_AD_OFF */
  readonly ancillary: boolean;
  /** what is being compiled, for error positions */
  at: Span;

  link: Link;
  /** start of the link-layer header */
  linkHeader: Offset;
  /** the field that names the network protocol; none on RAW */
  linkTypeField: Offset | undefined;
  /** the first byte after the link-layer header */
  linkPayload: Offset;
  /** distance from there to the network header, without and with an LLC header in front of it */
  network: number;
  networkAfterLlc: number;
  mplsDepth: number;
  vlanDepth: number;
  /** inside geneve or vxlan, where an Ethernet header may be missing */
  encapsulated: boolean;

  /** bit n: scratch word n is taken */
  wordsTaken: number;
  wordCursor: number;
  /** geneve and protochain have jumps inside blocks, which the optimiser does not understand */
  optimizable: boolean;
  /** run before everything else */
  readonly prologue: Statement[];
}

export interface StateOptions {
  readonly source: string;
  readonly names: Names;
  readonly linkType: LinkType;
  readonly netmask: number | undefined;
  readonly ancillary: boolean;
}

export function initialState({ source, names, linkType, netmask, ancillary }: StateOptions): State {
  const ethernet = linkType === "EN10MB";
  return {
    source,
    names,
    netmask,
    ancillary,
    at: { offset: 0, length: source.length },
    link: linkType,
    linkHeader: fixed(0),
    linkTypeField: ethernet ? fixed(12) : undefined,
    linkPayload: fixed(ethernet ? 14 : 0),
    network: 0,
    networkAfterLlc: ethernet ? 3 : 0,
    mplsDepth: 0,
    vlanDepth: 0,
    encapsulated: false,
    wordsTaken: 0,
    wordCursor: 0,
    optimizable: true,
    prologue: [],
  };
}

export function fixed(constant: number): Offset {
  return { constant, word: undefined };
}

export function fail(state: State, message: string): never {
  throw new FilterSyntaxError(message, state.source, state.at.offset, state.at.length);
}

/** @throws {FilterSyntaxError} `what` is above `maximum`; every limit of the language reads like this */
export function checkMaximum(state: State, what: string, value: number, maximum: number): void {
  if (value > maximum) fail(state, `${what} ${value} greater than maximum ${maximum}`);
}

/** Refuses a protocol word in front of `context`. */
export function invalidQualifier(state: State, word: string | undefined, context: string): never {
  fail(state, `'${word ?? "<invalid type 0>"}' is not a valid qualifier for '${context}'`);
}

/** Refuses a keyword that the current link type has no meaning for. */
export function unsupported(state: State, keyword: string): never {
  fail(state, `'${keyword}' not supported on ${linkDescriptions[state.link]}`);
}

/** Takes a scratch word, starting the search where the last one was found. */
export function takeWord(state: State): number {
  for (let step = 0; step < BPF_MEMWORDS; step++) {
    const word = (state.wordCursor + step) % BPF_MEMWORDS;
    if ((state.wordsTaken & (1 << word)) !== 0) continue;
    state.wordsTaken |= 1 << word;
    state.wordCursor = word;
    return word;
  }
  fail(state, "too many registers needed to evaluate expression");
}

export function freeWord(state: State, word: number): void {
  state.wordsTaken &= ~(1 << word);
}
