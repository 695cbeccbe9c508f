/**
 * The complete path of packets that change on their way: every function from the first at which the filter knows them to
 * the one that frees their memory, and no line of another packet.
 *
 * A packet to port 4099, which the filter knows, follows another one the same way, which it does not. What was seen
 * is, function by function, what stands in golden/paths (../paths.ts says how to read it).
 *
 *   dnat          rewritten in the node, then read by a socket
 *   snat          rewritten in the node on its way out, then nobody listens
 *   masquerade    the same with the address of the interface
 *   helper        a request for a file, which conntrack's helper for TFTP looks into
 *   vxlan, geneve, ipip, gre   wrapped, sent over veth, unwrapped
 *   cut           a datagram that the pod's link takes only in fragments, made whole in the pod
 *   whole         fragments that somebody else made: the filter knows the first alone. The node makes them whole for
 *                 conntrack, and cuts them again
 *   flood         a frame for an unknown address, which the bridge gives to all its ports
 *   bulk          TCP, larger than the link, through a device that cannot cut it
 */
import { expect } from "bun:test";
import { expectGolden } from "../../golden.ts";
import { type Bytes, ethernet, ip4, ip4Type, u16, udp, zeros } from "../../pcap_filter/packets.ts";
import type { TraceLine } from "../lines.ts";
import { isOver, livesOf, packetsOf, pathText } from "../paths.ts";
import { type Checks, type Run, type Scenario } from "../scenario.ts";

const tunnels = ["vxlan", "geneve", "ipip", "gre"];

/** A packet that is sent, how it looks at first, and what is left of it at its end, if that is another thing. */
interface Sent {
  readonly name: string;
  readonly first: string;
  readonly last?: string;
}

/** In the order in which they are sent. */
const sent: readonly Sent[] = [
  { name: "dnat", first: "10.9.2.2->10.9.2.1:4099(udp)", last: "10.9.2.2->10.9.1.2:4100(udp)" },
  { name: "snat", first: "10.9.1.2->10.9.2.2:4099(udp)", last: "10.9.2.77->10.9.2.2:4099(udp)" },
  { name: "masquerade", first: "10.9.1.2->10.9.2.3:4099(udp)", last: "10.9.2.1->10.9.2.3:4099(udp)" },
  { name: "helper", first: "10.9.1.2->10.9.2.4:4099(udp)" },
  ...tunnels.map((name, index) => ({ name, first: `10.${50 + index}.0.1->10.${50 + index}.0.2:4099(udp)` })),
  { name: "cut", first: "10.9.2.2->10.9.1.2:4099(udp)" },
  { name: "whole", first: "10.9.1.2->10.9.2.2:4099(udp)" },
  { name: "flood", first: "10.9.3.2->10.9.3.9:4099(udp)" },
];
const namespaces = ["dns", "pod", "left", "right", "up"];

/** An IPv4 header's checksum, put where it belongs. */
function summed(packet: Bytes): Bytes {
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += (packet[at]! << 8) | packet[at + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return [...packet.slice(0, 10), ...u16(~sum & 0xffff), ...packet.slice(12)];
}

const gateway = "02:00:00:00:01:01", FRAGMENT_BYTES = 1480, MORE_FRAGMENTS = 0x2000;

/** The frames of a datagram from pod to dns in two fragments, in base64. */
function fragmentsTo(port: number): string[] {
  const [protocol, datagram] = udp(5000, port, zeros(2000));
  const piece = (from: number, to: number, flags: number) =>
    ethernet([
      ...ip4Type,
      ...summed(ip4([protocol, datagram.slice(from, to)], {
        from: "10.9.1.2",
        to: "10.9.2.2",
        fragment: flags | (from / 8),
      })),
    ], gateway);
  return [piece(0, FRAGMENT_BYTES, MORE_FRAGMENTS), piece(FRAGMENT_BYTES, datagram.length, 0)]
    .map((frame) => Buffer.from(frame).toString("base64"));
}

const sendFragments = (port: number) =>
  fragmentsTo(port).map((frame) =>
    `base64 -d <<< ${frame} | ip netns exec pod socat -u -b 4096 - INTERFACE:eth0`
  ).join("\n    ");

export const paths: Scenario = {
  name: "paths",
  boot: "apart",
  kernels: ["6.12"],
  limitSeconds: 600,
  script: `
    topo 1500
    bridged
    ip netns add up
    ip link add upveth type veth peer name eth0 netns up
    ip link set upveth master br0 up
    ip -n up addr add 10.9.3.4/24 dev eth0; ip -n up link set eth0 up
    ip netns exec left ethtool -K eth0 tso off > /dev/null

    modprobe -qa vxlan geneve ipip ip_gre
    # between NAME NET WORD...: the same tunnel in the node and in dns
    between() {
      local name=$1 net=$2; shift 2
      ip link add $name type "\${@//THERE/10.9.2.2}"
      ip addr add 10.$net.0.1/24 dev $name; ip link set $name up
      ip -n dns link add $name type "\${@//THERE/10.9.2.1}"
      ip -n dns addr add 10.$net.0.2/24 dev $name; ip -n dns link set $name up
      ping -q -c1 -W5 10.$net.0.2 > /dev/null || echo "paths: no way through $name" >&2
    }
    between vx0 50 vxlan id 42 remote THERE dstport 4789
    between gnv0 51 geneve id 42 remote THERE
    between ipt0 52 ipip remote THERE
    between gre9 53 gre remote THERE

    ip link set podveth address ${gateway}
    for net in 3 4; do ip -n dns addr add 10.9.2.$net/24 dev eth0; done
    ip addr add 10.9.2.77/32 dev dnsveth
    nft -f - <<'RULES'
      table ip paths {
        ct helper files { type "tftp" protocol udp; l3proto ip; }
        counter strangers {}
        chain seen { type filter hook prerouting priority -300; udp dport 4098 counter name strangers; }
        chain sent { type filter hook output priority -300; udp dport 4098 counter name strangers; }
        chain pre { type nat hook prerouting priority -100;
          ip daddr 10.9.2.1 udp dport 4099 dnat to 10.9.1.2:4100; }
        chain help { type filter hook prerouting priority 0;
          ip daddr 10.9.2.4 udp dport 4099 ct helper set "files"; }
        chain post { type nat hook postrouting priority 100;
          ip saddr 10.9.1.2 ip daddr 10.9.2.3 udp dport 4099 masquerade;
          ip saddr 10.9.1.2 ip daddr 10.9.2.2 udp sport != 5000 udp dport 4099 snat to 10.9.2.77; }
      }
RULES
    for ns in ${namespaces.join(" ")}; do stat -L -c "%i $ns" /run/netns/$ns; done > "$OUT/namespaces"
    stat -L -c "%i node" /proc/self/ns/net >> "$OUT/namespaces"

    ip -n pod neigh flush dev eth0
    echo_request pod 10.9.1.1; echo_request dns 10.9.2.1
    keep_neighbours ${namespaces.join(" ")}
    ip -n left neigh add 10.9.3.9 lladdr 02:00:00:00:00:99 dev eth0

    start one --debug --filter-track-skb --output-packet-id --all-kmods 'dst port 4099'
    taskset -p 1 $BASHPID > /dev/null # packets that go to another processor take other ways

    ip netns exec pod socat -u UDP4-RECV:4100 /dev/null &
    reader=$!
    until_true 10 bound $reader udp 4100
    for port in 4098 4099; do say dns UDP4:10.9.2.1:$port; done
    kill $reader
    for port in 4098 4099; do say pod UDP4:10.9.2.2:$port; done
    for port in 4098 4099; do say pod UDP4:10.9.2.3:$port; done
    for port in 4098 4099; do printf '\\0\\1file\\0octet\\0' | ip netns exec pod socat -u - UDP4:10.9.2.4:$port; done
    conntrack -L expect > "$OUT/expected" 2> /dev/null
    for net in ${tunnels.map((_, index) => 50 + index).join(" ")}; do
      for port in 4098 4099; do echo hello | socat -u - UDP4:10.$net.0.2:$port; done
    done
    for port in 4098 4099; do
      head -c 4000 /dev/zero | ip netns exec dns socat -u -b 4096 - UDP4-SENDTO:10.9.1.2:$port,ip-mtu-discover=0
    done
    ${sendFragments(4098)}
    ${sendFragments(4099)}
    for port in 4098 4099; do say left UDP4:10.9.3.9:$port; done
    listen right TCP4-LISTEN 4099
    head -c 40000 /dev/zero | ip netns exec left socat -u -b 40000 - TCP4:10.9.3.3:4099
    wait $listener
    settle one
    stop one
    nft list counter ip paths strangers > "$OUT/strangers"
    nft delete table ip paths
    for tunnel in vx0 gnv0 ipt0 gre9; do ip link del $tunnel; done
    ip netns del up
    unbridged
    untopo
  `,
  checks: {},
  oursOnly: {
    ...Object.fromEntries(sent.map((packet, index) => [
      `${packet.name}: one packet, from its first function to its last`,
      (run: Run) => {
        const [number, lines = []] = [...packetsOf(run.lines("one.out"))][index] ?? [];
        expect({ number, first: flowOf(lines[0]) }).toEqual({ number: index + 1, first: packet.first });
        if (packet.last !== undefined) expect(flowOf(lines.at(-1))).toBe(packet.last);
        expect(lastFunctions(lines)).toEqual([]);
        expectGolden(`paths/${packet.name}.txt`, pathText(lines, namesOf(run)));
      },
    ])) as Checks,
    "helper: conntrack expects the file"(run) {
      expect(run.text("expected")).toMatch(
        /proto=17 src=10\.9\.2\.4 dst=10\.9\.1\.2 .* dport=4099 .*helper=tftp/,
      );
    },
    "bulk: what is too large for the link is cut, and every piece is followed to its end"(run) {
      const packets = bulkOf(run);
      const large = packets.filter(([first]) => (first?.len ?? 0) > 1500);
      expect(large.length).toBeGreaterThan(0);
      expect(packets.flatMap(lastFunctions)).toEqual([]);
      for (const lines of large) {
        const [parent = [], ...pieces] = livesOf(lines), bytes = lines[0]?.len ?? 0;
        expect(parent.at(-1)?.func).toBe("kfree_skbmem");
        expect(parent.map(({ func }) => func)).toContain("skb_segment");
        expect(pieces.length).toBe(Math.ceil((bytes - HEADERS) / (1500 - HEADERS)));
      }
      // What TCP does with them depends on who is first, the reader or the next one.
      const untilTcp = (life: readonly TraceLine[]) => {
        const end = life.findIndex(({ func }) => func === "tcp_v4_rcv");
        return end < 0 ? life : life.slice(0, end + 1);
      };
      const ways = new Set(
        large.flatMap((lines) => livesOf(lines).map((life) => pathText(untilTcp(life), namesOf(run)))),
      );
      expectGolden("paths/bulk.txt", [...ways].join("\n"));
    },
    "bulk: no number but those of the connection's packets"(run) {
      for (const lines of bulkOf(run)) {
        const flows = new Set(lines.map(flowOf).filter((flow) => flow !== "->:0()")); // in the making
        expect(flows).toEqual(new Set(["10.9.3.2->10.9.3.3:4099(tcp)"]));
        expect(lines[0]?.func).toMatch(/^(__)?ip_(local_out|queue_xmit|send_check)$/);
      }
    },
    "strangers passed, and none was shown"(run) {
      expect(Number(/packets (\d+)/.exec(run.text("strangers"))?.[1])).toBeGreaterThanOrEqual(sent.length);
      expect(run.text("one.out")).not.toContain(":4098");
      expect(packetsOf(run.lines("one.out")).has(0)).toBe(false);
    },
    "nothing is followed any more"(run) {
      expect(run.text("one.err")).toContain("Still followed packets=0\n");
      for (const trouble of ["WARN", "untracked ", "lost  "]) {
        expect(run.text("one.err")).not.toContain(trouble);
      }
    },
  },
};

/** Of IPv4 and TCP, with a timestamp. */
const HEADERS = 52;

const flowOf = (line: TraceLine | undefined) => line?.tuple?.replace(/:\d+->/, "->");
const bulkOf = (run: Run) => [...packetsOf(run.lines("one.out")).values()].slice(sent.length);

/** The last functions of sk_buffs whose end was not seen. */
const lastFunctions = (lines: readonly TraceLine[]) =>
  livesOf(lines).filter((life) => !isOver(life)).map((life) => life.at(-1)?.func);

function namesOf(run: Run): Map<number, string> {
  const rows = run.text("namespaces").trim().split("\n").map((row) => row.split(" "));
  return new Map(rows.map(([inode = "", name = ""]) => [Number(inode), name]));
}
