/**
 * A long flood through the tracer: what memory it has over time, and whether printed and lost add up to what was sent.
 *
 * Run as root, by hand: bun bench/soak.ts [SECONDS] [drain|slow|blocked] [WORD...]
 *
 * drain reads as fast as it can, slow a MiB a second, blocked nothing until the end. WORDs go to the tracer. Datagrams
 * to a port of this machine where nobody listens pass the kernel's networking tracepoints; the tracer is ./pwru.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { columns } from "../lib/output/columns.ts";

const [duration = "600", reader = "drain", ...words] = process.argv.slice(2);
const SECONDS = Number(duration), PORT = 40_777, SAMPLES = 20;
const READERS: Readonly<Record<string, string>> = {
  drain: "exec cat",
  slow:
    "while dd bs=64k count=16 iflag=fullblock status=none | { cat; } && sleep 1; [ ! -e $stop ]; do :; done; exec cat",
  blocked: "while [ ! -e $stop ]; do sleep 0.2; done; exec cat",
};
const read = READERS[reader];
if (read === undefined || !(SECONDS > 0)) {
  throw new Error("usage: bun bench/soak.ts [SECONDS] [drain|slow|blocked] [WORD...]");
}

const directory = mkdtempSync(join(tmpdir(), "pwru-soak-")), path = (name: string) => join(directory, name);
const command = [
  "./pwru",
  "--backend",
  "tracepoint",
  "--ready-file",
  path("ready"),
  ...words,
  `udp and port ${PORT}`,
];
// What is read is counted and thrown away; bash lets the tracer's exit status through.
const shell = `set -o pipefail; "$@" 2> ${path("err")} | { ${read}; } | tee >(tail -n 1 > ${
  path("last")
}) | wc -lc > ${path("count")}`;
const pipeline = Bun.spawn(["bash", "-c", shell, "bash", ...command], {
  env: { ...process.env, stop: path("stop") },
});
while (!existsSync(path("ready"))) await Bun.sleep(20);
const tracer = Number(
  Bun.spawnSync(["pgrep", "-f", "--", `--ready-file ${path("ready")}`]).stdout.toString().split("\n")
    .find((pid) => readFileSync(`/proc/${pid}/comm`, "latin1").trim() === "pwru"),
);

const sender = `const socket = await Bun.udpSocket({ socket: { error() {} } }), data = new Uint8Array(64);
  let sent = 0;
  for (const end = Date.now() + ${SECONDS * 1000}; Date.now() < end; await Bun.sleep(0)) {
    for (let i = 0; i < 64; i++) {
      try { if (socket.send(data, ${PORT}, "127.0.0.1")) sent++; } catch (error) { if (error.code !== "ECONNREFUSED") throw error; }
    }
  }
  console.log(sent);
  process.exit();`;
const sending = Bun.spawn([process.execPath, "-e", sender], { stdout: "pipe" });

const memory = (name: string) =>
  Number(new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(readFileSync(`/proc/${tracer}/status`, "latin1"))?.[1]) /
  1024;
const mib = (name: string) => memory(name).toFixed(1);
const rows = [["second", "VmRSS MiB", "RssAnon MiB", "VmHWM MiB"]], start = performance.now();
for (let i = 0; i <= SAMPLES; i++) {
  const at = SECONDS * i / SAMPLES;
  await Bun.sleep(Math.max(0, start + at * 1000 - performance.now()));
  rows.push([at.toFixed(0), mib("VmRSS"), mib("RssAnon"), mib("VmHWM")]);
}
const sent = Number(await new Response(sending.stdout).text());
await Bun.sleep(500);
process.kill(tracer, "SIGINT");
await Bun.sleep(200);
await Bun.write(path("stop"), "");
await pipeline.exited;
console.log(columns(rows, [0, 1, 2, 3]));
const [lines, bytes] = readFileSync(path("count"), "latin1").trim().split(/\s+/).map(Number);
console.log(
  `sent ${sent} datagrams; ${lines} lines, ${
    (bytes! / 2 ** 20).toFixed(0)
  } MiB came out; status ${pipeline.exitCode}`,
);
const closing = readFileSync(path("err"), "latin1").trimEnd().split("\n").slice(-4).join("\n");
const [, shown, lost = 0] = /showed (\d+) events, lost (?:none|(\d+))/.exec(closing)?.map(Number) ?? [];
console.log(closing);
console.log(`shown and lost: ${(shown! + (lost || 0)) / sent} for each datagram`);
rmSync(directory, { recursive: true });
