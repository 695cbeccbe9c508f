import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Difference, differences, differenceTable, expectedOfPeer } from "./differences.ts";
import { layout, layoutHeader } from "./layout.ts";
import type { TraceLine } from "./lines.ts";

test("docs/differences.md has the table", () => {
  const document = readFileSync(join(import.meta.dir, "../../docs/differences.md"), "utf8");
  const rows = (text: string) =>
    text.split("\n").filter((line) => /^\| [^-]/.test(line)).map((line) => line.replace(/\s+/g, " "));
  expect(rows(document)).toEqual(rows(differenceTable()));
});

const nodeNetns = 4026531840, podNetns = 4026532114;
const ours: TraceLine = {
  skb: "0xff29246ab2f58800",
  cpu: 1,
  process: "ping:222",
  func: "ip_rcv",
  netns: nodeNetns,
  mark: 0,
  iface: "podveth",
  ifindex: 2,
  proto: 0x0800,
  mtu: 1500,
  len: 84,
  tuple: "10.9.2.2:0->10.9.1.2:0(icmp)",
  below: [],
};
const theirs: TraceLine = { ...ours, process: "ping(222)" };

/** 4 lines; the kernel ends its text with a newline. */
const dump = (value: string) => ["(struct sk_buff){", ` .head = (unsigned char *)${value},`, "}"];
const filled = (below: string[]) => {
  const text = `${below.join("\n")}\n`;
  return `${text}${"\0".repeat(2048 - text.length)}`.split("\n");
};

describe("the peer's line is expected", () => {
  test.each<[name: string, ours: TraceLine, peer: TraceLine, rows: string[]]>([
    ["as ours", ours, theirs, ["PROCESS"]],
    ["without a process that ended", ours, { ...ours, process: "<empty>(222)" }, ["PROCESS", "PROCESS"]],
    ["without names of elsewhere", { ...ours, netns: podNetns, iface: "eth0" }, {
      ...theirs,
      netns: podNetns,
      iface: "",
    }, ["PROCESS", "IFACE"]],
    ["with no MTU where there is no device", { ...ours, ifindex: 0, iface: "", mtu: 9001 }, {
      ...theirs,
      ifindex: 0,
      iface: "",
      mtu: 0,
    }, ["PROCESS", "MTU"]],
    [
      "without the reason of sk_skb_reason_drop",
      { ...ours, func: "sk_skb_reason_drop", reason: "NO_SOCKET" },
      { ...theirs, func: "sk_skb_reason_drop" },
      ["PROCESS", "FUNC"],
    ],
    ["with (icmp) alone", { ...ours, detail: "echo,id=7,seq=1" }, theirs, ["PROCESS", "TUPLE"]],
    [
      "without the key and the name of a protocol",
      { ...ours, tuple: "10.9.2.2:0->10.9.1.2:0(gre)", detail: "key=0x2a" },
      { ...theirs, tuple: "10.9.2.2:0->10.9.1.2:0()" },
      ["PROCESS", "TUPLE", "TUPLE"],
    ],
    [
      "without the ports of other protocols",
      { ...ours, tuple: "10.9.2.2:2403->10.9.1.2:4099(sctp)" },
      { ...theirs, tuple: "10.9.2.2:0->10.9.1.2:0()" },
      ["PROCESS", "TUPLE"],
    ],
    ["without a stack it has lost", { ...ours, below: ["ip_rcv", "process_backlog"] }, theirs, [
      "PROCESS",
      "`--output-stack`",
    ]],
    [
      "with hashes and NULs in a dump",
      { ...ours, below: [...dump("0xff29246a0185ac80"), ""] },
      { ...theirs, below: filled(dump("0x00000000a4214a80")) },
      ["PROCESS", "`--output-skb`", "`--output-skb`"],
    ],
  ])("%s", (_name, line, peer, rows) => {
    const shown = new Set<Difference>();
    expect(expectedOfPeer(line, peer, nodeNetns, "6.12", shown)).toEqual(peer);
    expect(differences.filter((row) => shown.has(row)).map(({ where }) => where)).toEqual(rows);
  });

  test.each<[name: string, ours: TraceLine, peer: TraceLine]>([
    ["another length", ours, { ...theirs, len: 98 }],
    ["another MTU of a device", ours, { ...theirs, mtu: 0 }],
    ["another pid", ours, { ...theirs, process: "<empty>(223)" }],
    ["no name in its own namespace", ours, { ...theirs, iface: "" }],
    ["no reason where it can have one", { ...ours, func: "kfree_skb_reason", reason: "TCP_CSUM" }, {
      ...theirs,
      func: "kfree_skb_reason",
    }],
    ["another stack", { ...ours, below: ["ip_rcv", "a"] }, { ...theirs, below: ["ip_rcv", "b"] }],
    ["a dump with another value", { ...ours, below: ["(struct sk_buff){", " .len = 1,", "}", ""] }, {
      ...theirs,
      below: filled(["(struct sk_buff){", " .len = 2,", "}"]),
    }],
  ])("and not %s", (_name, line, peer) => {
    expect(expectedOfPeer(line, peer, nodeNetns, "6.12", new Set())).not.toEqual(peer);
  });

  test("a stack that was lost on Linux 5.10, and there alone", () => {
    const line = { ...ours, below: ["ip_forward"] }, peer = { ...theirs, below: ["ip_forward", "ip_rcv"] };
    expect(expectedOfPeer(line, peer, nodeNetns, "5.10", new Set())).toEqual(peer);
    expect(expectedOfPeer(line, peer, nodeNetns, "6.12", new Set())).not.toEqual(peer);
  });

  test("of a long dump as much as fits", () => {
    const rest = Array.from({ length: 200 }, (_, index) => ` .field${index} = (int)${index},`);
    const text = (value: string) => [...dump(value).slice(0, 2), ...rest, "}", ""];
    const cut = `${text("0x00000000a4214a80").join("\n").slice(0, 2047)}\0`.split("\n");
    const peer = { ...theirs, below: cut }, line = { ...ours, below: text("0xff29246a0185ac80") };
    expect(expectedOfPeer(line, peer, nodeNetns, "6.12", new Set())).toEqual(peer);
  });
});

test("the second writer writes pwru's lines", () => {
  const timed = { ...ours, time: "2026-08-21T10:15:30.123", timestamp: 45557282884169 };
  expect([
    layoutHeader(ours),
    layout({ ...ours, detail: "echo,id=7,seq=1" }, 50),
    layoutHeader(timed),
    layout({ ...timed, process: "/usr/bin/curl:12345", func: "sk_skb_reason_drop", reason: "NO_SOCKET" }, 0),
  ]).toEqual([
    "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  MTU   LEN   TUPLE FUNC",
    "0xff29246ab2f58800 1   ping:222         4026531840 0           podveth:2     0x0800 1500  84    " +
    "10.9.2.2:0->10.9.1.2:0(icmp:echo,id=7,seq=1)       ip_rcv",
    "TIME                    SKB                CPU PROCESS          TIMESTAMP        NETNS      MARK/x" +
    "        IFACE       PROTO  MTU   LEN   TUPLE FUNC",
    "2026-08-21T10:15:30.123 0xff29246ab2f58800 1   ~/bin/curl:12345 45557282884169   4026531840 0     " +
    "      podveth:2     0x0800 1500  84    10.9.2.2:0->10.9.1.2:0(icmp) " +
    "sk_skb_reason_drop(SKB_DROP_REASON_NO_SOCKET)",
  ]);
});
