import { expect, test } from "bun:test";
import { parseLines, type TraceLine } from "./lines.ts";

const common = { skb: "0xffff8880052a4e00", cpu: 1, below: [] };
const meta = { netns: 4026531840, mark: 0, iface: "eth0", ifindex: 2, proto: 0x0800, mtu: 1500, len: 60 };
const ours = { ...common, process: "~/bin/curl:12345" };
const tuple = "10.0.2.15:40718->1.0.0.1:8080(tcp)";

test.each<[name: string, output: string, records: TraceLine[]]>([
  ["nothing", "", []],
  ["a header only", "SKB CPU PROCESS FUNC CALLER", []],
  [
    "default columns",
    "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  MTU   LEN   TUPLE FUNC\n" +
    `0xffff8880052a4e00 1   ~/bin/curl:12345 4026531840 0             eth0:2      0x0800 1500  60    ${tuple} ip_output\n`,
    [{ ...ours, ...meta, tuple, func: "ip_output" }],
  ],
  [
    "a drop reason, a mark, an unknown interface and a process with a space in its name",
    "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  MTU   LEN   TUPLE FUNC\n" +
    `0xffff8880052a4e00 1   Web Content:7    4026531840 a5            7           0x0800 1500  60    ${tuple} kfree_skb_reason(SKB_DROP_REASON_PKT_TOO_BIG)`,
    [{
      ...common,
      ...meta,
      process: "Web Content:7",
      mark: 0xa5,
      iface: "",
      ifindex: 7,
      tuple,
      func: "kfree_skb_reason",
      reason: "PKT_TOO_BIG",
    }],
  ],
  [
    "all times",
    "TIME                    SKB                CPU PROCESS          TIMESTAMP        FUNC\n" +
    "2026-08-21T10:15:30.123 0xffff8880052a4e00 1   ~/bin/curl:12345 45557282884169   ip_output",
    [{ ...ours, time: "2026-08-21T10:15:30.123", timestamp: 45557282884169, func: "ip_output" }],
  ],
  [
    "names of namespaces, control block, caller and tunnel",
    "SKB                CPU PROCESS          NETNS      MARK/x        IFACE       PROTO  MTU   LEN   __sk_buff->cb[]" +
    "                                            NETNS NAME    TUPLE FUNC CALLER TUNNEL\n" +
    "0xffff8880052a4e00 1   ~/bin/curl:12345 4026531840 0             eth0:2      0x0800 1500  60    " +
    "[0x00000000,0x00000000,0x00000000,0x00000000,0x00000000]      blue       " +
    `${tuple}   ip_output          ip_local_out 10.244.1.5:4000->10.244.2.7:80(tcp:SYN)`,
    [{
      ...ours,
      ...meta,
      tuple,
      func: "ip_output",
      caller: "ip_local_out",
      tunnel: "10.244.1.5:4000->10.244.2.7:80(tcp:SYN)",
    }],
  ],
  [
    "what stands behind a protocol; TCP's flags stay",
    "SKB                CPU PROCESS          TUPLE FUNC\n" +
    "0xffff8880052a4e00 1   ~/bin/curl:12345 10.0.2.15:0->1.0.0.1:0(icmp:echo,id=7,seq=1) ip_rcv\n" +
    "0xffff8880052a4e00 1   ~/bin/curl:12345 10.0.2.15:0->1.0.0.1:0(gre:key=0x2a)         ip_rcv\n" +
    "0xffff8880052a4e00 1   ~/bin/curl:12345 10.0.2.15:1->1.0.0.1:2(tcp:SYN|ACK)          ip_rcv",
    [
      { ...ours, func: "ip_rcv", tuple: "10.0.2.15:0->1.0.0.1:0(icmp)", detail: "echo,id=7,seq=1" },
      { ...ours, func: "ip_rcv", tuple: "10.0.2.15:0->1.0.0.1:0(gre)", detail: "key=0x2a" },
      { ...ours, func: "ip_rcv", tuple: "10.0.2.15:1->1.0.0.1:2(tcp:SYN|ACK)" },
    ],
  ],
  [
    "a stack below its record",
    "SKB                CPU PROCESS          FUNC\n" +
    "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output\nip_output\nip_local_out",
    [{ ...ours, func: "ip_output", below: ["ip_output", "ip_local_out"] }],
  ],
  [
    "comments",
    "SKB                CPU PROCESS          FUNC\n# lost 3 events here: the ring buffer was full\n" +
    "0xffff8880052a4e00 1   ~/bin/curl:12345 ip_output\n# lost 1 event here: the ring buffer was full",
    [{ ...ours, func: "ip_output" }],
  ],
  [
    "module and BPF functions",
    "SKB                CPU PROCESS          FUNC\n" +
    "0xffff8880052a4e00 1   ~/bin/curl:12345 veth_xmit[veth]\n" +
    "0xffff8880052a4e00 1   ~/bin/curl:12345 bpf_prog_e20a685998fd41c8_entry1[bpf](tc)",
    [
      { ...ours, func: "veth_xmit[veth]" },
      { ...ours, func: "bpf_prog_e20a685998fd41c8_entry1[bpf](tc)" },
    ],
  ],
  [
    "Debian's pwru 1.0.5",
    "               SKB    CPU          PROCESS                     FUNC\n" +
    "0xffff8880052a4e00      1   [<empty>(225)] kfree_skb_reason(SKB_DROP_REASON_PKT_TOO_BIG) netns=4026531840 " +
    `mark=0x0 iface=2(eth0) proto=0x0800 mtu=1500 len=60 ${tuple}`,
    [{ ...common, ...meta, process: "<empty>(225)", tuple, func: "kfree_skb_reason", reason: "PKT_TOO_BIG" }],
  ],
  [
    "Debian's pwru 1.0.5 with a time",
    "               SKB    CPU          PROCESS                     FUNC        TIMESTAMP\n" +
    "0xffff8880052a4e00      1     [socat(222)]              udp4_hwcsum           710019 netns=4026531840 " +
    `mark=0x0 iface=2(eth0) proto=0x0800 mtu=1500 len=60 ${tuple}`,
    [{ ...common, ...meta, process: "socat(222)", timestamp: 710019, tuple, func: "udp4_hwcsum" }],
  ],
  [
    "Debian's pwru 1.0.5 with the time of day",
    "        TIME                SKB    CPU          PROCESS                     FUNC        TIMESTAMP\n" +
    "09:16:23.442 0xffff8880052a4e00      1     [socat(222)]              udp4_hwcsum      38609086342 " +
    `netns=4026531840 mark=0x0 iface=2(eth0) proto=0x0800 mtu=1500 len=60 ${tuple}`,
    [{
      ...common,
      ...meta,
      process: "socat(222)",
      time: "09:16:23.442",
      timestamp: 38609086342,
      tuple,
      func: "udp4_hwcsum",
    }],
  ],
])("%s", (_name, output, records) => {
  expect(parseLines(output)).toEqual(records);
});

test.each<[name: string, output: string, message: string]>([
  [
    "an unknown column",
    "SKB CPU COLOUR FUNC\n",
    'Cannot read the header "SKB CPU COLOUR FUNC": unknown column "COLOUR"',
  ],
  [
    "text before the first record",
    "SKB CPU PROCESS FUNC\noops",
    'Cannot read the line "oops" under the header "SKB CPU PROCESS FUNC"',
  ],
])("refuses %s", (_name, output, message) => {
  expect(() => parseLines(output)).toThrow(message);
});
