/** The tracer writing to files, on this very kernel: rotation, a full disk, files that go away. */
import { afterEach, beforeEach, describe, expect, setDefaultTimeout, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { validEvent, validLine } from "../output/schema.ts";
import { parseLines } from "../vm/lines.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { rawTraceWhile, sendDatagrams, sh } from "./tracer.ts";

setDefaultTimeout(30_000);

const BACKEND = ["--backend", "tracepoint"];
let directory = "", path = "";

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "pwru-file-"));
  path = join(directory, "trace");
});
afterEach(() => {
  sh(`umount -l ${directory}`, { mayFail: true });
  rmSync(directory, { recursive: true });
});

const shown = (stderr: string) => Number(/showed (\d+) events/.exec(stderr)?.[1]);

describe.skipIf(!isRoot || !isAtLeast(5, 8))("--output-file (needs root, Linux 5.8)", () => {
  test("text, appended to by a second trace", async () => {
    let events = 0;
    for (const port of [4082, 4083]) {
      const { stdout, stderr, status } = await rawTraceWhile(
        [...BACKEND, "--output-file", path, `udp and port ${port}`],
        () => sendDatagrams(port, 3),
      );
      expect({ status, stdout }).toEqual({ status: 0, stdout: "" });
      events += shown(stderr);
    }
    expect(events).toBeGreaterThanOrEqual(6);
    const [header, ...lines] = readFileSync(path, "utf8").trimEnd().split("\n");
    expect(lines.filter((line) => line === header)).toHaveLength(1);
    const records = parseLines([header, ...lines.filter((line) => line !== header)].join("\n"));
    expect(records).toHaveLength(events);
  });

  test("JSON in files of a MiB, compressed: every event is in one of them", async () => {
    const { stderr, status } = await rawTraceWhile(
      [
        ...BACKEND,
        "--output-json",
        "--output-file",
        `${path}.json`,
        "--output-file-max-size",
        "1",
        "--output-file-compress",
        "udp and port 4084",
      ],
      () => sendDatagrams(4084, 3000),
    );
    expect(status).toBe(0);
    const names = readdirSync(directory).sort();
    expect(names.length).toBeGreaterThan(2);
    let events = 0;
    for (const name of names) {
      expect(name).toMatch(/^trace(-[-\dT]{19}\.\d{3}\.json\.gz|\.json)$/);
      const bytes = readFileSync(join(directory, name));
      const text = (name.endsWith(".gz") ? gunzipSync(bytes) : bytes).toString();
      expect(text.length).toBeLessThanOrEqual(2 ** 20);
      expect(text).toEndWith("\n");
      const lines = text.slice(0, -1).split("\n");
      // Rotated files have a date in their names; the last line of the one without it is the end.
      if (!name.endsWith(".gz")) expect(validLine(lines.pop() ?? "")).toMatchObject({ type: "end" });
      for (const line of lines) validEvent(line);
      events += lines.length;
    }
    expect(events).toBe(shown(stderr));
  });

  test("a full disk: a message, status 1, whole lines", async () => {
    sh(`mount -t tmpfs -o size=300k none ${directory}`);
    const { stderr, status } = await rawTraceWhile(
      [...BACKEND, "--output-json", "--output-file", path, "udp and port 4085"],
      () => sendDatagrams(4085, 2000),
    );
    expect(stderr).toContain(
      `error: Cannot write "${path}": write: ENOSPC\n` +
        "  hint      --output-file-max-size and --output-file-max-backups limit the space that events take\n",
    );
    expect(status).toBe(1);
    expect(statSync(path).size).toBeGreaterThan(250_000);
    const text = readFileSync(path, "utf8");
    expect(text).toEndWith("\n");
    for (const line of text.slice(0, -1).split("\n")) validEvent(line);
  });

  test.each<[what: string, action: () => void]>([
    ["deleted", () => rmSync(path)],
    ["renamed", () => renameSync(path, `${path}.1`)],
  ])("a file that is %s: a message, status 1", async (_, action) => {
    const { stderr, status } = await rawTraceWhile(
      [...BACKEND, "--output-file", path, "udp and port 4086"],
      () => {
        action();
        sendDatagrams(4086, 3);
      },
    );
    expect(stderr).toContain(
      `error: Cannot go on writing "${path}": another program has renamed or deleted it\n  hint      `,
    );
    expect(status).toBe(1);
  });

  test("SIGHUP ends it, with every event in the file", async () => {
    const { stderr, status } = await rawTraceWhile(
      [...BACKEND, "--output-json", "--output-file", path, "udp and port 4087"],
      () => sendDatagrams(4087, 3),
      "SIGHUP",
    );
    expect(status).toBe(0);
    const lines = readFileSync(path, "utf8").trimEnd().split("\n");
    expect(validLine(lines.pop() ?? "")).toMatchObject({ type: "end", shown: shown(stderr) });
    expect(lines.map(validEvent)).toHaveLength(shown(stderr));
  });

  test("a path that cannot be written is refused before anything is attached", async () => {
    sh(`mount -t tmpfs -o ro none ${directory}`);
    const { stderr, status } = await rawTraceWhile([...BACKEND, "--output-file", path, "icmp"], () => {});
    expect(stderr).toBe(`error: Cannot write "${path}": open: EROFS\n`);
    expect(status).toBe(1);
  });

  test("stdout that is full", () => {
    const shell = Bun.spawnSync([
      "bash",
      "-c",
      `"$BUN" "$MAIN" --backend tracepoint icmp > /dev/full; echo "status $?" >&2`,
    ], {
      env: { ...process.env, BUN: process.execPath, MAIN: join(import.meta.dir, "../../main.ts") },
      stdout: "pipe",
      stderr: "pipe",
    });
    expect(shell.stderr.toString()).toContain("error: Cannot write events: write: ENOSPC\n");
    expect(shell.stderr.toString()).toEndWith("status 1\n");
  });
});
