/** docs/kernels.md is made from what the guests said last; that this is still so, the scenario "doctor" asserts. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { kernelsPage } from "./kernel_facts.ts";

test("docs/kernels.md tells the facts of all kernels", () => {
  expect(readFileSync(join(import.meta.dir, "../../docs/kernels.md"), "utf8")).toBe(kernelsPage());
});
