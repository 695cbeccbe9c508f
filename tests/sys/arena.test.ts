/** Memory for the kernel: zeroed, aligned, stable under collections, free again when its scope ends. */
import { expect, test } from "bun:test";
import { struct, u32, u64 } from "../../asm/layout.ts";
import { allocate, scope } from "../../lib/sys/arena.ts";
import { memoryAt } from "../../lib/sys/ffi.ts";

test("Blocks are aligned, disjoint and zero, also where another scope has written", () => {
  let first: number;
  {
    using memory = scope();
    const one = memory.alloc(3), two = memory.alloc(5);
    first = one.address;
    expect(one.address % 8).toBe(0);
    expect(two.address).toBe(one.address + 8);
    one.bytes.fill(0xff);
    two.bytes.fill(0xff);
  }
  using memory = scope();
  const again = memory.alloc(64);
  expect(again.address).toBe(first);
  expect(again.bytes).toEqual(new Uint8Array(64));
});

test("An address means the bytes of its block", () => {
  using memory = scope();
  const block = memory.alloc(16);
  block.view.setUint32(4, 0x01020304, true);
  Bun.gc(true);
  expect([...new Uint8Array(memoryAt(block.address, 8))]).toEqual([0, 0, 0, 0, 4, 3, 2, 1]);
});

test("Texts end in NUL, structs and copies are laid down as they are", () => {
  using memory = scope();
  expect([...memory.string("skb").bytes]).toEqual([0x73, 0x6b, 0x62, 0]);
  expect(() => memory.string("a\0b")).toThrow('A C string cannot hold a NUL: "a\\u0000b"');
  expect([...memory.copy(Uint16Array.of(1, 0x200)).bytes]).toEqual([1, 0, 0, 2]);
  const pair = struct("pair", { low: u64, high: u32, _pad: u32 });
  expect([...memory.struct(pair, { high: 7 }).bytes]).toEqual([
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    7,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
  ]);
});

test("Grows beyond a chunk, and large blocks go back", () => {
  let large: Uint8Array;
  {
    using memory = scope();
    const blocks = Array.from({ length: 40 }, () => memory.alloc(4000));
    blocks.forEach(({ bytes }, index) => bytes.fill(index));
    large = memory.alloc(5 << 20).bytes;
    large[large.length - 1] = 1;
    expect(blocks.every(({ bytes }, index) => bytes.every((byte) => byte === index))).toBe(true);
  }
  expect(large.length).toBe(0);
});

test("Only the innermost scope may be used or ended", () => {
  const outer = scope(), inner = scope();
  const sentence = "Only the innermost scope can be used or ended";
  expect(() => outer.alloc(1)).toThrow(sentence);
  expect(() => outer[Symbol.dispose]()).toThrow(sentence);
  inner[Symbol.dispose]();
  expect(outer.alloc(1).bytes).toEqual(new Uint8Array(1));
  outer[Symbol.dispose]();
});

test("What is allocated for good stays where it is", () => {
  const kept = allocate(100);
  kept.bytes.fill(7);
  for (let i = 0; i < 100; i++) {
    using memory = scope();
    memory.alloc(10_000).bytes.fill(1);
  }
  Bun.gc(true);
  expect(new Uint8Array(memoryAt(kept.address, 100))).toEqual(new Uint8Array(100).fill(7));
});
