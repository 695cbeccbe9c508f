import { expect, test } from "bun:test";
import { allPairs, pairsOf, pairwise } from "./pairwise.ts";

test.each([
  [{ a: ["0", "1"], b: ["0", "1"] }, 4],
  [{ a: ["0", "1", "2"], b: ["0", "1"], c: ["0", "1"] }, 7],
  [Object.fromEntries(Array.from({ length: 12 }, (_, i) => [`f${i}`, ["no", "yes"]])), 14],
  [
    { t: ["a", "b", "c", "d"], ...Object.fromEntries([..."uvwxyz"].map((name) => [name, ["no", "yes"]])) },
    11,
  ],
])("every pair is in a row: %j", (factors, atMost) => {
  const names = Object.keys(factors), rows = pairwise(factors);
  const covered = new Set(rows.flatMap((row) => pairsOf(names, new Map(Object.entries(row)))));
  expect([...covered].sort()).toEqual(allPairs(factors).sort());
  expect(rows.length).toBeLessThanOrEqual(atMost);
});
