/** JSON lines of the tracer on this very kernel, each against the schema. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expectFields, rowsOfTracepoints, wordsOf } from "../output/json_options.ts";
import { validEvent, validLine } from "../output/schema.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { rawTraceWhile, sendDatagrams, sh, VethPair } from "./tracer.ts";

setDefaultTimeout(30_000);

type Event = Record<string, unknown>;
const JSON_LINES = ["--backend", "tracepoint", "--output-json"];
const main = join(import.meta.dir, "../../main.ts");

async function eventsOf(words: readonly string[], traffic: () => void): Promise<Event[]> {
  const { stdout, stderr, status } = await rawTraceWhile([...JSON_LINES, ...words], traffic);
  expect({ stderr, status }).toMatchObject({ status: 0 });
  return allButEnd(stdout).map(validEvent);
}

/** The lines of a trace that was ended in good order. */
function allButEnd(stdout: string): string[] {
  expect(stdout).toEndWith("\n");
  const lines = stdout.slice(0, -1).split("\n"), end = validLine(lines.pop() ?? "");
  expect(end).toMatchObject({ type: "end", probes: "tracepoint", shown: lines.length, lost: 0 });
  return lines;
}

const tupleOf = (event: Event) => event["tuple"] as Event;

describe.skipIf(!isRoot || !isAtLeast(5, 8))("JSON lines (needs root, Linux 5.8)", () => {
  test("a ping on CPU 0, with all that is zero", async () => {
    using pair = new VethPair("json");
    const before = Date.now();
    const events = await eventsOf(
      ["--timestamp", "absolute", "--output-netns-names", "icmp and host 10.77.0.2"],
      () => void sh(`taskset -c 0 ip netns exec ${pair.a} ping -c1 -W2 10.77.0.2`),
    );
    const sent = events.find(({ func }) => func === "net_dev_queue");
    const netns = pair.inode(pair.a);
    expect(sent).toMatchObject({
      schema: 1,
      type: "tracepoint",
      cpu: 0,
      netns,
      netns_name: pair.a,
      mark: 0,
      proto: 0x0800,
      mtu: 1500,
      len: 98,
      tuple: { saddr: "10.77.0.1", daddr: "10.77.0.2", sport: 0, dport: 0, proto: 1 },
    });
    expect(sent?.["iface"]).toMatch(/^eth0:[1-9]/);
    expect(sent?.["process"]).toMatch(/^ping:[1-9]/);
    const times = events.map(({ time }) => Date.parse(time as string));
    expect(Math.min(...times)).toBeGreaterThanOrEqual(before - 5);
    expect(Math.max(...times)).toBeLessThanOrEqual(Date.now() + 5);
  });

  test("a datagram and a connection that nobody takes: reason, place and flags", async () => {
    using pair = new VethPair("jdrop");
    const events = await eventsOf(
      ["--output-tcp-flags", "--timestamp", "relative", "port 4079"],
      () =>
        void sh(`ip netns exec ${pair.a} bash -c '
          echo hello > /dev/udp/10.77.0.2/4079; ! echo > /dev/tcp/10.77.0.2/4079'`),
    );
    const drops = events.filter(({ reason }) => reason === "SKB_DROP_REASON_NO_SOCKET");
    expect(drops.map((drop) => tupleOf(drop)["proto"]).sort()).toEqual([17, 6]);
    for (const { func, reason_code, location } of drops) {
      expect(func).toBe("kfree_skb(SKB_DROP_REASON_NO_SOCKET)");
      expect(reason_code).toBeGreaterThan(0);
      expect(location).toMatch(/^[a-z_]\w+\+0x[0-9a-f]+$/);
    }
    const flags = new Set(events.map((event) => tupleOf(event)["flags"]));
    expect(flags).toEqual(new Set([undefined, "SYN", "RST|ACK"]));
    // The first event of every packet comes 0 ns after itself.
    const first = new Map<unknown, unknown>();
    for (const { skb, time } of events) if (!first.has(skb)) first.set(skb, time);
    expect(new Set(first.values())).toEqual(new Set([0]));
    expect(events.some(({ time }) => (time as number) > 0)).toBe(true);
  });

  test("the stack of a drop ends where the system call began", async () => {
    const events = await eventsOf(
      ["--output-stack", "--filter-func", "kfree_skb", "udp and dst port 4082"],
      () => void sh("echo hello > /dev/udp/127.0.0.1/4082"),
    );
    expect(events).toHaveLength(1);
    const stack = events[0]?.["stack"] as string[];
    expect(stack.every((place) => /^[a-z_A-Z0-9.]+(\[\w+\])?\+0x[0-9a-f]+$/.test(place))).toBe(true);
    // the tracepoint's own place for it is the return address of the function that it is in
    const functions = stack.map((place) => place.split("+")[0]);
    expect(functions).toContain((events[0]?.["location"] as string).split("+")[0]);
    expect(functions.at(-1)).toMatch(/^entry_|^el0/);
  });

  test("places are addresses where the kernel hides its symbols, which is said once", async () => {
    const { stdout, stderr, status } = await rawTraceWhile(
      [...JSON_LINES, "--output-stack", "--filter-func", "kfree_skb", "udp and dst port 4085"],
      () => void sh("for i in 1 2 3; do echo hello > /dev/udp/127.0.0.1/4085; done"),
      "SIGINT",
      ["setpriv", "--inh-caps", "-syslog", "--bounding-set", "-syslog"],
    );
    expect({ stderr, status }).toMatchObject({ status: 0 });
    const events = allButEnd(stdout).map(validEvent);
    expect(events).toHaveLength(3);
    for (const { location, stack } of events) {
      expect(location).toMatch(/^0xf{8}[0-9a-f]{8}$/);
      expect((stack as string[]).length).toBeGreaterThan(5);
      for (const place of stack as string[]) expect(place).toMatch(/^0xf{8}[0-9a-f]{8}$/);
    }
    expect(stderr.match(/WARN Places in the code have no names.*/g)).toEqual([
      'WARN Places in the code have no names error="Cannot see addresses in /proc/kallsyms: all are 0"',
    ]);
  });

  test("values of expressions are those of the fields beside them", async () => {
    using pair = new VethPair("jvalue");
    const expressions = {
      "skb->len": "len",
      "skb->mark": "mark",
      "skb->protocol": "proto",
      "skb->dev->mtu": "mtu",
      "skb->dev->nd_net.net->ns.inum": "netns",
    } as const;
    const events = await eventsOf(
      [
        ...Object.keys(expressions).flatMap((source) => ["--output-skb-metadata", source]),
        "--output-skb-metadata=skb->len / (skb->mark - 42),((u32 *)skb->cb)[2],((u32 *)skb->cb)[5],skb->head",
        "--output-skb",
        "--output-skb-cb",
        "--output-skb-shared-info",
        "host 10.77.0.2 and (icmp or udp port 4083)",
      ],
      () =>
        void sh(`ip netns exec ${pair.a} bash -c '
          ping -c1 -W2 -m 42 10.77.0.2; echo hello > /dev/udp/10.77.0.2/4083'`),
    );
    let withDevice = 0;
    for (const event of events) {
      const values = event["skb_metadata"] as Event, cb = event["cb"] as number[];
      const hasDevice = event["iface"] !== "0";
      for (const [source, field] of Object.entries(expressions)) {
        if (source.includes("dev") && !hasDevice) expect(values[source]).toBeNull();
        else expect({ source, value: values[source] }).toEqual({ source, value: event[field] });
      }
      if (hasDevice) withDevice++;
      const marked = event["mark"] === 42;
      expect(values["skb->len / (skb->mark - 42)"] === null).toBe(marked);
      expect([cb[0], cb[3]]).toEqual(
        [values["((u32 *)skb->cb)[2]"], values["((u32 *)skb->cb)[5]"]] as number[],
      );
      expect(event["sk_buff"]).toContain(`\n .head = (unsigned char *)${values["skb->head"]},\n`);
      expect(event["skb_shared_info"]).toContain("\n .dataref = (atomic_t){\n");
    }
    expect(withDevice).toBeGreaterThan(8);
    expect(events.some(({ cb }) => (cb as number[]).some((word) => word !== 0))).toBe(true);
  });

  test("every pair of options: the fields that were asked for, and no others", async () => {
    using pair = new VethPair("jpairs");
    let ready = 0;
    const all = Promise.withResolvers<void>(), words = ["host 10.77.0.2 and (icmp or tcp port 4084)"];
    // All tracers watch the same packets.
    const traces = rowsOfTracepoints.map((row) =>
      rawTraceWhile([...JSON_LINES, ...wordsOf(row), ...words], () => {
        if (++ready === rowsOfTracepoints.length) {
          sh(`taskset -c 0 ip netns exec ${pair.a} bash -c '
            ping -c1 -W2 10.77.0.2; ! echo > /dev/tcp/10.77.0.2/4084'`);
          all.resolve();
        }
        return all.promise;
      })
    );
    expect(rowsOfTracepoints.length).toBeGreaterThan(8);
    for (const [i, { stdout, stderr, status }] of (await Promise.all(traces)).entries()) {
      const row = rowsOfTracepoints[i]!;
      expect({ row, stderr, status }).toMatchObject({ row, status: 0 });
      const lines = stdout.trimEnd().split("\n").map(validLine), end = lines.pop();
      const events = lines.filter(({ type }) => type === "tracepoint");
      expect(end).toMatchObject({ type: "end", shown: events.length, lost: 0 });
      expect(events.length).toBeGreaterThan(8);
      for (const event of events) expectFields(row, event);
      expect(new Set(lines.map(({ type }) => type))).toEqual(
        new Set(row.summary === "on" ? ["tracepoint", "outcome"] : ["tracepoint"]),
      );
      // What is zero is there, as a number.
      const onCpu0 = events.filter(({ cpu }) => cpu === 0);
      expect(onCpu0.length).toBeGreaterThan(0);
      if (row["output-meta"] === "on") expect(new Set(onCpu0.map(({ mark }) => mark))).toEqual(new Set([0]));
      if (row["output-tuple"] === "on") {
        const pings = events.map(tupleOf).filter(({ proto }) => proto === 1);
        expect(pings.length).toBeGreaterThan(4);
        for (const { sport, dport, icmp_code } of pings) expect([sport, dport, icmp_code]).toEqual([0, 0, 0]);
      }
    }
  }, 120_000);

  test("names that would break a line: of a process, an interface and a namespace", async () => {
    const netns = 'pwru-"\\j', iface = 'e"\\\x01\u00fc';
    // A comm is bytes: here a quote, a carriage return, an escape and half a character.
    const traffic = `
      ip netns add '${netns}'
      ip -n '${netns}' link add '${iface}' type veth peer name other
      ip -n '${netns}' addr add 10.78.0.1/24 dev '${iface}'
      ip -n '${netns}' link set other up; ip -n '${netns}' link set '${iface}' up
      ip -n '${netns}' neigh add 10.78.0.9 lladdr 02:00:00:00:00:09 dev '${iface}'
      ip netns exec '${netns}' bash -c '
        printf "a\\"\\r\\e\\xc3z" > /proc/$$/comm
        echo hello > /dev/udp/10.78.0.9/4080'
      sleep 0.2`;
    try {
      const events = await eventsOf(["--output-netns-names", "udp and port 4080"], () => void sh(traffic));
      const sent = events.find(({ func }) => func === "net_dev_queue");
      expect(sent?.["netns_name"]).toBe(netns);
      expect((sent?.["process"] as string).replace(/\d+$/, "")).toBe('a"\r\x1b\ufffdz:');
      expect((sent?.["iface"] as string).startsWith(`${iface}:`)).toBe(true);
    } finally {
      sh(`ip netns del '${netns}'`, { mayFail: true });
    }
  });

  /** Runs the tracer into a pipe that `reader` reads; it is to write what it read to "$out". */
  async function piped(words: readonly string[], reader: string, traffic: (pid: number) => Promise<void>) {
    const directory = mkdtempSync(join(tmpdir(), "pwru-pipe-"));
    const path = (name: string) => join(directory, name);
    sh(`mkfifo ${path("pipe")}`);
    const reading = Bun.spawn(["bash", "-c", `exec < "$pipe"; ${reader}`], {
      env: { ...process.env, pipe: path("pipe"), out: path("out") },
    });
    const command = [process.execPath, main, ...JSON_LINES, "--ready-file", path("ready"), ...words];
    const tracer = Bun.spawn(["bash", "-c", `exec "$@" > ${path("pipe")}`, "bash", ...command], {
      stderr: "pipe",
    });
    try {
      while (!existsSync(path("ready")) && tracer.exitCode === null) await Bun.sleep(10);
      await traffic(tracer.pid);
      const status = await tracer.exited;
      await reading.exited;
      const stderr = await new Response(tracer.stderr).text();
      return { output: readFileSync(path("out"), "utf8"), stderr, status };
    } finally {
      tracer.kill("SIGKILL");
      reading.kill("SIGKILL");
      rmSync(directory, { recursive: true });
    }
  }

  test("a reader that stops for a while gets every line, whole", async () => {
    const { output, stderr, status } = await piped(
      ["udp and port 4081"],
      'sleep 1.5; cat > "$out"',
      async (pid) => {
        sendDatagrams(4081, 3000);
        await Bun.sleep(200);
        process.kill(pid, "SIGINT");
      },
    );
    expect(status).toBe(0);
    expect(output.length).toBeGreaterThan(1_000_000);
    const events = allButEnd(output);
    events.forEach(validEvent);
    expect(stderr).toContain(`showed ${events.length} events, lost none`);
  });

  test("gaps add up to what was lost, and --strict says so", async () => {
    const words = [...JSON_LINES, "--ring-size", "4K", "--strict", "udp and port 4082"];
    const { stdout, stderr, status } = await rawTraceWhile(
      words,
      () => sendDatagrams(4082, 3000),
    );
    const lines = stdout.trimEnd().split("\n").map(validLine), end = lines.pop() ?? {};
    const gaps = lines.filter(({ type }) => type === "lost");
    const lost = gaps.reduce((sum, { events }) => sum + (events as number), 0);
    expect(lost).toBeGreaterThan(0);
    expect(end).toMatchObject({ type: "end", shown: lines.length - gaps.length, lost });
    expect(end["matched"]).toBe(lines.length - gaps.length + lost);
    expect(stderr).toContain(`lost ${lost} in a full ring buffer\n  lost      ${lost} events;`);
    expect(status).toBe(3);
  });

  test("a reader that leaves ends it", async () => {
    const { output, status } = await piped(
      ["icmp"],
      'head -2 > "$out"',
      async () =>
        void await Bun.spawn(["ping", "-q", "-c20", "-i0.05", "127.0.0.1"], { stdout: "ignore" }).exited,
    );
    expect(status).toBe(0);
    expect(output.trimEnd().split("\n").map(validEvent)).toHaveLength(2);
  });
});
