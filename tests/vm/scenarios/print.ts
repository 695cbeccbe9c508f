/**
 * What each option of the output prints, to the character: golden files, in which only addresses, numbers of
 * processes and the like are masked (masks.ts). A handful of packets for each.
 */
import { expect } from "bun:test";
import { expectGolden } from "../../golden.ts";
import { validLine } from "../../output/schema.ts";
import { compiled } from "../compiled.ts";
import { maskedJson, maskedText } from "../masks.ts";
import type { Run, Scenario } from "../scenario.ts";

interface Start {
  readonly name: string;
  /** what it shows is what the golden file is about */
  readonly words: string;
  readonly functions: string;
  readonly filter: string;
  /** which packets pass meanwhile: a function of the script */
  readonly traffic: "datagram" | "tunnelled" | "many";
}

/** From dns to the pod; told by their ports, or by what stands in for them. */
const inTunnel = "udp and dst port 4789", toPod = "src host 10.9.2.2 or src host fd00:9:2::2";
const datagram = "udp and dst port 4099 and src host 10.9.2.2";
const values = "skb->len,skb->protocol,skb->mark,skb->dev->mtu,skb->pkt_type,skb->len / skb->mark";
const additions =
  "--output-packet-id --output-caller --output-tunnel --output-tcp-flags --output-netns-names " +
  `--output-skb-cb --output-skb-metadata '${values}'`;

/** Started by themselves, since programs on the device change the way of all packets. */
const frames: Start = {
  name: "frames",
  words: "--filter-trace-xdp --output-xdp-metadata 'xdp->data_end - xdp->data,xdp->rxq->queue_index' " +
    "--output-skb-metadata 'skb->len'",
  functions: "ip_rcv",
  filter: datagram,
  traffic: "datagram",
};
const maps: Start = {
  name: "maps",
  words: "--filter-track-bpf-helpers --output-bpfmap --output-meta=false",
  functions: "__netif_receive_skb_one_core|ip_rcv",
  filter: datagram,
  traffic: "datagram",
};
const starts: readonly Start[] = [
  {
    name: "plain",
    words: "",
    functions: "ip_(output|forward|rcv)|udp_rcv",
    filter: datagram,
    traffic: "datagram",
  },
  {
    name: "columns",
    words: `--timestamp absolute --netns-names-max-length 10 ${additions}`,
    functions: "ip_(output|forward|rcv)",
    filter: inTunnel,
    traffic: "tunnelled",
  },
  {
    name: "below",
    words: "--output-stack --output-skb --output-skb-shared-info --timestamp relative --output-meta=false",
    functions: "ip_rcv",
    filter: datagram,
    traffic: "datagram",
  },
  {
    name: "tuples",
    words: "--filter-netns pod --filter-ifname eth0 --output-tcp-flags --output-meta=false",
    functions: "ip_rcv|ipv6_rcv",
    filter: toPod,
    traffic: "many",
  },
  {
    name: "bare",
    words: `--timestamp current --output-meta=false --output-tuple=false --output-limit-lines 3 ` +
      `--set-percpu-buf 64 --output-file "$OUT/bare.lines"`,
    functions: "ip_(output|forward|rcv)|udp_rcv",
    filter: datagram,
    traffic: "datagram",
  },
  {
    name: "json",
    words:
      `--output-json --timestamp absolute --output-stack --output-skb --output-skb-shared-info ${additions}`,
    functions: "ip_(output|forward)",
    filter: inTunnel,
    traffic: "tunnelled",
  },
];

const startOf = ({ name, words, functions, filter, traffic }: Start) =>
  `start ${name} ${words} --filter-func '${functions}' '${filter}'; ${traffic}; ` +
  (words.includes("--output-limit-lines") ? `reap ${name} $NOW 10000` : `settle ${name}; stop ${name}`);

const all = [...starts, frames, maps];

export const print: Scenario = {
  name: "print",
  boot: "apart",
  kernels: [],
  longKernels: ["5.10", "6.12"],
  limitSeconds: 600,
  files: (machine, folder) => [compiled("bpf_programs", machine, folder)],
  script: `
    topo 1500
    modprobe -q vxlan
    ip -n dns link add vxlan0 type vxlan id 42 local 10.9.2.2 remote 10.9.1.2 dstport 4789 srcport 50000 50001
    ip netns exec dns sysctl -qw net.ipv6.conf.vxlan0.disable_ipv6=1
    ip -n dns addr add 10.99.0.1/24 dev vxlan0
    ip -n dns link set vxlan0 address 02:00:00:00:00:01 up
    ip -n dns neigh add 10.99.0.2 lladdr 02:00:00:00:00:02 dev vxlan0
    datagram() { say dns UDP4:10.9.1.2:4099,sourceport=40001; }
    # TCP in the tunnel: SYN, ECE and CWR
    tunnelled() {
      raw dns IP4-SENDTO:10.99.0.2:6 '\\x9c\\x41\\0\\x50\\0\\0\\0\\1\\0\\0\\0\\0\\x50\\xc2\\xff\\xff\\0\\0\\0\\0'
    }
    many() {
      datagram
      say dns TCP4:10.9.1.2:4099,sourceport=40002
      ip netns exec dns ping -q -c1 -W2 -e 7 10.9.1.2 > /dev/null
      ip netns exec dns ping -q -c1 -W2 -e 8 fd00:9:1::2 > /dev/null
      head -c 3000 /dev/zero | ip netns exec dns socat -u -b 4096 - UDP4:10.9.1.2:4099,sourceport=40003,ip-mtu-discover=0
      raw dns IP4-SENDTO:10.9.1.2:132 '\\x9c\\x44\\x10\\3\\0\\0\\0\\0\\0\\0\\0\\0'
      raw dns IP4-SENDTO:10.9.1.2:47 '\\x20\\0\\x8\\0\\0\\0\\0\\x2a'
      raw dns IP4-SENDTO:10.9.1.2:47 '\\0\\0\\x8\\0\\0\\0\\0\\x2a'
      raw dns IP4-SENDTO:10.9.1.2:50 '\\0\\xc0\\xff\\xee\\0\\0\\0\\1'
      raw dns IP4-SENDTO:10.9.1.2:51 '\\x6\\4\\0\\0\\0\\xc0\\xff\\xee\\0\\0\\0\\1'
      raw dns IP4-SENDTO:10.9.1.2:89 '\\2\\1'
      raw dns IP4-SENDTO:10.9.1.2:200 '\\2\\1'
      raw dns IP6-SENDTO:[fd00:9:1::2]:60 '\\x11\\0\\1\\4\\0\\0\\0\\0\\x9c\\x45\\x10\\3\\0\\x8\\0\\0'
      raw dns IP6-SENDTO:[fd00:9:1::2]:44 '\\x11\\0\\x5\\xa8\\0\\0\\0\\7\\x9c\\x46\\x10\\3'
    }
    ${starts.map(startOf).join("\n    ")}

    modprobe -qa sch_ingress cls_bpf
    mkdir -p /tmp/bpf; mount -t bpf bpf /tmp/bpf; pins=/tmp/bpf/print; mkdir $pins
    BUN_JSC_useDFGJIT=0 ./bpf_programs pin $pins pass_frame:xdp:2 count_in:tc:0:context:count
    ip link set dev dnsveth xdpgeneric pinned $pins/pass_frame
    ${startOf(frames)}
    ip link set dev dnsveth xdpgeneric off
    tc qdisc add dev dnsveth clsact
    tc filter add dev dnsveth ingress bpf da pinned $pins/count_in
    ${startOf(maps)}
    rm -r $pins; umount /tmp/bpf
    untopo
  `,
  checks: {},
  oursOnly: {
    "all start, and end as asked"(run) {
      for (const { name } of all) {
        expect({ name, ...run.facts(name) }).toMatchObject({ ready: true, gone: true, status: 0 });
        expect(run.text(`${name}.err`)).toContain("lost none");
      }
    },
    ...Object.fromEntries(all.map((start) => [
      `${start.name}: as in its golden file`,
      (run: Run) => expectGolden(`output/${start.name}-${run.kernel}.txt`, golden(run, start)),
    ])),
  },
};

/** The words, and what was printed for them. */
function golden(run: Run, { name, words }: Start): string {
  if (name === "json") {
    const lines = run.text("json.out").trimEnd().split("\n").map(validLine);
    return `pwru ${words}\n\n${maskedJson([lines[0]!, lines.at(-1)!])}`;
  }
  return `pwru ${words}\n\n${maskedText(run.text(name === "bare" ? "bare.lines" : `${name}.out`))}`;
}
