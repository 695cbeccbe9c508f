/** Packets that are followed, on this very kernel by tracepoints: through address translation, to their end, counted. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { ret } from "../../asm/insn.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { loadProgram } from "../../lib/sys/program.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { sh, traceWhile, VethPair } from "./tracer.ts";

setDefaultTimeout(60_000); // a busy machine is no failure

const hasNft = Bun.which("nft") !== null;

/** What the receiver does to datagrams for port 4099: now they are for port 4100 of another address of its own. */
function translate(pair: VethPair): void {
  sh(`
    ip -n ${pair.b} addr add 10.77.1.2/32 dev lo
    ip netns exec ${pair.b} nft -f - <<< '
      table ip pwru_test {
        chain in {
          type nat hook prerouting priority dstnat;
          udp dport 4099 dnat to 10.77.1.2:4100
        }
      }'
  `);
}

const say = (pair: VethPair, port: number, text = "hello") =>
  sh(`ip netns exec ${pair.a} bash -c 'echo ${text} > /dev/udp/10.77.0.2/${port}'`);

const short = ({ func, tuple = "" }: { func: string; tuple?: string }) =>
  `${func} ${tuple.replace(/:\d+->/, "->")}`;

/** Whether programs may see what functions return: then children are followed, else that is said. */
function hasReturnHooks(): boolean {
  const btfId = new BtfTypes(loadKernelBtf()).functionId("skb_clone")!;
  const spec = {
    name: "try",
    type: 26,
    expectedAttachType: 25,
    attachBtfId: btfId,
    license: "GPL",
    code: ret(0),
  };
  try {
    using _program = loadProgram(spec);
    return true;
  } catch {
    return false;
  }
}

describe.skipIf(!isRoot || !isAtLeast(5, 8))("packets that are followed (needs root, Linux 5.8)", () => {
  test.skipIf(!hasNft)("past address translation, where the filter alone loses them", async () => {
    using pair = new VethPair("nat");
    translate(pair);
    say(pair, 4098); // resolves the neighbour
    const filter = ["--backend", "tracepoint", "udp and dst port 4099"];
    const alone = await traceWhile(filter, () => void say(pair, 4099));
    const followed = await traceWhile(["--filter-track-skb", "--output-packet-id", ...filter], () => {
      say(pair, 4098);
      say(pair, 4099);
      say(pair, 4097);
    });
    const before = "10.77.0.1->10.77.0.2:4099(udp)", after = "10.77.0.1->10.77.1.2:4100(udp)";
    const way = [
      `net_dev_queue ${before}`,
      `net_dev_start_xmit ${before}`,
      `netif_rx_entry ${before}`,
      `netif_rx ${before}`,
      `netif_receive_skb ${before}`,
    ];
    expect(alone.lines.map(short)).toEqual(way);
    expect(followed.lines.map(short)).toEqual([...way, `icmp_send ${after}`, `kfree_skb ${after}`]);
    expect(new Set(followed.lines.map(({ packet }) => packet))).toEqual(new Set([1]));
  });

  test("two packets at one address have two numbers, and none is followed beyond its end", async () => {
    using pair = new VethPair("end");
    say(pair, 4098);
    const { lines, stderr } = await traceWhile(
      [
        ...["--backend", "tracepoint", "--filter-track-skb", "--output-packet-id", "--debug"],
        "udp and dst port 4099",
      ],
      () => {
        for (let i = 0; i < 20; i++) {
          say(pair, 4099);
          say(pair, 4098);
        }
      },
    );
    const packets = new Map<number | undefined, Set<string>>();
    for (const { packet, skb } of lines) packets.set(packet, (packets.get(packet) ?? new Set()).add(skb));
    expect([...packets.keys()]).toEqual(Array.from({ length: 20 }, (_, i) => i + 1));
    for (const addresses of packets.values()) expect(addresses.size).toBe(1);
    // the kernel uses addresses again, or this test shows nothing
    expect(new Set(lines.map(({ skb }) => skb)).size).toBeLessThan(20);
    expect(new Set(lines.map(({ tuple }) => tuple?.split("->")[1]))).toEqual(
      new Set(["10.77.0.2:4099(udp)"]),
    );
    expect(stderr).toContain("Still followed packets=0");
    expect(/WARN The children that these make of a packet are not followed: skb_clone, /.test(stderr))
      .toBe(!hasReturnHooks());
    expect(
      /WARN A packet from these may be taken for an earlier one at its address: __alloc_skb, /.test(stderr),
    )
      .toBe(!hasReturnHooks());
  });

  test("numbers alone show what the filter shows", async () => {
    using pair = new VethPair("ids");
    say(pair, 4098);
    const trace = async (words: string[]) => {
      const all = ["--backend", "tracepoint", ...words, "--debug", "udp and dst port 4099"];
      return await traceWhile(all, () => {
        say(pair, 4099);
        say(pair, 4099);
      });
    };
    const plain = await trace([]), numbered = await trace(["--output-packet-id"]);
    expect(numbered.lines.map(short)).toEqual(plain.lines.map(short));
    expect(plain.lines.map(({ packet }) => packet)).toEqual(plain.lines.map(() => undefined));
    expect([...new Set(numbered.lines.map(({ packet }) => packet))]).toEqual([1, 2]);
    expect(numbered.stderr).toContain("Still followed packets=0");
  });

  test("an end that nobody asked to see still ends it", async () => {
    using pair = new VethPair("unseen");
    say(pair, 4098);
    const { lines, stderr } = await traceWhile(
      [
        ...["--backend", "tracepoint", "--filter-track-skb", "--debug", "--filter-func", "netif_rx"],
        "udp and dst port 4099",
      ],
      () => void say(pair, 4099),
    );
    expect(lines.map(({ func }) => func)).toEqual(["netif_rx"]);
    expect(stderr).toContain("Attached to 1 of 1 tracepoint, showed 1 event");
    expect(stderr).toContain("Still followed packets=0");
  });

  test("when too many are followed, that is counted and the others are shown as the filter has it", async () => {
    using pair = new VethPair("full");
    say(pair, 4098);
    // A receiver that does not read keeps its packets alive.
    const receiver = Bun.spawn([
      ...["ip", "netns", "exec", pair.b, process.execPath, "-e"],
      `const s = await Bun.udpSocket({ port: 4099, hostname: "10.77.0.2" }); console.log("up"); while (true) Bun.sleepSync(1000);`,
    ], { stdout: "pipe" });
    try {
      await receiver.stdout.getReader().read();
      const { lines, stderr } = await traceWhile(
        [
          ...["--backend", "tracepoint", "--filter-track-skb", "--filter-track-limit", "2", "--debug"],
          ...["--output-packet-id", "--filter-func", "netif_receive_skb", "udp and dst port 4099"],
        ],
        () => {
          for (let i = 0; i < 5; i++) say(pair, 4099);
        },
      );
      expect(lines.map(({ packet }) => packet)).toEqual([1, 2, 0, 0, 0]);
      expect(stderr).toContain("Still followed packets=2");
      expect(stderr).toContain(
        "\n  untracked 3 times a packet was not followed, because too many were (--filter-track-limit)\n",
      );
    } finally {
      receiver.kill("SIGKILL");
      await receiver.exited;
    }
  });
});
