import { describe, expect, test } from "bun:test";
import { MISSING, recordLayout } from "../../bpf-programs/events.ts";
import type { InterfaceNames, Names, NetnsNames, PrintOptions } from "../../lib/output/printer.ts";
import { TextPrinter } from "../../lib/output/text.ts";
import { MemorySink } from "../../lib/output/writer.ts";
import { reasonArgument, record, type RecordValues, someValue } from "./records.ts";

const names: Names = {
  probe: (address) =>
    new Map([
      [0xffffffff81000000n, "ip_output"],
      [0xffffffff81000010n, "sk_skb_reason_drop"],
      [0xffffffff81000020n, "kfree_skb_reason"],
      [0xffffffffc1000000n, "vxlan_rcv[vxlan]"],
      [0xfffffffec1000000n, "same_low_word"],
      [1n, "kfree_skb"],
      [2n, "netif_receive_skb"],
    ]).get(address),
  symbol: (address) =>
    address >= 0xffffffff81234567n - 0x1an && address < 0xffffffff81234700n
      ? { name: "tcp_v4_rcv", offset: Number(address - 0xffffffff81234567n) + 0x1a }
      : undefined,
  dropReasons: new Map([
    [0, "SKB_NOT_DROPPED_YET"],
    [8, "SKB_DROP_REASON_NETFILTER_DROP"],
    [0x30001, "OVS_DROP_LAST_ACTION"],
  ]),
  reasonArgument,
};
const interfaces: InterfaceNames = {
  nameOf: (netns, ifindex) => netns === 4026531840 && ifindex === 2 ? "eth0" : undefined,
  generation: 0,
};

const DEFAULTS: PrintOptions = {
  outputMeta: true,
  outputTuple: true,
  outputTcpFlags: false,
  outputNetnsNames: false,
  netnsNamesMaxLength: 16,
  timestamp: "none",
  tracepoints: false,
  // Such that the example's event happens at 2026-08-21 10:15:30.123456789 UTC.
  bootOffsetNs: BigInt(Date.UTC(2026, 7, 21, 10, 15, 30)) * 1_000_000n + 123_456_789n - 45_557_282_884_169n,
};

interface Setting {
  options?: Partial<PrintOptions>;
  names?: Partial<Names>;
  interfaces?: InterfaceNames;
  netnsNames?: NetnsNames;
}

function printed(records: RecordValues[], setting: Setting = {}): string[] {
  const sink = new MemorySink();
  const options: PrintOptions = { ...DEFAULTS, ...setting.options };
  const printer = new TextPrinter(
    sink,
    options,
    { ...names, ...setting.names },
    setting.interfaces ?? interfaces,
    setting.netnsNames,
  );
  printer.header();
  for (const values of records) printer.print(record(values, options.record), 0);
  expect(printer.printed).toBe(records.length);
  return sink.take().trimEnd().split("\n");
}

/** The one line of a record, without meta and tuple. */
function shortLine(values: RecordValues, setting: Setting = {}): string {
  const options = { outputMeta: false, outputTuple: false, ...setting.options };
  return printed([values], { ...setting, options })[1]!;
}

describe("pwru's lines", () => {
  test("by default", () => {
    expect(printed([{}, { address: 0xffffffff81000010n, argument3: 8n }])).toEqual([
      "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  MTU   LEN   TUPLE FUNC",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 4026531840 0             eth0:2      0x0800 1500  60    10.0.2.15:40718->1.0.0.1:8080(tcp) ip_output",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 4026531840 0             eth0:2      0x0800 1500  60    10.0.2.15:40718->1.0.0.1:8080(tcp) sk_skb_reason_drop(SKB_DROP_REASON_NETFILTER_DROP)",
    ]);
  });

  test("--timestamp absolute", () => {
    expect(printed([{}], { options: { timestamp: "absolute" } })).toEqual([
      "TIME                    SKB                CPU PROCESS          TIMESTAMP        NETNS      MARK/x        IFACE       PROTO  MTU   LEN   TUPLE FUNC",
      "2026-08-21T10:15:30.123 0xffff8880052a4e00 1   ~/bin/curl:12345 45557282884169   4026531840 0             eth0:2      0x0800 1500  60    10.0.2.15:40718->1.0.0.1:8080(tcp) ip_output",
    ]);
  });

  test("--timestamp relative --output-meta=false --output-tuple=false", () => {
    const options = { timestamp: "relative", outputMeta: false, outputTuple: false } as const;
    const later = { timestamp: 45557282884169n + 1830n };
    expect(printed([{}, { skb: 0n, ...later }, later, {}], { options })).toEqual([
      "SKB                CPU PROCESS          TIMESTAMP        FUNC",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 0                ip_output",
      "0x0                1   ~/bin/curl:12345 0                ip_output",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 1830             ip_output",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 -1830            ip_output",
    ]);
  });

  test("--output-caller: behind the longest function so far", () => {
    const options = { outputMeta: false, outputTuple: false, record: recordLayout({ caller: true }) };
    const caller = 0xffffffff81234567n;
    const records = [{ caller }, { caller, address: 0xffffffff81000010n, argument3: 8n }, { caller }, {
      caller: 0n,
    }];
    expect(printed(records, { options })).toEqual([
      "SKB                CPU PROCESS          FUNC CALLER",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output tcp_v4_rcv",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 sk_skb_reason_drop(SKB_DROP_REASON_NETFILTER_DROP) tcp_v4_rcv",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output                                          tcp_v4_rcv",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output                                          0x0",
    ]);
  });

  test("--output-stack: a function a line, none where the kernel could not tell", () => {
    const options = { outputMeta: false, outputTuple: false, record: recordLayout({ stack: true }) };
    const stack = [0xffffffff8123454dn, 0xffffffff81234567n, 0x1000n];
    expect(printed([{ stack }, {}, { stack, stackBytes: -14 }], { options })).toEqual([
      "SKB                CPU PROCESS          FUNC",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output",
      "tcp_v4_rcv",
      "tcp_v4_rcv",
      "0x1000",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output",
    ]);
  });

  test("--output-stack at a tracepoint begins with the function that passes it", () => {
    const options = {
      outputMeta: false,
      outputTuple: false,
      tracepoints: true,
      record: recordLayout({ stack: true }),
    };
    const functions = [
      "bpf_prog_0123456789abcdef_tp_kfree_skb[bpf]",
      "bpf_trace_run4",
      "__traceiter_kfree_skb",
      "bpf_prog_0123456789abcdef_someones_tc",
    ];
    const symbol = (address: bigint) => {
      const name = functions[Number(address >> 8n)];
      return name === undefined ? undefined : { name, offset: Number(address & 0xffn) };
    };
    const stack = [0x10n, 0x110n, 0x210n, 0x310n, 0x910n];
    const lines = printed([{ stack, address: 1n }], { options, names: { symbol } });
    expect(lines.slice(2)).toEqual(["bpf_prog_0123456789abcdef_someones_tc", "0x910"]);
  });

  test("--output-skb-cb", () => {
    const record = recordLayout({ controlBlock: true });
    const records = [{}, { controlBlock: [0, 42, 0xabcdef, 1, 0xffffffff] }, {
      missing: MISSING.controlBlock,
    }];
    expect(printed(records, { options: { record } })).toEqual([
      "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  MTU   LEN   __sk_buff->cb[]                                          TUPLE FUNC",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 4026531840 0             eth0:2      0x0800 1500  60    [0x00000000,0x00000000,0x00000000,0x00000000,0x00000000] 10.0.2.15:40718->1.0.0.1:8080(tcp) ip_output",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 4026531840 0             eth0:2      0x0800 1500  60    [0x00000000,0x0000002A,0x00ABCDEF,0x00000001,0xFFFFFFFF] 10.0.2.15:40718->1.0.0.1:8080(tcp) ip_output",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 4026531840 0             eth0:2      0x0800 1500  60    [unreadable]                                             10.0.2.15:40718->1.0.0.1:8080(tcp) ip_output",
    ]);
  });

  test("--output-skb and --output-skb-shared-info: below the stack, in this order", () => {
    const dump = (name: string) => (view: DataView, at: number) =>
      `(struct ${name}){\n .x = ${view.getUint32(at)},\n}\n`;
    const options = {
      outputMeta: false,
      outputTuple: false,
      record: recordLayout({ stack: true, skbBytes: 8, sharedInfoBytes: 16 }),
      dumps: [
        { name: "skb", struct: "sk_buff", dump: dump("sk_buff") },
        { name: "sharedInfo", struct: "skb_shared_info", dump: dump("skb_shared_info") },
      ],
    } as const;
    const copies = { skb: "00000007", sharedInfo: "00000009" };
    const records = [{ stack: [0xffffffff81234567n], copies }, { copies, missing: MISSING.sharedInfo }];
    expect(printed(records, { options })).toEqual([
      "SKB                CPU PROCESS          FUNC",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output",
      "tcp_v4_rcv",
      "(struct sk_buff){",
      " .x = 7,",
      "}",
      "",
      "(struct skb_shared_info){",
      " .x = 9,",
      "}",
      "",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output",
      "(struct sk_buff){",
      " .x = 7,",
      "}",
      "",
      "(struct skb_shared_info)unreadable",
    ]);
  });

  test("--output-skb-metadata: behind the function and its caller", () => {
    const value = (label: string) => ({ source: `skb->${label}`, label, text: String, plain: Number });
    const options = {
      outputMeta: false,
      outputTuple: false,
      record: recordLayout({ caller: true, stack: true, values: [someValue, someValue, someValue] }),
      values: ["len", "mtu", "mark"].map(value),
    };
    const values = {
      caller: 0xffffffff81234567n,
      stack: [0xffffffff81234567n],
      expressions: [60n, undefined, 0n],
    };
    expect(printed([values], { options })).toEqual([
      "SKB                CPU PROCESS          FUNC CALLER",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output tcp_v4_rcv len=60 mtu=- mark=0",
      "tcp_v4_rcv",
    ]);
  });

  test("--output-bpfmap: below the functions on a map, whatever the bytes are", () => {
    const options = { outputMeta: false, outputTuple: false, record: recordLayout({ mapOperation: true }) };
    const map = { has: 7, id: 5, name: "flo\x1bws", sizes: [4, 20], key: "2a000000" } as const;
    const value = "41424344 1b5b324a 00ff7f20 30313233 7e000000";
    const function_ = "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output";
    const records = [
      { map: { ...map, value } },
      { map: { ...map, has: 1 | 2 | 8 } },
      { map: { ...map, has: 1, sizes: [0, 300] as const } },
      { map: { ...map, has: 0 } },
    ];
    expect(printed(records, { options }).slice(1)).toEqual([
      function_,
      "map_id: 5",
      "map_name: flo?ws",
      "key(4):",
      "00000000  2a 00 00 00                                       |*...|",
      "value(20):",
      "00000000  41 42 43 44 1b 5b 32 4a  00 ff 7f 20 30 31 32 33  |ABCD.[2J... 0123|",
      "00000010  7e 00 00 00                                       |~...|",
      function_,
      "map_id: 5",
      "map_name: flo?ws",
      "key(4):",
      "00000000  2a 00 00 00                                       |*...|",
      "value(20): none",
      function_,
      "map_id: 5",
      "map_name: flo?ws",
      function_,
    ]);
  });

  test("--output-bpfmap: of a long key as much as there is", () => {
    const options = { outputMeta: false, outputTuple: false, record: recordLayout({ mapOperation: true }) };
    const map = { has: 3, id: 5, name: "m", sizes: [1000, 0] as const, key: "11".repeat(256) };
    const lines = printed([{ map }], { options });
    expect(lines.slice(2, 5)).toEqual([
      "map_id: 5",
      "map_name: m",
      "key(1000):",
    ]);
    expect(lines.length).toBe(5 + 16);
  });

  test("--output-xdp-metadata: of frames only, and --output-skb-metadata of the others", () => {
    const value = (label: string) => ({ source: `x->${label}`, label, text: String, plain: Number });
    const record = recordLayout({ values: [someValue], xdpValues: [someValue, someValue] });
    const options = {
      outputMeta: false,
      outputTuple: false,
      record,
      values: [value("len")],
      xdpValues: [value("frame_sz"), value("queue_index")],
    };
    const records = [{ ofFrame: true, expressions: [4096n, undefined] }, { expressions: [60n] }];
    expect(printed(records, { options }).map((line) => line.replace(/.* ip_output/, ""))).toEqual([
      "SKB                CPU PROCESS          FUNC",
      " frame_sz=4096 queue_index=-",
      " len=60",
    ]);
  });

  test("--output-tunnel: behind the caller, before what has no column", () => {
    const record = recordLayout({ caller: true, tunnel: true, values: [someValue] });
    const values = [{ source: "skb->len", label: "len", text: String, plain: Number }];
    const options = { outputMeta: false, outputTcpFlags: true, record, values };
    const inner = "45 00 003c 0000 4000 40 06 0000 0af40105 0af40207 0fa0 0050 00000000 00000000 50 02 ffff";
    const records = [{ caller: 0xffffffff81234567n, tunnel: inner, expressions: [60n] }, {
      expressions: [60n],
    }];
    expect(printed(records, { options })).toEqual([
      "SKB                CPU PROCESS          TUPLE FUNC CALLER TUNNEL",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 10.0.2.15:40718->1.0.0.1:8080(tcp:SYN) ip_output tcp_v4_rcv 10.244.1.5:4000->10.244.2.7:80(tcp:SYN) len=60",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 10.0.2.15:40718->1.0.0.1:8080(tcp:SYN) ip_output 0x0 :0->:0() len=60",
    ]);
  });

  test("what an expression or a struct is called cannot reach the terminal's controls", () => {
    const options = {
      outputMeta: false,
      outputTuple: false,
      record: recordLayout({ skbBytes: 8, values: [someValue] }),
      values: [{ source: "\x1b", label: "a\x1b[2Jb", text: () => "c\x07", plain: Number }],
      dumps: [{ name: "skb", struct: "sk_buff", dump: () => "\x9b\ud83d\ude00\n" }],
    } as const;
    expect(printed([{ expressions: [1n] }], { options }).slice(1)).toEqual([
      "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output a?[2Jb=c?",
      "??",
    ]);
  });

  test("--output-netns-names", () => {
    const options = { outputNetnsNames: true };
    expect(printed([{}], { options, netnsNames: { nameOf: () => "blue", generation: 0 } })).toEqual([
      "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  MTU   LEN     NETNS NAME    TUPLE FUNC",
      "0xffff8880052a4e00 1   ~/bin/curl:12345 4026531840 0             eth0:2      0x0800 1500  60         blue       10.0.2.15:40718->1.0.0.1:8080(tcp) ip_output",
    ]);
  });

  test.each<[name: string | undefined, width: number, text: string]>([
    [undefined, 16, "                "],
    ["blue", 10, "   blue   "],
    ["0123456789abcdef", 16, "0123456789abcdef"],
    ["0123456789abcdefg", 16, "0123456789abcdef"],
    ["0123456789abcdefg", 10, "0123456789"],
    ["x\x1b[2J\u00fc", 16, "     x?[2J?     "],
    ["n".repeat(255), 255, "n".repeat(255)],
  ])("namespace %j in %i columns", (name, netnsNamesMaxLength, text) => {
    const options = { outputMeta: false, outputTuple: false, outputNetnsNames: true, netnsNamesMaxLength };
    const [header, line] = printed([{}], { options, netnsNames: { nameOf: () => name, generation: 0 } });
    expect(line).toBe(`0xffff8880052a4e00 1   ~/bin/curl:12345${text} ip_output`);
    expect(header).toHaveLength(39 + netnsNamesMaxLength + " FUNC".length);
  });

  test("--output-tcp-flags", () => {
    const tcp = (flags: string) =>
      `45 00 0028 0000 0000 40 06 0000 01000001 01000002 0050 0051 00000000 00000000 50 ${flags} ffff`;
    const udp = "45 00 001c 0000 0000 40 11 0000 01000001 01000002 0035 0035";
    const options = { outputMeta: false, outputTcpFlags: true };
    const tuples = ["02", "12", "00", "ff"].map(tcp).concat(udp)
      .map((headers) => printed([{ headers }], { options })[1]!.split(" ").at(-2));
    expect(tuples).toEqual([
      "1.0.0.1:80->1.0.0.2:81(tcp:SYN)",
      "1.0.0.1:80->1.0.0.2:81(tcp:SYN|ACK)",
      "1.0.0.1:80->1.0.0.2:81(tcp)",
      "1.0.0.1:80->1.0.0.2:81(tcp:FIN|SYN|RST|PSH|ACK|URG|ECE|CWR)",
      "1.0.0.1:53->1.0.0.2:53(udp)",
    ]);
    expect(printed([{ headers: tcp("12") }])[1]).toContain(":81(tcp) ");
  });

  test("tuples are padded to the longest so far", () => {
    const udp = "45 00 001c 0000 0000 40 11 0000 01000001 01000002 0035 0035";
    const lines = printed([{ headers: udp }, {}, { headers: udp }]);
    expect(lines.slice(1).map((line) => line.slice(96))).toEqual([
      "1.0.0.1:53->1.0.0.2:53(udp) ip_output",
      "10.0.2.15:40718->1.0.0.1:8080(tcp) ip_output",
      "1.0.0.1:53->1.0.0.2:53(udp)        ip_output",
    ]);
  });

  test("widths only pad", () => {
    const values = {
      cpu: 1023,
      netns: 7,
      mark: 0xfeedface,
      ifindex: 0,
      protocol: 0,
      mtu: 262144,
      len: 1048576,
    };
    expect(printed([{ ...values, headers: "" }])[1]).toBe(
      "0xffff8880052a4e00 1023 ~/bin/curl:12345 7          feedface        0         0x0000 262144 1048576 :0->:0() ip_output",
    );
  });
});

test("events that are missing are a comment, and none of them is printed", () => {
  const sink = new MemorySink();
  const printer = new TextPrinter(sink, { ...DEFAULTS, outputMeta: false }, names, interfaces);
  printer.gap(1n);
  printer.gap(12345678901234n);
  expect(sink.take()).toBe(
    "# lost 1 event here: the ring buffer was full\n# lost 12345678901234 events here: the ring buffer was full\n",
  );
  expect(printer.printed).toBe(0);
});

describe("function", () => {
  test.each<[text: string, values: RecordValues]>([
    ["ip_output", {}],
    ["vxlan_rcv[vxlan]", { address: 0xffffffffc1000000n }],
    ["same_low_word", { address: 0xfffffffec1000000n }],
    ["0xffffffff81abcdef", { address: 0xffffffff81abcdefn }],
    ["kfree_skb_reason(SKB_DROP_REASON_NETFILTER_DROP)", { address: 0xffffffff81000020n, argument2: 8n }],
    // The register's upper half is not part of the enum.
    ["kfree_skb_reason(SKB_DROP_REASON_NETFILTER_DROP)", {
      address: 0xffffffff81000020n,
      argument2: 0xdead00000008n,
    }],
    ["kfree_skb_reason (4294967295)", {
      address: 0xffffffff81000020n,
      argument2: 0xffffffffn,
      argument3: 8n,
    }],
    ["sk_skb_reason_drop(OVS_DROP_LAST_ACTION)", { address: 0xffffffff81000010n, argument3: 0x30001n }],
    ["sk_skb_reason_drop (65537)", { address: 0xffffffff81000010n, argument2: 8n, argument3: 0x10001n }],
    ["kfree_skb", { address: 1n, argument3: 8n }],
  ])("%s", (text, values) => {
    expect(shortLine(values)).toBe(`0xffff8880052a4e00 1   ~/bin/curl:12345 ${text}`);
  });

  test.each<[text: string, values: RecordValues]>([
    ["netif_receive_skb", { address: 2n, argument2: 0xffffffff81234567n, argument3: 8n }],
    ["kfree_skb(SKB_DROP_REASON_NETFILTER_DROP) tcp_v4_rcv+0x1a", {
      address: 1n,
      argument2: 0xffffffff81234567n,
      argument3: 8n,
    }],
    ["kfree_skb(SKB_DROP_REASON_NETFILTER_DROP)", { address: 1n, argument2: 5n, argument3: 8n }],
    ["kfree_skb (99)", { address: 1n, argument2: 0n, argument3: 99n }],
    ["kfree_skb(SKB_NOT_DROPPED_YET)", { address: 1n }],
  ])("tracepoint %s", (text, values) => {
    const line = shortLine(values, { options: { tracepoints: true } });
    expect(line).toBe(`0xffff8880052a4e00 1   ~/bin/curl:12345 ${text}`);
  });

  test("tracepoint kfree_skb of a kernel without drop reasons", () => {
    const values = { address: 1n, argument2: 0xffffffff81234567n, argument3: 0n };
    const line = shortLine(values, { options: { tracepoints: true }, names: { dropReasons: new Map() } });
    expect(line).toEndWith(" kfree_skb tcp_v4_rcv+0x1a");
  });

  test("a function that is called constructor is no drop", () => {
    expect(shortLine({}, { names: { probe: () => "constructor" } })).toEndWith(" constructor");
  });
});

describe("process", () => {
  test.each<[text: string, values: RecordValues]>([
    ["swapper/0:0     ", { comm: "swapper/0", pid: 0 }],
    ["sixteen-cha:1234", { comm: "sixteen-cha", pid: 1234 }],
    ["~venteen-ch:1234", { comm: "seventeen-ch", pid: 1234 }],
    ["~op:1:4294967295", { comm: "ksoftirqd/loop:1", pid: 4294967295 }],
    ["a?[2Jb?:7       ", { comm: "a\x1b[2Jb\x7f", pid: 7 }],
    ["m??:7           ", { comm: "m\u00fc\n", pid: 7 }],
    [":7              ", { comm: "", pid: 7 }],
    ["Web Content:7   ", { comm: "Web Content", pid: 7 }],
  ])("%s", (text, values) => {
    expect(shortLine(values).slice(23, -10)).toBe(text);
  });

  test("a process that changes its name does not keep the old one", () => {
    const options = { outputMeta: false, outputTuple: false };
    const lines = printed([{ comm: "bash" }, { comm: "curl" }, { comm: "bash" }], { options });
    expect(lines.slice(1).map((line) => line.slice(23, 33))).toEqual([
      "bash:12345",
      "curl:12345",
      "bash:12345",
    ]);
  });
});

describe("interface", () => {
  const iface = (values: RecordValues, source: InterfaceNames = interfaces) =>
    printed([values], { interfaces: source })[1]!.slice(60, 76);

  test.each<[text: string, values: RecordValues, name: string | undefined]>([
    ["     eth0:2     ", {}, "eth0"],
    ["       0        ", { ifindex: 0 }, "never asked"],
    ["       17       ", { ifindex: 17 }, undefined],
    ["~123456789abcd:5", { ifindex: 5 }, "x0123456789abcd"],
    ["     a?b:5      ", { ifindex: 5 }, "a\u0001b"],
  ])("%s", (text, values, name) => {
    expect(iface(values, { nameOf: () => name, generation: 0 })).toBe(text);
  });

  test("an unknown one is asked for again, a known one only in the next generation", () => {
    let asked = 0;
    const source = { generation: 0, nameOf: () => ++asked === 1 ? undefined : `if${asked}` };
    const sink = new MemorySink();
    const options: PrintOptions = {
      outputMeta: true,
      outputTuple: false,
      outputTcpFlags: false,
      outputNetnsNames: false,
      netnsNamesMaxLength: 16,
      timestamp: "none",
      tracepoints: false,
      bootOffsetNs: 0n,
    };
    const printer = new TextPrinter(sink, options, names, source);
    const line = record();
    for (let i = 0; i < 3; i++) printer.print(line, 0);
    source.generation++;
    printer.print(line, 0);
    expect(sink.take().split("\n").map((text) => text.slice(60, 76).trim())).toEqual([
      "2",
      "if2:2",
      "if2:2",
      "if3:2",
      "",
    ]);
  });
});

describe("time", () => {
  const SECOND = 1_000_000_000n;
  test.each<[mode: PrintOptions["timestamp"], ns: bigint, text: string]>([
    ["current", 0n, "0               "],
    ["current", 999_999_999n, "999999999       "],
    ["current", SECOND, "1000000000      "],
    ["current", 2n ** 32n * SECOND + 5n, "4294967296000000005"],
    ["current", 2n ** 53n - 1n, "9007199254740991"],
    ["current", 9_007_199n * SECOND - 1n, "9007198999999999"],
    ["current", 2n ** 53n + 1n, "9007199254740993"],
    ["current", 2n ** 64n - 1n, "18446744073709551615"],
  ])("%s %i", (mode, ns, text) => {
    const line = shortLine({ timestamp: ns }, { options: { timestamp: mode } });
    expect(line.slice(40, -10)).toBe(text);
  });

  test("relative stays exact after 104 days of uptime", () => {
    const options = { timestamp: "relative", outputMeta: false, outputTuple: false } as const;
    const start = 2n ** 60n;
    const lines = printed([{ timestamp: start }, { timestamp: start + 1n }, {
      timestamp: start + 86401n * SECOND,
    }], {
      options,
    });
    expect(lines.slice(1).map((line) => line.slice(40, 56).trim())).toEqual(["0", "1", "86400999999999"]);
  });

  test.each<[offset: bigint, ns: bigint, text: string]>([
    [0n, 0n, "1970-01-01T00:00:00.000"],
    [999_999_999n, 1n, "1970-01-01T00:00:01.000"],
    [-1n, SECOND, "1970-01-01T00:00:00.999"],
    [-1n - SECOND, 3n * SECOND, "1970-01-01T00:00:01.999"],
  ])("absolute, clocks %i apart at %i", (bootOffsetNs, timestamp, text) => {
    expect(shortLine({ timestamp }, { options: { timestamp: "absolute", bootOffsetNs } }).slice(0, 24)).toBe(
      `${text} `,
    );
  });
});

test("numbers of packets, in the order of their first lines", () => {
  const options = { outputMeta: false, outputTuple: false, record: recordLayout({ stamp: true }) };
  const lines = printed([{ stamp: 900n }, { stamp: 7n }, { stamp: 900n }, { stamp: 0n }], { options });
  expect(lines.map((line) => line.slice(19, 29))).toEqual([
    "PACKET CPU",
    "1      1  ",
    "2      1  ",
    "1      1  ",
    "0      1  ",
  ]);
});
