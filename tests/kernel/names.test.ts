/** Names in the lines of a trace on this very kernel: that they are fresh, and that none gets at the terminal. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { validEvent, validLine } from "../output/schema.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { rawTraceWhile, sh, VethPair } from "./tracer.ts";

setDefaultTimeout(60_000);

const BACKEND = ["--backend", "tracepoint", "--filter-func", "net_dev_start_xmit"];
const say = (netns: string, address: string, port: number) =>
  sh(`ip netns exec ${netns} bash -c 'echo hello > /dev/udp/${address}/${port}'`);

describe.skipIf(!isRoot || !isAtLeast(5, 8))("names (needs root, Linux 5.8)", () => {
  test("of interfaces that are renamed, and of namespaces and interfaces that appear", async () => {
    using pair = new VethPair("fresh");
    const later = "pwru-fresh-later";
    try {
      const { stdout, status } = await rawTraceWhile(
        [...BACKEND, "--output-json", "--output-netns-names", "udp and dst portrange 4091-4093"],
        async () => {
          say(pair.a, "10.77.0.2", 4091);
          sh(`ip -n ${pair.a} link set eth0 down; ip -n ${pair.a} link set eth0 name wan0
            ip -n ${pair.a} link set wan0 up; ip -n ${pair.a} neigh replace 10.77.0.2 lladdr \\
              $(ip -n ${pair.b} -br link show eth0 | awk '{ print $3 }') dev wan0`);
          await Bun.sleep(1200);
          say(pair.a, "10.77.0.2", 4092);
          sh(`ip netns add ${later}; ip -n ${later} link add late0 type veth peer name late1
            ip -n ${later} addr add 10.78.0.1/24 dev late0; ip -n ${later} link set late0 up
            ip -n ${later} link set late1 up
            ip -n ${later} neigh add 10.78.0.2 lladdr 02:00:00:00:00:02 dev late0`);
          say(later, "10.78.0.2", 4093);
        },
      );
      expect(status).toBe(0);
      const lines = stdout.trimEnd().split("\n").slice(0, -1).map(validEvent);
      const seen = lines.map(({ tuple, iface, netns_name }) => [
        (tuple as { dport: number }).dport,
        String(iface).replace(/:\d+$/, ""),
        netns_name,
      ]);
      expect(seen).toEqual([
        [4091, "eth0", pair.a],
        [4092, "wan0", pair.a],
        [4093, "late0", later],
      ]);
    } finally {
      sh(`ip netns del ${later}`, { mayFail: true });
    }
  });

  test("with control characters, line ends, broken UTF-8 and bidi controls, as text and as JSON", async () => {
    using pair = new VethPair("evil");
    // What the kernel allows in an interface's name: all but spaces, "/" and ":". In a process name: anything.
    const iface = "$'\\x1b[2J\\xff\\xe2\\x80\\xaee'";
    const comm = "\\x1b]0;\\r\\x9b\\xff\\xe2\\x80\\xae#\\n"; // a line end in the middle would be two writes;
    const peer = sh(`ip -n ${pair.b} -br link show eth0 | awk '{ print $3 }'`).trim();
    sh(`ip -n ${pair.a} link set eth0 down; ip -n ${pair.a} link set eth0 name ${iface}
      ip -n ${pair.a} link set ${iface} up; ip -n ${pair.a} neigh replace 10.77.0.2 lladdr ${peer} dev ${iface}`);
    for (const words of [[], ["--output-json"]]) {
      const { stdout, stderr, status } = await rawTraceWhile(
        [
          ...BACKEND,
          ...words,
          "--summary=lines",
          "--debug",
          "--filter-netns",
          pair.a,
          "udp and dst port 4094",
        ],
        () =>
          void sh(`ip netns exec ${pair.a} bash -c '
            printf "${comm}" > /proc/$$/comm; echo hello > /dev/udp/10.77.0.2/4094'`),
      );
      expect(status).toBe(0);
      // What is no UTF-8 would be U+FFFD here, which is not among these either.
      for (const text of [stdout, stderr]) expect(text).toMatch(/^[ -~\n]*$/);
      if (words.length === 0) {
        const [line, row] = stdout.split("\n").filter((line) =>
          line.includes("4094") || line.includes("sent")
        );
        expect(line).toMatch(/ \?\]0;\?\?\?\?#\?:[0-9]+ /);
        expect(line).toMatch(/ \?\[2J\?\?e:[0-9]+ /);
        expect(row).toMatch(/ sent .* \?\[2J\?\?e:[0-9]+ netns /);
        continue;
      }
      const [event, outcome] = stdout.trimEnd().split("\n").map(validLine);
      expect((event?.["process"] as string).replace(/\d+$/, "")).toBe("\x1b]0;\r\ufffd\ufffd\u202e#\n:");
      expect((event?.["iface"] as string).replace(/\d+$/, "")).toBe("\x1b[2J\ufffd\u202ee:");
      expect(outcome?.["iface"]).toBe(event?.["iface"] as string);
    }
  });
});
