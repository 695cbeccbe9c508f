/** Golden files: small enough to review in a diff. `UPDATE_GOLDEN=1` writes them anew. */
import { expect } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Asserts that tests/golden/`name` holds exactly `text`. */
export function expectGolden(name: string, text: string): void {
  const path = join(import.meta.dir, "golden", name);
  if (process.env["UPDATE_GOLDEN"] === "1") {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  if (!existsSync(path)) throw new Error(`tests/golden/${name} is missing; UPDATE_GOLDEN=1 writes it`);
  expect(text).toBe(readFileSync(path, "utf8"));
}
