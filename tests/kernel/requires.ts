/** Tests that ask the running kernel: as root, and from the version on that has what they ask for. */
import { test } from "bun:test";
import { release } from "node:os";

const [major = 0, minor = 0] = release().split(".").map(Number);
const isRoot = process.getuid?.() === 0;

/** A test from Linux `since` on; `more` says whether the rest of what its name asks for is there. */
export function kernelTest(
  since: readonly [major: number, minor: number],
  name: string,
  run: () => void,
  more = true,
): void {
  const old = major < since[0] || (major === since[0] && minor < since[1]);
  test.skipIf(!isRoot || old || !more)(`${name} (needs root, Linux ${since.join(".")})`, run);
}
