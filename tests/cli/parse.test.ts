import { describe, expect, test } from "bun:test";
import { camelCase, optionList, type Options } from "../../lib/cli/options.ts";
import { nearestOption, parseCommandLine } from "../../lib/cli/parse.ts";
import { UsageError } from "../../lib/errors.ts";

const defaults = parseCommandLine([]).options;

describe("values", () => {
  test.each<[args: string[], key: keyof Options, value: unknown]>([
    [["--all-kmods"], "allKmods", true],
    [["--backend", "kprobe"], "backend", "kprobe"],
    [["--backend", "kprobe-multi"], "backend", "kprobe-multi"],
    [["--backend", "tracepoint"], "backend", "tracepoint"],
    [["--backend="], "backend", ""],
    [["--completions", "fish"], "completions", "fish"],
    [["--debug"], "debug", true],
    [["--debug=T"], "debug", true],
    [["--debug=0"], "debug", false],
    [["--debug", "--debug=false"], "debug", false],
    [["--demo"], "demo", true],
    [["--doctor"], "doctor", true],
    [["--dump-filter"], "dumpFilter", "text"],
    [["-d"], "dumpFilter", "text"],
    [["-dd"], "dumpFilter", "c"],
    [["-ddd"], "dumpFilter", "numbers"],
    [["-dddd"], "dumpFilter", "numbers"],
    [["-d", "-d"], "dumpFilter", "c"],
    [["--dump-filter=ebpf"], "dumpFilter", "ebpf"],
    [["-d", "--dump-filter="], "dumpFilter", ""],
    [["--dump-link-type", "RAW"], "dumpLinkType", "RAW"],
    [["--filter-func", "ip_rcv|ip_rcv_core"], "filterFunc", "ip_rcv|ip_rcv_core"],
    [["--filter-func="], "filterFunc", ""],
    [["--filter-ifname", "eth0"], "filterIfname", "eth0"],
    [["--filter-ifname="], "filterIfname", undefined],
    [["--filter-kprobe-batch", "25"], "filterKprobeBatch", 25],
    [["--filter-kprobe-batch=0x10"], "filterKprobeBatch", 16],
    [["--filter-mark", "10"], "filterMark", { mark: 10, mask: 0xffffffff }],
    [["--filter-mark", "010"], "filterMark", { mark: 10, mask: 0xffffffff }],
    [["--filter-mark", "0XfF00/0xf000"], "filterMark", { mark: 0xf000, mask: 0xf000 }],
    [["--filter-mark", "0xffffffff/0xffffffff"], "filterMark", { mark: 0xffffffff, mask: 0xffffffff }],
    [["--filter-mark", "7/0"], "filterMark", { mark: 0, mask: 0 }],
    [["--filter-netns", "/proc/1/ns/net"], "filterNetns", { kind: "path", path: "/proc/1/ns/net" }],
    [["--filter-netns", "blue"], "filterNetns", { kind: "path", path: "/run/netns/blue" }],
    [["--filter-netns", "inode:4026531840"], "filterNetns", { kind: "inode", inode: 4026531840 }],
    [["--filter-netns="], "filterNetns", undefined],
    [["--filter-track-limit", "1000"], "filterTrackLimit", 1000],
    [["--filter-track-skb"], "filterTrackSkb", true],
    [["--filter-non-skb-funcs", "fib_table_lookup,nf_nat_setup_info"], "filterNonSkbFuncs", [
      "fib_table_lookup",
      "nf_nat_setup_info",
    ]],
    [["--filter-track-skb-by-stackid"], "filterTrackSkbByStackid", true],
    [["--filter-tunnel-pcap-l2", "ether host 2:0:0:0:0:1"], "filterTunnelPcapL2", "ether host 2:0:0:0:0:1"],
    [["--filter-tunnel-pcap-l3="], "filterTunnelPcapL3", undefined],
    [["--help"], "help", true],
    [["-h"], "help", true],
    [["--kernel-btf", "/tmp/vmlinux"], "kernelBtf", "/tmp/vmlinux"],
    [["--kmods", 'nf_nat,"vxlan",ip-gre'], "kmods", ["nf_nat", "vxlan", "ip_gre"]],
    [["--kmods", "a", "--kmods=b,c"], "kmods", ["a", "b", "c"]],
    [["--kmods="], "kmods", []],
    [["--man"], "man", true],
    [["--netns-names-max-length", "32"], "netnsNamesMaxLength", 32],
    [["--netns-names-max-length", "5"], "netnsNamesMaxLength", 10],
    [["--output-file", "a/b.json"], "outputFile", "a/b.json"],
    [["--output-file="], "outputFile", undefined],
    [["--output-file-compress"], "outputFileCompress", true],
    [["--output-file-max-age", "7"], "outputFileMaxAge", 7],
    [["--output-file-max-backups", "3"], "outputFileMaxBackups", 3],
    [["--output-file-max-size", "0x10"], "outputFileMaxSize", 16],
    [["--output-file-max-size", "0"], "outputFileMaxSize", 100],
    [["--output-json"], "outputJson", true],
    [["--output-limit-lines", "100"], "outputLimitLines", 100],
    [["--output-limit-lines", "0x1_0"], "outputLimitLines", 16],
    [["--output-limit-lines", "0_17"], "outputLimitLines", 15],
    [["--output-limit-lines", "0o17"], "outputLimitLines", 15],
    [["--output-limit-lines", "0b101"], "outputLimitLines", 5],
    [["--output-limit-lines", "18446744073709551615"], "outputLimitLines", Number.MAX_SAFE_INTEGER],
    [["--output-meta=false"], "outputMeta", false],
    [["--output-netns-names"], "outputNetnsNames", true],
    [["--output-packet-id"], "outputPacketId", true],
    [["--output-caller"], "outputCaller", true],
    [["--output-stack"], "outputStack", true],
    [["--output-tunnel"], "outputTunnel", true],
    [["--output-skb"], "outputSkb", true],
    [["--output-skb-cb"], "outputSkbCb", true],
    [["--output-skb-shared-info"], "outputSkbSharedInfo", true],
    [["--output-skb-metadata", "skb->len"], "outputSkbMetadata", ["skb->len"]],
    [
      ["--output-skb-metadata", "skb->len, ,skb->dev->mtu", "--output-skb-metadata=skb->mark"],
      "outputSkbMetadata",
      [
        "skb->len",
        "skb->dev->mtu",
        "skb->mark",
      ],
    ],
    [["--output-xdp-metadata", "xdp->frame_sz"], "outputXdpMetadata", ["xdp->frame_sz"]],
    [["--output-tcp-flags"], "outputTcpFlags", true],
    [["--output-tuple=f"], "outputTuple", false],
    [["--ready-file", "/run/r"], "readyFile", "/run/r"],
    [["--set-percpu-buf", "8192"], "setPercpuBuf", 8192],
    [["--ring-size", "1"], "ringSize", 4096],
    [["--ring-size", "4097"], "ringSize", 8192],
    [["--ring-size", "64K"], "ringSize", 65536],
    [["--ring-size", "64KiB"], "ringSize", 65536],
    [["--ring-size", "3m"], "ringSize", 4 * 2 ** 20],
    [["--ring-size", "2 GiB"], "ringSize", 2 ** 31],
    [["--timestamp", "relative"], "timestamp", "relative"],
    [["--version"], "version", true],
  ])("%j", (args, key, value) => {
    expect(parseCommandLine(args)).toEqual({ options: { ...defaults, [key]: value }, filter: "" });
  });

  test("defaults", () => {
    expect(defaults).toEqual({
      allKmods: false,
      backend: "",
      completions: "",
      debug: false,
      demo: false,
      doctor: false,
      dumpFilter: "",
      dumpLinkType: "EN10MB",
      filterFunc: "",
      filterIfname: undefined,
      filterKprobeBatch: 10,
      filterTrackBpfHelpers: false,
      outputBpfmap: false,
      filterMark: { mark: 0, mask: 0 },
      filterNetns: undefined,
      filterNonSkbFuncs: [],
      filterSkbExpr: undefined,
      filterTraceTc: false,
      filterTraceXdp: false,
      filterXdpExpr: undefined,
      filterTrackLimit: 65536,
      filterTrackSkb: false,
      filterTrackSkbByStackid: false,
      filterTunnelPcapL2: undefined,
      filterTunnelPcapL3: undefined,
      help: false,
      kernelBtf: undefined,
      kmods: [],
      man: false,
      netnsNamesMaxLength: 16,
      outputFile: undefined,
      outputFileCompress: false,
      outputFileMaxAge: 0,
      outputFileMaxBackups: 0,
      outputFileMaxSize: 100,
      outputJson: false,
      outputLimitLines: 0,
      outputMeta: true,
      outputNetnsNames: false,
      outputPacketId: false,
      outputCaller: false,
      outputStack: false,
      outputTunnel: false,
      outputSkb: false,
      outputSkbCb: false,
      outputSkbMetadata: [],
      outputSkbSharedInfo: false,
      outputTcpFlags: false,
      outputTuple: true,
      outputXdpMetadata: [],
      readyFile: undefined,
      ringSize: 16777216,
      setPercpuBuf: 4096,
      strict: false,
      summary: "",
      timestamp: "none",
      version: false,
    });
  });
});

test.each<[args: string[], filter: string]>([
  [["tcp", "port", "80"], "tcp port 80"],
  [["tcp and", "--debug", "port 80"], "tcp and port 80"],
  [["--debug", "false"], "false"],
  [["--", "--debug", "-h"], "--debug -h"],
  [["ip[0]", "-", "1", "=", "0x44"], "ip[0] - 1 = 0x44"],
])("filter words %j", (args, filter) => {
  expect(parseCommandLine(args).filter).toBe(filter);
});

test.each<[args: string[], message: string]>([
  [["--filter-nets", "x"], 'Unknown option "--filter-nets": did you mean --filter-netns?'],
  [["--netns"], 'Unknown option "--netns": did you mean --filter-netns?'],
  [["--otuput-meta"], 'Unknown option "--otuput-meta": did you mean --output-meta?'],
  [["-help"], 'Unknown option "-help": did you mean --help?'],
  [["-h=true"], 'Unknown option "-h=true"'],
  [["-i", "eth0"], 'Unknown option "-i"'],
  [["--"], ""],
  [["--=1"], 'Unknown option "--=1"'],
  [["--constructor"], 'Unknown option "--constructor"'],
  [["--__proto__=1"], 'Unknown option "--__proto__"'],
  [["--\u001b[2J"], 'Unknown option "--\\u001b[2J"'],
  [["--readyfile=x"], 'Unknown option "--readyfile"'],
  [["--kmods"], "Option --kmods needs a value: --kmods strings"],
  [["--filter-mark"], "Option --filter-mark needs a value: --filter-mark mark[/mask]"],
  [["--all-kmods=yes"], 'Cannot use "yes" for --all-kmods: want true or false'],
  [["--debug="], 'Cannot use "" for --debug: want true or false'],
  [["--backend", "fentry"], 'Cannot use "fentry" for --backend: want kprobe, kprobe-multi or tracepoint'],
  [["--timestamp", "now"], 'Cannot use "now" for --timestamp: want none, current, relative or absolute'],
  [["--timestamp", ""], 'Cannot use "" for --timestamp: want none, current, relative or absolute'],
  [
    ["--filter-func", "ip_("],
    'Cannot read "ip_(" as a regular expression: "(" without ")"',
  ],
  [
    ["--filter-func", "(?=x)"],
    'Cannot read "(?=x)" as a regular expression: "(?=" is not supported',
  ],
  [
    ["--filter-func", "(a)\\1"],
    'Cannot read "(a)\\1" as a regular expression: backreferences are not supported',
  ],
  [
    ["--filter-func", "[[:nope:]]"],
    'Cannot read "[[:nope:]]" as a regular expression: "[:nope:]" is no character class',
  ],
  [["--filter-ifname", "a/b"], 'Cannot use "a/b" for --filter-ifname: no interface can have this name'],
  [
    ["--filter-mark", ""],
    'Cannot use "" for --filter-mark: "" is neither a decimal number nor 0x and hexadecimal digits',
  ],
  [
    ["--filter-mark", "1/"],
    'Cannot use "1/" for --filter-mark: "" is neither a decimal number nor 0x and hexadecimal digits',
  ],
  [["--filter-kprobe-batch", "0"], 'Cannot use "0" for --filter-kprobe-batch: want at least 1'],
  [
    ["--filter-mark", "1/2/3"],
    'Cannot use "1/2/3" for --filter-mark: want mark or mark/mask, not two slashes',
  ],
  [
    ["--filter-mark", "4294967296"],
    'Cannot use "4294967296" for --filter-mark: 4294967296 does not fit 32 bits',
  ],
  [
    ["--filter-netns", "a/b"],
    'Cannot use "a/b" for --filter-netns: want a path that starts with /, inode:NUMBER, or a name under /run/netns',
  ],
  [
    ["--filter-netns", "inode:0x1"],
    'Cannot use "inode:0x1" for --filter-netns: want a decimal inode number from 1 to 4294967295 after inode:',
  ],
  [
    ["--filter-netns", "inode:0"],
    'Cannot use "inode:0" for --filter-netns: want a decimal inode number from 1 to 4294967295 after inode:',
  ],
  [["--kernel-btf", "a\0b"], 'Cannot use "a\\u0000b" for --kernel-btf: a path has no NUL character'],
  [["--ready-file", "\0"], 'Cannot use "\\u0000" for --ready-file: a path has no NUL character'],
  [["--kmods", 'a"b'], 'Cannot use "a\\"b" for --kmods: a field with " in it must be quoted'],
  [["--kmods", '"ab'], 'Cannot use "\\"ab" for --kmods: a quoted field has no closing "'],
  [["--kmods", '"a"b'], 'Cannot use "\\"a\\"b" for --kmods: want a comma after the closing "'],
  [["--kmods", "a,,b"], 'Cannot use "a,,b" for --kmods: no module can have the name ""'],
  [["--kmods", "../x"], 'Cannot use "../x" for --kmods: no module can have the name "../x"'],
  [
    ["--output-limit-lines", "-1"],
    'Cannot use "-1" for --output-limit-lines: want a whole number, such as 100 or 0x64',
  ],
  [
    ["--output-limit-lines", "08"],
    'Cannot use "08" for --output-limit-lines: want a whole number, such as 100 or 0x64',
  ],
  [
    ["--output-limit-lines", "18446744073709551616"],
    'Cannot use "18446744073709551616" for --output-limit-lines: the largest is 18446744073709551615',
  ],
  [
    ["--ring-size", "16X"],
    'Cannot use "16X" for --ring-size: want bytes, or a number with K, M, G, KiB, MiB or GiB, such as 16M',
  ],
  [
    ["--output-file-max-size", "-1"],
    'Cannot use "-1" for --output-file-max-size: want a whole number, such as 100 or 0x64',
  ],
  [
    ["--netns-names-max-length", "256"],
    'Cannot use "256" for --netns-names-max-length: the largest is 255',
  ],
  [
    ["--output-skb-metadata", "skb->a,skb->b", "--output-skb-metadata", Array(31).fill("skb->c").join()],
    `Cannot use "${
      Array(31).fill("skb->c").join()
    }" for --output-skb-metadata: at most 32 expressions, not 33`,
  ],
  [["--ring-size", "0"], 'Cannot use "0" for --ring-size: a ring buffer needs at least one page'],
  [["--ring-size", "3G"], 'Cannot use "3G" for --ring-size: the largest ring buffer is 2G'],
])("error %j", (args, message) => {
  let said = "";
  try {
    parseCommandLine(args);
  } catch (error) {
    expect(error).toBeInstanceOf(UsageError);
    said = (error as Error).message;
  }
  expect(said).toBe(message);
});

test.each(optionList)("every option is consistent: %s", (name, option) => {
  expect(name).toMatch(/^[a-z]+(-[a-z0-9]+)*$/);
  expect(option.help).toMatch(/^[^A-Z]/);
  expect(option.help).not.toMatch(/\.$/);
  expect(Object.keys(defaults)).toContain(camelCase(name));
  for (const word of option.words ?? []) expect(option.parse(word, option.default) as string).toBe(word);
  if (option.type !== "") {
    expect(() => parseCommandLine([`--${name}`])).toThrow(`Option --${name} needs a value`);
  }
  if (!option.hidden) expect(nearestOption(name)).toBe(name);
});
