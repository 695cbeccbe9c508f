import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  appendFileSync,
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { KernelError, OutputError } from "../../lib/errors.ts";
import { type FileOptions, type FileSystem, RotatingFile } from "../../lib/output/file.ts";
import { BatchWriter } from "../../lib/output/writer.ts";

let directory = "", path = "";
let umask = 0;
/** The clock of all files here: a second later every time somebody looks. */
let now = 0;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "output-file-"));
  path = join(directory, "trace.txt");
  umask = process.umask(0o022);
  now = new Date(2026, 7, 21, 10, 15, 0).getTime();
});
afterEach(() => {
  process.umask(umask);
  rmSync(directory, { recursive: true });
});

function open(options: Partial<FileOptions> = {}, system: Partial<FileSystem> = {}): RotatingFile {
  return new RotatingFile(
    path,
    { maxBytes: 100, maxBackups: 0, maxAgeDays: 0, compress: false, ...options },
    {
      now: () => new Date(now += 1000),
      warn: (message, cause) => {
        throw new Error(message, { cause });
      },
      ...system,
    },
  );
}

/** Hands over `text` as a batch. */
function put(file: RotatingFile, text: string): void {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length;) done += file.write(bytes, done, bytes.length - done);
}

/** What is in the directory: short names of rotated files by their second, and contents. */
function contents(): Record<string, string> {
  return Object.fromEntries(
    readdirSync(directory).sort().map((name) => [
      name.replace(/^trace-2026-08-21T10-15-(\d\d)\.000/, "$1"),
      readFileSync(join(directory, name), "latin1"),
    ]),
  );
}

/** `count` lines of ten bytes. */
const lines = (count: number, from = 0) =>
  Array.from({ length: count }, (_, i) => `line ${String(from + i).padStart(4, "0")}\n`).join("");

describe("rotation", () => {
  test.each<[title: string, before: string | undefined, batches: string[], files: Record<string, string>]>([
    ["a file that is not there", undefined, ["one\n"], { "trace.txt": "one\n" }],
    ["appends", "zero\n", ["one\n", "two\n"], { "trace.txt": "zero\none\ntwo\n" }],
    ["starts on a new line", "half a li", ["one\n"], { "trace.txt": "half a li\none\n" }],
    ["is full exactly", undefined, [lines(10)], { "trace.txt": lines(10) }],
    ["is full, then rotates", undefined, [lines(10), "one\n"], { "02.txt": lines(10), "trace.txt": "one\n" }],
    ["a batch larger than the limit", undefined, [lines(25)], {
      "02.txt": lines(10),
      "04.txt": lines(10, 10),
      "trace.txt": lines(5, 20),
    }],
    ["a batch that fills up what is there", lines(7), [lines(5, 7)], {
      "02.txt": lines(10),
      "trace.txt": lines(2, 10),
    }],
    ["one that is too large already", lines(30), ["one\n"], { "02.txt": lines(30), "trace.txt": "one\n" }],
    ["a line larger than the limit", undefined, [`a\n${"x".repeat(150)}\nb\n`], {
      "02.txt": "a\n",
      "04.txt": `${"x".repeat(150)}\n`,
      "trace.txt": "b\n",
    }],
    ["such a line comes first, and last", undefined, [`${"x".repeat(150)}\n`, `${"y".repeat(101)}\n`], {
      "02.txt": `${"x".repeat(150)}\n`,
      "trace.txt": `${"y".repeat(101)}\n`,
    }],
    ["a line of the limit", undefined, [`a\n${"x".repeat(99)}\nb\n`], {
      "02.txt": "a\n",
      "04.txt": `${"x".repeat(99)}\n`,
      "trace.txt": "b\n",
    }],
  ])("%s", async (_, before, batches, files) => {
    if (before !== undefined) writeFileSync(path, before);
    const file = open();
    for (const batch of batches) put(file, batch);
    await file.close();
    expect(contents()).toEqual(files);
  });

  test("two in the same millisecond, and a name that is taken, lose nothing", async () => {
    const time = new Date(2026, 7, 21, 10, 15, 30);
    const name = (ms: string, more = "") => `trace-2026-08-21T10-15-30.${ms}.txt${more}`;
    writeFileSync(join(directory, name("001", ".gz")), "other");
    symlinkSync("/etc/passwd", join(directory, name("002")));
    const file = open({}, { now: () => time });
    put(file, lines(40));
    await file.close();
    expect(readdirSync(directory).sort()).toEqual([
      name("000"),
      name("001", ".gz"),
      name("002"),
      name("003"),
      name("004"),
      "trace.txt",
    ]);
    expect(["000", "003", "004"].map((ms) => readFileSync(join(directory, name(ms)), "utf8")).join(""))
      .toBe(lines(30));
  });

  test("through a BatchWriter every line arrives once, in order", async () => {
    const file = open({ maxBytes: 50_000 }), writer = new BatchWriter(file);
    const encoder = new TextEncoder();
    let all = "";
    for (let i = 0; i < 20_000; i++) {
      const line = `line ${i} ${"x".repeat(i % 40)}\n`;
      all += line;
      const at = writer.room(line.length);
      encoder.encodeInto(line, new Uint8Array(writer.view.buffer, at));
      writer.commit(at + line.length);
      if (i % 977 === 0) writer.flush();
    }
    writer.flush();
    await file.close();
    const names = readdirSync(directory).sort();
    expect(names.length).toBeGreaterThan(10);
    expect(names.map((name) => readFileSync(join(directory, name), "utf8")).join("")).toBe(all);
    for (const name of names) expect(statSync(join(directory, name)).size).toBeLessThanOrEqual(50_000);
  });

  test("a file that another program emptied goes on from its start", async () => {
    const file = open();
    put(file, lines(9));
    truncateSync(path);
    put(file, lines(9));
    await file.close();
    expect(contents()).toEqual({ "trace.txt": lines(9) });
  });
});

describe("files", () => {
  const mode = (name = "trace.txt") => lstatSync(join(directory, name)).mode & 0o777;

  test("a new one has mode 0644 less the umask, its directory 0755", async () => {
    path = join(directory, "a/b/trace.txt");
    await open().close();
    expect([mode("a"), mode("a/b"), mode("a/b/trace.txt")]).toEqual([0o755, 0o755, 0o644]);
    process.umask(0o077);
    path = join(directory, "private.txt");
    await open().close();
    expect(mode("private.txt")).toBe(0o600);
  });

  test.skipIf(process.getuid?.() !== 0)(
    "a successor has mode and owner of the one before (as root)",
    async () => {
      writeFileSync(path, lines(10));
      chmodSync(path, 0o640);
      Bun.spawnSync(["chown", "1:2", path]);
      const file = open({ compress: true });
      put(file, "one\n");
      await file.close();
      for (const name of readdirSync(directory)) {
        const { mode, uid, gid } = statSync(join(directory, name));
        expect({ name, mode: mode & 0o777, uid, gid }).toEqual({ name, mode: 0o640, uid: 1, gid: 2 });
      }
      expect(readdirSync(directory).sort()).toEqual(["trace-2026-08-21T10-15-02.000.txt.gz", "trace.txt"]);
    },
  );

  function linkOf(fd: string): string | undefined {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return undefined; // the directory that is being read
    }
  }

  test("it is not inherited, and appends", async () => {
    const file = open();
    const fd = readdirSync("/proc/self/fd").find((fd) => linkOf(fd) === path);
    const flags = parseInt(
      /flags:\s+(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1] ?? "",
      8,
    );
    expect(flags & 0o2002000).toBe(0o2002000); // O_CLOEXEC, O_APPEND
    await file.close();
    expect(readdirSync("/proc/self/fd").some((fd) => linkOf(fd) === path)).toBe(false);
  });

  test.each<[title: string, prepare: () => void, error: Error]>([
    ["a symbolic link", () => symlinkSync("/etc/passwd", path), kernelError("open", 40, "ELOOP")],
    ["a dangling one", () => symlinkSync(join(directory, "x"), path), kernelError("open", 40, "ELOOP")],
    ["a directory", () => mkdirSync(path), kernelError("open", 21, "EISDIR")],
    ["a file as a directory", () => {
      writeFileSync(path, "");
      path += "/x";
    }, kernelError("mkdir", 17, "EEXIST")],
    ["a FIFO that nobody reads", () => void Bun.spawnSync(["mkfifo", path]), noFile()],
    ["a device", () => path = "/dev/null", noFile()],
  ])("%s is refused", (_, prepare, error) => {
    prepare();
    const message = error.message.replaceAll("PATH", path);
    expect(() => open()).toThrow(message);
    expect(existsSync(join(directory, "x"))).toBe(false);
  });

  function kernelError(call: string, errno: number, code: string): Error {
    return new KernelError(call, errno, code, { doing: 'Cannot write "PATH"' });
  }
  function noFile(): Error {
    return new OutputError('Cannot write "PATH": it is no regular file');
  }

  test("a symbolic link planted later is not followed", () => {
    const file = open();
    put(file, lines(10));
    rmSync(path);
    symlinkSync("/etc/hostname", path);
    expect(() => put(file, "one\n")).toThrow("another program has replaced it");
  });
});

describe("retention", () => {
  const backup = (day: number) => `trace-2026-08-${String(day).padStart(2, "0")}T00-00-00.000.txt`;

  test.each<[maxBackups: number, maxAgeDays: number, days: number[]]>([
    [0, 0, [1, 10, 19, 20]],
    [2, 0, [19, 20]],
    [0, 2, [20]],
    [1, 30, [20]],
  ])("at the start: at most %i, of %i days", async (maxBackups, maxAgeDays, days) => {
    for (const day of [1, 10, 19, 20]) writeFileSync(join(directory, backup(day)), "old\n");
    writeFileSync(join(directory, "trace-important.txt"), "kept");
    await open({ maxBackups, maxAgeDays }).close();
    expect(readdirSync(directory).sort()).toEqual([...days.map(backup), "trace-important.txt", "trace.txt"]);
  });

  test("at every rotation", async () => {
    const file = open({ maxBackups: 2 });
    for (let i = 0; i < 8; i++) put(file, lines(10, i * 10));
    await file.close();
    const kept = Object.values(contents());
    expect(kept).toEqual([lines(10, 50), lines(10, 60), lines(10, 70)]);
  });
});

describe("compression", () => {
  const unpacked = () =>
    Object.fromEntries(
      readdirSync(directory).sort().map((name) => {
        const bytes = readFileSync(join(directory, name));
        return [name, name.endsWith(".gz") ? gunzipSync(bytes).toString() : bytes.toString()];
      }),
    );

  test("of rotated files, and of those that were left over", async () => {
    const left = "trace-2026-08-20T00-00-00.000.txt";
    writeFileSync(join(directory, left), "left over\n");
    writeFileSync(join(directory, `${left}.gz.tmp`), "half of it");
    const file = open({ compress: true });
    put(file, lines(25));
    await file.close();
    expect(unpacked()).toEqual({
      [`${left}.gz`]: "left over\n",
      "trace-2026-08-21T10-15-02.000.txt.gz": lines(10),
      "trace-2026-08-21T10-15-04.000.txt.gz": lines(10, 10),
      "trace.txt": lines(5, 20),
    });
  });

  test("while rotation goes on: never more than were asked for, nothing lost of them", async () => {
    const file = open({ compress: true, maxBackups: 3 });
    for (let i = 0; i < 40; i++) {
      put(file, lines(10, i * 10));
      if (i % 4 === 0) await Bun.sleep(1);
      expect(readdirSync(directory).filter((name) => /^trace-.*(txt|gz)$/.test(name)).length).toBeLessThan(8);
    }
    await file.close();
    const files = Object.entries(unpacked());
    expect(files.map(([, text]) => text)).toEqual([360, 370, 380, 390].map((from) => lines(10, from)));
    expect(files.map(([name]) => name.endsWith(".gz"))).toEqual([true, true, true, false]);
  });

  test("a large file, readable by gzip(1)", async () => {
    const text = lines(700_000);
    writeFileSync(path, text);
    const file = open({ compress: true });
    put(file, "one\n");
    await file.close();
    const packed = readdirSync(directory).find((name) => name.endsWith(".gz"))!;
    const { stdout } = Bun.spawnSync(["gzip", "-dc", join(directory, packed)], { maxBuffer: 2 ** 26 });
    expect(Bun.hash(stdout)).toBe(Bun.hash(text));
  });

  test("is given up when there is no time, and leaves the file", async () => {
    const text = lines(700_000);
    writeFileSync(path, text);
    const file = open({ compress: true });
    put(file, "one\n");
    await file.close(AbortSignal.abort());
    expect(Object.keys(contents())).toEqual(["02.txt", "trace.txt"]);
  });

  test("that fails is said, and loses nothing", async () => {
    const said: string[] = [];
    const name = "trace-2026-08-20T00-00-00.000.txt";
    writeFileSync(join(directory, name), "old\n");
    mkdirSync(join(directory, `${name}.gz.tmp`));
    const file = open({ compress: true }, { warn: (message) => said.push(message) });
    put(file, "one\n");
    await file.close();
    expect(said).toEqual(["Cannot compress an output file"]);
    expect(readFileSync(join(directory, name), "utf8")).toBe("old\n");
  });
});

describe("trouble", () => {
  test.each<[what: string, action: () => void, message: string]>([
    ["renamed", () => renameSync(path, `${path}.1`), "another program has renamed or deleted it"],
    ["deleted", () => rmSync(path), "another program has renamed or deleted it"],
    ["replaced", () => {
      renameSync(path, `${path}.1`);
      writeFileSync(path, "");
    }, "another program has replaced it"],
    [
      "deleted with its directory",
      () => rmSync(directory, { recursive: true }),
      "another program has renamed or deleted it",
    ],
  ])("a file that is %s", async (_, action, message) => {
    const file = open();
    put(file, "one\n");
    action();
    expect(() => put(file, "two\n")).toThrow(`Cannot go on writing "${path}": ${message}`);
    await file.close();
    mkdirSync(directory, { recursive: true });
  });

  /** A write that takes `counts` bytes, then fails. */
  function failing(code: string, counts: number[]): Partial<FileSystem> {
    return {
      write(fd, bytes, offset, length) {
        const count = counts.shift();
        if (count === undefined) {
          throw Object.assign(new Error(code), { code, errno: -28, syscall: "write" });
        }
        return writeSync(fd, bytes, offset, Math.min(count, length));
      },
    };
  }

  test.each<[counts: number[], left: string]>([
    [[], "zero\n"],
    [[3], "zero\n"],
    [[10], `zero\n${lines(1)}`],
    [[10, 15], `zero\n${lines(2)}`],
    [[29], `zero\n${lines(2)}`],
  ])("a full disk, after writes of %j bytes, leaves whole lines", async (counts, left) => {
    writeFileSync(path, "zero\n");
    const file = open({}, failing("ENOSPC", counts));
    expect(() => put(file, lines(3))).toThrow(
      new KernelError("write", 28, "ENOSPC", { doing: `Cannot write "${path}"` }),
    );
    await file.close();
    expect(readFileSync(path, "utf8")).toBe(left);
  });

  test("half a line stays where others have written behind it", async () => {
    const file = open({}, {
      write(fd, bytes, offset) {
        if (statSync(path).size > 0) {
          throw Object.assign(new Error("EIO"), { code: "EIO", errno: -5, syscall: "write" });
        }
        const count = writeSync(fd, bytes, offset, 3);
        appendFileSync(path, "other\n");
        return count;
      },
    });
    expect(() => put(file, lines(1))).toThrow(`Cannot write "${path}": write: EIO`);
    await file.close();
    expect(readFileSync(path, "utf8")).toBe("linother\n");
  });

  test("an interrupted write goes on", async () => {
    let calls = 0;
    const file = open({}, {
      write(fd, bytes, offset, length) {
        if (calls++ % 2 === 0) throw Object.assign(new Error("EINTR"), { code: "EINTR", errno: -4 });
        return writeSync(fd, bytes, offset, Math.min(7, length));
      },
    });
    put(file, lines(5));
    await file.close();
    expect(readFileSync(path, "utf8")).toBe(lines(5));
  });

  test("a bug stays a bug", async () => {
    const file = open({}, {
      write() {
        throw new TypeError("bug");
      },
    });
    expect(() => put(file, "one\n")).toThrow(new TypeError("bug"));
    await file.close();
    expect(() => put(file, "one\n")).toThrow("is closed");
  });
});
