/**
 * Every option, once. Parsing, the types of the parsed values, `--help`, the manual page, shell completions
 * and the table in the README are derived from this file; adding an option is adding an entry.
 */
import { choice, count, flag, list, type Option, optional, wordOf } from "./option.ts";
import {
  parseBatch,
  parseExpression,
  parseExpressions,
  parseFunctions,
  parseInterfaceName,
  parseMark,
  parseModules,
  parseNetns,
  parsePath,
  parsePattern,
  parseRingSize,
  parseTrackLimit,
  parseUnsigned,
} from "./values.ts";

/** Listings of a filter, in the order of tcpdump's -d, -dd and -ddd; then ours. "" is none. */
const dumpForms = ["", "text", "c", "numbers", "ebpf"] as const;
export type DumpForm = (typeof dumpForms)[number];

/** Shells with completions; "" is none. */
const shells = ["bash", "fish", "zsh", ""] as const;
export type Shell = Exclude<(typeof shells)[number], "">;

/** What --summary leaves of the lines. "" is no summary. */
const summaryForms = ["", "only", "lines"] as const;
export type SummaryForm = (typeof summaryForms)[number];

export const options = {
  "all-kmods": flag(false, {
    help: "probe the functions of every loaded kernel module too",
    section: "Probes",
  }),
  "backend": choice(["kprobe", "kprobe-multi", "tracepoint", ""], "", {
    help: "how to probe: kprobe, kprobe-multi or tracepoint; empty takes the best this kernel has",
    detail: "kprobe-multi attaches to all functions in one call. kprobe attaches one by one, which older " +
      "kernels can do too. tracepoint needs no kprobes at all, but sees packets only at the kernel's own " +
      "networking tracepoints.",
    section: "Probes",
    since: "Linux 5.18 for kprobe-multi",
  }),
  "completions": choice(shells, "", {
    help: "print the completions of a shell and exit: bash, fish or zsh",
    detail:
      "For bash: source <(pwru --completions bash). For fish: pwru --completions fish | source. For zsh: " +
      "write them to a file _pwru in a directory of $fpath.",
    section: "Run",
  }),
  "debug": flag(false, {
    help: "report every step, and errors in full",
    section: "Run",
  }),
  "demo": flag(false, {
    help: "show how a packet is lost: build a small network, trace one answer through it twice, and exit",
    detail:
      "Three network namespaces are made and removed again; the one you are in is not touched. Where that is " +
      "not allowed, a recording is shown, and said to be one. With --output-json it is " +
      "one JSON object; with --debug no step is left out.",
    section: "Run",
  }),
  "doctor": flag(false, {
    help: "try what this machine lets a trace do, print what works and what would help, and exit",
    detail: "Every backend is attached to one function or tracepoint and has to see a packet there. With " +
      "--output-json it is one JSON object, as docs/doctor.schema.json describes it. The exit status is 0 when at " +
      "least one backend works.",
    section: "Run",
  }),
  "dump-filter": {
    type: "",
    default: "",
    help: "print what the filter compiles to and exit: -d, -dd and -ddd as tcpdump, or =ebpf",
    detail:
      "The values are text (-d), c (-dd), numbers (-ddd) and ebpf; the first three list classic BPF as " +
      "the tracer translates it, ebpf the translation for this kernel. No privileges are needed.",
    section: "Run",
    short: "d",
    bare: (before) => dumpForms[Math.min(dumpForms.indexOf(before) + 1, 3)] as DumpForm,
    parse: wordOf(dumpForms),
  } satisfies Option<DumpForm> as Option<DumpForm>,
  "dump-link-type": choice(["EN10MB", "RAW"], "EN10MB", {
    help: "what packets of --dump-filter start with: EN10MB, an Ethernet header; RAW, an IP header",
    detail:
      "The tracer runs the first on packets that have a link header and the second on those that have " +
      "none.",
    section: "Run",
  }),
  "filter-func": {
    type: "string",
    default: "",
    help: "probe only functions whose whole name matches this RE2 expression",
    section: "Probes",
    parse: parsePattern,
  } satisfies Option<string> as Option<string>,
  "filter-ifname": optional("string", parseInterfaceName, {
    help: "show only packets on this interface of the --filter-netns namespace, or of this one",
    section: "Filters",
    completion: "interface",
  }),
  "filter-kprobe-batch": {
    type: "uint",
    default: 10,
    shownDefault: "10",
    help: "how many functions the kprobe backend attaches to at a time",
    detail:
      "In between, what is attached already is printed and signals are heard; a batch of many takes longer to " +
      "stop and saves little. kprobe-multi attaches to all at once.",
    section: "Probes",
    parse: parseBatch,
  } satisfies Option<number> as Option<number>,
  "filter-mark": {
    type: "mark[/mask]",
    default: { mark: 0, mask: 0 },
    shownDefault: "0x0/0x0",
    help: "show only packets with this mark, compared in the bits of mask",
    detail: "Both numbers are decimal, or hexadecimal behind 0x. Without a mask all 32 bits must be equal; " +
      "mask 0 lets every packet pass.",
    section: "Filters",
    parse: parseMark,
  } satisfies Option<ReturnType<typeof parseMark>> as Option<ReturnType<typeof parseMark>>,
  "filter-netns": optional("string", parseNetns, {
    help: "show only packets of this network namespace: /path, inode:NUMBER or a name from ip netns",
    detail: "A path is that of a namespace file, such as /proc/PID/ns/net.",
    section: "Filters",
    completion: "netns",
  }),
  "filter-non-skb-funcs": list(parseFunctions, {
    help: "probe these functions too, which have no packet, and show them beneath one that has",
    detail:
      "Whole names, comma separated; implies --filter-track-skb-by-stackid. A line shows the packet as it is at " +
      "that moment.",
    section: "Probes",
  }),
  "filter-skb-expr": optional("string", parseExpression, {
    help: "show only packets for which this C expression is true: skb->dev->ifindex == 2 && skb->len > 500",
    detail: "An expression of C, without assignments and calls, over struct sk_buff as this kernel has it: " +
      "-> and . mean the same, = compares, an enumerator is known by its name. Members of a __be type are " +
      "numbers as people write them (skb->protocol == 0x0800). Where a pointer on the way is NULL the packet " +
      "does not match.",
    section: "Filters",
  }),
  "filter-track-bpf-helpers": flag(false, {
    help: "show the functions that BPF programs call while they work on a packet, beneath the packet",
    detail:
      "Helpers and kernel functions, found in the instructions of the programs that are loaded, and called from their " +
      "code; programs that are loaded later are looked at too. Implies --filter-track-skb-by-stackid. What runs in " +
      "XDP programs shows with --filter-trace-xdp.",
    section: "Probes",
  }),
  "filter-track-limit": {
    type: "int",
    default: 65536,
    shownDefault: "65536",
    help: "how many packets --filter-track-skb follows at a time",
    detail:
      "What finds no room is shown where it matches by itself, and counted in the closing line. Each packet takes " +
      "about 100 bytes of the kernel's memory, at once.",
    section: "Filters",
    parse: parseTrackLimit,
  } satisfies Option<number> as Option<number>,
  "filter-track-skb": flag(false, {
    help: "show a packet that matched once until its end, whatever it becomes, and its clones and copies",
    detail:
      "Address translation, decapsulation and new headers do not lose it; neither do copies for other " +
      "receivers, fragments and segments. It ends where the kernel frees its memory.",
    section: "Filters",
  }),
  "filter-track-skb-by-stackid": flag(false, {
    help: "show what runs beneath a function that has a matching packet as part of its story",
    detail:
      "A packet that is freed and built anew within one call, as bridges and IPsec do, and the answer to one, are " +
      "other packets to the kernel. They are shown while the function that had the first one is still running.",
    section: "Filters",
  }),
  "filter-trace-tc": flag(false, {
    help: "show the BPF programs of tc that a packet passes, and what they return",
    detail:
      "At the entry of each program, and from Linux 5.17 on at its exit with the verdict. A program that cannot " +
      "be traced is named; one that is loaded while the trace runs is traced from then on. Functions of a program " +
      "are shown too if it gives them the packet. A program that is reached by a tail call is not entered in this " +
      "sense, and not shown: a warning names it.",
    section: "Probes",
    since: "Linux 5.6",
  }),
  "filter-trace-xdp": flag(false, {
    help: "show the XDP programs that a frame passes, and what they return",
    detail:
      "Entry and exit, as with --filter-trace-tc. There is no sk_buff yet: the filter looks at the frame from its Ethernet header on, the " +
      "address shown is that of its buffer, which an sk_buff made of it has as its head. It has no mark, and no " +
      "inner packet. With --filter-track-skb it is followed to other devices, and is one packet with its sk_buff.",
    section: "Probes",
    since: "Linux 5.6",
  }),
  "filter-tunnel-pcap-l2": optional("string", parseExpression, {
    help: "of packets in a tunnel show only those whose inner Ethernet frame matches this pcap filter",
    detail:
      "VXLAN, Geneve and whatever else notes in the packet where its inner headers are. Packets in no tunnel pass; " +
      "the filter beside the options still applies, to the outermost headers.",
    section: "Filters",
  }),
  "filter-tunnel-pcap-l3": optional("string", parseExpression, {
    help: "of packets in a tunnel show only those whose inner IP packet matches this pcap filter",
    section: "Filters",
  }),
  "filter-xdp-expr": optional("string", parseExpression, {
    help:
      "of the frames in XDP programs show only those for which this C expression is true: xdp->frame_sz > 2048",
    detail:
      "As --filter-skb-expr, over struct xdp_buff. Each of the two is asked only of its own kind of packet.",
    section: "Filters",
  }),
  "help": flag(false, {
    help: "print this text and exit",
    section: "Run",
    short: "h",
  }),
  "kernel-btf": optional("string", parsePath, {
    help: "read kernel types from this file, an ELF with .BTF or raw BTF, not from /sys/kernel/btf/vmlinux",
    section: "Probes",
    completion: "file",
  }),
  "kmods": list(parseModules, {
    help: "probe the functions of these kernel modules too (comma separated)",
    section: "Probes",
    completion: "module",
  }),
  "man": flag(false, {
    help: "print the manual page and exit: pwru --man | man -l -",
    section: "Run",
  }),
  "netns-names-max-length": {
    type: "uint8",
    default: 16,
    shownDefault: "16",
    help: "columns for the names of --output-netns-names, at least 10; longer names are cut",
    section: "Output",
    parse: (text) => Math.max(10, Number(parseUnsigned(text, 8))),
  } satisfies Option<number> as Option<number>,
  "output-bpfmap": flag(false, {
    help: "print map, key and value below each function on a BPF map",
    detail:
      "Where --filter-track-bpf-helpers or --filter-non-skb-funcs shows such a function: number and name of the map, " +
      "and up to 256 bytes of key and value in hexadecimal. A look-up is shown as it returns, with what it found. " +
      "Look-ups in arrays are no calls, and show nothing.",
    section: "Output",
  }),
  "output-caller": flag(false, {
    help: "print who called the function",
    detail: "Tracepoints cannot tell; --output-stack shows callers there.",
    section: "Output",
  }),
  "output-file": optional("string", parsePath, {
    help: "write events to this file, and begin a new one when it has grown too large",
    detail:
      "The file is appended to if it exists. Rotated files lie beside it and have the time of rotation in " +
      "their names. A new file has mode 0644 less the umask; one that exists keeps mode and owner, and so do its " +
      "successors.",
    section: "Output",
    completion: "file",
  }),
  "output-file-compress": flag(false, {
    help: "compress rotated files with gzip",
    section: "Output",
  }),
  "output-file-max-age": count(0, {
    help: "days after which rotated files are deleted; 0 is never",
    section: "Output",
  }),
  "output-file-max-backups": count(0, {
    help: "how many rotated files to keep; 0 is all",
    section: "Output",
  }),
  "output-file-max-size": {
    type: "int",
    default: 100,
    shownDefault: "100",
    help: "size of a file in MiB; 0 is 100",
    section: "Output",
    parse: (text) => Number(parseUnsigned(text, 32)) || 100,
  } satisfies Option<number> as Option<number>,
  "output-json": flag(false, {
    help: "print one JSON object per event",
    detail:
      "docs/event.schema.json describes it. Nothing is left out because it is zero, names are not cut, and " +
      "the time of --timestamp absolute is in UTC, in nanoseconds.",
    section: "Output",
  }),
  "output-limit-lines": {
    type: "uint",
    default: 0,
    help: "exit after this many events; 0 is no limit",
    section: "Output",
    // 2^53 events at three million a second are 95 years: what lies above is the same limit.
    parse: (text) => Math.min(Number(parseUnsigned(text, 64)), Number.MAX_SAFE_INTEGER),
  } satisfies Option<number> as Option<number>,
  "output-meta": flag(true, {
    help: "print namespace, mark, interface, protocol, MTU and length",
    section: "Output",
  }),
  "output-netns-names": flag(false, {
    help: "print the name of the network namespace, as ip netns or Docker gave it",
    section: "Output",
  }),
  "output-packet-id": flag(false, {
    help: "print a number for each packet, which its clones, copies, fragments and segments share",
    section: "Output",
  }),
  "output-skb": flag(false, {
    help: "print the whole struct sk_buff below each event: all members that are not zero",
    detail: "Text is that of the kernel's bpf_snprintf_btf, with pointers as they are.",
    section: "Output",
  }),
  "output-skb-cb": flag(false, {
    help: "print the packet's control block as BPF programs see it: five words of __sk_buff.cb",
    section: "Output",
  }),
  "output-skb-metadata": {
    type: "strings",
    default: [],
    help: "print the value of this C expression: skb->dev->mtu; may be repeated, or a list with commas",
    detail:
      "Expressions are those of --filter-skb-expr, at most 32. The value follows the name of its last " +
      "member (mtu=1500); it is - where a pointer on the way is NULL.",
    section: "Output",
    parse: parseExpressions,
  } satisfies Option<readonly string[]> as Option<readonly string[]>,
  "output-skb-shared-info": flag(false, {
    help: "print struct skb_shared_info below each event, likewise",
    detail: "It holds the page fragments and what segmentation offload needs.",
    section: "Output",
  }),
  "output-stack": flag(false, {
    help:
      "print the kernel's stack below each event: the function, who called it, and so on, at most 50 of them",
    section: "Output",
  }),
  "output-tcp-flags": flag(false, {
    help: "print the flags of TCP packets, as part of the addresses and ports",
    section: "Output",
  }),
  "output-tunnel": flag(false, {
    help: "print addresses and ports of the packet inside a tunnel's packet too",
    detail:
      "As the kernel keeps them: while a packet is sent through a tunnel, and when the receiving device " +
      "has looked inside.",
    section: "Output",
  }),
  "output-tuple": flag(true, {
    help: "print addresses, ports and IP protocol",
    detail:
      "Behind the protocol stands what ports do not tell: type, identifier and sequence number of ICMP messages, the " +
      "key of GRE, the SPI of ESP and AH, the place of a later fragment: (icmp:echo,id=7,seq=1), (gre:key=0x2a). " +
      "Types are named as in filters, where echo is icmp-echo.",
    section: "Output",
  }),
  "output-xdp-metadata": {
    type: "strings",
    default: [],
    help: "print the value of this C expression about each frame in an XDP program: xdp->rxq->queue_index",
    detail:
      "As --output-skb-metadata, over struct xdp_buff. A line shows the values of its own kind of packet. " +
      "Needs --filter-trace-xdp.",
    section: "Output",
    parse: parseExpressions,
  } satisfies Option<readonly string[]> as Option<readonly string[]>,
  "ready-file": optional("string", parsePath, {
    help: "create this file once all probes are attached",
    section: "Run",
    completion: "file",
    hidden: true,
  }),
  "ring-size": {
    type: "size",
    default: 16 * 2 ** 20,
    shownDefault: "16M",
    help: "ring buffer between kernel and user space: bytes, or a number with K, M or G",
    detail:
      "Rounded up to a power of two. A larger one rides out longer bursts; the memory is the kernel's " +
      "and is taken at once.",
    section: "Run",
    parse: parseRingSize,
  } satisfies Option<number> as Option<number>,
  "set-percpu-buf": {
    type: "uint32",
    default: 4096,
    shownDefault: "4096",
    help: "taken for the sake of scripts; nothing depends on it",
    detail:
      "In pwru it is the size of the buffer in which the kernel formats structs. Here structs leave the kernel as " +
      "they are, whatever their size, and are formatted outside.",
    section: "Output",
    parse: (text) => Number(parseUnsigned(text, 32)),
  } satisfies Option<number> as Option<number>,
  "strict": flag(false, {
    help: "exit with status 3 when anything was lost or could not be looked at",
    detail:
      "That is: events that found the ring buffer full, packets that the filter could not read, packets that " +
      "were not followed or not summed up because too many were on their way, hits in probes that " +
      "interrupted probes, and functions that the kernel allows no probe on.",
    section: "Run",
  }),
  "summary": {
    type: "",
    default: "",
    help: "print no lines but, at the end, a table of how packets ended; =lines prints both",
    detail:
      "One row per distinct outcome: dropped, for which reason and where; delivered, to which process; " +
      "forwarded or sent, through which device; consumed; still queued when the trace ended; or lost from " +
      "view, and who had it last. JSON has " +
      "an object for each.",
    section: "Output",
    bare: () => "only",
    parse: wordOf(summaryForms),
  } satisfies Option<SummaryForm> as Option<SummaryForm>,
  "timestamp": choice(["none", "current", "relative", "absolute"], "none", {
    help: "print a time: none, current, relative or absolute",
    detail:
      "current is the kernel's monotonic clock in nanoseconds; relative counts from the previous line " +
      "of the same packet; absolute adds the local time at which the kernel saw the packet.",
    section: "Output",
  }),
  "version": flag(false, {
    help: "print the version and exit",
    section: "Run",
  }),
} as const satisfies Record<string, Option>;

export type OptionName = keyof typeof options;

type Camel<S extends string> = S extends `${infer A}-${infer B}` ? `${A}${Capitalize<Camel<B>>}` : S;

/** The parsed values: `--filter-func` is `filterFunc`. */
export type Options = {
  readonly [K in OptionName as Camel<K>]: (typeof options)[K] extends Option<infer T> ? T : never;
};

/** "filter-func" -> "filterFunc". */
export function camelCase(name: string): keyof Options {
  return name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase()) as keyof Options;
}

/** All options by name, sorted, as plain `Option`s. */
export const optionList: readonly (readonly [name: OptionName, option: Option])[] = (
  Object.entries(options) as [OptionName, Option][]
).sort(([a], [b]) => (a < b ? -1 : 1));
