import { describe, expect, test } from "bun:test";
import { BTF_KIND, kindNames, parseBtf } from "../../lib/btf/parse.ts";
import { BtfError } from "../../lib/errors.ts";
import { BtfBuilder } from "./builder.ts";

/** One type of every kind, in the order of their numbers from 1. */
function everyKind(): BtfBuilder {
  const b = new BtfBuilder();
  b.int("int", 4, { encoding: 1 });
  b.ptr(1);
  b.array(1, 3);
  b.struct("pair", 8, [["a", 1, 0], ["b", 1, 32]]);
  b.union("either", 4, [["a", 1, 0]]);
  b.enum("color", [["RED", 0], ["BLUE", 7]]);
  b.add("FWD", "later", 0);
  b.typedef("number", 1);
  b.add("VOLATILE", "", 1);
  b.const(1);
  b.add("RESTRICT", "", 2);
  b.add("FUNC", "work", 13, [], { vlen: 1 });
  b.proto(0, [["x", 1]]);
  b.add("VAR", "counter", 1, [1]);
  b.add("DATASEC", ".data", 4, [14, 0, 4], { vlen: 1 });
  b.add("FLOAT", "double", 8);
  b.add("DECL_TAG", "user", 4, [0xffffffff]);
  b.add("TYPE_TAG", "rcu", 1);
  b.enum64("wide", [["ALL", 2n ** 63n]]);
  return b;
}

test("every kind is a record of its own length", () => {
  const btf = parseBtf(everyKind().build());
  expect(btf.endId).toBe(20);
  expect(btf.kind(0)).toBe(BTF_KIND.VOID);
  for (let id = 1; id < btf.endId; id++) expect(kindNames[btf.kind(id)]).toBe(kindNames[id]!);
});

test("the position of a kind's name is its number", () => {
  kindNames.forEach((name, i) => expect(BTF_KIND[name] as number).toBe(i));
});

test("a record's header and words", () => {
  const btf = parseBtf(everyKind().build());
  expect([btf.nameOf(4), btf.vlen(4), btf.kindFlag(4), btf.sizeOrType(4)]).toEqual(["pair", 2, false, 8]);
  expect([btf.word(3, 0), btf.word(3, 1), btf.word(3, 2)]).toEqual([1, 0, 3]);
  expect(btf.nameOf(0)).toBe("");
  expect(() => btf.word(3, 3)).toThrow("Cannot read word 3 of type 3 in the BTF of vmlinux");
  expect(() => btf.kind(20)).toThrow("Cannot find type 20 in the BTF of vmlinux");
  expect(() => btf.kind(-1)).toThrow(BtfError);
  expect(() => btf.string(1e6)).toThrow("Cannot read string 1000000");
});

test("a name is found by its kind", () => {
  const b = new BtfBuilder();
  b.add("FUNC", "same", b.proto(0, []));
  b.struct("same", 0, []);
  b.struct("same", 4, []);
  const btf = parseBtf(b.build());
  expect(btf.find("same", BTF_KIND.FUNC)).toBe(2);
  expect(btf.find("same", BTF_KIND.STRUCT)).toBe(3);
  expect([...btf.ownIds("same", BTF_KIND.STRUCT)]).toEqual([3, 4]);
  expect(btf.find("same", BTF_KIND.UNION)).toBeUndefined();
  expect(btf.find("sam", BTF_KIND.FUNC)).toBeUndefined();
  expect(btf.nameStartsWith(2, Buffer.from("sam"))).toBe(true);
  expect(btf.nameStartsWith(2, Buffer.from("same!"))).toBe(false);
});

test("names may share their bytes, and only whole ones are found", () => {
  const b = new BtfBuilder();
  const at = b.string("cpumask");
  b.add("FWD", at, 0);
  b.add("FWD", at + 3, 0);
  b.struct("", 0, []);
  const btf = parseBtf(b.build());
  expect([...btf.ownIds("mask", BTF_KIND.FWD)]).toEqual([2]);
  expect([...btf.ownIds("cpumask", BTF_KIND.FWD)]).toEqual([1]);
  expect([...btf.ownIds("ask", BTF_KIND.FWD)]).toEqual([]);
  expect([...btf.ownIds("", BTF_KIND.STRUCT)]).toEqual([]);
  expect([...btf.ownIds("mask\0", BTF_KIND.FWD)]).toEqual([]);
  expect([...btf.ownIds("\u016dask", BTF_KIND.FWD)]).toEqual([]); // its low byte is that of "m"
});

test("data at an odd address is read all the same", () => {
  const blob = everyKind().build(), moved = new Uint8Array(blob.length + 1);
  moved.set(blob, 1);
  expect(parseBtf(moved.subarray(1)).nameOf(4)).toBe("pair");
});

describe("a module's blob continues that of vmlinux", () => {
  const base = parseBtf(everyKind().build());
  const b = new BtfBuilder(base);
  const own = b.struct("mine", 8, [["p", 2, 0]]);
  const split = parseBtf(b.build(), { base, name: "mod" });

  test("ids and strings go on", () => {
    expect([split.firstId, own, split.endId]).toEqual([20, 20, 21]);
    expect([split.nameOf(own), split.nameOf(4), split.kind(2)]).toEqual(["mine", "pair", BTF_KIND.PTR]);
  });
  test("names are found in both, only its own by ownIds", () => {
    expect(split.find("mine", BTF_KIND.STRUCT)).toBe(20);
    expect(split.find("pair", BTF_KIND.STRUCT)).toBe(4);
    expect([...split.ownIds("pair", BTF_KIND.STRUCT)]).toEqual([]);
    expect(base.find("mine", BTF_KIND.STRUCT)).toBeUndefined();
  });
  test("a name of the base's serves a type of the module's", () => {
    const b = new BtfBuilder(base);
    b.add("STRUCT", base.nameOffset(4), 0);
    const other = parseBtf(b.build(), { base });
    expect([...other.ownIds("pair", BTF_KIND.STRUCT)]).toEqual([20]);
    expect(other.find("pair", BTF_KIND.STRUCT)).toBe(4);
  });
  test("without its base it is refused", () => {
    expect(() => parseBtf(b.build())).toThrow(BtfError);
  });
  test("a module without types or strings of its own is fine", () => {
    expect(parseBtf(new BtfBuilder(base).build(), { base }).endId).toBe(20);
  });
});

describe("the long header", () => {
  // the lengths of kinds 0 to 20 in bytes; 20 is one that we do not know
  const layout: [number, number][] = Array.from({ length: 21 }, () => [0, 0]);
  layout[20] = [4, 8];

  test("tells how to step over a kind from the future", () => {
    const b = everyKind();
    b.add(20, "new", 0, [1, 2, 3, 4, 5], { vlen: 2 });
    b.int("after", 1);
    const btf = parseBtf(b.build({ layout }));
    expect([btf.kind(20), btf.nameOf(21)]).toEqual([20, "after"]);
  });
  test("does not overrule what we know", () => {
    expect(parseBtf(everyKind().build({ layout })).nameOf(19)).toBe("wide");
  });
  test("more than 65535 members fit", () => {
    const b = new BtfBuilder();
    b.add("STRUCT", "huge", 0, new Array(3 * 70000).fill(0), { vlen: 70000 });
    expect(parseBtf(b.build()).vlen(1)).toBe(70000);
  });
});

describe("a damaged blob is a BtfError", () => {
  const good = everyKind().build();
  const patched = (at: number, word: number) => everyKind().build({ header: { [at]: word } });
  test.each<[why: string, blob: Uint8Array, message: string]>([
    ["empty", new Uint8Array(0), "0 bytes are no header"],
    ["a cut header", good.slice(0, 20), "20 bytes are no header"],
    ["another file", Buffer.from("#!/bin/sh and a little more text"), "it starts with 0x2123"],
    ["big endian", patched(0, 0x00019feb), "it is big endian"],
    ["a version to come", patched(0, 0x0002eb9f), "version 2 is not supported"],
    ["a short header", patched(4, 16), "a header of 16 bytes is impossible"],
    ["a header beyond the data", patched(4, 1e6), "a header of 1000000 bytes is impossible"],
    ["types beyond the data", patched(12, 0xfffffffc), "its types end at byte 4294967316, the data at"],
    ["strings beyond the data", patched(16, 0xfffffff0), "its strings end at byte"],
    ["types of odd length", patched(12, 13), "its types are 13 bytes, no multiple of 4"],
    ["a cut record", patched(12, 20), "type 2 is cut off"],
    ["a cut record tail", patched(12, 12), "type 1 is cut off"],
    ["no end of strings", good.slice(0, -1), "its strings end at byte"],
    ["no strings", patched(20, 0), "its strings do not end with NUL"],
    ["strings that start late", patched(16, Number(good.length) - 24 - 4), "its strings end at byte"],
    [
      "an unknown kind",
      (() => {
        const b = new BtfBuilder();
        b.add(99, "", 0);
        return b.build();
      })(),
      "type 1 is of the unknown kind 99",
    ],
    [
      "a type that refers nowhere",
      (() => {
        const b = new BtfBuilder();
        b.ptr(2);
        return b.build();
      })(),
      "type 1 refers to type 2, the last is 1",
    ],
  ])("%s", (_why, blob, message) => {
    expect(() => parseBtf(blob)).toThrow(BtfError);
    expect(() => parseBtf(blob)).toThrow(`Cannot read the BTF of vmlinux: ${message}`);
  });

  test("every cut and every broken byte gives an answer or a BtfError", () => {
    const check = (blob: Uint8Array) => {
      try {
        const btf = parseBtf(blob);
        for (let id = 0; id < btf.endId; id++) btf.nameOf(id);
      } catch (error) {
        expect(error).toBeInstanceOf(BtfError);
      }
    };
    for (let length = 0; length < good.length; length++) check(good.slice(0, length));
    for (let at = 0; at < good.length; at++) {
      for (const bits of [0x01, 0x80, 0xff]) {
        const broken = good.slice();
        broken[at]! ^= bits;
        check(broken);
      }
    }
  });
});
