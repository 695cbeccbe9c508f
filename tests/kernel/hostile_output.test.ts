/**
 * Where the output of a running trace goes wrong, on this very kernel: each case ends with a message, a status that is
 * laid down, whole lines, and nothing that stays attached. It is the executable that runs here.
 */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { bpfProgGetFdById } from "../../lib/sys/bpf.ts";
import { validEvent, validLine } from "../output/schema.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { sendDatagrams } from "./tracer.ts";

setDefaultTimeout(90_000);

/** Left by the build, which runs before any test. */
const binary = join(import.meta.dir, "../../pwru");
const NOBODY = 65534;
let directory = "", path = "", port = 4150;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pwru-hostile-"));
  mkdirSync(join(directory, "out"));
  path = join(directory, "out/trace");
  port++;
});
afterEach(() => rmSync(directory, { recursive: true }));

/** Ids of the BPF programs that a process has open. */
function programsOf(pid: number): number[] {
  const infos = readdirSync(`/proc/${pid}/fdinfo`).map((fd) => textOf(`/proc/${pid}/fdinfo/${fd}`));
  return infos.flatMap((text) => Number(/^prog_id:\s*(\d+)$/m.exec(text)?.[1] ?? []));
}

/** "" for a descriptor that was closed since. */
function textOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}

/** The kernel frees programs a moment after their last user has gone. */
async function expectGone(programs: readonly number[]): Promise<void> {
  const left = () =>
    programs.filter((id) => {
      const fd = bpfProgGetFdById(id);
      if (fd !== undefined) closeSync(fd);
      return fd !== undefined;
    });
  for (let i = 0; i < 100 && left().length > 0; i++) await Bun.sleep(20);
  expect(left()).toEqual([]);
}

/** Runs the executable in front of `words`; once it is ready, `traffic` runs, which ends it or lets it end. */
async function run(words: readonly string[], traffic: (pid: number) => unknown, wrapper: string[] = []) {
  const ready = join(directory, "ready");
  const all = [...wrapper, binary, "--backend", "tracepoint", "--ready-file", ready, ...words];
  const tracer = Bun.spawn(all, { stdin: "ignore", stdout: "ignore", stderr: "pipe" });
  const stderr = new Response(tracer.stderr).text();
  try {
    while (!existsSync(ready) && tracer.exitCode === null) await Bun.sleep(10);
    const runs = tracer.exitCode === null, programs = runs ? programsOf(tracer.pid) : [];
    if (runs) {
      expect(programs.length).toBeGreaterThanOrEqual(20);
      await traffic(tracer.pid);
    }
    const status = await tracer.exited;
    await expectGone(programs);
    return { status, stderr: await stderr };
  } finally {
    tracer.kill("SIGKILL");
  }
}

/** Lines of all files, the rotated ones first: each is whole, and an event or the end. */
function linesOf(folder: string): Record<string, unknown>[] {
  return readdirSync(folder).sort().flatMap((name) => {
    const bytes = readFileSync(join(folder, name));
    const text = (name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
    if (text !== "") expect({ name, end: text.at(-1) }).toEqual({ name, end: "\n" });
    return text.split("\n").slice(0, -1).map(validLine);
  });
}
const shown = (stderr: string) => Number(/showed (\d+) events?/.exec(stderr)?.[1]);

/** Everything but what root may do to files of others. */
const humble = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", "--inh-caps", "-all"];

/**
 * A process whose stdout nobody reads, of three kinds; it is flooded, then told to end. Prints its status, how many
 * seconds that took, and what it said.
 */
const standstill = `
import os, pty, signal, socket, subprocess, sys, time, tty
kind, both, port, ready, *command = sys.argv[1:]
if kind == "pipe": theirs, ours = reversed(os.pipe())
elif kind == "socket": a, b = socket.socketpair(); ours, theirs = a.fileno(), b.fileno()
else: ours, theirs = pty.openpty(); tty.setraw(theirs)
err = theirs if both == "both" else subprocess.PIPE
child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=err)
while not os.path.exists(ready) and child.poll() is None: time.sleep(0.02)
ids = subprocess.run("grep -h ^prog_id: /proc/%d/fdinfo/*" % child.pid, shell=True, capture_output=True, text=True)
open(os.path.dirname(ready) + "/programs", "w").write("\\n".join(line.split()[1] for line in ids.stdout.splitlines()))
out, to = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
to.bind(("127.0.0.1", int(port)))
for _ in range(4000): out.sendto(bytes(64), ("127.0.0.1", int(port)))
time.sleep(0.5)
child.send_signal(signal.SIGINT)
begin = time.monotonic()
try: child.wait(30)
except subprocess.TimeoutExpired: child.kill(); child.wait()
print(child.returncode, round(time.monotonic() - begin), flush=True)
if err == subprocess.PIPE: sys.stdout.write(child.stderr.read().decode())
`;

describe.skipIf(!isRoot || !isAtLeast(5, 8))("output that goes wrong (needs root, Linux 5.8)", () => {
  const kinds = ["pipe", "socket", "terminal"].flatMap((kind) => [[kind, "apart"], [kind, "both"]] as const);
  test.skipIf(Bun.which("python3") === null).each(kinds)(
    "a %s that nobody reads, stderr %s: it ends when told to",
    async (kind, both) => {
      const ready = join(directory, "ready");
      const child = Bun.spawn([
        ...["python3", "-c", standstill, kind, both, `${port}`, ready, binary],
        ...["--backend", "tracepoint", "--ready-file", ready, `udp and dst port ${port}`],
      ], { stdout: "pipe", stderr: "pipe" });
      const said = await new Response(child.stdout).text();
      expect(await new Response(child.stderr).text()).toBe("");
      const [, status, seconds] = /^(-?\d+) (\d+)\n/.exec(said) ?? [];
      expect({ status, said }).toEqual({ status: "1", said });
      expect(Number(seconds)).toBeLessThan(20);
      if (both === "apart") {
        expect(said).toContain(
          "error: Cannot write the last events: nobody reads them\n" +
            "  hint      what stdout is piped into stands still\n",
        );
      }
      const programs = readFileSync(join(directory, "programs"), "utf8").split("\n").map(Number);
      expect(programs.length).toBeGreaterThanOrEqual(20);
      await expectGone(programs);
    },
  );

  test.each([100, 400, 900])("SIGTERM in the middle of rotation, after %i ms", async (ms) => {
    const size = ["--output-file-max-size", "1", "--output-file-compress"];
    const { status, stderr } = await run(
      ["--output-json", "--output-file", `${path}.json`, ...size, `udp and dst port ${port}`],
      async (pid) => {
        const end = Bun.sleep(ms).then(() => process.kill(pid, "SIGTERM"));
        const flood = Bun.spawn([
          process.execPath,
          "-e",
          // Somebody listens, or every other datagram would be refused.
          `const hostname = "127.0.0.1", end = Date.now() + 2000;
          const listener = await Bun.udpSocket({ hostname, port: ${port} });
          const socket = await Bun.udpSocket({ hostname });
          for (let i = 0; Date.now() < end; i++) {
            socket.send("x", ${port}, hostname);
            if (i % 64 === 0) await Bun.sleep(0);
          }
          socket.close();
          listener.close();`,
        ]);
        await end;
        expect(await flood.exited).toBe(0);
      },
    );
    expect({ status, stderr }).toEqual({ status: 0, stderr });
    const lines = linesOf(join(directory, "out"));
    expect(lines.at(-1)).toMatchObject({ type: "end", shown: shown(stderr) });
    expect(lines.filter(({ type }) => type === "tracepoint")).toHaveLength(shown(stderr));
    expect(readdirSync(join(directory, "out")).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });

  test("a symbolic link where the file should be, or the sign that it is ready: not followed", async () => {
    const victim = join(directory, "victim"), ready = join(directory, "ready");
    writeFileSync(victim, "precious");
    symlinkSync(victim, path);
    const output = await run(["--output-file", path, "icmp"], () => {});
    expect(output).toEqual({
      status: 1,
      stderr:
        `error: Cannot write "${path}": open: ELOOP\n  hint      it is a symbolic link: name the file itself\n`,
    });
    symlinkSync(victim, ready);
    const tracer = Bun.spawn([binary, "--backend", "tracepoint", "--ready-file", ready, "icmp"], {
      stdout: "ignore",
      stderr: "pipe",
    });
    expect(await new Response(tracer.stderr).text()).toMatch(/\nerror: ELOOP: /);
    expect(await tracer.exited).toBe(1);
    expect(readFileSync(victim, "utf8")).toBe("precious");
  });

  test("a directory that cannot be written to: refused before anything is attached", async () => {
    chownSync(join(directory, "out"), NOBODY, NOBODY);
    const { status, stderr } = await run(["--output-file", path, "icmp"], () => {}, humble);
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: `error: Cannot write "${path}": open: EACCES\n`,
    });
  });

  test("a directory that cannot be written to any more when it is time to rotate", async () => {
    const { status, stderr } = await run(
      ["--output-json", "--output-file", path, "--output-file-max-size", "1", `udp and dst port ${port}`],
      () => {
        chownSync(join(directory, "out"), NOBODY, NOBODY);
        chmodSync(directory, 0o755);
        sendDatagrams(port, 3000);
      },
      humble,
    );
    expect(stderr).toContain(`error: Cannot rotate "${path}": rename: EACCES\n`);
    expect(status).toBe(1);
    expect(readdirSync(join(directory, "out"))).toEqual(["trace"]);
    expect(statSync(path).size).toBeGreaterThan(900_000);
    for (const line of linesOf(join(directory, "out"))) validEvent(JSON.stringify(line));
  });
});
