/**
 * A start per option, all at the same time, beside one that shows everything: each has to print exactly those of its
 * lines that the option selects, in their order, and there are others that it must not print. Debian's pwru stands
 * beside ours where it has the option, in the long set: the same lines, but for the rows of differences.ts.
 */
import { expect } from "bun:test";
import { comparedWithPeer } from "../differences.ts";
import type { TraceLine } from "../lines.ts";
import { atLeast, type Run, type Scenario } from "../scenario.ts";

/** On IPv4's way, where nothing happens but what the scenario sends. */
const functions = "ip_output|ip_rcv|ip_rcv_core|ip_forward|ip_local_deliver|icmp_rcv|udp_rcv";
const watched = `--filter-func '${functions}'`, untilFreed = `--filter-func '${functions}|kfree_skbmem'`;

/** What a row needs to know of the guest. */
interface Guest {
  readonly inode: (netns: "dns" | "pod" | "node") => number;
}
type Selects = (line: TraceLine, guest: Guest) => boolean;

/** Words that select some of the lines; without a filter of its own all packets pass. */
interface Option {
  readonly name: string;
  readonly words: string;
  readonly filter?: string;
  /** absent: the packets of `filter` */
  readonly selects: Selects;
  /** Debian's pwru 1.0.5 has it too */
  readonly peer?: true;
}

const isIcmp: Selects = ({ tuple = "" }) => tuple.endsWith("(icmp)");
/** "10.9.2.2:40000->10.9.1.2:4099(udp)", with any source port */
const isFlow = (from: string, to: string): Selects => ({ tuple = "" }) =>
  tuple.replace(/:\d+->/, "->") === `${from}->${to}`;

const options: readonly Option[] = [
  {
    name: "filter-func",
    words: "--filter-func 'ip_(rcv|forward)'",
    selects: ({ func }) => func === "ip_rcv" || func === "ip_forward",
    peer: true,
  },
  {
    // The first alternative that matches is not the whole name.
    name: "filter-func-whole",
    words: "--filter-func 'ip_rcv|ip_rcv_core'",
    selects: ({ func }) => func === "ip_rcv" || func === "ip_rcv_core",
  },
  {
    name: "filter-netns",
    words: `${watched} --filter-netns /run/netns/pod`,
    selects: ({ netns }, { inode }) => netns === inode("pod"),
    peer: true,
  },
  {
    name: "filter-netns-name",
    words: `${watched} --filter-netns dns`,
    selects: ({ netns }, { inode }) => netns === inode("dns"),
  },
  {
    name: "filter-netns-inode",
    words: `${watched} --filter-netns "inode:$(stat -L -c %i /run/netns/pod)"`,
    selects: ({ netns }, { inode }) => netns === inode("pod"),
    peer: true,
  },
  {
    name: "filter-ifname",
    words: `${watched} --filter-ifname podveth`,
    selects: ({ iface, netns }, { inode }) => iface === "podveth" && netns === inode("node"),
    peer: true,
  },
  {
    name: "filter-ifname-in-netns",
    words: `${watched} --filter-netns dns --filter-ifname eth0`,
    selects: ({ iface, netns }, { inode }) => iface === "eth0" && netns === inode("dns"),
  },
  {
    name: "filter-mark",
    words: `${watched} --filter-mark 0x2a`,
    selects: ({ mark }) => mark === 0x2a,
    peer: true,
  },
  {
    name: "filter-mark-mask",
    words: `${watched} --filter-mark 0xff8/0x8`,
    selects: ({ mark = 0 }) => (mark & 8) !== 0,
  },
  {
    name: "filter-mark-none",
    words: `${watched} --filter-mark 0/2`,
    selects: ({ mark = 0 }) => (mark & 2) === 0,
  },
  { name: "pcap", words: watched, filter: "src host 10.9.2.2 and icmp", selects: fromDnsByIcmp, peer: true },
  {
    name: "pcap-port",
    words: watched,
    filter: "udp dst port 4099",
    selects: isFlow("10.9.2.2", "10.9.1.2:4099(udp)"),
    peer: true,
  },
  {
    name: "filter-skb-expr",
    words: `${watched} --filter-skb-expr 'skb->len >= 200 && skb->dev->mtu == 1500'`,
    selects: ({ len = 0, mtu, ifindex }) => len >= 200 && mtu === 1500 && ifindex !== 0,
  },
  {
    name: "together",
    words: `${watched} --filter-netns dns --filter-mark 0x2a --filter-skb-expr 'skb->len < 100'`,
    filter: "icmp",
    selects: (line, { inode }) =>
      isIcmp(line, { inode }) && line.netns === inode("dns") && line.mark === 0x2a && (line.len ?? 0) < 100,
  },
  {
    name: "kernel-btf",
    words: `${watched} --kernel-btf /sys/kernel/btf/vmlinux`,
    filter: "icmp",
    selects: isIcmp,
    peer: true,
  },
  {
    name: "backend-kprobe",
    words: `${watched} --backend kprobe --filter-kprobe-batch 3`,
    filter: "icmp",
    selects: isIcmp,
  },
];

function fromDnsByIcmp(line: TraceLine): boolean {
  return line.tuple === "10.9.2.2:0->10.9.1.2:0(icmp)";
}

const everything: Option = { name: "everything", words: watched, selects: () => true };
/** Not compared with everything: what is freed is not all of IPv4. */
const untilItsEnd: Option = {
  name: "until-freed",
  words: untilFreed,
  filter: "icmp",
  selects: isIcmp,
  peer: true,
};
const tracked: Option = {
  name: "filter-track-skb",
  words: `${untilFreed} --filter-track-skb --filter-mark 0x2a`,
  filter: "icmp",
  selects: isIcmp,
  peer: true,
};
/** Options that say what is printed of the packets; not compared. */
const printing = [
  { name: "timestamp-current", words: "--timestamp current --filter-func ip_rcv", filter: "icmp" },
  {
    name: "timestamp-relative",
    words: "--timestamp relative --filter-func 'ip_(rcv|forward)'",
    filter: "icmp",
  },
  { name: "output-limit-lines", words: "--output-limit-lines 3 --filter-func ip_rcv", filter: "icmp" },
  {
    name: "plain",
    words: "--output-meta=false --output-tuple=false --filter-func ip_rcv",
    filter: "icmp",
  },
];
const kmods = { name: "kmods", words: "--kmods veth --filter-func veth_xmit", filter: "icmp" };

type Start = Pick<Option, "name" | "words" | "filter">;
const startOf = ({ name, words, filter = "" }: Start, prefix = "") =>
  `start ${prefix}${name} --output-meta --output-tuple ${words} '${filter}' &`;
const starts = (all: readonly Start[]) => all.map((one) => startOf(one)).join("\n      ");
const names = (all: readonly Start[]) => all.map(({ name }) => name).join(" ");
const both: readonly Option[] = [everything, untilItsEnd, tracked, ...options.filter(({ peer }) => peer)];
const oursAlone = options.filter(({ peer }) => peer === undefined);

/** @param withPeer Debian's pwru is started beside ours, for each option that it has */
const script = (withPeer: boolean) => `
    topo 1500
    for ns in pod dns; do stat -L -c %i /run/netns/$ns > "$OUT/$ns.inode"; done
    stat -L -c %i /proc/self/ns/net > "$OUT/node.inode"
    nft -f - <<'RULES'
      table ip options {
        chain post { type nat hook postrouting priority 100; oifname "podveth" meta l4proto icmp masquerade; }
      }
RULES
    ready() {
      local name
      for name in "$@"; do until_true 300 [ -e /tmp/$name.ready ] || echo "options: $name is not ready" >&2; done
    }
    [ ! -e /sys/kernel/btf/veth ] || [ "$PWRU" = "$PEER" ] || ${startOf(kmods)}
    [ "$PWRU" = "$PEER" ] || { ${starts(oursAlone)} }
    ${starts([...both, ...printing])}
    ready ${names([...both, ...printing])}
    [ "$PWRU" = "$PEER" ] || ready ${names(oursAlone)}
    [ ! -e /sys/kernel/btf/veth ] || [ "$PWRU" = "$PEER" ] || ready kmods
    ${withPeer ? both.map((one) => `TRACER=$PEER ${startOf(one, "peer-")}`).join("\n    ") : ""}
    ${withPeer ? `ready ${both.map(({ name }) => `peer-${name}`).join(" ")}` : ""}

    echo_request dns 10.9.1.2
    ip netns exec dns ping -q -c1 -W2 -m 42 10.9.1.2 > /dev/null
    ip netns exec dns ping -q -c1 -W2 -s 300 -m 42 10.9.1.2 > /dev/null
    say dns UDP4:10.9.1.2:4098
    say dns UDP4:10.9.1.2:4099
    settle everything
    ${withPeer ? "settle peer-everything" : ""}
    nap 1
    idle() { ! pgrep -f 'ready-file /tmp/' > /dev/null; }
    pkill -INT -f 'ready-file /tmp/'
    until_true 60 idle || { pkill -KILL -f "$PEER --ready-file /tmp/"; until_true 20 idle; }
    wait
    nft delete table ip options
    untopo
  `;

export const selection: Scenario = {
  name: "options",
  boot: "apart",
  kernels: [],
  longKernels: ["5.10", "6.1", "6.12"],
  limitSeconds: 600,
  script: script(false),
  checks: {
    "everything: three echoes, answered, and two datagrams, refused"(run) {
      const flows = run.lines("everything.out").filter(({ func }) => func === "ip_output")
        .map(({ tuple = "" }) => tuple.replace(/:\d+->/, "->"));
      const count = (flow: string) => flows.filter((one) => one === flow).length;
      expect([count("10.9.2.2->10.9.1.2:0(icmp)"), count("10.9.2.2->10.9.1.2:4099(udp)")]).toEqual([6, 2]);
      const datagram = run.lines("everything.out")
        .filter((line) => isFlow("10.9.2.2", "10.9.1.2:4098(udp)")(line, guestOf(run)));
      const inode = guestOf(run).inode;
      expect(datagram.map(({ func, netns, iface }) => `${func} ${netns} ${iface}`)).toEqual([
        `ip_output ${inode("dns")} `,
        `ip_rcv ${inode("node")} dnsveth`,
        `ip_rcv_core ${inode("node")} dnsveth`,
        `ip_forward ${inode("node")} dnsveth`,
        `ip_output ${inode("node")} dnsveth`,
        `ip_rcv ${inode("pod")} eth0`,
        `ip_rcv_core ${inode("pod")} eth0`,
        `ip_local_deliver ${inode("pod")} eth0`,
        `udp_rcv ${inode("pod")} eth0`,
      ]);
    },
    ...Object.fromEntries(both.filter((one) => options.includes(one)).map(checkOption)),
    "--filter-track-skb: from where it matches until it is freed, whatever it looks like"(run) {
      const lines = run.lines("filter-track-skb.out");
      expect(printed(lines)).toEqual(
        printed(followed(run.lines("until-freed.out"), ({ mark }) => mark === 0x2a)),
      );
      expect(lines.filter(({ func }) => func === "kfree_skbmem")).toHaveLength(2);
      expect(lines.some(({ tuple }) => tuple === "10.9.1.1:0->10.9.1.2:0(icmp)")).toBe(true);
      expect(lines.length).toBeLessThan(run.lines("until-freed.out").length);
    },
    "--timestamp current: the clock since boot"(run) {
      const times = run.lines("timestamp-current.out").map(({ timestamp = 0 }) => timestamp);
      expect(times.length).toBeGreaterThan(0);
      expect(times.every((time) => time > 1e9)).toBe(true);
    },
    "--timestamp relative: from 0"(run) {
      expect(run.lines("timestamp-relative.out")[0]?.timestamp).toBe(0);
    },
    "--output-limit-lines ends the run by itself"(run) {
      expect(run.lines("output-limit-lines.out").length).toBe(3);
    },
    "--output-meta=false --output-tuple=false"(run) {
      const [first] = run.lines("plain.out");
      expect(first).toMatchObject({ func: "ip_rcv" });
      expect([first?.netns, first?.tuple]).toEqual([undefined, undefined]);
    },
  },
  oursOnly: {
    ...Object.fromEntries(oursAlone.map(checkOption)),
    "--kmods traces functions of a module"(run) {
      if (!atLeast(run.kernel, "6.1")) return; // 5.10 has no BTF of modules
      expect([...new Set(run.lines("kmods.out").map(({ func }) => func))]).toEqual(["veth_xmit[veth]"]);
    },
    "nothing of ours was lost on the way"(run) {
      for (const { name } of [...both, ...oursAlone]) {
        const said = run.text(`${name}.err`);
        expect({ name, said }).toEqual({ name, said: expect.stringMatching(/, lost none\n$/) });
      }
    },
  },
};

/** The same with Debian's pwru beside, whose starts take the longest. */
export const besidePeer: Scenario = {
  ...selection,
  name: "options-beside",
  kernels: [],
  longKernels: ["6.12"],
  limitSeconds: 1200,
  script: script(true),
  oursOnly: {
    ...selection.oursOnly,
    "Debian's pwru prints the same, but for what is meant to differ"(run) {
      for (const { name } of both) {
        const { expected, peer } = comparedWithPeer(
          run.lines(`${name}.out`),
          run.lines(`peer-${name}.out`),
          guestOf(run).inode("node"),
          run.kernel,
        );
        expect({ name, lines: expected }).toEqual({ name, lines: peer });
      }
    },
  },
};

function guestOf(run: Run): Guest {
  return { inode: (netns) => Number(run.text(`${netns}.inode`)) };
}

/** All of a line but what a moment decides. */
const printed = (lines: readonly TraceLine[]) => lines.map(({ timestamp: _, ...line }) => line);

function checkOption({ name, selects }: Option): [string, (run: Run) => void] {
  return [`--${name}: what it selects, in order, and nothing else`, (run) => {
    const all = run.lines("everything.out"), guest = guestOf(run);
    const selected = all.filter((line) => selects(line, guest));
    expect(printed(run.lines(`${name}.out`))).toEqual(printed(selected));
    expect(selected.length).toBeGreaterThan(0);
    expect(selected.length).toBeLessThan(all.length);
  }];
}

/** Lines of the packets that match once, from there on until they are freed. */
function followed(lines: readonly TraceLine[], matches: (line: TraceLine) => boolean): TraceLine[] {
  const known = new Set<string>();
  return lines.filter((line) => {
    const shown = known.has(line.skb) || matches(line);
    if (shown) known.add(line.skb);
    if (line.func === "kfree_skbmem") known.delete(line.skb);
    return shown;
  });
}
