/** C layouts: offsets, refusals, and what decode and encode make of each type. */
import { describe, expect, test } from "bun:test";
import { AssemblyError } from "../../asm/errors.ts";
import {
  bytes,
  type Decoded,
  type Field,
  s16,
  s32,
  s64,
  s8,
  type Scalar,
  struct,
  u16,
  u32,
  u64,
  u8,
} from "../../asm/layout.ts";

/** What a struct of any members has. */
interface Shape {
  readonly size: number;
  readonly align: number;
  readonly fields: Readonly<Record<string, Field>>;
}

/** `offset` of each field */
function offsets(layout: Shape): Record<string, number> {
  return Object.fromEntries(Object.values(layout.fields).map(({ name, offset }) => [name, offset]));
}

const point = struct("point", { x: s32, y: s32 });

describe("offsets", () => {
  // deno-fmt-ignore
  test.each<[name: string, layout: Shape, fields: Record<string, number>, size: number, align: number]>([
    ["nothing", struct("empty", {}), {}, 0, 1],
    ["one after the other", point, { x: 0, y: 4 }, 8, 4],
    ["falling alignment", struct("t", { a: u64, b: u32, c: u16, d: u8, e: u8 }), { a: 0, b: 8, c: 12, d: 14, e: 15 }, 16, 8],
    ["named padding", struct("t", { a: u8, pad: bytes(3), b: u32 }), { a: 0, pad: 1, b: 4 }, 8, 4],
    ["bytes need no alignment", struct("t", { a: u8, b: bytes(6), c: u8 }), { a: 0, b: 1, c: 7 }, 8, 1],
    ["nested", struct("t", { a: u32, p: point, b: u32 }), { a: 0, p: 4, b: 12 }, 16, 4],
    ["packed", struct("t", { a: u8, b: u64, c: u16 }, { packed: true }), { a: 0, b: 1, c: 9 }, 11, 1],
    ["packed in unpacked", struct("t", { a: u8, p: struct("p", { b: u32 }, { packed: true }) }), { a: 0, p: 1 }, 5, 1],
  ])("%s", (_, layout, fields, size, align) => {
    expect(offsets(layout)).toEqual(fields);
    expect(layout).toMatchObject({ size, align });
  });

  test("a field names its struct, and nothing of it changes", () => {
    expect(point.fields.y).toMatchObject({ struct: "point", name: "y", offset: 4, type: s32 });
    expect([point, point.fields, point.fields.y].every(Object.isFrozen)).toBe(true);
  });
});

describe("refused", () => {
  // deno-fmt-ignore
  test.each<[message: string, build: () => unknown]>([
    ["Cannot lay out t: b would start at 1, which leaves a hole; name the padding", () => struct("t", { a: u8, b: u16 })],
    ["Cannot lay out t: p would start at 2, which leaves a hole; name the padding", () => struct("t", { a: u16, p: point })],
    ["Cannot lay out t: its 9 bytes are no multiple of 8; name the padding", () => struct("t", { a: u64, b: u8 })],
    ["Cannot lay out t: its 6 bytes are no multiple of 4; name the padding", () => struct("t", { a: u32, b: bytes(2) })],
  ])("%s", (message, build) => {
    expect(build).toThrow(new AssemblyError(message));
  });
});

describe("scalars", () => {
  // deno-fmt-ignore
  const rows: [type: Scalar<number> | Scalar<bigint>, value: number | bigint, bytes: string][] = [
    [u8, 0, "00"], [u8, 255, "ff"], [s8, -128, "80"], [s8, 127, "7f"],
    [u16, 0x1234, "3412"], [u16, 65535, "ffff"], [s16, -32768, "0080"], [s16, 32767, "ff7f"],
    [u32, 0x12345678, "78563412"], [u32, 4294967295, "ffffffff"],
    [s32, -2147483648, "00000080"], [s32, 2147483647, "ffffff7f"],
    [u64, 0x0123456789abcdefn, "efcdab8967452301"], [u64, 2n ** 64n - 1n, "ffffffffffffffff"],
    [s64, -(2n ** 63n), "0000000000000080"], [s64, 2n ** 63n - 1n, "ffffffffffffff7f"], [s64, -1n, "ffffffffffffffff"],
  ];
  test.each(rows.map(([type, value, hex]) => [type.name, value, hex, type] as const))(
    "%s %s is %s",
    (_, value, hex, type) => {
      const view = new DataView(new ArrayBuffer(16));
      (type as Scalar).encode(view, 3, value);
      expect(new Uint8Array(view.buffer).toHex()).toBe(hex.padStart(hex.length + 6, "0").padEnd(32, "0"));
      expect(type.decode(view, 3)).toBe(value);
    },
  );

  test.each(
    [
      ["u8", u8, 1, false],
      ["u16", u16, 2, false],
      ["u32", u32, 4, false],
      ["u64", u64, 8, false],
      ["s8", s8, 1, true],
      ["s16", s16, 2, true],
      ["s32", s32, 4, true],
      ["s64", s64, 8, true],
    ] as const,
  )("%s", (name, type, size, signed) => {
    expect(type).toMatchObject({ name, size, align: size, signed });
  });

  // deno-fmt-ignore
  test.each<[message: string, type: Scalar<number> | Scalar<bigint>, value: number | bigint]>([
    ["256 does not fit u8", u8, 256], ["-1 does not fit u8", u8, -1], ["0.5 does not fit u8", u8, 0.5],
    ["128 does not fit s8", s8, 128], ["-129 does not fit s8", s8, -129],
    ["65536 does not fit u16", u16, 65536], ["32768 does not fit s16", s16, 32768],
    ["4294967296 does not fit u32", u32, 2 ** 32], ["NaN does not fit u32", u32, NaN],
    ["2147483648 does not fit s32", s32, 2 ** 31], ["-2147483649 does not fit s32", s32, -(2 ** 31) - 1],
    ["18446744073709551616 does not fit u64", u64, 2n ** 64n], ["-1 does not fit u64", u64, -1n],
    ["9223372036854775808 does not fit s64", s64, 2n ** 63n],
  ])("%s", (message, type, value) => {
    const view = new DataView(new ArrayBuffer(8));
    expect(() => (type as Scalar).encode(view, 0, value)).toThrow(new RangeError(message));
    expect(new Uint8Array(view.buffer)).toEqual(new Uint8Array(8));
  });
});

describe("structs", () => {
  const event = struct("event", { time: u64, from: point, name: bytes(4), length: u32 });
  const value: Decoded<typeof event> = {
    time: 2n ** 63n,
    from: { x: -1, y: 2 },
    name: new Uint8Array([1, 2, 3, 4]),
    length: 0xffffffff,
  };
  const hex = "0000000000000080" + "ffffffff02000000" + "01020304" + "ffffffff";

  test("encode and decode at any place of a buffer, even one that starts inside another", () => {
    for (const [start, offset] of [[0, 0], [5, 0], [0, 7], [3, 4]] as const) {
      const memory = new ArrayBuffer(64), view = new DataView(memory, start);
      event.encode(view, offset, value);
      expect(new Uint8Array(memory, start + offset, event.size).toHex()).toBe(hex);
      expect(event.decode(view, offset)).toEqual(value);
    }
  });

  test("decoded bytes are a copy", () => {
    const view = new DataView(new ArrayBuffer(event.size));
    const { name } = event.decode(view);
    view.setUint8(16, 9);
    expect(name).toEqual(new Uint8Array(4));
  });

  test("encode leaves alone what it is not given", () => {
    const view = new DataView(new ArrayBuffer(event.size).slice());
    event.encode(view, 0, value);
    event.encode(view, 0, { length: 1 });
    expect(event.decode(view)).toEqual({ ...value, length: 1 });
  });

  // deno-fmt-ignore
  test.each<[message: string, error: ErrorConstructor, value: Record<string, unknown>]>([
    ["event has no member tag", TypeError, { tag: 1 }],
    ["3 bytes do not fill u8[4]", RangeError, { name: new Uint8Array(3) }],
    ["4294967296 does not fit u32", RangeError, { length: 2 ** 32 }],
    ["2147483648 does not fit s32", RangeError, { from: { x: 2 ** 31 } }],
  ])("%s", (message, error, wrong) => {
    const view = new DataView(new ArrayBuffer(event.size));
    expect(() => event.encode(view, 0, wrong)).toThrow(new error(message));
  });

  test("past the end of the buffer", () => {
    expect(() => event.decode(new DataView(new ArrayBuffer(event.size - 1)))).toThrow(RangeError);
  });

  test("by the type checker already", () => {
    const view = new DataView(new ArrayBuffer(event.size));
    const refused = [
      // @ts-expect-error: u64 is a bigint
      () => event.encode(view, 0, { time: 1 }),
      // @ts-expect-error: no such member
      () => event.fields.tag,
      // @ts-expect-error: u32 is a number
      () => event.decode(view).length.toString() + (event.decode(view).length + 1n),
    ];
    expect(refused).toHaveLength(3);
  });
});
