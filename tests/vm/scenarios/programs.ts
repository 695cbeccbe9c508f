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

/** Of packets that are followed through all functions: a tracer that runs once. */
const chapters = ["pass", "drop", "tx", "redirect", "tc"];
/** Where something happens to the packet on its way, among all the functions. */
const turns =
  /^(?:udp4_hwcsum|dev_hard_start_xmit|skb_copy_bits|ip_rcv_core|ip_forward|sk_skb_reason_drop|kfree_skbmem)\b|\((?:tc|xdp)\)/;
/** Its first function, and how veth copies it for the program of XDP. */
/** The sk_buff ends, and the frame comes in elsewhere, where nobody has its address. */
const asAnotherFrame = [
  "kfree_skbmem",
  "plain_frame(xdp)",
  "plain_frame(xdp) XDP_PASS",
  "ip_rcv_core",
  "sk_skb_reason_drop OTHERHOST",
  "kfree_skbmem",
];
const beforeXdp = ["udp4_hwcsum", "dev_hard_start_xmit", "skb_copy_bits", "kfree_skbmem"];
/** Those of a chapter, which begins with the first of them and ends with the last. */
function way(run: Run, chapter: string): string[] {
  const all = told(run, chapter), found = all.filter((station) => turns.test(station));
  expect([found[0], found.at(-1)]).toEqual([all[0], all.at(-1)]);
  return found;
}

export const programs: Scenario = {
  name: "programs",
  kernels: [],
  longKernels: ["6.12"],
  limitSeconds: 600,
  files: (machine, folder) => [compiled("bpf_programs", machine, folder)],
  script: `
    topo 1500
    modprobe -qa sch_ingress cls_bpf
    # No answer to ARP will come through.
    lasting() { ip \${1:+-n $1} neigh replace "$2" lladdr "$(ip \${4:+-n $4} -j link show "$5" | grep -oE '([0-9a-f]{2}:){5}[0-9a-f]{2}' | head -1)" dev "$3" nud permanent; }
    lasting pod 10.9.1.1 eth0 '' podveth; lasting '' 10.9.1.2 podveth pod eth0
    lasting dns 10.9.2.1 eth0 '' dnsveth; lasting '' 10.9.2.2 dnsveth dns eth0
    # Not below /sys: ip mounts another one there in a namespace.
    mkdir -p /tmp/bpf; mount -t bpf none /tmp/bpf
    pins=/tmp/bpf/traced; mkdir $pins
    BUN_JSC_useDFGJIT=0 ./bpf_programs pin $pins let_in:tc:0 shoot:tc:2 pass_frame:xdp:2 drop_frame:xdp:1 odd:tc:0:number \
      no_btf:tc:0:none ${bystanders.join(" ")}
    tc qdisc add dev podveth clsact; tc qdisc add dev dnsveth clsact
    tc filter add dev podveth ingress bpf da pinned $pins/let_in
    tc filter add dev podveth egress bpf da pinned $pins/shoot
    tc filter add dev dnsveth egress bpf da pinned $pins/odd
    ip link set dev podveth xdp pinned $pins/pass_frame
    ip link set dev dnsveth xdpgeneric pinned $pins/drop_frame

    tracing_links() { bpftool -j link show | grep -o '"type":"tracing"' | wc -l; }
    # traced_since N: whether there were N such links before a further program had its two.
    traced_since() { [ "$(tracing_links)" -ge $(($1 + 2)) ]; }
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
    tracing=$(tracing_links)
    ./bpf_programs pin $pins late:tc:0
    tc filter add dev podveth ingress prio 1 bpf da pinned $pins/late
    until_true 30 traced_since $tracing || echo "programs: late is not traced" >&2
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

    away=$(cat /sys/class/net/dnsveth/ifindex)
    BUN_JSC_useDFGJIT=0 ./bpf_programs pin $pins plain_frame:xdp:2 tx_frame:xdp:3 away_frame:xdp:4:context:redirect=$away \
      last:tc:2 jump_on:tc:0:context:jump=last send_on:tc:7:context:redirect=$away in_parts:tc:0:context:call \
      count_frame:xdp:2:context:count count_in:tc:0:context:count
    frames() { ip \${3:+-n $3} link set dev $1 xdp off; [ -z "$2" ] || ip \${3:+-n $3} link set dev $1 xdp pinned $pins/$2; }
    tc_in() { tc filter del dev podveth ingress; tc filter add dev podveth ingress bpf da pinned $pins/$1; }
    tc filter del dev dnsveth egress; tc filter del dev podveth egress; ip link set dev dnsveth xdpgeneric off
    ip link set dnsveth mtu 1500; ip -n dns link set eth0 mtu 1500
    frames eth0 plain_frame pod; frames eth0 plain_frame dns; frames podveth plain_frame; tc_in in_parts
    start followed --filter-track-skb --output-packet-id --filter-trace-xdp --filter-trace-tc 'udp and dst port 4097'
    say pod UDP4:10.9.2.2:4098; say dns UDP4:10.9.1.2:4098; chapter followed strangers
    # Under load the first lines may be late: there are more than these of every packet.
    sends() {
      local before; before=$(wc -l < "$OUT/followed.out")
      say pod UDP4:10.9.2.2:4097; until_true 30 lines_in followed $((before + 20)); chapter followed $1
    }
    sends pass
    frames podveth drop_frame; sends drop
    frames podveth tx_frame; sends tx
    frames podveth away_frame; sends redirect
    frames podveth plain_frame; tc_in send_on; tc filter add dev dnsveth egress bpf da pinned $pins/jump_on
    sends tc
    stop followed

    tc filter del dev dnsveth egress; frames podveth count_frame; tc_in count_in
    rm $pins/send_on # so that nothing calls bpf_redirect yet
    start called --filter-track-bpf-helpers --output-bpfmap --filter-trace-xdp --filter-trace-tc --output-json \
      --output-caller --filter-func ip_rcv_core 'udp and dst port 4097'
    say pod UDP4:10.9.2.2:4098
    say pod UDP4:10.9.2.2:4097
    settle called
    grep -w bpf_redirect /sys/kernel/tracing/enabled_functions > "$OUT/called_before"
    tracing=$(tracing_links)
    BUN_JSC_useDFGJIT=0 ./bpf_programs pin $pins later_on:tc:7:context:redirect=$away
    tc_in later_on; until_true 30 traced_since $tracing || echo "programs: later_on is not traced" >&2
    say pod UDP4:10.9.2.2:4097
    settle called
    stop called
    rm -r $pins; umount /tmp/bpf
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
    "followed frames: nothing of other packets, and each packet has a number of its own"(run) {
      expect(told(run, "strangers")).toEqual([]);
      const numbers = chapters.map((chapter) => {
        const lines = run.lines(`${chapter}.lines`), packets = new Set(lines.map(({ packet }) => packet));
        // while a copy is made it has no headers yet
        const tuples = new Set(lines.map(({ tuple }) => tuple?.replace(/^\S*:\d+->/, "")));
        expect({ chapter, packets: packets.size, tuples: [...tuples].sort() })
          .toEqual({ chapter, packets: 1, tuples: ["10.9.2.2:4097(udp)", ":0()"] });
        return [...packets][0];
      });
      expect(new Set(numbers).size).toBe(chapters.length);
    },
    "a frame's whole way: passed by XDP, through the functions of a tc program, into the next namespace"(
      run,
    ) {
      expect(way(run, "pass")).toEqual([
        ...beforeXdp,
        "plain_frame(xdp)",
        "plain_frame(xdp) XDP_PASS",
        "in_parts(tc)",
        "in_parts_part(tc)",
        "in_parts(tc) TC_ACT_OK",
        "ip_rcv_core",
        "ip_forward",
        "dev_hard_start_xmit",
        "plain_frame(xdp)",
        "plain_frame(xdp) XDP_PASS",
        "ip_rcv_core",
        "sk_skb_reason_drop NO_SOCKET",
        "kfree_skbmem",
      ]);
    },
    "dropped by XDP"(run) {
      expect(way(run, "drop")).toEqual([
        ...beforeXdp,
        "drop_frame(xdp)",
        "drop_frame(xdp) XDP_DROP",
        "sk_skb_reason_drop NOT_SPECIFIED",
        "kfree_skbmem",
      ]);
    },
    "sent back by XDP: its sk_buff ends, the frame becomes another one where it came from"(run) {
      expect(way(run, "tx")).toEqual([
        ...beforeXdp,
        "tx_frame(xdp)",
        "tx_frame(xdp) XDP_TX",
        ...asAnotherFrame,
      ]);
      expect(run.lines("tx.lines").at(-1)?.netns).toBe(run.lines("tx.lines")[0]?.netns as number);
    },
    "sent by XDP to another device"(run) {
      expect(way(run, "redirect")).toEqual([
        ...beforeXdp,
        "away_frame(xdp)",
        "away_frame(xdp) XDP_REDIRECT",
        ...asAnotherFrame,
      ]);
    },
    "sent by tc to another device, where a program goes on in another one by a tail call, which is said"(
      run,
    ) {
      expect(way(run, "tc")).toEqual([
        ...beforeXdp,
        "plain_frame(xdp)",
        "plain_frame(xdp) XDP_PASS",
        "send_on(tc)",
        "send_on(tc) TC_ACT_REDIRECT",
        "jump_on(tc)",
        "jump_on(tc) TC_ACT_SHOT",
        "sk_skb_reason_drop TC_EGRESS",
        "kfree_skbmem",
      ]);
      expect(run.text("followed.err")).toMatch(
        / WARN Tail calls to BPF program \d+ \(bpf_prog_[0-9a-f]{16}_last\[bpf\]\) by map \d+ jumps are not shown: /,
      );
    },
    "what programs call, with maps, keys and values, and nothing that others call"(run) {
      const rows = run.text("called.out").trim().split("\n").map((line) => JSON.parse(line));
      expect(rows.at(-1)).toMatchObject({ type: "end", refused: 0 });
      const called = rows.filter(({ caller_func }) => caller_func?.startsWith("bpf_prog_"))
        .map(({ func, caller_func, bpf_map, skb, len, iface }) => {
          expect(skb).toMatch(/^0x[0-9a-f]+$/);
          return [
            func,
            caller_func.replace(/^bpf_prog_[0-9a-f]{16}_(\w+)\[bpf\]$/, "$1"),
            iface.split(":")[0],
            len,
            bpf_map,
          ];
        });
      const flows = (id: number) => ({ id, name: "flows", key_size: 4, value_size: 8, key: "2a000000" });
      const value = "8877665544332211", ids = called.slice(0, 6).map((row) => row.at(-1)?.id);
      const counted = (caller: string, id: number) => [
        ["htab_map_update_elem", caller, "podveth", 48, { ...flows(id), value }],
        ["__htab_map_lookup_elem", caller, "podveth", 48, { ...flows(id), value }],
        ["htab_map_delete_elem", caller, "podveth", 48, flows(id)],
      ];
      expect(called.slice(0, 9)).toEqual([
        ...counted("count_frame", ids[0]),
        ...counted("count_in", ids[3]),
        ...counted("count_frame", ids[0]),
      ]);
      expect(run.text("called_before")).toBe("");
      expect(called.slice(9)).toEqual([["bpf_redirect", "later_on", "podveth", 48, undefined]]);
      const others = rows.filter(({ func, caller_func }) =>
        func !== undefined && !func.includes("bpf_prog_") && !caller_func?.startsWith("bpf_prog_")
      );
      expect([...new Set(others.map(({ func }) => func))]).toEqual(["ip_rcv_core"]);
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
