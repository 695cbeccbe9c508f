import { describe, expect, test } from "bun:test";
import { MISSING, packetEvent, recordLayout, STACK_FRAMES } from "../../bpf-programs/events.ts";
import { JsonPrinter } from "../../lib/output/json.ts";
import type { InterfaceNames, Names, NetnsNames, PrintOptions } from "../../lib/output/printer.ts";
import { MemorySink } from "../../lib/output/writer.ts";
import { reasonArgument, record, type RecordValues, someValue } from "./records.ts";
import { validEvent, validLine } from "./schema.ts";

const DROP = { address: 0xffffffff81000010n } as const;
const names: Names = {
  probe: (address) =>
    new Map([[0xffffffff81000000n, "ip_output"], [DROP.address, "sk_skb_reason_drop"], [1n, "kfree_skb"], [
      2n,
      "consume_skb",
    ]])
      .get(address),
  symbol: (address) =>
    address >= 0xffffffff81234567n - 0x1an && address < 0xffffffff81234700n
      ? { name: "tcp_v4_rcv", offset: Number(address - 0xffffffff81234567n) + 0x1a }
      : undefined,
  dropReasons: new Map([[0, "SKB_NOT_DROPPED_YET"], [8, "SKB_DROP_REASON_NETFILTER_DROP"]]),
  reasonArgument,
};
const interfaces: InterfaceNames = {
  nameOf: (_, ifindex) => ifindex === 2 ? "eth0" : undefined,
  generation: 0,
};
const netnsNames: NetnsNames = {
  nameOf: (netns) => netns === 4026531840 ? "blue" : undefined,
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
  interfaces?: Partial<InterfaceNames>;
  netnsNames?: Partial<NetnsNames>;
}

function printed(records: RecordValues[], setting: Setting = {}): string[] {
  const sink = new MemorySink();
  const options: PrintOptions = { ...DEFAULTS, ...setting.options };
  const printer = new JsonPrinter(
    sink,
    options,
    { ...names, ...setting.names },
    { ...interfaces, ...setting.interfaces },
    { ...netnsNames, ...setting.netnsNames },
  );
  printer.header();
  for (const values of records) printer.print(record(values, setting.options?.record), 0);
  expect(printer.printed).toBe(records.length);
  const text = sink.take();
  expect(text).toEndWith("\n");
  return text.slice(0, -1).split("\n");
}

/** The one line of a record, checked against the schema. */
function event(values: RecordValues, setting: Setting = {}): Record<string, unknown> {
  return validEvent(printed([values], setting)[0]!);
}

const BARE = { outputMeta: false, outputTuple: false } as const;

test("--output-bpfmap: the map, key and value of functions on one", () => {
  const options = { ...BARE, record: recordLayout({ mapOperation: true }) };
  const map = { has: 7, id: 5, name: "flows", sizes: [4, 2] as const, key: "2a000000", value: "ff00" };
  const shown = (has: number) => event({ map: { ...map, has } }, { options })["bpf_map"];
  expect(shown(7)).toEqual({
    id: 5,
    name: "flows",
    key_size: 4,
    value_size: 2,
    key: "2a000000",
    value: "ff00",
  });
  expect(shown(1 | 2 | 8)).toEqual({
    id: 5,
    name: "flows",
    key_size: 4,
    value_size: 2,
    key: "2a000000",
    value: null,
  });
  expect(shown(1)).toEqual({ id: 5, name: "flows", key_size: 4, value_size: 2 });
  expect(shown(0)).toBeUndefined();
});

describe("who called", () => {
  const symbol = (address: bigint) => {
    const functions: [start: bigint, name: string][] = [
      [0xffffffff81000000n, "ip_output"],
      [0xffffffff82000000n, "ip_local_out"],
      [0xffffffff82000100n, "next_function"],
      [0xffffffffc0000000n, "vxlan_xmit[vxlan]"],
    ];
    const found = functions.findLast(([start]) => start <= address);
    return found === undefined ? undefined : { name: found[1], offset: Number(address - found[0]) };
  };

  test.each<[title: string, caller: bigint, name: string | null]>([
    ["a function", 0xffffffff82000042n, "ip_local_out"],
    ["a call at the very end of a function", 0xffffffff82000100n, "ip_local_out"],
    ["a module's function", 0xffffffffc0000001n, "vxlan_xmit[vxlan]"],
    ["code without a symbol", 0x1000n, "0x1000"],
    ["unknown", 0n, null],
  ])("%s", (_, caller, name) => {
    const options = { ...BARE, record: recordLayout({ caller: true }) };
    expect(event({ caller }, { options, names: { symbol } })).toEqual({
      schema: 1,
      type: "kprobe",
      skb: "0xffff8880052a4e00",
      cpu: 1,
      process: "/usr/bin/curl:12345",
      func: "ip_output",
      caller_func: name,
    });
  });

  test.each<[title: string, stack: bigint[], names: string[]]>([
    [
      "each with its place",
      [0xffffffff81000005n, 0xffffffff82000042n, 0xffffffffc0000010n],
      ["ip_output+0x5", "ip_local_out+0x42", "vxlan_xmit[vxlan]+0x10"],
    ],
    ["a call at the very end of a function", [0xffffffff82000100n, 0xffffffff82000100n], [
      "next_function+0x0",
      "ip_local_out+0x100",
    ]],
    ["code without a symbol", [0xffffffff81000005n, 0x1000n], ["ip_output+0x5", "0x1000"]],
    ["no stack", [], []],
  ])("a stack: %s", (_, stack, names) => {
    const options = { ...BARE, record: recordLayout({ stack: true }) };
    expect(event({ stack }, { options, names: { symbol } })["stack"]).toEqual(names);
  });

  test("a stack that the kernel could not tell is empty", () => {
    const options = { ...BARE, record: recordLayout({ stack: true }) };
    expect(event({ stackBytes: -14 }, { options })["stack"]).toEqual([]);
  });

  test("the longest stack of the longest names keeps within its room", () => {
    const name = "\u00fc".repeat(60), stack = Array.from({ length: STACK_FRAMES }, (_, i) => BigInt(i + 1));
    const options = { record: recordLayout({ stack: true, caller: true }) };
    const line = printed([{ stack, caller: 1n }], {
      options,
      names: { symbol: () => ({ name, offset: 255 }) },
    });
    expect(validEvent(line[0]!)).toMatchObject({ caller_func: name });
    expect(validEvent(line[0]!)["stack"]).toHaveLength(STACK_FRAMES);
  });
});

describe("copies and values", () => {
  const dumps = [
    { name: "skb", struct: "sk_buff", dump: () => "(struct sk_buff){\n .x = (char[])[\n  '\"',\n ],\n}\n" },
    { name: "sharedInfo", struct: "skb_shared_info", dump: () => "(struct skb_shared_info){\n}\n" },
  ] as const;
  const values = [
    { source: "skb->len", label: "len", text: String, plain: Number },
    { source: "skb->dev->mtu", label: "mtu", text: String, plain: Number },
    { source: "skb->head", label: "head", text: String, plain: (value: bigint) => `0x${value.toString(16)}` },
    {
      source: "skb->tc_at_ingress == 1",
      label: "skb->tc_at_ingress == 1",
      text: String,
      plain: (value: bigint) => value !== 0n,
    },
  ];
  const layout = recordLayout({
    controlBlock: true,
    skbBytes: 8,
    sharedInfoBytes: 8,
    values: values.map(() => someValue),
  });
  const options = { ...BARE, record: layout, dumps, values };
  const common = {
    schema: 1,
    type: "kprobe",
    skb: "0xffff8880052a4e00",
    cpu: 1,
    process: "/usr/bin/curl:12345",
    func: "ip_output",
  };

  test("all", () => {
    const expressions = [60n, undefined, 0xffff888000000000n, 1n];
    expect(event({ controlBlock: [0, 1, 2, 3, 0xffffffff], expressions }, { options })).toEqual({
      ...common,
      cb: [0, 1, 2, 3, 0xffffffff],
      sk_buff: dumps[0].dump(),
      skb_shared_info: dumps[1].dump(),
      skb_metadata: {
        "skb->len": 60,
        "skb->dev->mtu": null,
        "skb->head": "0xffff888000000000",
        "skb->tc_at_ingress == 1": true,
      },
    });
  });

  test("of a frame in an XDP program", () => {
    const record = recordLayout({ values: [someValue], xdpValues: [someValue] });
    const both = { ...BARE, record, values: values.slice(0, 1), xdpValues: values.slice(1, 2) };
    expect(event({ ofFrame: true, expressions: [1500n] }, { options: both })).toEqual({
      ...common,
      xdp_metadata: { "skb->dev->mtu": 1500 },
    });
    expect(event({ expressions: [60n] }, { options: both })).toEqual({
      ...common,
      skb_metadata: { "skb->len": 60 },
    });
  });

  test.each(Object.entries(MISSING))("%s could not be read", (name, missing) => {
    const field = { skb: "sk_buff", sharedInfo: "skb_shared_info", controlBlock: "cb" }[name]!;
    const read = event({ missing }, { options });
    expect(read[field]).toBeNull();
    expect(Object.values(read).filter((value) => value === null)).toHaveLength(1);
  });

  test("the packet in a tunnel", () => {
    const options = { outputMeta: false, outputTcpFlags: true, record: recordLayout({ tunnel: true }) };
    expect(event({ tunnel: HEADERS.tcp6 }, { options })).toEqual({
      ...common,
      tuple: { saddr: "10.0.2.15", daddr: "1.0.0.1", sport: 40718, dport: 8080, proto: 6, flags: "SYN" },
      tunnel_tuple:
        event({ headers: HEADERS.tcp6, protocol: 0xdd86 }, { options: { outputTcpFlags: true } })["tuple"],
    });
    expect(event({}, { options: { ...BARE, ...options, outputTuple: false } })).toEqual({
      ...common,
      tunnel_tuple: {},
    });
  });

  test("nothing that was not asked for", () => {
    expect(event({}, { options: { ...BARE, record: recordLayout({}) } })).toEqual(common);
  });
});

describe("lines", () => {
  test("by default", () => {
    expect(printed([{}])).toEqual([
      '{"schema":1,"type":"kprobe","skb":"0xffff8880052a4e00","cpu":1,"process":"/usr/bin/curl:12345","func":"ip_output",' +
      '"netns":4026531840,"mark":0,"iface":"eth0:2","proto":2048,"mtu":1500,"len":60,' +
      '"tuple":{"saddr":"10.0.2.15","daddr":"1.0.0.1","sport":40718,"dport":8080,"proto":6}}',
    ]);
  });

  test("with everything", () => {
    const options = {
      outputTcpFlags: true,
      outputNetnsNames: true,
      timestamp: "absolute",
      tracepoints: true,
    } as const;
    const values = { address: 1n, argument2: 0xffffffff81234567n, argument3: 8n, mark: 0xfeedface };
    expect(printed([values], { options })).toEqual([
      '{"schema":1,"type":"tracepoint","skb":"0xffff8880052a4e00","cpu":1,"process":"/usr/bin/curl:12345",' +
      '"func":"kfree_skb(SKB_DROP_REASON_NETFILTER_DROP)","reason":"SKB_DROP_REASON_NETFILTER_DROP","reason_code":8,' +
      '"location":"tcp_v4_rcv+0x1a","time":"2026-08-21T10:15:30.123456789Z",' +
      '"netns":4026531840,"netns_name":"blue","mark":4277009102,"iface":"eth0:2","proto":2048,"mtu":1500,"len":60,' +
      '"tuple":{"saddr":"10.0.2.15","daddr":"1.0.0.1","sport":40718,"dport":8080,"proto":6,"flags":"SYN"}}',
    ]);
  });

  test("nothing is left out because it is zero", () => {
    const zero = {
      timestamp: 0n,
      skb: 0n,
      netns: 0,
      mark: 0,
      ifindex: 0,
      mtu: 0,
      len: 0,
      pid: 0,
      cpu: 0,
      protocol: 0,
      comm: "",
      headers: "45 00 001c 0000 0000 40 00 0000 00000000 00000000",
    };
    const options = { timestamp: "current", outputNetnsNames: true, outputTcpFlags: true } as const;
    expect(event(zero, { options })).toEqual({
      schema: 1,
      type: "kprobe",
      skb: "0x0",
      cpu: 0,
      process: ":0",
      func: "ip_output",
      time: 0,
      netns: 0,
      netns_name: null,
      mark: 0,
      iface: "0",
      proto: 0,
      mtu: 0,
      len: 0,
      tuple: { saddr: "0.0.0.0", daddr: "0.0.0.0", sport: 0, dport: 0, proto: 0 },
    });
  });

  test("the largest values", () => {
    const most = 0xffff_ffff;
    const largest = { cpu: most, pid: most, netns: most, mark: most, ifindex: most, mtu: most, len: most };
    expect(event({ ...largest, protocol: 0xffff, skb: 2n ** 64n - 1n })).toMatchObject({
      skb: "0xffffffffffffffff",
      cpu: most,
      process: `/usr/bin/curl:${most}`,
      netns: most,
      mark: most,
      iface: `${most}`,
      proto: 65535,
      mtu: most,
      len: most,
      tuple: {},
    });
  });
});

describe("drops", () => {
  const NAME = "SKB_DROP_REASON_NETFILTER_DROP";
  test.each<[title: string, values: RecordValues, tracepoints: boolean, fields: Record<string, unknown>]>([
    ["a function that drops nothing", {}, false, { func: "ip_output" }],
    ["a function without a name", { address: 5n }, false, { func: "0x5" }],
    ["a known reason", { ...DROP, argument3: 8n }, false, {
      func: `sk_skb_reason_drop(${NAME})`,
      reason: NAME,
      reason_code: 8,
    }],
    ["reason 0", { ...DROP }, false, {
      func: "sk_skb_reason_drop(SKB_NOT_DROPPED_YET)",
      reason: "SKB_NOT_DROPPED_YET",
      reason_code: 0,
    }],
    ["a reason without a name", { ...DROP, argument3: 0xffffffffn }, false, {
      func: "sk_skb_reason_drop (4294967295)",
      reason: null,
      reason_code: 4294967295,
    }],
    ["a tracepoint and its place", { address: 1n, argument2: 0xffffffff81234567n, argument3: 8n }, true, {
      func: `kfree_skb(${NAME})`,
      reason: NAME,
      reason_code: 8,
      location: "tcp_v4_rcv+0x1a",
    }],
    ["a place without a symbol", { address: 1n, argument2: 0xffffffffc0de0000n, argument3: 8n }, true, {
      func: `kfree_skb(${NAME})`,
      reason: NAME,
      reason_code: 8,
      location: "0xffffffffc0de0000",
    }],
    ["a tracepoint of normal ends", { address: 2n, argument2: 0xffffffff81234567n, argument3: 8n }, true, {
      func: "consume_skb",
      location: "tcp_v4_rcv+0x1a",
    }],
    ["no place", { address: 1n, argument3: 8n }, true, {
      func: `kfree_skb(${NAME})`,
      reason: NAME,
      reason_code: 8,
      location: null,
    }],
  ])("%s", (_, values, tracepoints, fields) => {
    expect(event(values, { options: { ...BARE, tracepoints } })).toEqual({
      schema: 1,
      type: tracepoints ? "tracepoint" : "kprobe",
      skb: "0xffff8880052a4e00",
      cpu: 1,
      process: "/usr/bin/curl:12345",
      ...fields,
    });
  });

  test("on a kernel without drop reasons there is only the place", () => {
    const setting = { options: { ...BARE, tracepoints: true }, names: { dropReasons: new Map() } };
    const drop = event({ address: 1n, argument2: 0xffffffff81234567n }, setting);
    expect(drop).toMatchObject({ func: "kfree_skb", location: "tcp_v4_rcv+0x1a" });
    expect(drop).not.toHaveProperty("reason");
  });
});

describe("time", () => {
  const SECOND = 1_000_000_000n;
  test.each<[mode: PrintOptions["timestamp"], ns: bigint, text: string]>([
    ["current", 0n, "0"],
    ["current", SECOND, "1000000000"],
    ["current", 2n ** 53n - 1n, "9007199254740991"],
    ["current", 2n ** 53n, '"9007199254740992"'],
    ["current", 2n ** 53n + 1n, '"9007199254740993"'],
    ["current", 2n ** 64n - 1n, '"18446744073709551615"'],
    ["relative", 2n ** 64n - 1n, "0"],
  ])("%s %i", (timestamp, ns, text) => {
    const [line] = printed([{ timestamp: ns }], { options: { ...BARE, timestamp } });
    validEvent(line!);
    expect(line).toEndWith(`,"time":${text}}`);
  });

  test("relative to the same packet, back and forth", () => {
    const at = (ns: bigint) => ({ timestamp: 2n ** 60n + ns });
    const records = [at(0n), { ...at(3n), skb: 7n }, at(1830n), at(1829n), at(86_401n * SECOND)];
    const lines = printed(records, { options: { ...BARE, timestamp: "relative" } });
    expect(lines.map((line) => validEvent(line)["time"])).toEqual([0, 0, 1830, -1, 86_400_999_998_171]);
  });

  test.each<[offset: bigint, ns: bigint, text: string]>([
    [0n, 0n, "1970-01-01T00:00:00.000000000Z"],
    [999_999_999n, 1n, "1970-01-01T00:00:01.000000000Z"],
    [-1n, SECOND, "1970-01-01T00:00:00.999999999Z"],
    [BigInt(Date.UTC(2027, 11, 31, 23, 59, 59)) * 1_000_000n, SECOND + 5n, "2028-01-01T00:00:00.000000005Z"],
  ])("absolute, clocks %i apart at %i", (bootOffsetNs, timestamp, time) => {
    expect(event({ timestamp }, { options: { ...BARE, timestamp: "absolute", bootOffsetNs } })).toMatchObject(
      {
        time,
      },
    );
  });
});

const HEADERS = {
  syn: "45 00 003c 0000 4000 40 06 0000 0a00020f 01000001 9f0e 1f90 00000000 00000000 50 02 ffff",
  noFlags: "45 00 003c 0000 4000 40 06 0000 0a00020f 01000001 9f0e 1f90 00000000 00000000 50 00 ffff",
  allFlags: "45 00 003c 0000 4000 40 06 0000 0a00020f 01000001 9f0e 1f90 00000000 00000000 50 ff ffff",
  udp: "45 00 001c 0000 0000 40 11 0000 01000001 01000002 0035 0000",
  icmp: "45 00 001c 0000 0000 40 01 0000 7f000001 7f000001 08 00 0000 0001 0002",
  tcp6: "60000000 0014 06 40 20010db8000100000000000000000001 00000000000000000000ffff01020304 0050 ffff " +
    "00000000 00000000 50 12 ffff",
  unreachable: "45 00 0038 0000 0000 40 01 0000 7f000001 7f000001 03 04 0000 0000 05dc",
  fragment: "45 00 001c 0000 20b9 40 11 0000 01000001 01000002 0035 0000",
  gre: "45 00 001c 0000 0000 40 2f 0000 01000001 01000002 2000 0800 ffffffff",
  gre0: "45 00 001c 0000 0000 40 2f 0000 01000001 01000002 2000 0800 00000000",
  greWithoutKey: "45 00 001c 0000 0000 40 2f 0000 01000001 01000002 0000 0800 00000000",
  esp: "45 00 001c 0000 0000 40 32 0000 01000001 01000002 00c0ffee 00000001",
  none: "",
} as const;
const HOSTS = { saddr: "1.0.0.1", daddr: "1.0.0.2", sport: 0, dport: 0 };

describe("tuple", () => {
  test.each<[headers: keyof typeof HEADERS, tuple: Record<string, unknown>]>([
    ["syn", { saddr: "10.0.2.15", daddr: "1.0.0.1", sport: 40718, dport: 8080, proto: 6, flags: "SYN" }],
    ["noFlags", { saddr: "10.0.2.15", daddr: "1.0.0.1", sport: 40718, dport: 8080, proto: 6, flags: "" }],
    ["allFlags", {
      saddr: "10.0.2.15",
      daddr: "1.0.0.1",
      sport: 40718,
      dport: 8080,
      proto: 6,
      flags: "FIN|SYN|RST|PSH|ACK|URG|ECE|CWR",
    }],
    ["udp", { saddr: "1.0.0.1", daddr: "1.0.0.2", sport: 53, dport: 0, proto: 17 }],
    ["icmp", {
      ...{ saddr: "127.0.0.1", daddr: "127.0.0.1", sport: 0, dport: 0, proto: 1 },
      ...{ icmp_type: 8, icmp_code: 0, icmp_id: 1, icmp_seq: 2 },
    }],
    ["unreachable", {
      ...{ saddr: "127.0.0.1", daddr: "127.0.0.1", sport: 0, dport: 0, proto: 1 },
      ...{ icmp_type: 3, icmp_code: 4 },
    }],
    ["fragment", { ...HOSTS, proto: 17, fragment_offset: 1480 }],
    ["gre", { ...HOSTS, proto: 47, gre_key: 0xffffffff }],
    ["gre0", { ...HOSTS, proto: 47, gre_key: 0 }],
    ["greWithoutKey", { ...HOSTS, proto: 47 }],
    ["esp", { ...HOSTS, proto: 50, spi: 0xc0ffee }],
    ["tcp6", {
      saddr: "[2001:db8:1::1]",
      daddr: "[1.2.3.4]",
      sport: 80,
      dport: 65535,
      proto: 6,
      flags: "SYN|ACK",
    }],
    ["none", {}],
  ])("%s", (name, tuple) => {
    const values = { headers: HEADERS[name], protocol: name === "tcp6" ? 0xdd86 : 0x0008 };
    expect(event(values, { options: { outputTcpFlags: true } })["tuple"]).toEqual(tuple);
    const { flags: _, ...plain } = tuple;
    expect(event(values)["tuple"]).toEqual(plain);
  });
});

describe("names that somebody else chose", () => {
  const HOSTILE = [
    '"},{"',
    "\\",
    "a\nb\r\t",
    "\x1b[2J\x07",
    "\x7f\x80\x9f",
    "m\u00fcller \u{1f600}",
    "\u202egnp.exe",
    "\u2028\u2029",
    "\ud800",
    "</script>",
    "__proto__",
  ];

  test.each(HOSTILE)("%j", (name) => {
    const setting = {
      options: { outputNetnsNames: true, tracepoints: true },
      names: { probe: () => name, symbol: () => ({ name, offset: 0 }), dropReasons: new Map([[8, name]]) },
      interfaces: { nameOf: () => name },
      netnsNames: { nameOf: () => name },
    };
    // A comm is at most 15 bytes of UTF-8; what does not fit, and lone surrogates, have no bytes.
    const comm = Buffer.byteLength(name) < 16 ? name.toWellFormed() : "short";
    expect(event({ address: 3n, comm }, setting)).toMatchObject({
      process: `${comm}:12345`,
      func: name,
      netns_name: name,
      iface: `${name}:2`,
    });
    const drop = event({ address: 1n, argument2: 5n, argument3: 8n }, {
      ...setting,
      names: { ...setting.names, probe: () => "kfree_skb" },
    });
    expect(drop).toMatchObject({ func: `kfree_skb(${name})`, reason: name, location: `${name}+0x0` });
  });

  test("a comm of any bytes", () => {
    const random = new Uint8Array(16), view = record(), sink = new MemorySink();
    const options: PrintOptions = { ...DEFAULTS, ...BARE };
    for (let round = 0; round < 2000; round++) {
      crypto.getRandomValues(random);
      new Uint8Array(view.buffer).set(random, packetEvent.fields.comm.offset);
      new JsonPrinter(sink, options, names, interfaces).print(view, 0);
      const nul = random.indexOf(0);
      const comm = new TextDecoder().decode(random.slice(0, nul < 0 ? 16 : nul));
      expect(validEvent(sink.take().trimEnd())["process"]).toBe(`${comm}:12345`);
    }
  });

  test("a line of the longest names keeps within its room", () => {
    const long = "\u00fc".repeat(255);
    const setting = {
      options: {
        outputNetnsNames: true,
        tracepoints: true,
        outputTcpFlags: true,
        timestamp: "current" as const,
      },
      names: {
        probe: () => "kfree_skb",
        symbol: () => ({ name: long, offset: 7 }),
        dropReasons: new Map([[8, long]]),
      },
      interfaces: { nameOf: () => long },
      netnsNames: { nameOf: () => long },
    };
    const most = 0xffff_ffff;
    const values: RecordValues = {
      timestamp: 2n ** 64n - 1n,
      skb: 2n ** 64n - 1n,
      netns: most,
      mark: most,
      ifindex: most,
      mtu: most,
      len: most,
      pid: most,
      cpu: most,
      argument2: 1n,
      argument3: 8n,
      protocol: 0xdd86,
      comm: "\x01".repeat(15),
      headers: `60000000 0014 06 40 ${"f123".repeat(16)} ffff ffff 00000000 00000000 50 ff ffff`,
    };
    const line = printed([values], setting)[0]!;
    expect(validEvent(line)).toMatchObject({ iface: `${long}:${most}`, location: `${long}+0x7` });
  });
});

describe("lines that are no events", () => {
  const lines = (print: (printer: JsonPrinter) => void) => {
    const sink = new MemorySink();
    const printer = new JsonPrinter(sink, DEFAULTS, names, interfaces);
    print(printer);
    expect(printer.printed).toBe(0);
    return sink.take().trimEnd().split("\n").map(validLine);
  };

  test("where events are missing", () => {
    expect(lines((printer) => printer.gap(70n))).toEqual([{ schema: 1, type: "lost", events: 70 }]);
  });

  test.each([0, 3])("the end, with %i everywhere", (number) => {
    const many = BigInt(number);
    const ledger = {
      probes: "function",
      found: number,
      attached: number,
      refused: number,
      looked: many,
      matched: many,
      shown: number,
      beyondLimit: number,
      lost: many,
      unreadable: many,
      missed: many,
      untracked: many,
      summedUp: number === 0 ? undefined : number,
      summaryOnly: false,
      forgotten: number,
    } as const;
    expect(lines((printer) => printer.end(ledger))).toEqual([{
      schema: 1,
      type: "end",
      probes: "function",
      found: number,
      attached: number,
      refused: number,
      looked: number,
      matched: number,
      shown: number,
      beyond_limit: number,
      lost: number,
      unreadable: number,
      missed: number,
      untracked: number,
      ...(number === 0 ? {} : { summed_up: number, forgotten: number }),
    }]);
  });
});

test("every combination of options is as the schema says", () => {
  const kinds: RecordValues[] = [
    {},
    { ...DROP, argument3: 8n },
    { ...DROP, argument3: 99n },
    { address: 1n, argument2: 0xffffffff81234567n },
    { headers: HEADERS.udp, ifindex: 3, netns: 7 },
    { headers: HEADERS.tcp6, protocol: 0xdd86, timestamp: 2n ** 63n, skb: 8n },
    { headers: "", protocol: 0x0608 },
  ];
  const record = recordLayout({
    caller: true,
    stack: true,
    controlBlock: true,
    skbBytes: 8,
    sharedInfoBytes: 8,
    tunnel: true,
    values: [someValue],
  });
  const dumps = [{ name: "skb", struct: "sk_buff", dump: () => "(struct sk_buff){\n}\n" }] as const;
  const values = [{ source: "skb->len", label: "len", text: String, plain: Number }];
  const switches = [
    "outputMeta",
    "outputTuple",
    "outputTcpFlags",
    "outputNetnsNames",
    "tracepoints",
    "additions",
  ] as const;
  let lines = 0;
  for (let bits = 0; bits < 2 ** switches.length; bits++) {
    const chosen = Object.fromEntries(switches.map((name, bit) => [name, (bits >> bit & 1) === 1]));
    const { additions = false, ...flags } = chosen;
    for (const timestamp of ["none", "current", "relative", "absolute"] as const) {
      const options = { ...DEFAULTS, ...flags, ...(additions ? { record, dumps, values } : {}), timestamp };
      const { outputMeta, outputTuple, outputNetnsNames } = options;
      const wanted = [outputMeta, outputTuple, outputNetnsNames, timestamp !== "none", additions, additions];
      for (const line of printed(kinds, { options })) {
        const event = validEvent(line);
        const has = ["mtu", "tuple", "netns_name", "time", "caller_func", "stack"].map((field) =>
          field in event
        );
        expect({ line, has }).toEqual({ line, has: wanted });
        lines++;
      }
    }
  }
  expect(lines).toBe(2 ** 6 * 4 * kinds.length);
}, 60_000);

test("numbers of packets; null where a packet is not known", () => {
  const lines = printed([{ stamp: 900n }, { stamp: 7n }, { stamp: 900n }, { stamp: 0n }], {
    options: { record: recordLayout({ stamp: true }) },
  });
  expect(lines.map((line) => validEvent(line)["packet"])).toEqual([1, 2, 1, null]);
});
