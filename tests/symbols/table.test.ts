import { describe, expect, test } from "bun:test";
import { hashText } from "../../lib/name_index.ts";
import { fromLow48, low48, low48Of, SymbolTable, symbolText } from "../../lib/symbols/table.ts";

function table(rows: [low: number, name: string, module?: string][]): SymbolTable {
  const out = new SymbolTable();
  for (const [low, name, module] of rows) {
    const { addresses, names, hashes, modules, blob } = out.reserve(1, name.length + 1);
    const row = out.size, start = out.blobEnd;
    addresses[row] = low;
    names[row] = start;
    hashes[row] = hashText(name);
    modules[row] = module === undefined ? 0 : out.moduleNumber(module);
    blob.set(Buffer.from(name), start);
    out.commit(row + 1, start + name.length + 1);
  }
  return out;
}

describe("48 bits of an address", () => {
  test.each<[address: bigint, low: number | undefined]>([
    [0xffffffff81000000n, 0xffff81000000],
    [0xffff800080010000n, 0x800080010000],
    [0x00007fffffffffffn, 0x7fffffffffff],
    [0n, 0],
    [0xffffffffffffffffn, 0xffffffffffff],
    [0x0000800000000000n, undefined],
    [0x1fff800080010000n, undefined],
    [0x9000000000000000n, undefined],
  ])("of %x are %p", (address, low) => {
    expect(low48(address)).toBe(low);
    if (low !== undefined) expect(fromLow48(low)).toBe(address);
  });
  test("of two words", () => {
    expect(low48Of(0x81000000, 0xffffffff)).toBe(0xffff81000000);
  });
});

test("rows keep the order and the text of what was added", () => {
  const symbols = table([[16, "b"], [32, "vxlan_rcv", "vxlan"], [8, "a", "vxlan"], [48, "c", "bpf"]]);
  expect(symbols.size).toBe(4);
  expect([0, 1, 2, 3].map((row) => symbolText(symbols.symbol(row)))).toEqual([
    "b",
    "vxlan_rcv[vxlan]",
    "a[vxlan]",
    "c[bpf]",
  ]);
  expect(symbols.symbol(0)).toEqual({ name: "b", address: 16n });
  expect(symbols.symbol(1)).toEqual({ name: "vxlan_rcv", module: "vxlan", address: 32n });
});

test("a name has all its addresses, per module", () => {
  const symbols = table([[16, "cleanup"], [32, "cleanup", "a"], [8, "cleanup"], [48, "cleanup", "b"], [
    64,
    "clean",
  ]]);
  expect(symbols.addresses("cleanup")).toEqual([16n, 8n]);
  expect(symbols.addresses("cleanup", "b")).toEqual([48n]);
  expect(symbols.addresses("cleanup", "c")).toEqual([]);
  expect(symbols.addresses("none")).toEqual([]);
  expect(symbols.rowsNamed("cleanup")).toEqual([0, 1, 2, 3]);
});

describe("by address", () => {
  const symbols = table([[100, "b"], [200, "c"], [50, "a"], [200, "alias"], [300, "d", "m"], [
    250,
    "e",
    "m",
  ]]);
  test.each<[address: bigint, text: string | undefined, offset: number]>([
    [0n, undefined, 0],
    [49n, undefined, 0],
    [50n, "a", 0],
    [99n, "a", 49],
    [100n, "b", 0],
    [200n, "c", 0], // the first of its names, as the kernel prints it
    [249n, "c", 49],
    [250n, "e[m]", 0],
    [300n, "d[m]", 0],
    [0x7fff00000000n, "d[m]", 0x7fff00000000 - 300],
    [0x0000800000000000n, undefined, 0],
  ])("%x", (address, text, offset) => {
    const found = symbols.nearest(address);
    expect(found && symbolText(found.symbol)).toBe(text as string);
    if (found !== undefined) expect(found.offset).toBe(offset);
    const exact = symbols.at(address);
    expect(exact && symbolText(exact)).toBe((offset === 0 ? text : undefined) as string);
  });
  test("in an empty table there is nothing", () => {
    expect(table([]).nearest(5n)).toBeUndefined();
    expect(table([]).addresses("a")).toEqual([]);
  });
});

test("any order is sorted, and tables grow", () => {
  for (const count of [1, 2, 3, 7, 1000, 70_000]) {
    const lows = Array.from({ length: count }, (_, i) => (i * 7919) % count * 16);
    const symbols = table(lows.map((low) => [low, `f${low}`]));
    for (let i = 0; i < count; i += Math.ceil(count / 97)) {
      expect(symbols.nearest(BigInt(i * 16 + 3))).toEqual({
        symbol: { name: `f${i * 16}`, address: BigInt(i * 16) },
        offset: 3,
      });
      expect(symbols.addresses(`f${i * 16}`)).toEqual([BigInt(i * 16)]);
    }
  }
});

test("names with a dot are listed", () => {
  const symbols = table([[1, "a"], [2, "a.isra.0"], [3, "b.cold"], [4, "c"]]);
  expect(symbols.suffixedRows().map((row) => symbols.nameOf(row))).toEqual(["a.isra.0", "b.cold"]);
});
