/**
 * The words and numbers of the pcap-filter language, each written once: keywords and their synonyms, named
 * constants, what every protocol keyword stands for, link-layer protocol numbers, 802.11 and PF names.
 * Numbers are those of IANA and IEEE; the language itself is described in pcap-filter(7).
 */

/** EtherTypes, and below 0x600 the LLC service access points that the language treats like them. */
export const etherTypes = {
  ip: 0x0800,
  arp: 0x0806,
  rarp: 0x8035,
  ip6: 0x86dd,
  atalk: 0x809b,
  aarp: 0x80f3,
  ipx: 0x8137,
  decnet: 0x6003,
  lat: 0x6004,
  sca: 0x6007,
  mopdl: 0x6001,
  moprc: 0x6002,
  lldp: 0x88cc,
  loopback: 0x9000,
  slow: 0x8809,
  vlan: 0x8100,
  vlan8021ad: 0x88a8,
  vlanQinQ: 0x9100,
  mpls: 0x8847,
  pppoeDiscovery: 0x8863,
  pppoeSession: 0x8864,
  transparentEthernet: 0x6558,
} as const;

/** LLC service access points. */
export const serviceAccessPoints = { iso: 0xfe, stp: 0x42, ipx: 0xe0, netbeui: 0xf0, ip: 0x06 } as const;

/** The largest value of the 802.3 length field; above it the field is an EtherType. */
export const maxLength802_3 = 1500;

/** IP protocol numbers that have a keyword, or that the generated code looks for. */
export const ipProtocols = {
  hopByHop: 0,
  icmp: 1,
  igmp: 2,
  tcp: 6,
  igrp: 9,
  udp: 17,
  routing: 43,
  fragment: 44,
  esp: 50,
  ah: 51,
  icmp6: 58,
  noNextHeader: 59,
  destinationOptions: 60,
  pim: 103,
  vrrp: 112,
  sctp: 132,
} as const;

/** ISO network layer protocol identifiers; also what `iso proto NAME` takes. */
export const isoProtocols = { clnp: 0x81, esis: 0x82, isis: 0x83 } as const;

/** What a protocol keyword means alone (`tcp`) and before `[` (`tcp[13]`). */
export interface ProtocolRow {
  /** meaning of the keyword alone; absent: the keyword needs something after it */
  readonly abbreviation?:
    | { readonly kind: "link"; readonly type: number }
    /** next protocol of IPv4, of IPv6 or of either */
    | { readonly kind: "ip" | "ip6" | "both"; readonly protocol: number }
    /** network layer protocol identifier */
    | { readonly kind: "iso"; readonly protocol: number }
    /** any of these PDU types, tested in this order */
    | { readonly kind: "isis"; readonly pduTypes: readonly number[] };
  /** where `[0]` is; absent: the keyword cannot be indexed */
  readonly index?: "link" | "network" | "ip4 payload" | "ip6 payload";
}

const link = (type: number): ProtocolRow => ({ abbreviation: { kind: "link", type } });
const networkLayer = (type: number): ProtocolRow => ({ ...link(type), index: "network" });
const overIp = (protocol: number): ProtocolRow => ({
  abbreviation: { kind: "ip", protocol },
  index: "ip4 payload",
});
const overBoth = (protocol: number): ProtocolRow => ({ abbreviation: { kind: "both", protocol } });
const iso = (protocol: number): ProtocolRow => ({ abbreviation: { kind: "iso", protocol } });
const isis = (...pduTypes: number[]): ProtocolRow => ({ abbreviation: { kind: "isis", pduTypes } });

/** IS-IS PDU types: LAN hellos of level 1 and 2, point-to-point hello, link state and sequence numbers. */
const l1Iih = 15, l2Iih = 16, ptpIih = 17, l1Lsp = 18, l2Lsp = 20;
const l1Csnp = 24, l2Csnp = 25, l1Psnp = 26, l2Psnp = 27;

/** Every protocol keyword, by its canonical spelling. */
export const protocols = {
  link: { index: "link" },
  ip: networkLayer(etherTypes.ip),
  ip6: networkLayer(etherTypes.ip6),
  arp: networkLayer(etherTypes.arp),
  rarp: networkLayer(etherTypes.rarp),
  atalk: networkLayer(etherTypes.atalk),
  decnet: networkLayer(etherTypes.decnet),
  lat: networkLayer(etherTypes.lat),
  sca: networkLayer(etherTypes.sca),
  moprc: networkLayer(etherTypes.moprc),
  mopdl: networkLayer(etherTypes.mopdl),
  aarp: link(etherTypes.aarp),
  iso: link(serviceAccessPoints.iso),
  stp: link(serviceAccessPoints.stp),
  ipx: link(serviceAccessPoints.ipx),
  netbeui: link(serviceAccessPoints.netbeui),
  tcp: { ...overBoth(ipProtocols.tcp), index: "ip4 payload" },
  udp: { ...overBoth(ipProtocols.udp), index: "ip4 payload" },
  sctp: { ...overBoth(ipProtocols.sctp), index: "ip4 payload" },
  pim: { ...overBoth(ipProtocols.pim), index: "ip4 payload" },
  ah: overBoth(ipProtocols.ah),
  esp: overBoth(ipProtocols.esp),
  icmp: overIp(ipProtocols.icmp),
  igmp: overIp(ipProtocols.igmp),
  igrp: overIp(ipProtocols.igrp),
  vrrp: overIp(ipProtocols.vrrp),
  carp: overIp(ipProtocols.vrrp), // the same number by design
  icmp6: { abbreviation: { kind: "ip6", protocol: ipProtocols.icmp6 }, index: "ip6 payload" },
  clnp: iso(isoProtocols.clnp),
  esis: iso(isoProtocols.esis),
  isis: iso(isoProtocols.isis),
  l1: isis(l1Psnp, l1Csnp, l1Lsp, l1Iih, ptpIih),
  l2: isis(l2Psnp, l2Csnp, l2Lsp, l2Iih, ptpIih),
  iih: isis(ptpIih, l1Iih, l2Iih),
  lsp: isis(l1Lsp, l2Lsp),
  snp: isis(l2Psnp, l1Psnp, l1Csnp, l2Csnp),
  csnp: isis(l1Csnp, l2Csnp),
  psnp: isis(l1Psnp, l2Psnp),
  radio: {},
} as const satisfies Readonly<Record<string, ProtocolRow>>;

export type Protocol = keyof typeof protocols;

/** The row of `protocol` with optional columns, which the literal types above hide. */
export function protocolRow(protocol: Protocol): ProtocolRow {
  return protocols[protocol];
}

/** Directions. The 802.11 ones parse everywhere and mean nothing on our links. */
export const directions = ["src", "dst", "addr1", "addr2", "addr3", "addr4", "ra", "ta"] as const;
export type Direction = typeof directions[number] | "src or dst" | "src and dst";

/** What an id names. The first four may follow a direction. */
export const idTypes = ["host", "net", "port", "portrange", "proto", "protochain", "gateway"] as const;
export type IdType = typeof idTypes[number];

/** Operators and the keywords that the grammar names one by one. */
// deno-fmt-ignore
export const symbols = [
  "and", "or", "not", "(", ")", "[", "]", ":", "/", "mask",
  "+", "-", "*", "%", "&", "|", "^", "<<", ">>", "=", "!=", "<", "<=", ">", ">=",
  "len", "less", "greater", "byte", "broadcast", "multicast", "inbound", "outbound", "ifindex",
  "vlan", "mpls", "pppoed", "pppoes", "geneve", "vxlan", "llc", "type", "subtype", "dir",
] as const;
export type SymbolWord = typeof symbols[number];

/** Keywords that parse but belong to link types we do not have. */
export const pfWords = ["ifname", "ruleset", "rnr", "srnr", "reason", "action"] as const;
export const atmWords = [
  "lane",
  "metac",
  "bcc",
  "oam",
  "oamf4",
  "oamf4ec",
  "oamf4sc",
  "sc",
  "ilmic",
  "connectmsg",
  "metaconnect",
] as const;
export const ss7Words = ["fisu", "lssu", "msu", "hfisu", "hlssu", "hmsu"] as const;
/** ATM and SS7 fields, which take a value. */
export const atmFields = ["vpi", "vci"] as const;
export const ss7Fields = ["sio", "opc", "dpc", "sls", "hsio", "hopc", "hdpc", "hsls"] as const;

export type PfWord = typeof pfWords[number];
export type ForeignWord =
  | typeof atmWords[number]
  | typeof ss7Words[number]
  | typeof atmFields[number]
  | typeof ss7Fields[number];

/** A reserved word or operator, as the parser sees it. */
export type Keyword =
  | { readonly kind: "protocol"; readonly word: Protocol }
  | { readonly kind: "direction"; readonly word: typeof directions[number] }
  | { readonly kind: "id type"; readonly word: IdType }
  | { readonly kind: "symbol"; readonly word: SymbolWord }
  | { readonly kind: "pf"; readonly word: PfWord }
  | { readonly kind: "foreign"; readonly word: ForeignWord; readonly family: "SUNATM" | "SS7" }
  | { readonly kind: "foreign field"; readonly word: ForeignWord; readonly family: "SUNATM" | "SS7" };

/** Other spelling -> canonical spelling. */
const synonyms = {
  ether: "link",
  fddi: "link",
  tr: "link",
  wlan: "link",
  ppp: "link",
  slip: "link",
  "es-is": "esis",
  "is-is": "isis",
  address1: "addr1",
  address2: "addr2",
  address3: "addr3",
  address4: "addr4",
  "&&": "and",
  "||": "or",
  "!": "not",
  "==": "=",
  length: "len",
  direction: "dir",
  on: "ifname",
  rset: "ruleset",
  rulenum: "rnr",
  subrulenum: "srnr",
  lsu: "lssu",
} as const;

/** Every spelling of every reserved word and operator. */
export const keywords: ReadonlyMap<string, Keyword> = (() => {
  const map = new Map<string, Keyword>();
  for (const word of Object.keys(protocols) as Protocol[]) map.set(word, { kind: "protocol", word });
  for (const word of directions) map.set(word, { kind: "direction", word });
  for (const word of idTypes) map.set(word, { kind: "id type", word });
  for (const word of symbols) map.set(word, { kind: "symbol", word });
  for (const word of pfWords) map.set(word, { kind: "pf", word });
  for (const word of atmWords) map.set(word, { kind: "foreign", word, family: "SUNATM" });
  for (const word of ss7Words) map.set(word, { kind: "foreign", word, family: "SS7" });
  for (const word of atmFields) map.set(word, { kind: "foreign field", word, family: "SUNATM" });
  for (const word of ss7Fields) map.set(word, { kind: "foreign field", word, family: "SS7" });
  for (const [spelling, word] of Object.entries(synonyms)) map.set(spelling, map.get(word)!);
  return map;
})();

/** Names that stand for a number anywhere in an expression: `tcp[tcpflags] & tcp-syn != 0`. */
export const namedConstants: ReadonlyMap<string, number> = new Map(Object.entries({
  icmptype: 0,
  icmpcode: 1,
  icmp6type: 0,
  icmp6code: 1,
  tcpflags: 13,
  ...prefixed("tcp-", { fin: 1, syn: 2, rst: 4, push: 8, ack: 0x10, urg: 0x20, ece: 0x40, cwr: 0x80 }),
  ...prefixed("icmp-", {
    echoreply: 0,
    unreach: 3,
    sourcequench: 4,
    redirect: 5,
    echo: 8,
    routeradvert: 9,
    routersolicit: 10,
    timxceed: 11,
    paramprob: 12,
    tstamp: 13,
    tstampreply: 14,
    ireq: 15,
    ireqreply: 16,
    maskreq: 17,
    maskreply: 18,
  }),
  ...prefixed("icmp6-", {
    destinationunreach: 1,
    packettoobig: 2,
    timeexceeded: 3,
    parameterproblem: 4,
    echo: 128,
    echoreply: 129,
    multicastlistenerquery: 130,
    multicastlistenerreportv1: 131,
    multicastlistenerdone: 132,
    routersolicit: 133,
    routeradvert: 134,
    neighborsolicit: 135,
    neighboradvert: 136,
    redirect: 137,
    routerrenum: 138,
    nodeinformationquery: 139,
    nodeinformationresponse: 140,
    ineighbordiscoverysolicit: 141,
    ineighbordiscoveryadvert: 142,
    multicastlistenerreportv2: 143,
    homeagentdiscoveryrequest: 144,
    homeagentdiscoveryreply: 145,
    mobileprefixsolicit: 146,
    mobileprefixadvert: 147,
    certpathsolicit: 148,
    certpathadvert: 149,
    multicastrouteradvert: 151,
    multicastroutersolicit: 152,
    multicastrouterterm: 153,
  }),
}));

function prefixed(prefix: string, values: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [prefix + name, value]));
}

/** `link proto NAME`. */
export const linkProtocolNames: ReadonlyMap<string, number> = new Map<string, number>([
  ...(["aarp", "arp", "atalk", "decnet", "ip", "ip6", "lat", "lldp"] as const).map(etherTypeRow),
  ...(["loopback", "mopdl", "moprc", "rarp", "sca", "slow"] as const).map(etherTypeRow),
  ...(["iso", "stp", "ipx", "netbeui"] as const).map((name): [string, number] => [
    name,
    serviceAccessPoints[name],
  ]),
]);

function etherTypeRow(name: keyof typeof etherTypes): [string, number] {
  return [name, etherTypes[name]];
}

/** EtherType or SAP -> PPP protocol number (IANA); what is not listed stands for itself. */
export const pppProtocols: ReadonlyMap<number, number> = new Map([
  [etherTypes.ip, 0x21],
  [etherTypes.ip6, 0x57],
  [etherTypes.decnet, 0x27],
  [etherTypes.atalk, 0x29],
  [0x0600, 0x25], // XNS
  [serviceAccessPoints.iso, 0x23],
  [serviceAccessPoints.stp, 0x31],
  [serviceAccessPoints.ipx, 0x2b],
]);
export const pppMpls = 0x0281;

/** `llc NAME`: the control field masked, and what it must then be. */
export const llcTypes: ReadonlyMap<string, { readonly mask: number; readonly value: number }> = new Map([
  ["s", { mask: 0x03, value: 0x01 }],
  ["u", { mask: 0x03, value: 0x03 }],
  ["rr", { mask: 0x0f, value: 0x01 }],
  ["rnr", { mask: 0x0f, value: 0x05 }],
  ["rej", { mask: 0x0f, value: 0x09 }],
  ["ui", { mask: 0xef, value: 0x03 }],
  ["ua", { mask: 0xef, value: 0x63 }],
  ["disc", { mask: 0xef, value: 0x43 }],
  ["dm", { mask: 0xef, value: 0x0f }],
  ["sabme", { mask: 0xef, value: 0x6f }],
  ["test", { mask: 0xef, value: 0xe3 }],
  ["xid", { mask: 0xef, value: 0xaf }],
  ["frmr", { mask: 0xef, value: 0x87 }],
]);

/** 802.11 frame types (the bits 0x0c of the frame control field) with their names and subtype names. */
// deno-fmt-ignore
export const wlanTypes: readonly { readonly value: number; readonly names: readonly string[]; readonly subtypes: readonly string[] }[] = [
  { value: 0x00, names: ["mgt", "management"], subtypes: [
    "assoc-req", "assocreq", "assoc-resp", "assocresp", "reassoc-req", "reassocreq", "reassoc-resp", "reassocresp",
    "probe-req", "probereq", "probe-resp", "proberesp", "beacon", "atim", "disassoc", "disassociation",
    "auth", "authentication", "deauth", "deauthentication",
  ] },
  { value: 0x04, names: ["ctl", "control"], subtypes: ["bar", "ba", "ps-poll", "rts", "cts", "ack", "cf-end", "cf-end-ack"] },
  { value: 0x08, names: ["data"], subtypes: [
    "data", "data-cf-ack", "data-cf-poll", "data-cf-ack-poll", "null", "cf-ack", "cf-poll", "cf-ack-poll",
    "qos-data", "qos-data-cf-ack", "qos-data-cf-poll", "qos-data-cf-ack-poll", "qos", "qos-cf-poll", "qos-cf-ack-poll",
  ] },
];
export const wlanDirections: readonly string[] = ["nods", "tods", "fromds", "dstods"];

/** OpenBSD packet filter log: what `reason` and `action` take. */
// deno-fmt-ignore
export const pfReasons: readonly string[] = [
  "match", "bad-offset", "fragment", "short", "normalize", "memory", "bad-timestamp", "congestion", "ip-option",
  "proto-cksum", "state-mismatch", "state-insert", "state-limit", "src-limit", "synproxy",
];
// deno-fmt-ignore
export const pfActions: readonly string[] = [
  "pass", "accept", "drop", "block", "scrub", "noscrub", "nat", "nonat", "binat", "nobinat", "rdr", "nordr", "synproxy-drop",
];
