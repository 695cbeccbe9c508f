/**
 * How packets end, on this very kernel, as its tracepoints tell: many ways in one table, each row exactly, and no row
 * more.
 */
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { validLine } from "../output/schema.ts";
import { pin } from "./pin.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { loadTarget } from "./target_programs.ts";
import { rawTraceWhile, sh } from "./tracer.ts";

setDefaultTimeout(90_000);

/** left 10.81.0.2 -- 10.81.0.1 node 10.82.0.1 -- 10.82.0.2 right */
const [left, node, right] = ["left", "node", "right"].map((name) => `pwru-v-${name}`) as [
  string,
  string,
  string,
];
let folder = "";

function wire(side: string, name: string, net: number): void {
  sh(`ip -n ${node} link add ${name} mtu 1500 type veth peer name eth0 netns ${side}
    ip -n ${node} addr add 10.${net}.0.1/24 dev ${name}; ip -n ${node} link set ${name} up
    ip -n ${side} addr add 10.${net}.0.2/24 dev eth0; ip -n ${side} link set eth0 up
    ip -n ${side} link set lo up; ip -n ${side} route add default via 10.${net}.0.1`);
}

/** `count` datagrams of `bytes` bytes, each from a socket of its own. */
const send = (netns: string, count: number, target: string, bytes = 5) =>
  sh(`ip netns exec ${netns} bash -c 'printf -v text %${bytes}s
    for ((i = 0; i < ${count}; i++)); do printf "$text" > /dev/udp/${target}; done'`);

const removeAll = () =>
  sh(`for n in ${left} ${node} ${right}; do ip netns del $n; done; umount ${folder}/bpf`, { mayFail: true });

describe.skipIf(!isRoot || !isAtLeast(6, 12) || Bun.which("nft") === null)(
  "verdicts (needs root, nft, Linux 6.12)",
  () => {
    beforeAll(() => {
      removeAll();
      folder = mkdtempSync(join(tmpdir(), "pwru-verdicts-"));
      mkdirSync(join(folder, "bpf"));
      sh(`mount -t bpf none ${folder}/bpf; for n in ${left} ${node} ${right}; do ip netns add $n; done
      ip netns exec ${node} sysctl -qw net.ipv4.ip_forward=1`);
      wire(left, "leftveth", 81);
      wire(right, "rightveth", 82);
      for (
        const target of [{ name: "shoot", kind: "tc", returns: 2 }, {
          name: "drop_frame",
          kind: "xdp",
          returns: 1,
        }] as const
      ) {
        using program = loadTarget(target);
        pin(program.fd, join(folder, "bpf", target.name));
      }
      sh(`ip netns exec ${left} ping -q -c1 -W5 10.82.0.2`);
    });
    afterAll(() => {
      removeAll();
      rmSync(folder, { recursive: true });
    });

    test("in every way there is", async () => {
      const traffic = () => {
        send(left, 2, "10.82.0.2/4131"); // nobody listens
        sh(`ip netns exec ${left} bash -c 'for i in 1 2 3; do : > /dev/tcp/10.82.0.2/4131; done'`, {
          mayFail: true,
        });
        sh(`nft() { ip netns exec ${node} nft "$@"; }
        nft add table ip t; nft 'add chain ip t c { type filter hook forward priority 0; }'
        nft add rule ip t c udp dport 4132 drop`);
        send(left, 4, "10.82.0.2/4132");
        sh(`ip -n ${node} link set rightveth mtu 1000`);
        send(left, 1, "10.82.0.2/4133", 1200);
        sh(`ip -n ${node} link set rightveth mtu 1500; ip -n ${left} route flush cache`);
        sh(
          `ip netns exec ${node} sysctl -qw net.ipv4.conf.leftveth.rp_filter=1; ip -n ${left} addr add 10.99.0.2/32 dev lo
        ip -n ${left} route add 10.82.0.2 via 10.81.0.1 src 10.99.0.2`,
        );
        send(left, 3, "10.82.0.2/4134");
        sh(
          `ip -n ${left} route del 10.82.0.2; ip netns exec ${node} sysctl -qw net.ipv4.conf.leftveth.rp_filter=0
        ip netns exec ${left} sysctl -qw net.ipv4.ip_default_ttl=1`,
        );
        send(left, 5, "10.82.0.2/4135");
        sh(`ip netns exec ${left} sysctl -qw net.ipv4.ip_default_ttl=64`);
        send(left, 6, "10.98.0.1/4136");
        sh(
          `ip netns exec ${node} tc qdisc add dev leftveth clsact`,
          { mayFail: true },
        );
        const filter = (words: string) => sh(`nsenter --net=/run/netns/${node} tc filter ${words}`);
        filter(`add dev leftveth ingress bpf da pinned ${folder}/bpf/shoot`);
        send(left, 2, "10.82.0.2/4137");
        filter("del dev leftveth ingress");
        filter(`add dev leftveth egress bpf da pinned ${folder}/bpf/shoot`);
        send(right, 3, "10.81.0.2/4137");
        sh(`ip netns exec ${node} tc qdisc del dev leftveth clsact`);
        const xdp = (words: string) =>
          sh(`nsenter --net=/run/netns/${node} ip link set dev leftveth xdpgeneric ${words}`);
        xdp(`pinned ${folder}/bpf/drop_frame`);
        send(left, 4, "10.82.0.2/4138");
        xdp("off");
        // Of 47 bytes each, four have a token, four find room, and four do not.
        sh(`ip netns exec ${node} tc qdisc add dev rightveth root tbf rate 8bit burst 200 limit 200`);
        send(left, 12, "10.82.0.2/4139");
      };
      const { stdout, stderr, status } = await rawTraceWhile(
        [
          "--backend",
          "tracepoint",
          "--output-json",
          "--summary",
          "ip and (tcp or udp) and dst portrange 4131-4140",
        ],
        traffic,
      );
      sh(`ip netns exec ${node} tc qdisc del dev rightveth root`);
      expect({ status, stderr }).toEqual({ status: 0, stderr });
      const rows = stdout.trimEnd().split("\n").map(validLine).filter(({ type }) => type === "outcome");
      // In which function a packet ends, and whether XDP has a reason of its own, differs between kernels.
      const short = rows.map(({ packets, outcome, reason, iface }) =>
        `${packets} ${outcome} ${reason ?? iface}`.replace("SKB_DROP_REASON_", "").replace(
          /XDP$/,
          "NOT_SPECIFIED",
        )
      );
      const device = `rightveth:${sh(`ip netns exec ${node} cat /sys/class/net/rightveth/ifindex`).trim()}`;
      expect(short.sort()).toEqual([
        "6 dropped NO_SOCKET", // two, and those with a token
        "3 dropped NO_SOCKET",
        "4 dropped NETFILTER_DROP",
        "1 dropped PKT_TOO_BIG",
        "3 dropped IP_RPFILTER",
        "5 dropped IP_INHDR",
        "6 dropped IP_INNOROUTES",
        "2 dropped TC_INGRESS",
        "3 dropped TC_EGRESS",
        "4 dropped NOT_SPECIFIED",
        "4 dropped QDISC_DROP",
        `4 queued ${device}`,
      ].sort());
      for (const { outcome, func, location } of rows) {
        expect(func).toMatch(/^[a-z_]/);
        if (outcome === "dropped") expect(location).toStartWith(`${func}+0x`);
      }
    });

    test("forwarded, where the next namespace is not looked at", async () => {
      const { stdout, status } = await rawTraceWhile(
        ["--backend", "tracepoint", "--summary", "--filter-netns", node, "udp and dst portrange 4131-4140"],
        () => {
          send(left, 3, "10.82.0.2/4140");
          send(node, 2, "10.82.0.2/4140");
        },
      );
      expect(status).toBe(0);
      const rows = stdout.trimEnd().split("\n").slice(1).map((row) => row.trim().replace(/\s{2,}/g, "|"));
      const to = `rightveth:${
        sh(`ip netns exec ${node} cat /sys/class/net/rightveth/ifindex; stat -Lc %i /run/netns/${node}`)
          .trim().replace("\n", " netns ")
      }`;
      expect(rows).toEqual([`3|forwarded|net_dev_start_xmit|-|${to}`, `2|sent|net_dev_start_xmit|-|${to}`]);
    });
  },
);
