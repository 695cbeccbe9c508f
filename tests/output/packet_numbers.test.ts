import { expect, test } from "bun:test";
import { recordLayout } from "../../bpf-programs/events.ts";
import { PacketNumbers } from "../../lib/output/packet_numbers.ts";
import { record } from "./records.ts";

const layout = recordLayout({ stamp: true }), STAMP = layout.fields.stamp!.offset;
const read = (numbers: PacketNumbers, stamp: bigint) => numbers.read(record({ stamp }, layout), 0);

test("the same stamp has the same number, however large", () => {
  const numbers = new PacketNumbers(STAMP);
  const stamps = [2n ** 64n - 1n, 2n ** 64n - 2n, 2n ** 53n + 1n, 2n ** 53n, 1n];
  expect(stamps.map((stamp) => read(numbers, stamp))).toEqual([1, 2, 3, 4, 5]);
  expect(stamps.map((stamp) => read(numbers, stamp))).toEqual([1, 2, 3, 4, 5]);
});

test("no stamp, no number, and none is used up", () => {
  const numbers = new PacketNumbers(STAMP);
  expect([0n, 5n, 0n, 6n].map((stamp) => read(numbers, stamp))).toEqual([0, 1, 0, 2]);
});

test("what is printed now and then keeps its number; what is not makes room", () => {
  const numbers = new PacketNumbers(STAMP, 10);
  expect(read(numbers, 1000n)).toBe(1);
  for (let stamp = 1n; stamp <= 100n; stamp++) {
    expect(read(numbers, stamp)).toBe(Number(stamp) + 1);
    expect(read(numbers, 1000n)).toBe(1);
  }
  expect(read(numbers, 100n)).toBe(101);
  expect(read(numbers, 1n)).toBe(102);
});
