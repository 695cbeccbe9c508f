/**
 * BPF programs of tc and XDP on a packet's way: entry, exit and verdict of each, among 50 that are loaded, some of
 * which cannot be traced or do not stay.
 */
import { expect } from "bun:test";
import { compiled } from "../compiled.ts";
import type { TraceLine } from "../lines.ts";
import type { Run, Scenario } from "../scenario.ts";

/** With the five that are attached and the one without BTF: 50. */
const bystanders = Array.from({ length: 44 }, (_, i) => `bystander${i}:tc:0`);

/** Without the tag: "let_in(tc)", "shoot(tc) TC_ACT_SHOT" */
function stations(lines: readonly TraceLine[]): string[] {
  return lines.map(({ func, reason }) =>
    `${func.replace(/^bpf_prog_[0-9a-f]{16}_(\w+)\[bpf\]/, "$1")} ${reason ?? ""}`.trim()
  );
}
const told = (run: Run, chapter: string) => stations(run.lines(`${chapter}.lines`));

export const programs: Scenario = {
  name: "programs",
  kernels: ["6.12"],
  limitSeconds: 400,
  files: (machine) => [compiled("bpf_programs", machine)],
  script: `
    topo 1500
    modprobe -qa sch_ingress cls_bpf
    # No answer to ARP will come through.
    lasting() { ip \${1:+-n $1} neigh replace "$2" lladdr "$(ip \${4:+-n $4} -j link show "$5" | grep -oE '([0-9a-f]{2}:){5}[0-9a-f]{2}' | head -1)" dev "$3" nud permanent; }
    lasting pod 10.9.1.1 eth0 '' podveth; lasting '' 10.9.1.2 podveth pod eth0
    lasting dns 10.9.2.1 eth0 '' dnsveth; lasting '' 10.9.2.2 dnsveth dns eth0
    pins=/sys/fs/bpf/traced; mkdir $pins
    BUN_JSC_useDFGJIT=0 ./bpf_programs pin $pins let_in:tc:0 shoot:tc:2 pass_frame:xdp:2 drop_frame:xdp:1 odd:tc:0:number \
      no_btf:tc:0:none ${bystanders.join(" ")}
    tc qdisc add dev podveth clsact; tc qdisc add dev dnsveth clsact
    tc filter add dev podveth ingress bpf da pinned $pins/let_in
    tc filter add dev podveth egress bpf da pinned $pins/shoot
    tc filter add dev dnsveth egress bpf da pinned $pins/odd
    ip link set dev podveth xdp pinned $pins/pass_frame
    ip link set dev dnsveth xdpgeneric pinned $pins/drop_frame

    ./bpf_programs churn 60 & churn=$!
    start traced --filter-trace-tc --filter-trace-xdp --filter-func 'ip_rcv|__dev_queue_xmit|sk_skb_reason_drop' \
      'udp and dst port 4097'
    kill $churn
    say pod UDP4:10.9.2.2:4098; echo hello | socat -u - UDP4:10.9.1.2:4098; say dns UDP4:10.9.1.2:4098
    chapter traced others
    say pod UDP4:10.9.2.2:4097
    chapter traced forwarded
    echo hello | socat -u - UDP4:10.9.1.2:4097
    chapter traced shot
    say dns UDP4:10.9.1.2:4097
    chapter traced dropped
    ./bpf_programs pin $pins late:tc:0
    tc filter add dev podveth ingress prio 1 bpf da pinned $pins/late
    pause 1.5
    say pod UDP4:10.9.2.2:4097
    chapter traced later
    stop traced

    start asked --filter-trace-xdp --filter-trace-tc --filter-xdp-expr 'xdp->data_end - xdp->data > 100' --output-stack \
      --output-caller --output-skb --output-skb-cb --output-tunnel --output-skb-metadata 'skb->len' \
      --output-xdp-metadata 'xdp->data_end - xdp->data,xdp->rxq->dev->ifindex > 0,xdp->rxq->queue_index' --output-json --filter-track-skb \
      --filter-func ip_rcv --filter-ifname podveth 'udp and dst port 4097'
    say pod UDP4:10.9.2.2:4097
    head -c 200 /dev/zero | ip netns exec pod socat -u - UDP4:10.9.2.2:4097
    settle asked
    stop asked
    rm -r $pins
    untopo
  `,
  checks: {},
  oursOnly: {
    "traces among 50 programs, and lets go of them"(run) {
      expect(run.facts("traced")).toMatchObject({ ready: true, gone: true, status: 0 });
    },
    "names the program that cannot be traced, and no other that stays"(run) {
      const warnings = run.text("traced.err").split("\n").filter((line) => /Cannot trace/.test(line));
      const stayed = warnings.filter((line) => !line.includes("fleeting"));
      expect(stayed).toEqual([
        expect.stringMatching(/ WARN Cannot trace BPF program \d+ \(no_btf\): it was loaded without BTF$/),
      ]);
    },
    "shows nothing of other packets"(run) {
      expect(told(run, "others")).toEqual([]);
    },
    "a packet's way through XDP and tc, with what each returned"(run) {
      expect(told(run, "forwarded")).toEqual([
        "__dev_queue_xmit",
        "pass_frame(xdp)",
        "pass_frame(xdp) XDP_PASS",
        "let_in(tc)",
        "let_in(tc) TC_ACT_OK",
        "__dev_queue_xmit",
        "odd(tc)",
        "odd(tc) TC_ACT_OK",
        "ip_rcv",
        "sk_skb_reason_drop NO_SOCKET",
      ]);
    },
    "meta and tuple of a frame that is no sk_buff yet are those of the sk_buff"(run) {
      const lines = run.lines("forwarded.lines");
      const [frame, skb] = ["(xdp)", "(tc)"].map((kind) => lines.find(({ func }) => func.endsWith(kind)));
      const { netns, iface, mtu, len, mark, proto, tuple } = skb!;
      expect(frame).toMatchObject({ netns, iface, mtu, len, mark, proto, tuple });
      expect({ iface, mtu, len }).toEqual({ iface: "podveth", mtu: 1500, len: 14 + 20 + 8 + 6 });
    },
    "a packet that a program of tc shot"(run) {
      expect(told(run, "shot")).toEqual([
        "__dev_queue_xmit",
        "shoot(tc)",
        "shoot(tc) TC_ACT_SHOT",
        "sk_skb_reason_drop TC_EGRESS",
      ]);
    },
    "a frame that a program of XDP dropped"(run) {
      expect(told(run, "dropped")).toEqual([
        "__dev_queue_xmit",
        "drop_frame(xdp)",
        "drop_frame(xdp) XDP_DROP",
        "sk_skb_reason_drop NOT_SPECIFIED", // generic XDP works on an sk_buff
      ]);
    },
    "a program that was loaded meanwhile"(run) {
      expect(told(run, "later")).toEqual(expect.arrayContaining(["late(tc)", "late(tc) TC_ACT_OK"]));
    },
    "--filter-xdp-expr, with everything that can be printed, as JSON"(run) {
      const rows = run.text("asked.out").trim().split("\n").map((line) => JSON.parse(line));
      const events = rows.filter(({ func }) => func !== undefined);
      const frames = events.filter(({ func }) => func.includes("(xdp)"));
      expect(frames.map(({ len, verdict, verdict_code }) => ({ len, verdict, verdict_code }))).toEqual([
        { len: 242, verdict: undefined, verdict_code: undefined },
        { len: 242, verdict: "XDP_PASS", verdict_code: 2 },
      ]);
      const metadata = {
        "xdp->data_end - xdp->data": 242,
        "xdp->rxq->dev->ifindex > 0": 1,
        "xdp->rxq->queue_index": 0,
      };
      expect(frames.map(({ xdp_metadata, skb_metadata }) => ({ xdp_metadata, skb_metadata }))).toEqual(
        frames.map(() => ({ xdp_metadata: metadata, skb_metadata: undefined })),
      );
      for (const { len, skb_metadata, xdp_metadata } of events.filter((event) => !frames.includes(event))) {
        expect({ skb_metadata, xdp_metadata }).toEqual({
          skb_metadata: { "skb->len": len },
          xdp_metadata: undefined,
        });
      }
      // It is asked of frames only; and no symbol reaches as far as code that came after the symbols were read.
      expect(events.filter(({ func }) => func === "ip_rcv").map(({ len }) => len)).toEqual([34, 228]);
      expect(events.flatMap(({ stack }) => stack).filter((place) => /\[bpf\]\+0x[0-9a-f]{5,}/.test(place)))
        .toEqual([]);
    },
  },
};
