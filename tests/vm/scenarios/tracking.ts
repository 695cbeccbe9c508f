/**
 * Packets that are followed: the filter knows only what they were at first, and every line must be of them or of
 * their children.
 *
 *   rewritten   address translation in the node, then nobody listens
 *   wrapped     VXLAN from the node to the dns server
 *   cut         a datagram that the pod's link takes only in fragments
 *   copied      a frame for an unknown address, which the bridge gives to all its ports
 *   segmented   a TCP packet larger than the link, for a device that cannot cut it
 */
import { expect } from "bun:test";
import type { TraceLine } from "../lines.ts";
import { only, type Run, type Scenario } from "../scenario.ts";

/** Functions that tell a path on every kernel. */
const told = [
  ..."ip_output ip_rcv_core ip_forward ip_local_deliver udp_rcv __icmp_send ip_do_fragment kfree_skbmem"
    .split(
      " ",
    ),
];

/** Lines of a chapter, by the number of their packet. */
function packetsOf(lines: readonly TraceLine[]): Map<number, TraceLine[]> {
  const packets = new Map<number, TraceLine[]>();
  for (const line of lines) {
    const packet = line.packet ?? 0;
    packets.set(packet, [...packets.get(packet) ?? [], line]);
  }
  return packets;
}

/** The lines of the only packet in a chapter. */
function onlyPacket(run: Run, chapter: string): TraceLine[] {
  const packets = packetsOf(run.lines(`${chapter}.lines`));
  expect({ chapter, packets: packets.size, unknown: packets.has(0) }).toEqual({
    chapter,
    packets: 1,
    unknown: false,
  });
  return [...packets.values()][0]!;
}

/** "10.9.2.2:40000->10.9.1.2:4100(udp)" -> "10.9.1.2:4100"; "" without addresses */
const receiver = ({ tuple = "" }: TraceLine) => /->(.+:\d+)\(/.exec(tuple)?.[1]?.replace(/^:0$/, "") ?? "";
const receivers = (lines: readonly TraceLine[]) => new Set(lines.map(receiver).filter((text) => text !== ""));
const addresses = (lines: readonly TraceLine[]) => new Set(lines.map(({ skb }) => skb));

/** A receiver changes in the middle of a path: what it was at each of the told functions. */
const stations = (lines: readonly TraceLine[]) =>
  lines.filter(({ func }) => told.includes(func)).map((line) => `${line.func} ${receiver(line)}`.trim());

export const tracking: Scenario = {
  name: "tracking",
  boot: "apart",
  kernels: ["6.12"],
  limitSeconds: 500,
  script: `
    topo 1500
    modprobe -q vxlan
    nft add table ip t
    nft 'add chain ip t c { type nat hook prerouting priority -100; }'
    nft add rule ip t c ip daddr 10.9.2.1 udp dport 4099 dnat to 10.9.1.2:4100
    ip link add vx0 type vxlan id 42 local 10.9.2.1 remote 10.9.2.2 dstport 4789 dev dnsveth
    ip addr add 10.50.0.1/24 dev vx0; ip link set vx0 up
    ip -n dns link add vx0 type vxlan id 42 local 10.9.2.2 remote 10.9.2.1 dstport 4789 dev eth0
    ip -n dns addr add 10.50.0.2/24 dev vx0; ip -n dns link set vx0 up
    ping -q -c1 -W$((5 * SLOWNESS)) 10.50.0.2 > /dev/null || echo "tracking: no way through the tunnel" >&2

    start one --debug --filter-track-skb --output-packet-id 'udp and dst port 4099'
    chapter one before
    say dns UDP4:10.9.2.1:4098
    say dns UDP4:10.9.2.1:4099
    say dns UDP4:10.9.1.2:4100
    chapter one rewritten
    echo hello | socat -u - UDP4:10.50.0.2:4098
    echo hello | socat -u - UDP4:10.50.0.2:4099
    chapter one wrapped
    head -c 4000 /dev/zero | ip netns exec dns socat -u -b 4096 - UDP4-SENDTO:10.9.1.2:4099,ip-mtu-discover=0
    say dns UDP4:10.9.1.2:4098
    chapter one cut
    stop one
    ip link del vx0
    nft delete table ip t

    bridged
    ip netns add up
    ip link add upveth type veth peer name eth0 netns up
    ip link set upveth master br0 up
    ip -n up addr add 10.9.3.4/24 dev eth0; ip -n up link set eth0 up
    ip -n left neigh add 10.9.3.9 lladdr 02:00:00:00:00:99 dev eth0
    ip netns exec left ethtool -K eth0 tso off > /dev/null
    start two --filter-track-skb --output-packet-id --filter-netns left 'dst port 4099'
    chapter two before
    say left UDP4:10.9.3.9:4099
    say right UDP4:10.9.3.9:4099
    chapter two copied
    listen right TCP4-LISTEN 4099
    head -c 40000 /dev/zero | ip netns exec left socat -u -b 40000 - TCP4:10.9.3.3:4099
    wait $listener
    chapter two segmented
    stop two
    ip netns del up

    modprobe -qa geneve ipip
    ip link add gnv type geneve id 42 remote 10.9.2.2; ip link add ipt type ipip local 10.9.2.1 remote 10.9.2.2
    ip addr add 10.51.0.1/24 dev gnv; ip addr add 10.52.0.1/24 dev ipt
    ip link set gnv address 02:00:00:00:00:01 up; ip link set ipt up
    ip neigh add 10.51.0.2 lladdr 02:00:00:00:00:99 dev gnv
    outer='src host 10.9.2.1 and (udp dst port 6081 or ip proto 4)'
    start ip --filter-func __dev_queue_xmit --filter-tunnel-pcap-l3 'udp dst port 4099' "$outer"
    start frame --filter-func __dev_queue_xmit --filter-tunnel-pcap-l2 'ether dst 2:0:0:0:0:99 and udp dst port 4099' "$outer"
    for port in 4098 4099; do for net in 51 52; do echo hello | socat -u - UDP4:10.$net.0.2:$port; done; done
    stop ip; stop frame
    ip link del gnv; ip link del ipt
    unbridged
    untopo
  `,
  checks: {
    "address translation: one packet from its sender to its end, under both addresses"(run) {
      const lines = onlyPacket(run, "rewritten");
      const before = "10.9.2.1:4099", after = "10.9.1.2:4100";
      expect(addresses(lines).size).toBe(1);
      expect(receivers(lines)).toEqual(new Set([before, after]));
      expect(stations(lines)).toEqual([
        `ip_output ${before}`,
        `ip_rcv_core ${before}`,
        `ip_forward ${after}`,
        `ip_output ${after}`,
        `ip_rcv_core ${after}`,
        `ip_local_deliver ${after}`,
        `udp_rcv ${after}`,
        `__icmp_send ${after}`,
        `kfree_skbmem ${after}`,
      ]);
      expect(lines.at(-1)?.func).toBe("kfree_skbmem");
    },
    "VXLAN: one packet, bare, wrapped and bare again"(run) {
      const lines = onlyPacket(run, "wrapped");
      const inner = "10.50.0.2:4099", outer = "10.9.2.2:4789";
      expect(receivers(lines)).toEqual(new Set([inner, outer]));
      expect(stations(lines)).toEqual([
        `ip_output ${inner}`,
        `ip_output ${outer}`,
        `ip_rcv_core ${outer}`,
        `ip_local_deliver ${outer}`,
        `udp_rcv ${outer}`,
        `ip_rcv_core ${inner}`,
        `ip_local_deliver ${inner}`,
        `udp_rcv ${inner}`,
        `__icmp_send ${inner}`,
        `kfree_skbmem ${inner}`,
      ]);
      expect(lines.at(-1)?.func).toBe("kfree_skbmem");
    },
    "fragments are children of the datagram, ports or not"(run) {
      const lines = onlyPacket(run, "cut");
      expect([...receivers(lines)].map((text) => text.split(":")[0])).toEqual(["10.9.1.2", "10.9.1.2"]);
      const cut = lines.findIndex(({ func }) => func === "ip_do_fragment");
      expect(only(lines.slice(0, cut), told)).toEqual([
        "ip_output",
        "ip_rcv_core",
        "ip_forward",
        "ip_output",
      ]);
      const pieces = lines.slice(cut).filter(({ func }) => func === "ip_rcv_core");
      expect([pieces.length, addresses(pieces).size]).toEqual([3, 3]);
      expect(lines.at(-1)?.func).toBe("kfree_skbmem");
    },
    "what ended is not followed any more, but for fragments that were freed in bulk"(run) {
      expect(run.text("one.err")).toMatch(/Still followed packets=[0-2]\n/);
      expect(run.text("one.err")).not.toContain("WARN");
      expect(run.text("two.err")).not.toContain("WARN");
    },
    "a bridge's flood: the frame and its clones, in all namespaces, though the filter knows one"(run) {
      const lines = onlyPacket(run, "copied");
      expect(addresses(lines).size).toBe(2);
      expect(receivers(lines)).toEqual(new Set(["10.9.3.9:4099"]));
      const arrivals = lines.filter(({ func }) => func === "ip_rcv_core");
      expect([addresses(arrivals).size, new Set(arrivals.map(({ netns }) => netns)).size]).toEqual([2, 2]);
      for (const skb of addresses(lines)) {
        expect(lines.filter((line) => line.skb === skb).at(-1)?.func).toBe("kfree_skbmem");
      }
    },
    "tunnel filters: Geneve by what it carries, IP in IP only by its IP packet"(run) {
      const outer = (name: string) => run.lines(`${name}.out`).map((line) => receiver(line));
      expect(outer("ip")).toEqual(["10.9.2.2:6081", "10.9.2.2:0"]);
      expect(outer("frame")).toEqual(["10.9.2.2:6081"]);
    },
    "segments are children of the packet that was too large"(run) {
      const packets = [...packetsOf(run.lines("segmented.lines")).values()];
      const large = packets.filter((lines) =>
        lines.some(({ func, len = 0 }) => func === "ip_output" && len > 1500)
      );
      expect(large.length).toBeGreaterThan(0);
      for (const lines of large) {
        const wire = lines.filter(({ func }) => func === "dev_hard_start_xmit");
        expect(addresses(wire).size).toBeGreaterThan(1);
        const size = lines.find(({ func }) => func === "ip_output")?.len ?? 0;
        expect(addresses(lines.filter(({ func }) => func === "ip_rcv_core")).size)
          .toBeGreaterThanOrEqual(Math.floor(size / 1500));
      }
      for (const lines of packets) {
        for (const text of receivers(lines)) expect(text).toMatch(/^10\.9\.3\.3:4099$/);
      }
    },
  },
};
