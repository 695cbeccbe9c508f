/**
 * Other packets through the same nodes: each flow passes its stations in order, and only those.
 */
import { expect } from "bun:test";
import { peerStandsIn } from "../lab.ts";
import { type Checks, type Run, type Scenario, withReason } from "../scenario.ts";

/** One direction of one exchange: `stations` are all the functions below that its lines may name. */
interface Flow {
  readonly title: string;
  /** which part of the output */
  readonly chapter: string;
  readonly tuple: string;
  readonly stations: readonly string[];
}

/** The functions a flow is told by; all others are details. Drops count only with their reason. */
const told = new Set([
  ..."ip_output ip_forward ip_local_deliver tcp_v4_rcv tcp_v4_send_reset tcp_reset udp_rcv __icmp_send".split(
    " ",
  ),
  ..."icmp_rcv icmp_echo ping_rcv arp_solicit arp_rcv arp_process tcp_conn_request".split(" "),
  ..."tcp_v4_syn_recv_sock ip6_output ip6_forward ip6_input tcp_v6_rcv tcp_v6_send_reset udpv6_rcv".split(
    " ",
  ),
  ..."icmp6_send icmpv6_rcv icmpv6_echo_reply".split(" "),
]);
const drop = (reason: string) => `sk_skb_reason_drop(${reason})`;
const noSocket = drop("NO_SOCKET"), filtered = drop("NETFILTER_DROP");

const through4 = ["ip_output", "ip_forward", "ip_output", "ip_local_deliver"];
const through6 = ["ip6_output", "ip6_forward", "ip6_output", "ip6_input"];

const flows: readonly Flow[] = [
  {
    title: "TCP to a closed port is answered by a reset",
    chapter: "tcp-closed",
    tuple: "10.9.2.2:40081->10.9.1.2:81(tcp)",
    stations: [...through4, "tcp_v4_rcv", "tcp_v4_send_reset", noSocket],
  },
  {
    title: "the reset ends the connection",
    chapter: "tcp-closed",
    tuple: "10.9.1.2:81->10.9.2.2:40081(tcp)",
    stations: [...through4, "tcp_v4_rcv", "tcp_reset"],
  },
  {
    title: "UDP to a closed port is answered by ICMP",
    chapter: "udp-closed",
    tuple: "10.9.2.2:40009->10.9.1.2:9(udp)",
    stations: [...through4, "udp_rcv", "__icmp_send", noSocket],
  },
  {
    title: "an ICMP echo request is answered",
    chapter: "echo",
    tuple: "10.9.2.2:0->10.9.1.2:0(icmp)",
    stations: [...through4, "icmp_rcv", "icmp_echo"],
  },
  {
    title: "an ICMP echo reply arrives",
    chapter: "echo",
    tuple: "10.9.1.2:0->10.9.2.2:0(icmp)",
    // ping's socket is a raw one and has its copy; nobody else waits for it
    stations: [
      ...through4,
      "icmp_rcv",
      "ping_rcv",
      ...(peerStandsIn() ? [] : ["sk_skb_reason_drop(NO_SOCKET)"]),
    ],
  },
  {
    title: "a packet waits for ARP",
    chapter: "arp",
    tuple: "10.9.2.2:0->10.9.1.2:0(icmp)",
    stations: [
      "ip_output",
      "ip_forward",
      "ip_output",
      "arp_solicit",
      "ip_local_deliver",
      "icmp_rcv",
      "icmp_echo",
    ],
  },
  {
    title: "IPv6: TCP to a closed port is answered by a reset",
    chapter: "tcp6-closed",
    tuple: "[fd00:9:2::2]:40083->[fd00:9:1::2]:81(tcp)",
    stations: [...through6, "tcp_v6_rcv", "tcp_v6_send_reset", noSocket],
  },
  {
    title: "IPv6: the reset ends the connection",
    chapter: "tcp6-closed",
    tuple: "[fd00:9:1::2]:81->[fd00:9:2::2]:40083(tcp)",
    stations: [...through6, "tcp_v6_rcv", "tcp_reset"],
  },
  {
    title: "IPv6: UDP to a closed port is answered by ICMPv6",
    chapter: "udp6-closed",
    tuple: "[fd00:9:2::2]:40084->[fd00:9:1::2]:9(udp)",
    stations: [...through6, "udpv6_rcv", "icmp6_send", noSocket],
  },
  {
    title: "IPv6: an echo request is answered",
    chapter: "echo6",
    tuple: "[fd00:9:2::2]:0->[fd00:9:1::2]:0(icmp6)",
    stations: [...through6, "icmpv6_rcv", "icmpv6_echo_reply"],
  },
  {
    title: "a bridged packet is dropped by iptables",
    chapter: "bridge",
    tuple: "10.9.3.2:0->10.9.3.3:0(icmp)",
    stations: ["ip_output", filtered],
  },
];

/** pwru 1.0.5 prints sk_skb_reason_drop without its reason: then drops are left out on both sides. */
const withDrops = () => !peerStandsIn();

function stationsOf(run: Run, { chapter, tuple }: Flow): string[] {
  return run.lines(`${chapter}.lines`).filter((line) => line.tuple === tuple)
    .filter((line) => told.has(line.func) || (withDrops() && [noSocket, filtered].includes(withReason(line))))
    .map(withReason);
}

const checkFlow = (flow: Flow) => (run: Run) =>
  expect(stationsOf(run, flow)).toEqual(flow.stations.filter((name) => withDrops() || !name.includes("(")));

export const protocols: Scenario = {
  name: "protocols",
  kernels: ["6.12"],
  longKernels: ["6.12-arm64"],
  limitSeconds: 300,
  script: `
    topo 1500
    bridged
    iptables -A FORWARD -p icmp -d 10.9.3.3 -j DROP
    start tracer --output-meta --output-tuple 'arp or icmp or icmp6 or tcp or udp'
    chapter tracer before

    listen pod TCP4-LISTEN 8080
    say dns TCP4:10.9.1.2:8080,sourceport=40080
    wait $listener
    chapter tracer tcp-open
    say dns TCP4:10.9.1.2:81,sourceport=40081
    chapter tracer tcp-closed
    say dns UDP4:10.9.1.2:9,sourceport=40009
    chapter tracer udp-closed
    echo_request dns 10.9.1.2
    chapter tracer echo
    forget_neighbours
    echo_request dns 10.9.1.2
    chapter tracer arp

    listen pod TCP6-LISTEN 8080
    say dns TCP6:[fd00:9:1::2]:8080,sourceport=40082
    wait $listener
    chapter tracer tcp6-open
    say dns TCP6:[fd00:9:1::2]:81,sourceport=40083
    chapter tracer tcp6-closed
    say dns UDP6:[fd00:9:1::2]:9,sourceport=40084
    chapter tracer udp6-closed
    echo_request dns fd00:9:1::2
    chapter tracer echo6

    echo_request left 10.9.3.3
    chapter tracer bridge
    stop tracer
    iptables -F FORWARD
    unbridged
    untopo
  `,
  checks: {
    ...Object.fromEntries(flows.map((flow) => [flow.title, checkFlow(flow)])) as Checks,
    "TCP to an open port connects, without a reset"(run) {
      for (
        const [chapter, tuple] of [
          ["tcp-open", "10.9.2.2:40080->10.9.1.2:8080(tcp)"],
          ["tcp6-open", "[fd00:9:2::2]:40082->[fd00:9:1::2]:8080(tcp)"],
        ]
      ) {
        const steps = run.lines(`${chapter}.lines`).filter((line) => line.tuple === tuple)
          .map((line) => line.func).filter((func) =>
            /^tcp_(conn_request|v[46]_syn_recv_sock|\w*reset)$/.test(func)
          );
        expect(steps).toEqual(["tcp_conn_request", expect.stringMatching(/^tcp_v[46]_syn_recv_sock$/)]);
      }
    },
    "ARP has a protocol and no tuple: request in the pod, answer in the node"(run) {
      const arp = run.lines("arp.lines").filter((line) => line.func === "arp_process").slice(0, 2);
      expect(arp).toMatchObject([
        { proto: 0x0806, tuple: ":0->:0()", len: 28 },
        { proto: 0x0806, tuple: ":0->:0()", len: 28, iface: "podveth" },
      ]);
    },
    "the bridge's hooks are seen before the drop"(run) {
      const bridged = run.lines("bridge.lines").filter((line) =>
        line.tuple === "10.9.3.2:0->10.9.3.3:0(icmp)"
      );
      const end = bridged.findIndex((line) => line.func === "sk_skb_reason_drop");
      expect(bridged.slice(0, end).filter((line) => line.func === "nf_hook_slow").length).toBeGreaterThan(1);
      expect(bridged.filter((line) => line.func === "icmp_rcv")).toEqual([]);
    },
  },
};
