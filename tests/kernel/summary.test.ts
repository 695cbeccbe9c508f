/** How packets ended on this very kernel, by tracepoints. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { validLine } from "../output/schema.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { rawTraceWhile, sh, VethPair } from "./tracer.ts";

setDefaultTimeout(60_000);

type Row = Record<string, unknown>;

async function summary(words: readonly string[], traffic: () => void | Promise<void>) {
  const all = ["--backend", "tracepoint", "--output-json", "--summary", ...words];
  const { stdout, stderr, status } = await rawTraceWhile(all, traffic);
  expect({ stderr, status }).toMatchObject({ status: 0 });
  const lines = stdout.trimEnd().split("\n").map(validLine), end = lines.pop() as Row;
  expect(end).toMatchObject({ type: "end", shown: 0, lost: 0, forgotten: 0 });
  expect(new Set(lines.map(({ type }) => type))).toEqual(new Set(lines.length === 0 ? [] : ["outcome"]));
  return { rows: lines, end, stderr };
}

/** Reads one datagram of 30,000 bytes from a port of 127.0.0.1; it lies in pages, so that copying it is seen. */
const receiver = (port: number) =>
  `
  import socket, sys
  s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", ${port})); s.settimeout(10)
  t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
  for _ in range(3):
    t.sendto(bytes(30000), ("127.0.0.1", ${port}))
    assert len(s.recv(65536)) == 30000
`.replace(/^ {2}/gm, "");

describe.skipIf(!isRoot || !isAtLeast(5, 8))("--summary (needs root, Linux 5.8)", () => {
  test.skipIf(Bun.which("python3") === null)("UDP to an open port: delivered, and to whom", async () => {
    const { rows, end } = await summary(["udp and dst port 4086"], () => {
      const { exitCode, stderr } = Bun.spawnSync(["python3", "-c", receiver(4086)]);
      expect({ exitCode, stderr: stderr.toString() }).toEqual({ exitCode: 0, stderr: "" });
    });
    expect(rows.map(({ outcome }) => outcome)).toEqual(rows.map(() => "delivered"));
    expect(rows.reduce((sum, { packets }) => sum + (packets as number), 0)).toBe(3);
    for (const { process, reason } of rows) {
      expect(process).toMatch(/^python3[.0-9]*:[1-9][0-9]*$/);
      expect(reason).toBeNull();
    }
    expect(end["summed_up"]).toBeGreaterThanOrEqual(3 * 5);
  });

  test("as many events as were asked for, though there were some before all probes were set", async () => {
    const sender = Bun.spawn([
      "bash",
      "-c",
      "while :; do echo x > /dev/udp/127.0.0.1/4084; sleep 0.02; done",
    ]);
    const words = ["--backend", "tracepoint", "--output-json", "--summary", "--output-limit-lines", "3"];
    const main = `${import.meta.dir}/../../main.ts`;
    const tracer = Bun.spawn([process.execPath, main, ...words, "udp and dst port 4084"], {
      stderr: "ignore",
    });
    const ended = await Promise.race([tracer.exited, Bun.sleep(30_000)]);
    tracer.kill();
    sender.kill();
    expect(ended).toBe(0);
    const end = validLine((await new Response(tracer.stdout).text()).trimEnd().split("\n").at(-1) ?? "");
    expect(end).toMatchObject({ type: "end", summed_up: 3 });
  });

  test("UDP and TCP to closed ports: dropped, why and where", async () => {
    using pair = new VethPair("sumdrop");
    const { rows } = await summary(
      ["dst port 4087"],
      () =>
        void sh(`ip netns exec ${pair.a} bash -c '
          for i in 1 2 3; do echo hello > /dev/udp/10.77.0.2/4087; done; ! echo > /dev/tcp/10.77.0.2/4087'`),
    );
    const dropped = rows.map(({ outcome, packets, reason, func }) => [outcome, packets, reason, func]);
    expect(dropped).toEqual([
      ["dropped", 3, "SKB_DROP_REASON_NO_SOCKET", expect.stringMatching(/udp/)],
      ["dropped", 1, "SKB_DROP_REASON_NO_SOCKET", "tcp_v4_rcv"],
    ]);
    for (const { location, func } of rows) expect(location).toMatch(new RegExp(`^${func}\\+0x[0-9a-f]+$`));
  });

  test("gone into a device, and not seen again: sent, and through which", async () => {
    using pair = new VethPair("sumsent");
    const { rows } = await summary(
      ["--filter-netns", pair.a, "udp and dst port 4085"],
      () => void sh(`ip netns exec ${pair.a} bash -c 'echo hello > /dev/udp/10.77.0.2/4085'`),
    );
    expect(rows).toMatchObject([
      {
        outcome: "sent",
        packets: 1,
        func: "net_dev_start_xmit",
        iface: expect.stringMatching(/^eth0:[1-9]/),
        netns: pair.inode(pair.a),
      },
    ]);
  });

  test("with =lines: the lines, and below them the table in columns", async () => {
    using pair = new VethPair("sumline");
    const { stdout, stderr } = await rawTraceWhile(
      [
        "--backend",
        "tracepoint",
        "--summary=lines",
        "--filter-func",
        "net_dev_queue",
        "udp and dst port 4088",
      ],
      () => void sh(`ip netns exec ${pair.a} bash -c 'echo hello > /dev/udp/10.77.0.2/4088'`),
    );
    const [lines = "", table = ""] = stdout.split("\n\n");
    // The ends are known though no such tracepoint was asked for, and they are no lines.
    expect(lines.split("\n").map((line) => line.split(/\s+/).at(-1))).toEqual(["FUNC", "net_dev_queue"]);
    expect(table).toMatch(
      /^PACKETS {2}OUTCOME {2}AT +REASON +TO\n {6}1 {2}dropped {2}\w+\+0x[0-9a-f]+ {2}SKB_DROP_REASON_NO_SOCKET {2}-\n$/,
    );
    expect(stderr).toContain("Attached to 1 of 1 tracepoint, showed 1 event, lost none\n");
  });

  test("nothing matched: an empty table, and whether there was anything to look at", async () => {
    using pair = new VethPair("sumnone");
    const send = () => void sh(`ip netns exec ${pair.a} bash -c 'echo hello > /dev/udp/10.77.0.2/4087'`);
    const some = await summary(["--filter-func", "net_dev_queue|kfree_skb", "udp and dst port 4089"], send);
    expect(some.rows).toEqual([]);
    const looked = Number(
      / summed up 0 .*\n {2}matched {3}nothing: looked at packets (\d+) times, and none passed the filter\n/
        .exec(some.stderr)?.[1],
    );
    expect(looked).toBeGreaterThanOrEqual(2);
    expect(some.end).toMatchObject({ looked, matched: 0 });
  });
});
