import { expect, test } from "bun:test";
import { columns } from "../../lib/output/columns.ts";

test("as wide as the widest cell, numbers at the right, no spaces at the end", () => {
  expect(columns([["N", "NAME", ""], ["10", "a", "x"], ["7", "longest"]], [0]))
    .toBe(" N  NAME\n10  a        x\n 7  longest\n");
});

test("nothing for no rows", () => {
  expect(columns([])).toBe("");
});
