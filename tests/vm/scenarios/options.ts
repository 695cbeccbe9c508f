/**
 * A start per option, some at a time, beside one that shows everything: each has to print exactly those of its lines
 * that the option selects, in their order, and there are others that it must not print. Debian's pwru stands
 * beside ours where it has the option, in the long set: the same lines, but for the rows of differences.ts.
 */
import { expect } from "bun:test";
import { comparedWithPeer } from "../differences.ts";
import type { TraceLine } from "../lines.ts";
import { atLeast, type Run, type Scenario } from "../scenario.ts";

/** On IPv4's way, where nothing happens but what the scenario sends. */
const functions = "ip_output|ip_rcv_core|ip_rcv|ip_forward|ip_local_deliver|icmp_rcv|udp_rcv";
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
    name: "pcap",
    words: watched,
    filter: "src host 10.9.2.2 and udp dst port 4099",
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

const everything: Option = { name: "everything", words: watched, selects: () => true, peer: true };
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
  {
    name: "relative",
    words: "--timestamp relative --output-limit-lines 3 --filter-func 'ip_(rcv|forward)'",
    filter: "icmp",
  },
  {
    name: "plain",
    words: "--timestamp current --output-meta=false --output-tuple=false --filter-func ip_rcv",
    filter: "icmp",
  },
];
const kmods = { name: "kmods", words: "--kmods veth --filter-func veth_xmit", filter: "icmp" };

type Start = Pick<Option, "name" | "words" | "filter">;
const startOf = ({ name, words, filter = "" }: Start, prefix = "") =>
  `start ${prefix}${name} --output-meta --output-tuple ${words} '${filter}'`;
const whole: readonly Option[] = [everything, untilItsEnd];
const both: readonly Option[] = [...whole, tracked, ...options.filter(({ peer }) => peer)];
const oursAlone = options.filter(({ peer }) => peer === undefined);

/** How many run at a time, beside those that show everything: a tracer takes 100 MB. */
const AT_A_TIME = 7;
const selecting = [tracked, ...options];
const batches = Array.from(
  { length: Math.ceil(selecting.length / AT_A_TIME) },
  (_, at) => selecting.slice(at * AT_A_TIME, (at + 1) * AT_A_TIME),
);
/** The file with what `name`, which shows everything, printed while that option was at work. */
const besideOf = (name: string, option: Option) =>
  `${name}-${batches.findIndex((batch) => batch.includes(option))}.lines`;

/** @param withPeer Debian's pwru is started beside ours, for each option that it has */
function script(withPeer: boolean): string {
  const inTurn = (all: readonly Option[], ours: (one: Option) => string, peers: (one: Option) => string) =>
    all.flatMap((one) => [
      one.peer ? ours(one) : `ours ${ours(one)}`,
      ...(withPeer && one.peer ? [peers(one)] : []),
    ]).join("\n    ");
  const started = (all: readonly Option[]) =>
    inTurn(
      all,
      (one) => startOf(one).replace(/^start/, "held"),
      (one) => `TRACER=$PEER ${startOf(one, "peer-")}`,
    );
  const stopped = (all: readonly Option[]) =>
    inTurn(all, ({ name }) => `resumed ${name}`, ({ name }) => `stop_peer peer-${name}`);
  return `
    topo 1500
    for ns in pod dns; do stat -L -c %i /run/netns/$ns > "$OUT/$ns.inode"; done
    stat -L -c %i /proc/self/ns/net > "$OUT/node.inode"
    nft -f - <<'RULES'
      table ip options {
        chain post { type nat hook postrouting priority 100; oifname "podveth" meta l4proto icmp masquerade; }
      }
RULES
    ours() { [ "$PWRU" = "$PEER" ] || "$@"; }
    # Each looks into its ring 100 times a second, which many together cannot do under emulation: who waits for the others
    # stands still, and its ring keeps what it sees.
    held() { start "$@"; kill -STOP \${pid_of[$1]}; }
    resumed() { kill -CONT \${pid_of[$1]}; stop $1; }
    chapters() {
      local name
      for name in everything until-freed; do
        kill -CONT \${pid_of[$name]}
        until_true 30 lines_in $name $((\${chapter_end[$name]:-1} + 1))
        chapter $name $name-$1
        kill -STOP \${pid_of[$name]}
      done
    }
    # It may hang at its end.
    stop_peer() { stop $1 INT 20000 || { kill -KILL \${pid_of[$1]}; wait \${pid_of[$1]}; }; } 2>> "$OUT/stderr"
    traffic() {
      echo_request dns 10.9.1.2
      ip netns exec dns ping -q -c1 -W$((2 * SLOWNESS)) -m 42 10.9.1.2 > /dev/null
      ip netns exec dns ping -q -c1 -W$((2 * SLOWNESS)) -s 300 -m 42 10.9.1.2 > /dev/null
      say dns UDP4:10.9.1.2:4098
      say dns UDP4:10.9.1.2:4099
    }
    ${started(whole)}
${
    batches.map((batch, at) => `
    ${started(batch)}
    traffic
    chapters ${at}
    ${stopped(batch)}`).join("\n")
  }

    ${printing.map((one) => startOf(one)).join("\n    ")}
    with_types() { [ ! -e /sys/kernel/btf/veth ] || ours "$@"; }
    with_types ${startOf(kmods)}
    traffic
    with_types stop kmods
    ${printing.map(({ name }) => `stop ${name}`).join("\n    ")}
    ${stopped(whole)}
    nft delete table ip options
    untopo
  `;
}

export const selection: Scenario = {
  name: "options",
  boot: "apart",
  kernels: [],
  longKernels: ["5.10", "6.1", "6.12"],
  limitSeconds: 900,
  script: script(false),
  checks: {
    "everything: three echoes, answered, and two datagrams, refused"(run) {
      const flows = run.lines("everything-0.lines").filter(({ func }) => func === "ip_output")
        .map(({ tuple = "" }) => tuple.replace(/:\d+->/, "->"));
      const count = (flow: string) => flows.filter((one) => one === flow).length;
      expect([count("10.9.2.2->10.9.1.2:0(icmp)"), count("10.9.2.2->10.9.1.2:4099(udp)")]).toEqual([6, 2]);
      const datagram = run.lines("everything-0.lines")
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
    ...Object.fromEntries(options.filter(({ peer }) => peer).map(checkOption)),
    "--filter-track-skb: from where it matches until it is freed, whatever it looks like"(run) {
      expect(run.facts("filter-track-skb")).toMatchObject(asAsked);
      const lines = run.lines("filter-track-skb.out"), beside = run.lines(besideOf("until-freed", tracked));
      expect(printed(lines)).toEqual(
        printed(followed(beside, ({ mark }) => mark === 0x2a)),
      );
      expect(lines.filter(({ func }) => func === "kfree_skbmem")).toHaveLength(2);
      expect(lines.some(({ tuple }) => tuple === "10.9.1.1:0->10.9.1.2:0(icmp)")).toBe(true);
      expect(lines.length).toBeLessThan(beside.length);
    },
    "--timestamp current, without the columns of --output-meta and --output-tuple"(run) {
      const lines = run.lines("plain.out");
      expect(lines.map(({ func }) => func)).toEqual(lines.map(() => "ip_rcv"));
      expect(lines.length).toBeGreaterThan(0);
      for (const { netns, tuple, timestamp = 0 } of lines) {
        expect([netns, tuple]).toEqual([undefined, undefined]);
        expect(timestamp).toBeGreaterThan(1e9); // ns since boot
      }
    },
    "--timestamp relative: from 0; --output-limit-lines ends the run by itself"(run) {
      expect(run.facts("relative")).toMatchObject(asAsked);
      expect(run.lines("relative.out").length).toBe(3);
      expect(run.lines("relative.out")[0]?.timestamp).toBe(0);
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
  limitSeconds: 1500,
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

const asAsked = { ready: true, gone: true, status: 0 };

function checkOption(option: Option): [string, (run: Run) => void] {
  const { name, selects } = option;
  return [`--${name}: what it selects, in order, and nothing else`, (run) => {
    expect(run.facts(name)).toMatchObject(asAsked);
    const all = run.lines(besideOf("everything", option)), guest = guestOf(run);
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
