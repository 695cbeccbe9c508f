/**
 * How packets ended, in every way there is, in one table: each row exactly, and no row more. Rows are told apart by how
 * many packets they have, and by what the kernel says of them.
 */
import { expect } from "bun:test";
import { compiled } from "../compiled.ts";
import type { Series } from "../images.ts";
import { atLeast, type Run, type Scenario } from "../scenario.ts";

/** Rows of the table without its heads, cells separated by "|". Builds differ in offsets: they are left out. */
function rowsOf(run: Run): string[] {
  const [, ...rows] = run.text("table.out").trimEnd().split("\n");
  return rows.map((row) => row.trim().replace(/\s{2,}/g, "|").replace(/\+0x[0-9a-f]+/, "+0x")).sort();
}

/** What the script wrote down: "reader=212 looped=213" */
function numberOf(run: Run, name: string): string {
  return new RegExp(`\\b${name}=(\\d+)`).exec(run.text("numbers"))?.[1] ?? "none";
}

/** Reasons came with Linux 5.17, most of them until 6.1. */
const reason = (run: Run, name: string) => atLeast(run.kernel, "6.1") ? `SKB_DROP_REASON_${name}` : "-";

/** That of the newest of these kernels which is not newer than the one that ran. */
function since<T>(run: Run, values: Readonly<Partial<Record<Series, T>>>): T {
  const [newest] = Object.entries(values).filter(([series]) => atLeast(run.kernel, series as Series)).slice(
    -1,
  );
  if (newest === undefined) throw new RangeError(`Nothing is expected of Linux ${run.kernel}`);
  return newest[1] as T;
}

/**
 * Where packets end that are all right. Since Linux 6.3 consume_skb tells who called it; before, the last function that
 * had the packet is known, and a packet that a copy replaced for XDP looks like one that was forwarded.
 */
function consumed(run: Run): string[] {
  const out0 = `out0:${numberOf(run, "out0")} netns ${numberOf(run, "node")}`;
  const podveth = `podveth:${numberOf(run, "podveth")} netns ${numberOf(run, "node")}`;
  const read = ["reader", "looped"].map((name) => `socat:${numberOf(run, name)}`);
  const told = atLeast(run.kernel, "6.12");
  // 7.3 leaves what was read for another CPU to free, and says no place there.
  const place = since(run, { "5.10": "skb_consume_udp", "6.12": "udp_recvmsg+0x", "7.3": "skb_consume_udp" });
  return [
    `2|delivered|${place}|-|${read[0]}`,
    `3|delivered|${place}|-|${read[1]}`,
    told ? "6|consumed|skb_pp_cow_data+0x|-|-" : `6|forwarded|skb_copy_bits|-|${podveth}`,
    `7|forwarded|${
      since(run, {
        "5.10": "dev_hard_start_xmit",
        "6.1": "skb_clone_tx_timestamp",
        "6.12": "dummy_xmit[dummy]+0x",
      })
    }|-|${out0}`,
    // Open vSwitch consumed what no action was left for, until it got reasons of its own.
    told
      ? "4|dropped|do_execute_actions[openvswitch]+0x|OVS_DROP_LAST_ACTION|-"
      : "4|consumed|after skb_push|-|-",
  ];
}

/** By the queueing discipline, which hands a list of them to whoever sends. */
const offQueue = {
  "5.10": "kfree_skb_list+0x after netdev_core_pick_tx",
  "6.1": "kfree_skb_list_reason+0x after dev_qdisc_enqueue",
  "6.12": "__dev_queue_xmit+0x",
  "7.3": "__tcf_kfree_skb_list+0x after dev_qdisc_enqueue",
} as const;

export const verdicts: Scenario = {
  name: "verdicts",
  kernels: ["6.12"],
  longKernels: ["5.10", "6.1", "7.3"],
  limitSeconds: 600,
  files: (machine, folder) => [compiled("bpf_programs", machine, folder)],
  script: `
    topo 1500
    modprobe -qa dummy sch_ingress sch_netem cls_matchall act_gact openvswitch
    ip link add out0 type dummy; ip link set out0 address 02:00:00:00:00:01 up
    ip route add 10.9.7.0/24 dev out0; ip neigh add 10.9.7.7 lladdr 02:00:00:00:00:77 dev out0
    ip -n dns addr add 10.9.66.6/32 dev lo
    nft add table ip t
    nft 'add chain ip t c { type filter hook forward priority 0; }'
    nft add rule ip t c udp dport 4105 drop
    # Not beneath /sys: ip mounts another one there in a namespace.
    mkdir -p /tmp/bpf; mount -t bpf bpf /tmp/bpf
    pins=/tmp/bpf/verdicts; mkdir $pins
    BUN_JSC_useDFGJIT=0 ./bpf_programs pin $pins drop_frame:xdp:1

    # send NETNS COUNT ADDRESS/PORT [BYTES]: so many datagrams, each from a socket of its own
    send() { ip netns exec "$1" bash -c 'printf -v text %\${3}s; for ((i = 0; i < $1; i++)); do printf "$text" > /dev/udp/$2; done' - "$2" "$3" "\${4:-5}"; }
    ip netns exec pod socat -u UDP4-RECV:4101 /dev/null & reader=$!
    socat -u UDP4-RECV:4102 /dev/null & looped=$!
    ip netns exec pod socat -u UDP4-RECV:4114 /dev/null & sleeper=$!
    until_true 10 bound $reader udp 4101; until_true 10 bound $looped udp 4102; until_true 10 bound $sleeper udp 4114
    kill -STOP $sleeper
    echo "reader=$reader looped=$looped" > $OUT/numbers
    for link in out0 podveth; do echo "$link=$(< /sys/class/net/$link/ifindex)" >> $OUT/numbers; done
    echo "node=$(stat -L -c %i /proc/self/ns/net)" >> $OUT/numbers

    start table --debug --summary 'ip and (tcp or udp) and dst portrange 4101-4120'
    send dns 2 10.9.1.2/4101
    for i in 1 2 3; do echo hello > /dev/udp/127.0.0.1/4102; done
    ip netns exec dns bash -c 'for i in 1 2 3 4; do : > /dev/tcp/10.9.1.2/4103; done'
    send dns 5 10.9.1.2/4104
    send dns 6 10.9.1.2/4105
    for i in 1 2; do ip -n dns route flush cache; send dns 1 10.9.1.2/4106 1600; done
    sysctl -qw net.ipv4.conf.dnsveth.rp_filter=1
    ip -n dns route add 10.9.1.2 via 10.9.2.1 src 10.9.66.6
    send dns 3 10.9.1.2/4107
    ip -n dns route del 10.9.1.2
    sysctl -qw net.ipv4.conf.dnsveth.rp_filter=0
    ip netns exec dns sysctl -qw net.ipv4.ip_default_ttl=1
    send dns 4 10.9.1.2/4108
    ip netns exec dns sysctl -qw net.ipv4.ip_default_ttl=64
    send dns 5 10.99.0.1/4109
    tc qdisc add dev podveth root netem loss 100%
    send dns 2 10.9.1.2/4110
    tc qdisc del dev podveth root
    tc qdisc add dev dnsveth clsact
    tc filter add dev dnsveth ingress matchall action drop
    send dns 3 10.9.1.2/4111
    tc filter del dev dnsveth ingress
    tc filter add dev dnsveth egress matchall action drop
    send pod 4 10.9.2.2/4111
    tc qdisc del dev dnsveth clsact
    ip link set dev dnsveth xdpgeneric pinned $pins/drop_frame
    send dns 5 10.9.1.2/4112
    ip link set dev dnsveth xdpgeneric off
    ip -n pod link set dev eth0 xdp pinned $pins/drop_frame
    send dns 6 10.9.1.2/4112
    ip -n pod link set dev eth0 xdp off
    send dns 7 10.9.7.7/4113
    send dns 2 10.9.1.2/4114
    tc qdisc add dev podveth root netem delay 250s
    send dns 3 10.9.1.2/4115
    BUN_JSC_useDFGJIT=0 ./bpf_programs switch dnsveth
    send dns 4 10.9.1.2/4116
    nap 1
    stop table
    kill $reader $looped; kill -KILL $sleeper
    rm -r $pins; umount /tmp/bpf
    nft delete table ip t
    ip link del out0
    untopo
  `,
  checks: {},
  oursOnly: {
    "every packet has its row, and there is no other"(run) {
      expect(run.facts("table")).toMatchObject({ ready: true, gone: true, status: 0 });
      const why = (name: string) => reason(run, name);
      // Without reasons packets that are too long and those that are too old are dropped alike: in one place.
      const forwarding = atLeast(run.kernel, "6.1")
        ? [`2|dropped|ip_forward+0x|${why("PKT_TOO_BIG")}|-`, `4|dropped|ip_forward+0x|${why("IP_INHDR")}|-`]
        : ["6|dropped|ip_forward+0x|-|-"];
      expect(rowsOf(run)).toEqual([
        ...consumed(run),
        ...forwarding,
        `4|dropped|tcp_v4_rcv+0x|${why("NO_SOCKET")}|-`,
        `5|dropped|${since(run, { "5.10": "__udp4_lib_rcv", "7.3": "udp_rcv" })}+0x|${why("NO_SOCKET")}|-`,
        `6|dropped|${since(run, { "5.10": "nf_hook_slow", "6.1": "nft_do_chain[nf_tables]" })}+0x|${
          why("NETFILTER_DROP")
        }|-`,
        `3|dropped|ip_rcv_finish_core${
          since(run, { "5.10": ".constprop.0", "6.12": ".isra.0", "7.3": "" })
        }+0x|${why("IP_RPFILTER")}|-`,
        `5|dropped|ip_error+0x|${why("IP_INNOROUTES")}|-`,
        `2|dropped|${since(run, offQueue)}|${why("QDISC_DROP")}|-`,
        `3|dropped|__netif_receive_skb_core${since(run, { "5.10": "", "6.1": ".constprop.0" })}+0x|${
          why("TC_INGRESS")
        }|-`,
        `4|dropped|__dev_queue_xmit+0x|${why("TC_EGRESS")}|-`,
        `5|dropped|${since(run, { "5.10": "netif_receive_generic_xdp", "6.1": "do_xdp_generic" })}+0x|${
          why("NOT_SPECIFIED")
        }|-`,
        `6|dropped|${since(run, { "5.10": "veth_poll", "6.1": "veth_xdp_rcv_skb" })}[veth]+0x|${
          why("NOT_SPECIFIED")
        }|-`,
        "2|queued|after __udp_enqueue_schedule_skb|-|a socket",
        `3|queued|after ${
          since(run, { "5.10": "netdev_core_pick_tx", "6.1": "dev_qdisc_enqueue" })
        }|-|podveth:${numberOf(run, "podveth")} netns ${numberOf(run, "node")}`,
      ].sort());
    },
    "nothing was lost on the way to the table"(run) {
      expect(run.text("table.err")).toMatch(
        /\nAttached to (\d+) of \d+ functions, summed up \d+ events, lost none\n/,
      );
      // A timer that goes off within a probe may hit another, of any packet: that is counted, and changes no row.
      expect(run.text("table.err")).toMatch(/ lost=0 unreadable=0 missed=\d+ untracked=0\n/);
    },
  },
};
