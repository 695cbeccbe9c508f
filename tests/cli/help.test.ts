import { expect, test } from "bun:test";
import { helpText, versionText } from "../../lib/cli/help.ts";

const golden = new URL("../golden/help.txt", import.meta.url).pathname;

test("the help text is tests/golden/help.txt", async () => {
  if (process.env.UPDATE_GOLDEN) await Bun.write(golden, helpText());
  expect(helpText()).toBe(await Bun.file(golden).text());
});

test("descriptions start in pwru's column", () => {
  for (const line of helpText().split("\n").slice(3, -1)) {
    expect(line.slice(0, 39)).toMatch(/^(?: {6}| {2}-h, )--[a-z-]+( \S+)? {3,}$/);
    expect(line[39]).not.toBe(" ");
  }
});

test("--version is one line", () => {
  expect(versionText("1.2.3")).toBe("pwru 1.2.3\n");
});
