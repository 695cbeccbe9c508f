/**
 * In what our lines are meant to differ from those of Debian's pwru 1.0.5, for the same event in the same boot.
 *
 * The scenario `likeness` makes of our line, row by row, the line that the peer must have printed; nothing but
 * these rows may come between them. docs/differences.md shows the same rows.
 */
import type { KernelName } from "./images.ts";
import type { TraceLine } from "./lines.ts";

export interface Difference {
  /** column, or option that adds it */
  readonly where: string;
  readonly ours: string;
  /** what Debian's pwru 1.0.5 has there */
  readonly peer: string;
  readonly reason: string;
  /** it depends on the moment: not every run shows it */
  readonly seldom?: true;
  /** kernels that it is about; absent: all */
  readonly kernels?: readonly KernelName[];
  /** whether it shows on this event; `nodeNetns` is the namespace that both tracers run in */
  readonly shows: (ours: TraceLine, peer: TraceLine, nodeNetns: number) => boolean;
  /** what the peer has instead of ours */
  readonly instead: (
    ours: TraceLine,
    peer: TraceLine,
  ) => { [K in keyof TraceLine]?: TraceLine[K] | undefined };
}

const commandAndPid = (process: string): [command: string, pid: string] => {
  const colon = process.lastIndexOf(":");
  return [process.slice(0, colon), process.slice(colon + 1)];
};

/** A pointer in a dump of a struct: "= (struct net_device *)0xff29246a0d20a000,". */
const pointer = /(?<=\*\))0x([0-9a-f]+)/g;
const pointersOf = (below: readonly string[]) =>
  [...below.join("\n").matchAll(pointer)].map(([, digits = ""]) => digits);
/** The kernel's "%p": 32 bits of a hash. The last one may be cut. */
const hashed = (digits: string) => /^(?:0{1,8}|0{8}[0-9a-f]{1,8})$/.test(digits);

const replaced = ({ done, value }: IteratorResult<string, undefined>, whole: string) =>
  done === true || value === undefined ? whole : `0x${value}`;

/** What has a fixed size in the peer, the NUL at its end included. */
const sized = (text: string) => text.slice(0, 2047).padEnd(2048, "\0");

/** Names of one address on Linux 5.10 that differ in a stack: the first of /proc/kallsyms, and the last. */
export const aliases: readonly (readonly [first: string, last: string])[] = [
  ["__do_softirq", "__softirqentry_text_start"],
  ["asm_call_irq_on_stack", "asm_call_sysvec_on_stack"],
];
const lastName = (name: string) => aliases.find(([first]) => first === name)?.[1] ?? name;

export const differences: readonly Difference[] = [
  {
    where: "PROCESS",
    ours: "the task at the moment of the event",
    peer: "what `/proc` says when the line is printed: `<empty>` when the process has ended",
    reason: "the processes that are over first are those that are looked for",
    seldom: true,
    shows: (_ours, peer) => peer.process.startsWith("<empty>("),
    instead: ({ process }) => ({ process: `<empty>:${commandAndPid(process)[1]}` }),
  },
  {
    where: "PROCESS",
    ours: "`ping:222`",
    peer: "`[ping(222)]`",
    reason: "the spelling of later versions of pwru",
    shows: () => true,
    instead({ process }) {
      const [command, pid] = commandAndPid(process);
      return { process: `${command}(${pid})` };
    },
  },
  {
    where: "IFACE",
    ours: "names of every namespace, also of those that appear later",
    peer: "names of its own namespace",
    reason: "the index alone says little in a container; later versions of pwru do the same",
    shows: ({ netns, iface }, _peer, nodeNetns) => netns !== nodeNetns && iface !== undefined && iface !== "",
    instead: () => ({ iface: "" }),
  },
  {
    where: "MTU",
    ours: "the MTU of the packet's route, while the packet has no device yet",
    peer: "`0`",
    reason: "0 is no MTU, and the route's is what the packet is measured by",
    shows: ({ ifindex, mtu }) => ifindex === 0 && mtu !== undefined && mtu > 0,
    instead: () => ({ mtu: 0 }),
  },
  {
    where: "TUPLE",
    ours: "type, identifier and sequence number of ICMP messages: `(icmp:echo,id=7,seq=1)`",
    peer: "`(icmp)`",
    reason: "all echoes between two hosts look alike; later versions of pwru have no more",
    shows: ({ tuple = "", detail }) => detail !== undefined && /\(icmp6?\)$/.test(tuple),
    instead: () => ({ detail: undefined }),
  },
  {
    where: "TUPLE",
    ours: "the key of GRE, the SPI of ESP and AH: `(gre:key=0x2a)`",
    peer: "the protocol alone",
    reason: "as ports do, they tell conversations apart",
    shows: ({ detail }) => detail !== undefined,
    instead: () => ({ detail: undefined }),
  },
  {
    where: "TUPLE",
    ours: "the name of each protocol, and its ports if it has some: `:5000->10.0.0.2:36412(sctp)`, `(gre)`",
    peer: "`:0->10.0.0.2:0()` for all but TCP, UDP, ICMP and ICMPv6",
    reason: "nothing in brackets says that there is nothing",
    shows: ({ tuple = "" }) => !/\((tcp\b.*|udp|icmp6?|)\)$/.test(tuple),
    instead: ({ tuple = "" }) => ({
      tuple: tuple.replace(/:\d+->/, ":0->").replace(/:\d+\(.*\)$/, ":0()"),
    }),
  },
  {
    where: "FUNC",
    ours: "the reason of every function that is given one, in brackets",
    peer: "the name alone; a reason for `kfree_skb_reason`",
    reason: "as `sk_skb_reason_drop`, new in Linux 6.11; the kernel's types tell which functions these are",
    kernels: ["6.12"],
    shows: ({ func, reason }) => func !== "kfree_skb_reason" && reason !== undefined,
    instead: () => ({ reason: undefined }),
  },
  {
    where: "`--output-stack`",
    ours: "a stack with every event",
    peer: "none, where another event with the same stack was printed before, or took its place",
    reason: "stacks travel with their event, not through a map of hashes",
    seldom: true,
    shows: ({ below }, peer) => below.length > 1 && !isDump(below) && peer.below.length === 0,
    instead: () => ({ below: [] }),
  },
  {
    where: "`--output-stack`",
    ours: "on Linux 5.10 the function alone, in those of which the kernel loses its way behind their entry",
    peer: "the whole stack",
    reason: "it probes the entry itself, which is slower; README, Limits",
    kernels: ["5.10"],
    shows: ({ below }, peer) => below.length === 1 && peer.below.length > 1 && peer.below[0] === below[0],
    instead: (_ours, { below }) => ({ below }),
  },
  {
    where: "`--output-stack`",
    ours: "of several names of one address the first of `/proc/kallsyms`: `__do_softirq`",
    peer: "the last: `__softirqentry_text_start`",
    reason: "as in the kernel's own messages",
    kernels: ["5.10"],
    shows: ({ below }, peer) =>
      !isDump(below) &&
      below.some((name, at) => peer.below[at] === lastName(name) && lastName(name) !== name),
    instead: ({ below }) => ({ below: below.map(lastName) }),
  },
  {
    where: "`--output-skb`",
    kernels: ["6.12"],
    ours: "pointers as they are",
    peer: "hashes of pointers",
    reason: "so that they can be compared with those of other tools, and with the SKB column",
    shows: ({ below }, peer) =>
      isDump(below) && pointersOf(below).some((digits) => !hashed(digits)) &&
      pointersOf(peer.below).every(hashed),
    instead({ below }, peer) {
      // One that is cut there is made whole here: the next row cuts it again. Those behind the cut stay.
      const hashes = pointersOf(peer.below).map((digits) => digits.padEnd(16, "0")).values();
      return { below: below.map((line) => line.replace(pointer, (whole) => replaced(hashes.next(), whole))) };
    },
  },
  {
    where: "`--output-skb`",
    kernels: ["6.12"],
    ours: "the whole text, and no more",
    peer: "2048 bytes: a longer text is cut, a shorter one filled up with NULs",
    reason: "what is missing would look like what is zero; and `grep` takes NULs for a binary file",
    shows: ({ below }) => isDump(below),
    instead: ({ below }) => ({ below: sized(below.join("\n")).split("\n") }),
  },
];

function isDump(below: readonly string[]): boolean {
  return below[0]?.startsWith("(struct sk_buff){") ?? false;
}

/** Those that there can be on this kernel. */
export const differencesOn = (kernel: KernelName): readonly Difference[] =>
  differences.filter(({ kernels }) => kernels?.includes(kernel) ?? true);

/**
 * What the peer must have printed for an event of ours.
 *
 * @param shown gets the rows that made a difference
 */
export function expectedOfPeer(
  ours: TraceLine,
  peer: TraceLine,
  nodeNetns: number,
  kernel: KernelName,
  shown: Set<Difference>,
): TraceLine {
  let line = ours;
  for (const difference of differencesOn(kernel)) {
    if (!difference.shows(line, peer, nodeNetns)) continue;
    shown.add(difference);
    line = { ...line, ...difference.instead(line, peer) } as TraceLine;
  }
  return line;
}

/** Times are compared by themselves. */
function withoutTimes(line: TraceLine): TraceLine {
  const { time: _time, timestamp: _timestamp, ...rest } = line;
  return rest;
}

/**
 * What the peer must have printed for the same events, and what it did; both without times. Equal, or something
 * differs that the table does not know.
 */
export function comparedWithPeer(
  ours: readonly TraceLine[],
  peers: readonly TraceLine[],
  nodeNetns: number,
  kernel: KernelName,
): { expected: TraceLine[]; peer: TraceLine[]; shown: Set<Difference> } {
  const shown = new Set<Difference>(), peer = peers.map(withoutTimes);
  const expected = ours.map(withoutTimes).map((line, at) => {
    const beside = peer[at];
    return beside === undefined ? line : expectedOfPeer(line, beside, nodeNetns, kernel, shown);
  });
  return { expected, peer, shown };
}

/** The rows as the document shows them. */
export const differenceTable = (): string =>
  [
    "| Where | Ours | Debian's pwru 1.0.5 | Why |",
    "| ----- | ---- | ------------------- | --- |",
    ...differences.map(({ where, ours, peer, reason }) => `| ${where} | ${ours} | ${peer} | ${reason} |`),
  ].join("\n");
