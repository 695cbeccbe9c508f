/** What tells conversations apart, of live packets of many protocols on this very kernel: text and JSON. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { TemporaryFolder } from "../../build/host.ts";
import { validEvent, validLine } from "../output/schema.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { rawTraceWhile, sh, type Trace, traceWhile, VethPair } from "./tracer.ts";

setDefaultTimeout(60_000);

/** Behind IP headers of the kernel's: socat's address, bytes as printf writes them; what is shown of it. */
const packets: readonly (readonly [address: string, bytes: string, text: string, json: object])[] = [
  ["IP4-SENDTO:10.77.0.2:17", "\\x9c\\x41\\x10\\3\\0\\x8\\0\\0", "40001->4099(udp)", {
    sport: 40001,
    dport: 4099,
    proto: 17,
  }],
  ["IP4-SENDTO:10.77.0.2:132", "\\x9c\\x44\\x10\\3\\0\\0\\0\\0\\0\\0\\0\\0", "40004->4099(sctp)", {
    sport: 40004,
    dport: 4099,
    proto: 132,
  }],
  ["IP4-SENDTO:10.77.0.2:47", "\\x20\\0\\x8\\0\\0\\0\\0\\x2a", "0->0(gre:key=0x2a)", {
    proto: 47,
    gre_key: 42,
  }],
  ["IP4-SENDTO:10.77.0.2:47", "\\0\\0\\x8\\0\\0\\0\\0\\x2a", "0->0(gre)", { proto: 47 }],
  ["IP4-SENDTO:10.77.0.2:50", "\\0\\xc0\\xff\\xee\\0\\0\\0\\1", "0->0(esp:spi=0xc0ffee)", {
    proto: 50,
    spi: 0xc0ffee,
  }],
  ["IP4-SENDTO:10.77.0.2:51", "\\6\\4\\0\\0\\0\\xc0\\xff\\xee\\0\\0\\0\\1", "0->0(ah:spi=0xc0ffee)", {
    proto: 51,
    spi: 0xc0ffee,
  }],
  ["IP4-SENDTO:10.77.0.2:89", "\\2\\1", "0->0(ospf)", { proto: 89 }],
  ["IP4-SENDTO:10.77.0.2:200", "\\2\\1", "0->0(200)", { proto: 200 }],
  // Destination options, then UDP; a later fragment.
  [
    "IP6-SENDTO:[fd00:77::2]:60",
    "\\x11\\0\\1\\4\\0\\0\\0\\0\\x9c\\x45\\x10\\3\\0\\x8\\0\\0",
    "40005->4099(udp)",
    {
      sport: 40005,
      dport: 4099,
      proto: 17,
    },
  ],
  ["IP6-SENDTO:[fd00:77::2]:44", "\\x11\\0\\5\\xa8\\0\\0\\0\\7\\x9c\\x46\\x10\\3", "0->0(udp:frag=1448)", {
    proto: 17,
    fragment_offset: 1448,
  }],
];

describe.skipIf(!isRoot || !isAtLeast(5, 8) || Bun.which("socat") === null)(
  "tuples (needs root, Linux 5.8, socat)",
  () => {
    test("of ICMP, SCTP, GRE, ESP, AH, fragments, and behind extension headers", async () => {
      using pair = new VethPair("tuples");
      for (const [side, host] of [[pair.a, 1], [pair.b, 2]]) {
        sh(
          `ip -n ${side} addr add fd00:77::${host}/64 dev eth0 nodad`,
        );
      }
      const words = [
        "--backend",
        "tracepoint",
        "--filter-func",
        "netif_receive_skb",
        "--filter-netns",
        pair.b,
      ];
      const filter =
        "ip src host 10.77.0.1 or ip6 src host fd00:77::1 and not (ip6[40] = 135 or ip6[40] = 136)";
      let ready = 0;
      const done = Promise.withResolvers<void>();
      const traffic = () => {
        if (++ready === 2) {
          sh(
            `ip netns exec ${pair.a} ping -q -c1 -W2 -e 7 10.77.0.2; ip netns exec ${pair.a} ping -q -c1 -W2 -e 8 fd00:77::2
          head -c 3000 /dev/zero | ip netns exec ${pair.a} socat -u -b 4096 - UDP4:10.77.0.2:4099,sourceport=40003,ip-mtu-discover=0`,
          );
          for (const [address, bytes] of packets) {
            sh(
              `printf '${bytes}' | ip netns exec ${pair.a} socat -u - '${address}'`,
            );
          }
          done.resolve();
        }
        return done.promise;
      };
      const [text, json] = await Promise.all([
        rawTraceWhile([...words, filter], traffic),
        rawTraceWhile([...words, "--output-json", filter], traffic),
      ]);
      expect([text.status, json.status]).toEqual([0, 0]);
      const shown = text.stdout.trimEnd().split("\n").slice(1).map((line) =>
        / (\S+:\d+->\S+) +netif_receive_skb$/.exec(line)?.[1]?.replace(/[^ ]*?:(\d+)->\S*:(\d+\()/, "$1->$2")
      );
      expect(shown).toEqual([
        "0->0(icmp:echo,id=7,seq=1)",
        "0->0(icmp6:echo,id=8,seq=1)",
        "40003->4099(udp)",
        "0->0(udp:frag=1480)",
        "0->0(udp:frag=2960)",
        ...packets.map(([, , text]) => text),
      ]);
      const lines = json.stdout.trimEnd().split("\n");
      expect(validLine(lines.pop() ?? "")).toMatchObject({ type: "end", lost: 0 });
      const tuples = lines.map((line) => {
        const { saddr: _source, daddr: _destination, ...rest } = validEvent(line)["tuple"] as Record<
          string,
          unknown
        >;
        return rest;
      });
      const nothing = { sport: 0, dport: 0 };
      expect(tuples).toEqual([
        { ...nothing, proto: 1, icmp_type: 8, icmp_code: 0, icmp_id: 7, icmp_seq: 1 },
        { ...nothing, proto: 58, icmp_type: 128, icmp_code: 0, icmp_id: 8, icmp_seq: 1 },
        { sport: 40003, dport: 4099, proto: 17 },
        { ...nothing, proto: 17, fragment_offset: 1480 },
        { ...nothing, proto: 17, fragment_offset: 2960 },
        ...packets.map(([, , , json]) => ({ ...nothing, ...json })),
      ]);
    });
  },
);

describe.skipIf(!isRoot || !isAtLeast(5, 8))("messages on Unix sockets (needs root, Linux 5.8)", () => {
  /** Their first bytes are as that of IPv4, and that of IPv6. */
  const texts = ["E is for everything", "hello, this is a message that is as long as a header of IP"];
  const words = ["--backend", "tracepoint", "--output-tuple", "--filter-func", "consume_skb"];
  async function talk() {
    using folder = new TemporaryFolder(tmpdir());
    const unix = join(folder.path, "socket"), socket = { data() {} };
    const server = Bun.listen({ unix, socket });
    for (const text of texts) {
      const client = await Bun.connect({ unix, socket });
      client.write(text);
      await Bun.sleep(50); // it is read
      client.end();
    }
    server.stop(true);
  }
  const ours = ({ lines }: Trace) => lines.filter((line) => line.process?.endsWith(`:${process.pid}`));

  test("are no packets of IP in print", async () => {
    const lines = ours(await traceWhile(words, talk));
    expect(lines.length).toBeGreaterThanOrEqual(texts.length);
    expect(lines.filter(({ tuple }) => tuple !== ":0->:0()")).toEqual([]);
  });

  test("nor to a filter", async () => {
    expect(ours(await traceWhile([...words, "ip or ip6"], talk))).toEqual([]);
  });
});
