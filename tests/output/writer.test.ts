import { expect, test } from "bun:test";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { KernelError } from "../../lib/errors.ts";
import { BatchWriter, descriptor } from "../../lib/output/writer.ts";

/** A file descriptor that does what the script says: a number of bytes to take, or an errno name to fail with. */
function scripted(script: (number | string)[]) {
  let taken = "";
  let waits = 0;
  return {
    get taken() {
      return taken;
    },
    get waits() {
      return waits;
    },
    write(bytes: Uint8Array, offset: number, length: number): number {
      const step = script.shift() ?? length;
      if (typeof step === "string") {
        throw step === "bug" ? new Error("bug") : Object.assign(new Error(step), { code: step, errno: -28 });
      }
      const count = Math.min(step, length);
      taken += new TextDecoder().decode(bytes.subarray(offset, offset + count));
      return count;
    },
    waitWritable() {
      waits++;
    },
  };
}

function put(writer: BatchWriter, text: string): void {
  let at = writer.room(text.length);
  for (const byte of new TextEncoder().encode(text)) writer.view.setUint8(at++, byte);
  writer.commit(at);
}

test("bytes wait for the flush", () => {
  const system = scripted([]);
  const writer = new BatchWriter(system);
  put(writer, "one\n");
  put(writer, "two\n");
  expect(system.taken).toBe("");
  expect(writer.flush()).toBe("written");
  expect(system.taken).toBe("one\ntwo\n");
  expect(writer.flush()).toBe("written");
});

test("partial writes, interruptions and a full pipe lose nothing", () => {
  const system = scripted([1, "EAGAIN", 2, "EINTR", "EAGAIN", 1]);
  const writer = new BatchWriter(system);
  put(writer, "abcdefgh");
  expect(writer.flush()).toBe("written");
  expect(system.taken).toBe("abcdefgh");
  expect(system.waits).toBe(2);
});

test("a full batch goes by itself", () => {
  const system = scripted([]);
  const writer = new BatchWriter(system);
  const line = "x".repeat(1000);
  for (let i = 0; i < 33; i++) put(writer, line);
  expect(system.taken).toHaveLength(32_000);
  writer.flush();
  expect(system.taken).toHaveLength(33_000);
});

test("a reader that left is a result, and what follows goes nowhere", () => {
  const system = scripted([3, "EPIPE"]);
  const writer = new BatchWriter(system);
  put(writer, "abcdef");
  expect(writer.flush()).toBe("closed");
  put(writer, "ghi");
  expect(writer.flush()).toBe("closed");
  expect(writer.closed).toBe(true);
  expect(system.taken).toBe("abc");
});

test("any other failure is an error, and is not written twice", () => {
  const system = scripted([3, "ENOSPC"]);
  const writer = new BatchWriter(system);
  put(writer, "abcdef");
  expect(() => writer.flush()).toThrow(
    new KernelError("write", 28, "ENOSPC", { doing: "Cannot write events" }),
  );
  put(writer, "ghi");
  expect(writer.flush()).toBe("written");
  expect(system.taken).toBe("abcghi");
});

test("a bug stays a bug", () => {
  const writer = new BatchWriter(scripted(["bug"]));
  put(writer, "a");
  expect(() => writer.flush()).toThrow("bug");
});

test("more than a batch at once goes alone", () => {
  const system = scripted([]), writer = new BatchWriter(system), long = "x".repeat(100_000);
  put(writer, "before ");
  put(writer, long);
  put(writer, " behind ");
  put(writer, long);
  writer.flush();
  expect(system.taken).toBe(`before ${long} behind ${long}`);
});

test("a real file", () => {
  const directory = mkdtempSync(join(tmpdir(), "writer-"));
  try {
    const path = join(directory, "out");
    const fd = openSync(path, "w");
    const writer = new BatchWriter(descriptor(fd));
    for (let i = 0; i < 10_000; i++) put(writer, `line ${i}\n`);
    writer.flush();
    closeSync(fd);
    expect(readFileSync(path, "utf8").split("\n")).toHaveLength(10_001);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("/dev/full", () => {
  const fd = openSync("/dev/full", "w");
  const writer = new BatchWriter(descriptor(fd));
  put(writer, "x");
  expect(() => writer.flush()).toThrow("Cannot write events: write: ENOSPC");
  closeSync(fd);
});

/** Runs `body` with a writer on stdout, piped into a shell command; gives what both said. */
async function piped(body: string, reader: string): Promise<{ out: string; err: string }> {
  const path = join(import.meta.dir, "../../lib/output/writer.ts");
  const script = `
    const { BatchWriter, descriptor } = await import(${JSON.stringify(path)});
    const writer = new BatchWriter(descriptor(1));
    const put = () => { writer.commit(writer.room(20_000) + 20_000); return writer.flush(); };
    ${body}`;
  const child = Bun.spawn(["bash", "-c", `"$0" -e "$1" | ${reader}`, process.execPath, script], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  return { out: out.trim(), err };
}

test("a real pipe whose reader leaves", async () => {
  const body =
    'let result; do result = put(); while (result === "written"); require("fs").writeSync(2, result);';
  expect(await piped(body, "head -c 100000 >/dev/null")).toEqual({ out: "", err: "closed" });
});

test("a real pipe that somebody made non-blocking, and a slow reader", async () => {
  // Bun does that itself as soon as process.stdout is looked at.
  const body = "process.stdout.isTTY; for (let i = 0; i < 50; i++) put();";
  expect(await piped(body, "(sleep 0.3; wc -c)")).toEqual({ out: "1000000", err: "" });
});

/** Takes `script` bytes per call, then nothing. */
function stuck(script: number[]) {
  const system = {
    received: "",
    waits: 0,
    write(bytes: Uint8Array, offset: number, length: number): number {
      const count = Math.min(script.shift() ?? 0, length);
      system.received += new TextDecoder().decode(bytes.subarray(offset, offset + count));
      return count;
    },
    waitWritable(): void {
      system.waits++;
    },
  };
  return system;
}

test("a reader that stands still: what is left waits, in memory that grows, and goes when it reads again", () => {
  const script = [3], system = stuck(script), writer = new BatchWriter(system);
  const lines = Array.from({ length: 100 }, (_, i) => `${i} ${"x".repeat(1000)}\n`);
  for (const line of lines) put(writer, line);
  expect([writer.flush(), writer.blocked]).toEqual(["blocked", true]);
  const waits = system.waits;
  for (const line of lines) put(writer, line); // without a wait for each
  expect(system.waits).toBe(waits);
  script.push(50_000, 1e9);
  expect([writer.flush(), writer.blocked]).toEqual(["written", false]);
  expect(system.received).toBe(lines.join("").repeat(2));
});

test("to the last byte, however slowly it is read, but not for ever", async () => {
  const script: number[] = [1, 0, 0, 1, 0, 0, 0, 4], system = stuck(script), writer = new BatchWriter(system);
  put(writer, "abcdef");
  await writer.flushAll();
  expect(system.received).toBe("abcdef");
  put(writer, "ghi");
  await expect(writer.flushAll()).rejects.toThrow("Cannot write the last events: nobody reads them");
});

test("a pipe stays as it was for others, and nothing blocks", async () => {
  const body = `
    put(); const first = put(), more = []; for (let i = 0; i < 8; i++) more.push(put());
    const flags = require("fs").readFileSync("/proc/self/fdinfo/1", "utf8").match(/flags:.*/)[0];
    require("fs").writeSync(2, [first, more.at(-1), parseInt(flags.slice(7).trim(), 8) & 0o4000].join(" "));
    process.exit(0)`;
  expect(await piped(body, "(sleep 1.5; cat > /dev/null)")).toEqual({ out: "", err: "written blocked 0" });
});
