/** Filters for what a tunnel carries, on this very kernel: VXLAN over veth, seen by tracepoints. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { isAtLeast, isRoot } from "./requires.ts";
import { sh, traceWhile, VethPair } from "./tracer.ts";

setDefaultTimeout(60_000); // a busy machine is no failure

/** Whether this kernel has the kind of interface. */
function hasLink(kind: string): boolean {
  if (!isRoot) return false;
  const made = Bun.spawnSync(["bash", "-c", `ip link add pwrutry type ${kind} && ip link del pwrutry`]);
  return made.success;
}

/** 10.78.0.1 and 10.78.0.2 through a tunnel between 10.77.0.1 and 10.77.0.2. */
function tunnel(pair: VethPair, kind: string): void {
  for (const [netns, own, other] of [[pair.a, 1, 2], [pair.b, 2, 1]] as const) {
    sh(`
      ip netns exec ${netns} sysctl -qw net.ipv6.conf.default.disable_ipv6=1
      ip -n ${netns} link add tun1 type ${kind} local 10.77.0.${own} remote 10.77.0.${other} ${
      kind.startsWith("vxlan") ? "dev eth0" : ""
    }
      ip -n ${netns} addr add 10.78.0.${own}/24 dev tun1
      ip -n ${netns} link set tun1 up
    `);
  }
  sh(`ip netns exec ${pair.a} ping -c1 -W2 10.78.0.2`); // neighbours of both links
}

/** What no checksum is left to compute for takes another way through the tunnel. */
const echo = (pair: VethPair) => sh(`ip netns exec ${pair.a} ping -c1 -W2 10.78.0.2`);

const say = (pair: VethPair, port: number) =>
  sh(`ip netns exec ${pair.a} bash -c 'echo hello > /dev/udp/10.78.0.2/${port}'`);

const vxlan = "vxlan id 42 dstport 4789";

describe.skipIf(!isRoot || !isAtLeast(5, 8))("tunnels (needs root, Linux 5.8)", () => {
  test.skipIf(!hasLink(`${vxlan} dev lo remote 127.0.0.2`)).each<[
    name: string,
    words: string[],
    shown: number,
  ]>([
    ["all", [], 3],
    ["by the inner port", ["--filter-tunnel-pcap-l3", "udp and dst port 4099"], 1],
    ["by no inner packet", ["--filter-tunnel-pcap-l3", "udp and dst port 4097"], 0],
    ["by the inner frame", ["--filter-tunnel-pcap-l2", "ether proto 0x800 and udp dst port 4099"], 1],
    ["by another frame", ["--filter-tunnel-pcap-l2", "ether src 02:00:00:00:00:01"], 0],
    ["by both", [
      "--filter-tunnel-pcap-l2",
      "ip host 10.78.0.2",
      "--filter-tunnel-pcap-l3",
      "dst port 4098",
    ], 1],
    ["by two that differ", [
      "--filter-tunnel-pcap-l2",
      "dst port 4099",
      "--filter-tunnel-pcap-l3",
      "dst port 4098",
    ], 0],
    ["by an echo request", ["--filter-tunnel-pcap-l3", "icmp"], 1],
    ["by what is no echo request", ["--filter-tunnel-pcap-l3", "udp"], 2],
  ])("VXLAN, %s", async (_, words, shown) => {
    using pair = new VethPair("vxlan");
    tunnel(pair, vxlan);
    const { lines } = await traceWhile(
      ["--backend", "tracepoint", ...words, "udp dst port 4789 and src host 10.77.0.1"],
      () => {
        say(pair, 4098);
        say(pair, 4099);
        echo(pair);
      },
    );
    const sent = lines.filter(({ func, netns }) => func === "net_dev_queue" && netns === pair.inode(pair.a));
    expect(sent.length).toBe(shown);
    for (const { tuple } of lines) expect(tuple).toMatch(/^10\.77\.0\.1:\d+->10\.77\.0\.2:4789\(udp\)$/);
    const arrived = lines.filter(({ func, netns }) =>
      func === "netif_receive_skb" && netns === pair.inode(pair.b)
    );
    expect(arrived.length).toBe(shown);
  });

  test("what is in no tunnel passes", async () => {
    using pair = new VethPair("plain");
    sh(`ip netns exec ${pair.a} ping -c1 -W2 10.77.0.2`);
    const { lines } = await traceWhile(
      ["--backend", "tracepoint", "--filter-tunnel-pcap-l3", "tcp", "icmp and host 10.77.0.2"],
      () => void sh(`ip netns exec ${pair.a} ping -c1 -W2 10.77.0.2`),
    );
    expect(lines.map(({ func }) => func)).toContain("netif_receive_skb");
  });

  test.skipIf(!hasLink("ipip local 127.0.0.1 remote 127.0.0.2"))(
    "IP in IP carries no Ethernet",
    async () => {
      using pair = new VethPair("ipip");
      tunnel(pair, "ipip");
      const trace = async (words: string[]) => {
        const all = ["--backend", "tracepoint", ...words, "ip proto 4 and src host 10.77.0.1"];
        const { lines } = await traceWhile(all, () => void say(pair, 4099));
        return lines.filter(({ func, netns }) => func === "net_dev_queue" && netns === pair.inode(pair.a))
          .length;
      };
      expect(await trace(["--filter-tunnel-pcap-l3", "udp dst port 4099"])).toBe(1);
      expect(await trace(["--filter-tunnel-pcap-l3", "udp dst port 4098"])).toBe(0);
      expect(await trace(["--filter-tunnel-pcap-l2", "ip"])).toBe(0);
    },
  );
});
