import { describe, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { type Backup, Backups, expired } from "../../lib/output/backups.ts";

const TIME = new Date(2026, 7, 21, 10, 15, 30, 7);

test.each<[path: string, backup: string]>([
  ["/x/trace.txt", "/x/trace-2026-08-21T10-15-30.007.txt"],
  ["/x/trace", "/x/trace-2026-08-21T10-15-30.007"],
  ["/x.d/trace", "/x.d/trace-2026-08-21T10-15-30.007"],
  ["/x/a.b.json", "/x/a.b-2026-08-21T10-15-30.007.json"],
  ["/x/.hidden", "/x/-2026-08-21T10-15-30.007.hidden"],
  ["/x/end.", "/x/end-2026-08-21T10-15-30.007."],
])("%s rotates to %s", (path, backup) => {
  expect(new Backups(path).pathAt(TIME)).toBe(backup);
});

/** The backups of trace.txt in a directory with these files, as [time in UTC, names, name of the plain one]. */
function listed(names: readonly string[]) {
  const directory = mkdtempSync(join(tmpdir(), "backups-"));
  try {
    for (const name of names) writeFileSync(join(directory, name), "");
    mkdirSync(join(directory, "trace-2026-01-01T00-00-00.000.txt"));
    symlinkSync("/etc/passwd", join(directory, "trace-2026-01-02T00-00-00.000.txt"));
    return new Backups(join(directory, "trace.txt")).list().map(({ time, files, plain }) => ({
      time,
      files: files.map((file) => basename(file)).sort(),
      plain: plain === undefined ? undefined : basename(plain),
    }));
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("only files of ours are listed, a file and its copy once, the newest first, in the zone of the names", () => {
  const a = "trace-2026-08-21T10-15-30.007.txt", b = "trace-2026-08-22T00-00-00.000.txt";
  expect(listed([
    "trace.txt",
    a,
    `${a}.gz`,
    b,
    "trace-2025-12-31T23-59-59.999.txt.gz",
    "trace-2025-12-31T23-59-59.998.txt.gz.tmp",
    "trace-2026-13-01T00-00-00.000.txt", // the thirteenth month
    "trace-2026-02-30T00-00-00.000.txt",
    "trace-2026-08-21T10-15-30.007.json",
    "trace-2026-08-21T10-15-30.txt",
    "trace-x-2026-08-21T10-15-30.007.txt",
    "trace-2026-08-21T10-15-30.007.txt.bz2",
  ])).toEqual([
    { time: new Date(2026, 7, 22), files: [b], plain: b },
    { time: TIME, files: [a, `${a}.gz`], plain: undefined },
    {
      time: new Date(2025, 11, 31, 23, 59, 59, 999),
      files: ["trace-2025-12-31T23-59-59.999.txt.gz"],
      plain: undefined,
    },
  ]);
});

describe("what has had its time", () => {
  const now = new Date(2026, 7, 21, 12);
  const hoursOld = (...hours: number[]): Backup[] =>
    hours.map((hour) => ({ time: new Date(now.getTime() - hour * 3600e3), files: [], plain: undefined }));
  test.each<[maxBackups: number, maxAgeDays: number, hours: number[], kept: number]>([
    [0, 0, [1, 1000, 100_000], 3],
    [2, 0, [1, 2, 3, 4], 2],
    [5, 0, [1, 2], 2],
    [0, 1, [1, 23.9, 24.1, 50], 2],
    [0, 1, [24], 1],
    [1, 1, [1, 2], 1],
    [3, 1, [1, 30, 31], 1],
    [1, 0, [-5, 1], 1], // a clock that was set back
  ])("at most %i, of %i days: %j", (maxBackups, maxAgeDays, hours, kept) => {
    const backups = hoursOld(...hours);
    expect(expired(backups, { maxBackups, maxAgeDays }, now)).toEqual(backups.slice(kept));
  });
});

test.each(["UTC", "Pacific/Kiritimati", "America/St_Johns"])(
  "in %s a file of an hour ago is an hour old",
  (zone) => {
    const script = `
    const { Backups, expired } = await import(${
      JSON.stringify(join(import.meta.dir, "../../lib/output/backups.ts"))
    });
    const { mkdtempSync, rmSync, writeFileSync } = require("node:fs");
    const directory = mkdtempSync("/tmp/backups-");
    const backups = new Backups(directory + "/t"), now = new Date();
    writeFileSync(backups.pathAt(new Date(now - 3600e3)), ""); writeFileSync(backups.pathAt(new Date(now - 25 * 3600e3)), "");
    console.log(expired(backups.list(), { maxBackups: 0, maxAgeDays: 1 }, now).map(({ time }) => (now - time) / 3600e3).join());
    rmSync(directory, { recursive: true });`;
    const { stdout } = Bun.spawnSync([process.execPath, "-e", script], { env: { ...process.env, TZ: zone } });
    expect(stdout.toString()).toBe("25\n");
  },
);
