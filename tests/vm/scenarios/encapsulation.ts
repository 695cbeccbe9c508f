/**
 * The live packet is more than its linear bytes: tags that a device took off, tunnels, headers in page fragments.
 *
 * Frames are made here and sent by a packet socket of the pod; the tracers, one per filter, watch them come into
 * the node. Each has to show its own frame and no other.
 */
import { expect } from "bun:test";
import {
  type Bytes,
  ethernet,
  extension,
  icmp,
  ip4,
  ip4Type,
  ip6,
  ip6Type,
  mpls,
  pppoe,
  u16,
  u32,
  udp,
  vlan,
  zeros,
} from "../../pcap_filter/packets.ts";
import type { Run, Scenario } from "../scenario.ts";

const toAll = "ff:ff:ff:ff:ff:ff";
const inner = (to: string): Bytes => ethernet([...ip4Type, ...ip4(udp(1, 2), { from: "10.200.0.9", to })]);

/** A frame, the filters that must show it, and filters that come close and must not. */
interface Frame {
  readonly name: string;
  readonly payload: Bytes;
  readonly shows: readonly string[];
  readonly hides: readonly string[];
}

const frames: readonly Frame[] = [
  {
    name: "qinq",
    payload: vlan(7, vlan(5, [...ip4Type, ...ip4(icmp(8), { to: "10.200.0.1" })]), 0x88a8),
    shows: ["vlan 7 and vlan 5 and icmp and host 10.200.0.1"],
    hides: ["vlan 5 and vlan 7 and icmp and host 10.200.0.1"],
  },
  {
    name: "mpls",
    payload: mpls([100, 200], ip4(udp(1, 2), { to: "10.200.0.2" })),
    shows: ["mpls 100 and mpls 200 and host 10.200.0.2"],
    hides: ["mpls 200 and host 10.200.0.2"],
  },
  {
    name: "pppoe",
    payload: pppoe(9, 0x21, ip4(udp(1, 9), { to: "10.200.0.3" })),
    shows: ["pppoes 9 and udp port 9 and host 10.200.0.3"],
    hides: ["pppoes 8 and udp port 9 and host 10.200.0.3"],
  },
  {
    name: "vxlan",
    payload: [...ip4Type, ...ip4(udp(5, 4789, [8, 0, 0, 0, ...u32(42 << 8), ...inner("10.200.0.4")]))],
    shows: ["vxlan 42 and host 10.200.0.4"],
    hides: ["vxlan 43 and host 10.200.0.4"],
  },
  {
    name: "geneve",
    payload: [
      ...ip4Type,
      ...ip4(udp(5, 6081, [0, 0, ...u16(0x6558), ...u32(43 << 8), ...inner("10.200.0.5")])),
    ],
    shows: ["geneve 43 and host 10.200.0.5"],
    hides: ["geneve 42 and host 10.200.0.5"],
  },
  {
    name: "ip6 options",
    payload: [...ip6Type, ...ip6(extension(0, extension(60, udp(1, 2))), { to: "2001:db8::6" })],
    shows: ["ip6 protochain 17 and host 2001:db8::6"],
    hides: ["ip6 protochain 6 and host 2001:db8::6"],
  },
  {
    name: "fragment",
    payload: [
      ...ip4Type,
      ...ip4([17, [...u16(1), ...u16(77), ...zeros(20)]], { to: "10.200.0.7", fragment: 100 }),
    ],
    shows: ["host 10.200.0.7 and ip[6:2] & 0x1fff != 0"],
    hides: ["udp port 77 and host 10.200.0.7"],
  },
  {
    // A packet socket leaves the link header in the linear part and the rest in pages, once that is over a page.
    name: "page fragment",
    payload: [...ip4Type, ...ip4(udp(4242, 4243, zeros(5000)), { to: "10.200.0.8" })],
    shows: ["udp src port 4242 and dst port 4243 and host 10.200.0.8"],
    hides: ["udp src port 4243 and host 10.200.0.8"],
  },
];

/** Traffic that the node makes itself: a tag that never is in the frame, and a packet without link header. */
const live: readonly { readonly name: string; readonly filter: string; readonly shown: boolean }[] = [
  { name: "tag beside the frame", filter: "vlan 5 and icmp", shown: true },
  { name: "another tag", filter: "vlan 6 and icmp", shown: false },
  { name: "no tag in the filter", filter: "icmp and host 10.99.5.2", shown: true },
];

const watched = "ip_output|dev_hard_start_xmit|__netif_receive_skb(_one_core)?|ip_rcv|ipv6_rcv";

const filters = [
  ...frames.flatMap(({ shows, hides }) => [...shows, ...hides]),
  ...live.map(({ filter }) => filter),
];
const tracerOf = (filter: string) => `t${filters.indexOf(filter)}`;

const base64 = (bytes: Bytes) => Buffer.from(bytes).toString("base64");

const shown = (run: Run, filter: string) => run.lines(`${tracerOf(filter)}.out`);

export const encapsulation: Scenario = {
  name: "encapsulation",
  boot: "apart",
  kernels: [],
  longKernels: ["6.12"],
  limitSeconds: 1200, // nineteen starts
  script: `
    modprobe -q 8021q
    topo 9001
    ip link add link podveth name podveth.5 type vlan id 5
    ip addr add 10.99.5.1/24 dev podveth.5; ip link set podveth.5 up
    ip -n pod link add link eth0 name eth0.5 type vlan id 5
    ip -n pod addr add 10.99.5.2/24 dev eth0.5; ip -n pod link set eth0.5 up
    ping -q -c1 -W5 10.99.5.2 > /dev/null

    traffic() {
    ${
    frames.map(({ payload }) =>
      `base64 -d <<< ${
        base64(ethernet(payload, toAll))
      } | ip netns exec pod socat -u -b 16384 - INTERFACE:eth0`
    ).join("\n    ")
  }
      ping -q -c1 -W5 10.99.5.2 > /dev/null
    }
    # One after the other: each idle tracer wakes a hundred times a second, and nineteen leave nothing of a processor.
    ${
    filters.map((filter) => {
      const name = tracerOf(filter);
      return `start ${name} --filter-func '${watched}' '${filter}'; traffic; settle ${name}; stop ${name}`;
    }).join("\n    ")
  }
    untopo
  `,
  checks: {
    "every tracer was ready before the first frame"(run) {
      expect(filters.filter((filter) => !run.facts(tracerOf(filter)).ready)).toEqual([]);
    },
    ...Object.fromEntries(frames.map(({ name, shows, hides }) => [
      `${name}: shown by its filter, at the node's door, and by none that only resembles it`,
      (run: Run) => {
        for (const filter of shows) {
          expect({
            filter,
            functions: shown(run, filter).map(({ func }) => func).filter((func) =>
              func.startsWith("__netif")
            ),
          })
            .toEqual({
              filter,
              functions: expect.arrayContaining([expect.stringMatching(/^__netif_receive_skb/)]),
            });
        }
        for (const filter of hides) {
          expect({ filter, lines: shown(run, filter) }).toEqual({ filter, lines: [] });
        }
      },
    ])),
    ...Object.fromEntries(live.map(({ name, filter, shown: wanted }) => [
      `${name}: ${wanted ? "shown" : "not shown"}`,
      (run: Run) => {
        const functions = shown(run, filter).map(({ func }) => func);
        if (wanted) expect(functions).toContain("dev_hard_start_xmit");
        else expect(functions).toEqual([]);
      },
    ])),
    "a packet is matched before it has a link header"(run) {
      const [first] = shown(run, "icmp and host 10.99.5.2");
      expect(first).toMatchObject({ func: "ip_output", tuple: "10.99.5.1:0->10.99.5.2:0(icmp)" });
    },
  },
};
