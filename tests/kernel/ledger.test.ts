/**
 * What a trace does not show is counted, on this very kernel: for each kind of loss, what was printed and what was
 * counted is what there was. A ring that is too small has its test in json.test.ts and trace.test.ts.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { validLine } from "../output/schema.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { rawTraceWhile, sendDatagrams, sh, VethPair } from "./tracer.ts";

setDefaultTimeout(60_000);

async function trace(words: readonly string[], traffic: () => void | Promise<void>) {
  const all = ["--backend", "tracepoint", "--output-json", "--strict", ...words];
  const { stdout, stderr, status } = await rawTraceWhile(all, traffic);
  const lines = stdout.trimEnd().split("\n").map(validLine), end = lines.pop();
  expect(lines.filter(({ type }) => type !== "tracepoint")).toEqual([]);
  return { lines, end, stderr, status };
}

/** Sends `count` datagrams of `bytes` bytes to a port of this machine, where a socket takes them and nobody reads. */
const sender = (port: number, bytes: number, count: number) =>
  `
  import socket
  s, t = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
  s.bind(("127.0.0.1", ${port}))
  for _ in range(${count}): t.sendto(bytes(${bytes}), ("127.0.0.1", ${port}))
`.replace(/^ {2}/gm, "");

describe.skipIf(!isRoot || !isAtLeast(5, 8))("the ledger (needs root, Linux 5.8)", () => {
  test.skipIf(Bun.which("nft") === null)("40 packets to follow at a time, and room for 16", async () => {
    using pair = new VethPair("ledger");
    // A mark does not leave its namespace: there only those are shown that are followed.
    sh(`ip netns exec ${pair.a} nft -f - <<< '
        table ip pwru_test {
          chain out {
            type filter hook output priority 0;
            udp dport 4095 meta mark set 7
          }
        }'
      ip netns exec ${pair.a} ping -q -c1 -W2 10.77.0.2`);
    const bound = `socket=$(ip netns exec ${pair.b} ss -Hlun sport = 4095); [ -n "$socket" ]`;
    const sleeper = Bun.spawn([
      ...["ip", "netns", "exec", pair.b, process.execPath, "-e"],
      'await Bun.udpSocket({ hostname: "10.77.0.2", port: 4095 }); Bun.sleepSync(60_000);',
    ]);
    try {
      for (let i = 0; i < 200 && sh(`${bound} && echo bound || true`) === ""; i++) await Bun.sleep(50);
      const { lines, end, stderr, status } = await trace(
        [
          ...["--filter-track-skb", "--filter-track-limit", "16", "--output-packet-id"],
          ...["--filter-func", "net_dev_queue|netif_receive_skb", "--filter-mark", "7", "udp"],
        ],
        () =>
          void sh(`ip netns exec ${pair.a} bash -c '
            for i in {1..40}; do echo hello > /dev/udp/10.77.0.2/4095; done'`),
      );
      const seenAt = (func: string) => lines.filter((line) => line["func"] === func).length;
      expect([seenAt("net_dev_queue"), seenAt("netif_receive_skb"), lines.length]).toEqual([40, 16, 56]);
      expect(end).toMatchObject({ shown: 56, untracked: 40 - 16, lost: 0, unreadable: 0 });
      expect(stderr).toContain("  untracked 24 times a packet was not followed, because too many were");
      expect(status).toBe(3);
    } finally {
      sleeper.kill("SIGKILL");
    }
  });

  test.skipIf(Bun.which("python3") === null)("packets that the filter cannot read to the end", async () => {
    const functions = ["net_dev_queue", "net_dev_start_xmit", "netif_rx", "netif_receive_skb"];
    const { lines, end, stderr, status } = await trace(
      ["--filter-func", functions.join("|"), "udp dst port 4096 and udp[2000] = 0"],
      () => {
        // The larger ones lie in pages, of which a filter sees the beginning.
        for (const [bytes, count] of [[3000, 3], [30_000, 5], [100, 2]] as const) {
          const { stderr } = Bun.spawnSync(["python3", "-c", sender(4096, bytes, count)]);
          expect(stderr.toString()).toBe("");
        }
      },
    );
    expect(lines.map(({ func, len }) => [func, Number(len) < 20_000])).toEqual(
      [0, 1, 2].flatMap(() => functions.map((func) => [func, true])),
    );
    expect(end).toMatchObject({ shown: 3 * 4, unreadable: 5 * 4, lost: 0, matched: 3 * 4 });
    expect(stderr).toContain(
      "  unread    20 times the filter could not read the packet and showed nothing\n",
    );
    expect(status).toBe(3);
  });

  test("of thousands of stacks none is missing: they are in the records, not in a map", async () => {
    const { lines, end, status } = await trace(
      ["--output-stack", "--ring-size", "64M", "udp and dst port 4097"],
      () => sendDatagrams(4097, 1000),
    );
    expect(status).toBe(0);
    expect(end).toMatchObject({ lost: 0, shown: lines.length });
    expect(lines.length).toBeGreaterThanOrEqual(3000);
    expect(lines.filter(({ stack }) => (stack as string[]).length < 3)).toEqual([]);
  });
});
