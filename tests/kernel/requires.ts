/** Tests that ask the running kernel: as root, and from the version on that has what they ask for. */
import { test } from "bun:test";
import { release } from "node:os";

const [major = 0, minor = 0] = release().split(".").map(Number);
export const isRoot = process.getuid?.() === 0;

export function isAtLeast(wantedMajor: number, wantedMinor: number): boolean {
  return major > wantedMajor || (major === wantedMajor && minor >= wantedMinor);
}

/** A test from Linux `since` on; `more` says whether the rest of what its name asks for is there. */
export function kernelTest(
  since: readonly [major: number, minor: number],
  name: string,
  run: () => void,
  more = true,
): void {
  test.skipIf(!isRoot || !isAtLeast(...since) || !more)(
    `${name} (needs root, Linux ${since.join(".")})`,
    run,
  );
}
