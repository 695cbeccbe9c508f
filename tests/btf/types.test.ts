import { describe, expect, test } from "bun:test";
import { parseBtf } from "../../lib/btf/parse.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { BtfError } from "../../lib/errors.ts";
import { BtfBuilder } from "./builder.ts";

/** A kernel in small: what sk_buff has of everything. */
function kernel(): BtfTypes {
  const b = new BtfBuilder();
  const int = b.int("int", 4, { encoding: 1 }), uint = b.int("unsigned int", 4), char = b.int("char", 1);
  const short = b.int("short unsigned int", 2), long = b.int("long", 8, { encoding: 1 });
  const bool = b.int("_Bool", 1, { encoding: 4 }), wide = b.int("__int128", 16);
  const u16 = b.typedef("__u16", short), be16 = b.typedef("__be16", b.const(u16));
  const net = b.struct("net", 4, [["inum", uint, 0]]);
  const possible = b.typedef("possible_net_t", b.struct("", 8, [["net", b.ptr(net), 0]]));
  const device = b.struct("net_device", 16, [["ifindex", int, 0], ["nd_net", possible, 64]]);
  const anonymous = b.union("", 8, [["csum", uint, 0], [
    "",
    b.struct("", 4, [["csum_start", be16, 0], [
      "csum_offset",
      u16,
      16,
    ]]),
    0,
  ]]);
  const color = b.enum("color", [["RED", 0]]), sign = b.enum("sign", [["MINUS", -1]], { signed: true });
  const mask = b.enum64("mask", [["HIGH", 2n ** 40n], ["TOO_HIGH", 2n ** 60n]]);
  b.struct("sk_buff", 96, [
    ["dev", b.ptr(device), 0, 0],
    ["len", uint, 64, 0],
    ["", anonymous, 96, 0],
    ["cb", b.array(char, 48), 160, 0],
    ["pkt_type", char, 545, 3],
    ["ooo_okay", char, 551, 1],
    ["", char, 552, 4], // padding
    ["flag", bool, 560, 0],
    ["color", color, 576, 0],
    ["sign", sign, 608, 0],
    ["mask", mask, 640, 0],
    ["stamp", long, 704, 0],
    ["table", b.array(b.array(short, 2), 3), 736, 0],
    ["big", wide, 832, 0],
  ]);
  const narrow = b.int("unsigned int", 4, { bits: 3, bitOffset: 2 });
  b.struct("old", 8, [["whole", uint, 0], ["part", narrow, 32]]);
  b.struct("bpf_bprintf_buffers", 1536, [["bin_args", b.array(char, 512), 0], [
    "buf",
    b.array(char, 1024),
    4096,
  ]]);
  b.struct("late_bytes", 4104, [["head", long, 0], ["bytes", b.array(b.typedef("u8", char), 4096), 64]]);
  b.struct("words", 4096, [["w", b.array(uint, 4096), 0]]);
  b.enum("bpf_features", [["BPF_FEAT_RDONLY_CAST_TO_VOID", 0]]);
  b.func("bpf_rdonly_cast", []);
  return new BtfTypes(parseBtf(b.build()));
}
const types = kernel();

test.each<[struct: string, path: string, offset: number, type: string]>([
  ["sk_buff", "dev", 0, "u64"],
  ["sk_buff", "len", 8, "u32"],
  ["sk_buff", "csum", 12, "u32"],
  ["sk_buff", "csum_start", 12, "u16"],
  ["sk_buff", "csum_offset", 14, "u16"],
  ["sk_buff", "cb", 20, "u8[48]"],
  ["sk_buff", "cb[47]", 67, "u8"],
  ["sk_buff", "flag", 70, "u8"],
  ["sk_buff", "color", 72, "u32"],
  ["sk_buff", "sign", 76, "s32"],
  ["sk_buff", "mask", 80, "u64"],
  ["sk_buff", "stamp", 88, "s64"],
  ["sk_buff", "table", 92, "u8[12]"],
  ["sk_buff", "table[1]", 96, "u8[4]"],
  ["sk_buff", "table[2][1]", 102, "u16"],
  ["sk_buff", "big", 104, "u8[16]"],
  ["net_device", "ifindex", 0, "s32"],
  ["net_device", "nd_net.net", 8, "u64"],
  ["net_device", "nd_net", 8, "u8[8]"],
  ["possible_net_t", "net", 0, "u64"],
  ["old", "whole", 0, "u32"],
])("field %s.%s", (struct, path, offset, type) => {
  const field = types.field(struct, path);
  expect([field.struct, field.name, field.offset, field.type.name]).toEqual([struct, path, offset, type]);
  expect(types.has(struct, path)).toBe(true);
});

test("bitfields of both styles", () => {
  expect(types.bitField("sk_buff", "pkt_type")).toEqual({
    struct: "sk_buff",
    name: "pkt_type",
    offset: 68,
    shift: 1,
    bits: 3,
  });
  expect(types.bitField("sk_buff", "ooo_okay")).toMatchObject({ offset: 68, shift: 7, bits: 1 });
  expect(types.bitField("old", "part")).toMatchObject({ offset: 4, shift: 2, bits: 3 });
  expect(types.has("sk_buff", "pkt_type")).toBe(true);
});

test.each<[call: () => unknown, message: string]>([
  [
    () => types.field("sk_buf", "len"),
    "Cannot find sk_buf.len in the kernel's types: there is no struct sk_buf",
  ],
  [
    () => types.field("sk_buff", "lenn"),
    'Cannot find sk_buff.lenn in the kernel\'s types: struct sk_buff has no member "lenn"',
  ],
  [
    () => types.field("sk_buff", "dev.ifindex"),
    'Cannot find sk_buff.dev.ifindex in the kernel\'s types: what "ifindex" should be in is a pointer, ' +
    "to be read first (struct net_device *)",
  ],
  [
    () => types.field("sk_buff", "len.x"),
    "Cannot find sk_buff.len.x in the kernel's types: unsigned int has no members",
  ],
  [
    () => types.field("sk_buff", "pkt_type.x"),
    'Cannot find sk_buff.pkt_type.x in the kernel\'s types: what "x" should be in is a bitfield',
  ],
  [
    () => types.field("sk_buff", "cb[48]"),
    "Cannot find sk_buff.cb[48] in the kernel's types: char[48] has no element 48",
  ],
  [
    () => types.field("sk_buff", "len[0]"),
    "Cannot find sk_buff.len[0] in the kernel's types: unsigned int is no array",
  ],
  [() => types.field("sk_buff", ""), 'Cannot find sk_buff. in the kernel\'s types: "" is no member name'],
  [
    () => types.field("sk_buff", "pkt_type"),
    "Cannot read sk_buff.pkt_type as a field: it is a bitfield of 3 bits",
  ],
  [() => types.bitField("sk_buff", "len"), "Cannot read sk_buff.len as a bitfield: it is unsigned int"],
])("%p says why", (call, message) => {
  expect(call).toThrow(new BtfError(message));
});

test("has() is false where field() throws for want of a member", () => {
  for (const path of ["lenn", "dev.ifindex", "cb[48]", ""]) expect(types.has("sk_buff", path)).toBe(false);
  expect(types.has("sk_buf", "len")).toBe(false);
});

test("the error names type and member", () => {
  try {
    types.field("sk_buff", "nope");
  } catch (error) {
    expect(error).toMatchObject({ type: "sk_buff", member: "nope" });
  }
  expect.assertions(1);
});

test("ids and enumerators", () => {
  expect(types.btf.nameOf(types.structId("sk_buff")!)).toBe("sk_buff");
  expect(types.structId("color")).toBeUndefined();
  expect(types.btf.nameOf(types.functionId("bpf_rdonly_cast")!)).toBe("bpf_rdonly_cast");
  expect(types.functionId("sk_buff")).toBeUndefined();
  expect(types.enumerator("bpf_features", "BPF_FEAT_RDONLY_CAST_TO_VOID")).toBe(0n);
  expect(types.enumerator("bpf_features", "BPF_FEAT_OTHER")).toBeUndefined();
  expect(types.enumerator("sign", "MINUS")).toBe(-1n);
  expect(types.enumerator("mask", "TOO_HIGH")).toBe(2n ** 60n);
  expect(types.enumerator("none", "X")).toBeUndefined();
  expect(types.enumNames("mask")).toEqual(new Map([[2 ** 40, "HIGH"]]));
  expect(types.enumNames("none")).toEqual(new Map());
});

describe("a struct to view bytes through", () => {
  const name = (found: { id: number } | undefined) => found && types.btf.nameOf(found.id);
  test("is that of BPF while it is wide enough", () => {
    const found = types.byteArrayStruct(512)!;
    expect([name(found), found.offset, found.bytes]).toEqual(["bpf_bprintf_buffers", 0, 512]);
    // its second array is wider, behind the first
    const second = types.byteArrayStruct(1000)!;
    expect([name(second), second.offset, second.bytes]).toEqual(["bpf_bprintf_buffers", 512, 1024]);
  });
  test("else any with an array of single bytes", () => {
    const found = types.byteArrayStruct(4096)!;
    expect([name(found), found.offset, found.bytes]).toEqual(["late_bytes", 8, 4096]);
  });
  test("or none", () => {
    expect(types.byteArrayStruct(4097)).toBeUndefined();
  });
});

describe("types that run in circles end in a BtfError", () => {
  const circle = (add: (b: BtfBuilder) => void) => {
    const b = new BtfBuilder();
    add(b);
    return new BtfTypes(parseBtf(b.build()));
  };
  test("a typedef of itself", () => {
    const t = circle((b) => b.struct("s", 4, [["a", b.typedef("t", 1), 0]]));
    expect(() => t.field("s", "a")).toThrow("it refers to itself");
    expect(() => t.has("s", "a.b")).toThrow(BtfError);
  });
  test("an array of itself", () => {
    const t = circle((b) => b.struct("s", 4, [["a", b.array(1, 2), 0]]));
    expect(() => t.field("s", "a")).toThrow(BtfError);
  });
  test("anonymous structs inside one another, many times over", () => {
    const t = circle((b) => {
      b.struct("", 4, [["", 1, 0], ["", 1, 0], ["", 2, 0], ["", 3, 0]]);
      b.struct("", 4, [["", 1, 0], ["", 2, 0], ["", 3, 0]]);
      b.struct("s", 4, [["", 1, 0], ["", 2, 0], ["", 3, 0]]);
    });
    expect(t.has("s", "a")).toBe(false);
  });
  test("sizes that grow beyond reason", () => {
    const t = circle((b) => {
      let id = b.int("char", 1);
      for (let i = 0; i < 8; i++) id = b.array(id, 0xffffffff);
      b.struct("s", 4, [["a", id, 0]]);
    });
    expect(() => t.field("s", "a")).toThrow("Cannot tell the size of type");
  });
});
