import { expect, test } from "bun:test";
import { helpText, versionText } from "../../lib/cli/help.ts";
import { expectGolden } from "../golden.ts";

test("the help text", () => {
  expectGolden("help.txt", helpText());
});

test("descriptions start in pwru's column", () => {
  const lines = helpText().split("\n");
  for (const line of lines.slice(3, lines.indexOf("    Examples:"))) {
    expect(line.slice(0, 39)).toMatch(/^(?: {6}| {2}-[dh], )--[a-z0-9-]+( \S+)? {3,}$/);
    expect(line[39]).not.toBe(" ");
  }
});

test("--version is one line", () => {
  expect(versionText("1.2.3")).toBe("pwru 1.2.3\n");
});
