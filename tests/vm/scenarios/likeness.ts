/**
 * Line by line beside Debian's pwru 1.0.5: both look at the same packets in the same functions of the same boot.
 * What it cannot do is compared nowhere; what is meant to differ is a row of differences.ts, and nothing else may.
 */
import { expect } from "bun:test";
import { aliases, comparedWithPeer, differencesOn } from "../differences.ts";
import { layout, layoutHeader, tupleText } from "../layout.ts";
import type { TraceLine } from "../lines.ts";
import type { Run, Scenario } from "../scenario.ts";

const functions = "ip_rcv|ip_forward|ip_output|ip6_output|udp_rcv|tcp_v4_rcv|icmp_rcv|ipv6_rcv|ip6_forward|" +
  "udpv6_rcv|icmpv6_rcv|__dev_queue_xmit|__icmp_send|kfree_skb|kfree_skb_reason|sk_skb_reason_drop|" +
  "consume_skb|kfree_skbmem";

interface Pair {
  readonly name: string;
  /** both have them, on top of --output-meta --output-tuple */
  readonly words: string;
  readonly filter: string;
}

const fromDns = "src host 10.9.2.2 or src host fd00:9:2::2";
const limit = 14;

const pairs: readonly Pair[] = [
  { name: "plain", words: "", filter: fromDns },
  { name: "stack", words: "--output-stack --timestamp relative", filter: fromDns },
  {
    name: "skb",
    words: `$dump --timestamp absolute --filter-netns /run/netns/pod --filter-ifname eth0 ` +
      `--output-limit-lines ${limit}`,
    filter: fromDns,
  },
  // Marked where it is sent; neither the mark nor the source remains, and still it is followed.
  {
    name: "track",
    words: '--filter-track-skb --filter-mark 42 --timestamp current --output-file "$OUT/$1.out"',
    filter: "src host 10.9.2.2 and icmp",
  },
];
const names = pairs.map(({ name }) => name);

const pairOf = ({ name, words, filter }: Pair) => `
    begin() { start "$1" --output-meta --output-tuple --filter-func '^(${functions})$' ${words} '${filter}'; }
    TRACER=$PEER PATIENCE=0 begin peer-${name}
    begin ours-${name}
    until_true 60 [ -e /tmp/peer-${name}.ready ] && fact peer-${name} ready yes
    traffic
    settle ours-${name}; settle peer-${name}
    TRACER=$PEER stop peer-${name} INT 10000
    stop ours-${name}`;

export const likeness: Scenario = {
  name: "likeness",
  boot: "apart",
  kernels: [],
  longKernels: ["5.10", "6.12"],
  limitSeconds: 600,
  script: `
    topo 1500
    keep_neighbours pod dns
    # The peer's does not load on Linux 5.10.
    dump=--output-skb
    [ "$(uname -r | cut -d. -f1)" != 5 ] || dump=
    nft -f - <<'RULES'
      table ip likeness {
        chain post { type nat hook postrouting priority 100; oifname "podveth" ip protocol icmp masquerade; }
      }
RULES
    traffic() {
      echo_request dns 10.9.1.2
      echo_request dns fd00:9:1::2
      say dns UDP4:10.9.1.2:4099
      say dns UDP6:[fd00:9:1::2]:4099
      say dns TCP4:10.9.1.2:4099
      raw dns IP4-SENDTO:10.9.1.2:47 '\\x20\\0\\x8\\0\\0\\0\\0\\x2a'
      raw dns IP4-SENDTO:10.9.1.2:132 '\\x9\\x63\\x10\\x03\\0\\0\\0\\0\\0\\0\\0\\0'
      ip netns exec dns ping -q -c1 -W2 -m 42 10.9.1.2 > /dev/null
    }
    ${pairs.map(pairOf).join("\n")}
    stat -L -c %i /proc/self/ns/net > "$OUT/node.inode"
    grep -E ' (${aliases.flat().join("|")})$' /proc/kallsyms > "$OUT/kallsyms"
    nft delete table ip likeness
    untopo
  `,
  checks: {},
  oursOnly: {
    "both start, and end as asked"(run) {
      for (const name of names) {
        expect(run.facts(`ours-${name}`)).toMatchObject({ ready: true, gone: true, status: 0 });
        expect(run.facts(`peer-${name}`)).toMatchObject({ ready: true, gone: true });
      }
    },
    "every packet of the traffic is among the lines"(run) {
      const tuples = new Set(
        linesOf(run, "ours-plain").map(({ tuple }) => tuple?.replace(/:[1-9]\d*->/, ":*->")),
      );
      expect([...tuples].sort()).toEqual([
        "10.9.2.2:*->10.9.1.2:4099(sctp)",
        "10.9.2.2:*->10.9.1.2:4099(tcp)",
        "10.9.2.2:*->10.9.1.2:4099(udp)",
        "10.9.2.2:0->10.9.1.2:0(gre)",
        "10.9.2.2:0->10.9.1.2:0(icmp)",
        "[fd00:9:2::2]:*->[fd00:9:1::2]:4099(udp)",
        "[fd00:9:2::2]:0->[fd00:9:1::2]:0(icmp6)",
      ]);
    },
    "the same lines in the same order, but for the differences that are meant"(run) {
      for (const name of names) {
        const { expected, peer } = compared(run, name);
        expect({ name, lines: expected }).toEqual({ name, lines: peer });
      }
    },
    "every difference of the table is one"(run) {
      const shown = new Set(names.flatMap((name) => [...compared(run, name).shown]));
      expect(
        differencesOn(run.kernel).filter((row) => !row.seldom && !shown.has(row)),
      ).toEqual([]);
    },
    "names that count as one are names of one address, in this order"(run) {
      if (run.kernel !== "5.10") {
        const shown = new Set(both(run, "stack").flat().flatMap(({ below }) => below));
        expect(aliases.flat().filter((name) => shown.has(name))).toEqual([]);
        return;
      }
      const symbols = run.text("kallsyms").trim().split("\n").map((line) => line.split(" "));
      const places = aliases.map((names) =>
        names.map((name) => symbols.findIndex((symbol) => symbol[2] === name))
      );
      for (const [first = -1, last = -1] of places) {
        expect(first).toBeGreaterThanOrEqual(0);
        expect(last).toBeGreaterThan(first);
        expect(symbols[first]?.[0]).toBe(symbols[last]![0]!);
      }
    },
    "every line of ours is laid out as pwru does it"(run) {
      for (const name of names) {
        expect({ name, text: printed(run, name) }).toEqual({ name, text: laidOut(run, name) });
      }
    },
    "--output-stack: the peer has most of them"(run) {
      const stacks = linesOf(run, "peer-stack").filter(({ below }) => below.length > 1);
      expect(stacks.length).toBeGreaterThan(linesOf(run, "ours-stack").length / 2);
      if (run.kernel !== "5.10") {
        expect(linesOf(run, "ours-stack").every(({ below }) => below.length > 1)).toBe(true);
      }
    },
    "--output-limit-lines: both end after as many"(run) {
      const both = ["ours-skb", "peer-skb"].map((name) => linesOf(run, name).length);
      expect(both).toEqual([limit, limit]);
    },
    "--filter-track-skb: both follow it behind its mark and its source"(run) {
      const lines = linesOf(run, "ours-track");
      expect(lines[0]).toMatchObject({ mark: 42, tuple: "10.9.2.2:0->10.9.1.2:0(icmp)" });
      expect(lines.at(-1)).toMatchObject({ mark: 0, tuple: "10.9.1.1:0->10.9.1.2:0(icmp)" });
    },
    "--timestamp current: one clock, the events of one packet one after the other"(run) {
      const [ours, peer] = both(run, "track").map((lines) => lines.map(({ timestamp = NaN }) => timestamp));
      // A function is probed by both before the packet enters the next.
      const spans = ours?.map((time, at) => [time, peer?.[at] ?? NaN]) ?? [];
      for (const [at, span] of spans.entries()) {
        const next = spans[at + 1];
        if (next !== undefined) expect(Math.max(...span)).toBeLessThan(Math.min(...next));
      }
    },
    "--timestamp relative: 0 for the same lines, then the same sums"(run) {
      const [ours, peer] = both(run, "stack").map(sinceFirst);
      expect(ours?.map((time) => time === 0)).toEqual(peer?.map((time) => time === 0) ?? []);
      for (const [at, time] of ours?.entries() ?? []) {
        expect(Math.abs(time - (peer?.[at] ?? NaN))).toBeLessThan(50e6);
      }
    },
    "--timestamp absolute: the time of the event, which the peer prints a little later"(run) {
      const [ours, peer] = both(run, "skb").map((lines) => lines.map(({ time = "" }) => timeOfDay(time)));
      for (const [at, ms] of ours?.entries() ?? []) {
        const later = ((peer?.[at] ?? NaN) - ms + 86_400_000) % 86_400_000;
        expect(later).toBeLessThan(5000);
      }
    },
  },
};

const linesOf = (run: Run, name: string): readonly TraceLine[] => run.lines(`${name}.out`);
const both = (run: Run, name: string) => ["ours", "peer"].map((tracer) => linesOf(run, `${tracer}-${name}`));

function compared(run: Run, name: string) {
  const [ours = [], peer = []] = both(run, name);
  return comparedWithPeer(ours, peer, Number(run.text("node.inode")), run.kernel);
}

/** The header and the lines, without what is below them. */
function printed(run: Run, name: string): string[] {
  const [header = "", ...rest] = run.text(`ours-${name}.out`).split("\n");
  return [header, ...rest.filter((line) => /^(0x|\d{4}-)/.test(line))];
}

function laidOut(run: Run, name: string): string[] {
  const lines = linesOf(run, `ours-${name}`), [first] = lines;
  let width = 0;
  const text = lines.map((line) => layout(line, width = Math.max(width, tupleText(line).length)));
  return first === undefined ? text : [layoutHeader(first), ...text];
}

/** ns since the first event of that sk_buff, from the differences. */
function sinceFirst(lines: readonly TraceLine[]): number[] {
  const sums = new Map<string, number>();
  return lines.map(({ skb, timestamp = NaN }) => {
    const sum = (sums.get(skb) ?? 0) + timestamp;
    sums.set(skb, sum);
    return sum;
  });
}

/** "2026-11-23T09:16:23.435" and "09:16:23.442" in ms */
function timeOfDay(time: string): number {
  const [hours = NaN, minutes = NaN, seconds = NaN] = time.replace(/^.*T/, "").split(":").map(Number);
  return Math.round(((hours * 60 + minutes) * 60 + seconds) * 1000);
}
