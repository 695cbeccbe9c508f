/** Filters for what a tunnel carries: the filter beside them knows the outer packet alone. */
import { expect } from "bun:test";
import type { TraceLine } from "../lines.ts";
import type { Scenario } from "../scenario.ts";

/** "10.9.2.2:40000->10.9.1.2:4100(udp)" -> "10.9.1.2:4100"; "" without addresses */
const receiver = ({ tuple = "" }: TraceLine) => /->(.+:\d+)\(/.exec(tuple)?.[1]?.replace(/^:0$/, "") ?? "";

export const tunnels: Scenario = {
  name: "tunnels",
  boot: "apart",
  kernels: ["6.12"],
  limitSeconds: 300,
  script: `
    topo 1500
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
    untopo
  `,
  checks: {
    "tunnel filters: Geneve by what it carries, IP in IP only by its IP packet"(run) {
      const outer = (name: string) => run.lines(`${name}.out`).map((line) => receiver(line));
      expect(outer("ip")).toEqual(["10.9.2.2:6081", "10.9.2.2:0"]);
      expect(outer("frame")).toEqual(["10.9.2.2:6081"]);
    },
  },
};
