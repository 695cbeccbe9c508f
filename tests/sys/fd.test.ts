/** Writing to what is slow, full or gone; fds that close once. */
import { expect, test } from "bun:test";
import { closeSync, openSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { allocate } from "../../lib/sys/arena.ts";
import {
  flock,
  isatty,
  LOCK_EX,
  LOCK_NB,
  LOCK_UN,
  OwnedFd,
  poll,
  POLLIN,
  POLLOUT,
  write,
  writeAll,
  writev,
} from "../../lib/sys/fd.ts";
import { type Call, fakeKernel, memory } from "./fake_kernel.ts";

const EINTR = -4, EAGAIN = -11, EPIPE = -32;
const block = allocate(10);

test.each<[name: string, writes: readonly number[], polls: readonly number[], written: number]>([
  ["all at once", [10], [], 10],
  ["in parts", [4, 1, 5], [], 10],
  ["a full pipe is waited for", [4, EAGAIN, 6], [1], 10],
  ["a signal ends the write", [4, EINTR], [], 4],
  ["a signal ends the wait", [4, EAGAIN], [EINTR], 4],
])("write: %s", (_, writes, polls, written) => {
  const left = { write: [...writes], ppoll: [...polls] } as Record<string, number[]>;
  using kernel = fakeKernel(({ name, args }) => {
    const result = left[name]?.shift() ?? -38;
    if (name === "ppoll" && result > 0) memory(args[0], 8).setUint16(6, POLLOUT, true);
    return result;
  });
  expect(write(1, block.address, 10)).toBe(written);
  expect(left).toEqual({ write: [], ppoll: [] });
  const starts = kernel.calls.filter(({ name }) => name === "write").map(({ args }) =>
    [(args[1] ?? 0) - block.address, args[2]] as const
  );
  for (const [start, length] of starts) expect((start as number) + (length as number)).toBe(10);
});

test("write: a reader that has gone is an error", () => {
  using _kernel = fakeKernel(() => EPIPE);
  expect(() => write(1, block.address, 10)).toThrow("write: EPIPE");
});

test("writeAll goes on after signals", () => {
  const results = [EINTR, 2, EINTR, 3];
  using kernel = fakeKernel(() => results.shift() as number);
  writeAll(1, new TextEncoder().encode("hello"));
  expect(kernel.calls.length).toBe(4);
});

test("writev passes each segment", () => {
  const seen: string[] = [];
  using _kernel = fakeKernel(({ args: [, vector, count] }: Call) => {
    for (let i = 0; i < (count ?? 0); i++) {
      const entry = memory(vector, 32);
      const base = Number(entry.getBigUint64(i * 16, true)),
        length = Number(entry.getBigUint64(i * 16 + 8, true));
      seen.push(new TextDecoder().decode(memory(base, length)));
    }
    return 3;
  });
  const encode = (text: string) => new TextEncoder().encode(text);
  expect(writev(5, [encode("abc"), encode("de")])).toBe(3);
  expect(seen).toEqual(["abc", "de"]);
});

test("An fd closes once, and its number is not given out afterwards", () => {
  using kernel = fakeKernel(() => 0);
  const owned = new OwnedFd(77);
  expect([owned.fd, owned.closed]).toEqual([77, false]);
  owned[Symbol.dispose]();
  owned[Symbol.dispose]();
  expect(kernel.calls.map(({ name, args }) => [name, args[0]])).toEqual([["close", 77]]);
  expect(owned.closed).toBe(true);
  expect(() => owned.fd).toThrow("OwnedFd is closed");
});

test("poll, isatty and flock on a file", () => {
  const path = join(tmpdir(), `flock-${process.pid}`);
  const one = openSync(path, "w"), two = openSync(path, "w");
  try {
    writeAll(one, new TextEncoder().encode("text"));
    expect(readFileSync(path, "utf8")).toBe("text");
    expect(poll(one, POLLIN | POLLOUT, 1.5)).toBe(POLLIN | POLLOUT);
    expect(isatty(one)).toBe(false);
    expect(flock(one, LOCK_EX | LOCK_NB)).toBe(true);
    expect(flock(two, LOCK_EX | LOCK_NB)).toBe(false);
    expect(flock(one, LOCK_UN)).toBe(true);
    expect(flock(two, LOCK_EX | LOCK_NB)).toBe(true);
  } finally {
    closeSync(one);
    closeSync(two);
  }
});
