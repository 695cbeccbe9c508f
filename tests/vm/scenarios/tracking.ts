/**
 * What belongs to a packet without being it: what runs beneath its functions, what it carries; and more packets at a time
 * than can be followed. Where packets go that are followed: paths.ts.
 */
import { expect } from "bun:test";
import type { TraceLine } from "../lines.ts";
import type { Run, Scenario } from "../scenario.ts";

/** "10.9.2.2:40000->10.9.1.2:4100(udp)" -> "10.9.1.2:4100"; "" without addresses */
const receiver = ({ tuple = "" }: TraceLine) => /->(.+:\d+)\(/.exec(tuple)?.[1]?.replace(/^:0$/, "") ?? "";

const LIMIT = 16, WAITING = 20, LATER = 3;
const byStack = "--filter-func 'ip_output|ip_route_input_noref|ip_forward|__icmp_send'";

export const tracking: Scenario = {
  name: "tracking",
  boot: "apart",
  kernels: [], // "paths" follows packets there, and tests/kernel/lineage.test.ts
  longKernels: ["5.10", "6.1", "6.12", "6.18", "7.3"],
  limitSeconds: 500,
  script: `
    topo 1500
    start alone ${byStack} --filter-track-skb-by-stackid 'udp and dst port 4097'
    start together ${byStack} --filter-track-skb --filter-track-skb-by-stackid 'udp and dst port 4097'
    say dns UDP4:10.9.1.2:4098
    say dns UDP4:10.9.1.2:4097
    say dns UDP4:10.9.1.2:4098
    stop alone; stop together

    modprobe -qa geneve ipip vxlan ip_gre
    ip link add gnv type geneve id 42 remote 10.9.2.2
    ip link add vxl type vxlan id 42 remote 10.9.2.2 dstport 4789
    ip link add ipt type ipip local 10.9.2.1 remote 10.9.2.2
    ip link add gre9 type gre local 10.9.2.1 remote 10.9.2.2
    net=51
    for tunnel in gnv vxl ipt gre9; do
      ip addr add 10.$net.0.1/24 dev $tunnel; ip link set $tunnel up
      net=$((net + 1))
    done
    for tunnel in gnv:51 vxl:52; do
      ip link set \${tunnel%:*} address 02:00:00:00:00:01
      ip neigh add 10.\${tunnel#*:}.0.2 lladdr 02:00:00:00:00:99 dev \${tunnel%:*}
    done
    outer='src host 10.9.2.1 and (udp dst port 6081 or udp dst port 4789 or ip proto 4 or ip proto 47)'
    start ip --filter-func __dev_queue_xmit --filter-tunnel-pcap-l3 'udp dst port 4099' "$outer"
    start frame --filter-func __dev_queue_xmit \\
      --filter-tunnel-pcap-l2 'ether dst 2:0:0:0:0:99 and udp dst port 4099' "$outer"
    for port in 4098 4099; do for net in 51 52 53 54; do echo hello | socat -u - UDP4:10.$net.0.2:$port; done; done
    stop ip; stop frame
    for tunnel in gnv vxl ipt gre9; do ip link del $tunnel; done

    start full --debug --filter-func __udp_enqueue_schedule_skb --filter-track-skb --output-packet-id \\
      --filter-track-limit ${LIMIT} 'udp and dst port 4099'
    ip netns exec pod socat -u UDP4-RECV:4099 /dev/null &
    reader=$!
    until_true 10 bound $reader udp 4099
    kill -STOP $reader
    send() { ip netns exec dns bash -c "exec 5> /dev/udp/10.9.1.2/$1; for n in {1..$2}; do echo \\$n >&5; done"; }
    send 4098 2
    send 4099 ${WAITING}
    nap 0.5
    kill -CONT $reader
    nap 0.5
    send 4099 ${LATER}
    nap 0.5
    kill $reader
    stop full
    untopo
  `,
  checks: {
    "--filter-track-skb-by-stackid, alone and with --filter-track-skb"(run) {
      for (const name of ["alone", "together"]) {
        expect({ name, story: storyOf(run, name) }).toEqual({ name, story });
      }
    },
    "tunnel filters: what VXLAN and Geneve carry as frames, IP in IP and GRE by their IP packet alone"(run) {
      const outer = (name: string) => run.lines(`${name}.out`).map((line) => receiver(line));
      const ethernet = ["10.9.2.2:6081", "10.9.2.2:4789"];
      expect(outer("ip")).toEqual([...ethernet, "10.9.2.2:0", "10.9.2.2:0"]);
      expect(outer("frame")).toEqual(ethernet);
    },
    "more packets than can be followed: each is shown, and those without a number are counted"(run) {
      const numbers = run.lines("full.out").map(({ packet }) => packet);
      const numbered = Array.from({ length: LIMIT + LATER }, (_, index) => index + 1);
      const without = Array.from({ length: WAITING - LIMIT }, () => 0);
      expect(numbers).toEqual([...numbered.slice(0, LIMIT), ...without, ...numbered.slice(LIMIT)]);
      expect(run.text("full.err")).toContain(
        `untracked ${without.length} times a packet was not followed, because too many were`,
      );
      expect(run.text("full.err")).toContain("Still followed packets=0\n");
    },
  },
};

const packet = "10.9.2.2->10.9.1.2:4097(udp)";
const story = [
  `ip_output ${packet}`,
  `ip_route_input_noref ${packet}`,
  `ip_forward ${packet}`,
  `ip_output ${packet}`,
  `ip_route_input_noref ${packet}`,
  `__icmp_send ${packet}`,
  "ip_output 10.9.1.2->10.9.2.2:0(icmp)",
];

/** Functions and addresses; a function that looks several times is one. */
function storyOf(run: Run, name: string): string[] {
  return run.lines(`${name}.out`).map((line) => `${line.func} ${line.tuple?.replace(/:\d+->/, "->")}`)
    .filter((text, index, all) => text !== all[index - 1]);
}
