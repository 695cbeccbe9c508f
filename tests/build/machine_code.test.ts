/** Labels, constants and tables in a list of code. */
import { expect, test } from "bun:test";
import { struct, u32, u64 } from "../../asm/layout.ts";
import { BuildError } from "../../build/error.ts";
import { align, assemble, bytes, type Code, cString, label, quad, row } from "../../build/machine_code.ts";

const here = label("here"), pair = struct("pair", { a: u64, b: u64 });

const rows: readonly [name: string, code: Code, origin: number, bytes: string][] = [
  ["bytes", [bytes(1, 2), [bytes(3)]], 0, "010203"],
  ["text", cString("hi"), 0, "686900"],
  ["a number", quad(-2), 0, "feffffffffffffff"],
  ["a label behind", [quad(here), here], 0x1000, "0810000000000000"],
  ["a label before", [bytes(9), here, quad(here)], 0x1000, "09" + "0110000000000000"],
  ["zeros to a boundary", [bytes(1), align(4), here, align(4), bytes(2)], 0x1002, "01" + "00" + "02"],
  ["a row of a table", row(pair, { a: 1, b: 2 }), 0, "0100000000000000" + "0200000000000000"],
];

test.each(rows)("%s", (_, code, origin, expected) => {
  expect(assemble(code, origin).toHex()).toBe(expected);
});

test("A label is placed once", () => {
  expect(() => assemble(quad(here), 0)).toThrow(
    new BuildError('Cannot assemble: label "here" is never placed'),
  );
  expect(() => assemble([here, here], 0)).toThrow('Cannot assemble: label "here" is placed twice');
});

test("A row has nothing but u64", () => {
  const odd = struct("odd", { a: u32, b: u32 });
  expect(() => row(odd, { a: 1, b: 2 })).toThrow("A row is made of u64 members");
});
