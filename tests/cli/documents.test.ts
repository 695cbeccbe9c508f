import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "bun:test";
import * as documents from "../../lib/cli/documents.ts";
import { optionList } from "../../lib/cli/options.ts";
import { expectGolden } from "../golden.ts";

const visible = optionList.filter(([, option]) => !option.hidden).map(([name]) => name);

const texts: [name: string, text: string][] = [
  ["pwru.8", documents.manualPage("1.2.3").replaceAll("\\-", "-")],
  ["README tables", documents.readmeTables()],
  ["bash", documents.bashCompletion()],
  ["zsh", documents.zshCompletion()],
  ["fish", documents.fishCompletion().replaceAll("-l ", "--")],
];

test.each(texts)("%s names every visible option and no hidden one", (_, text) => {
  expect(visible.filter((name) => !text.includes(`--${name}`))).toEqual([]);
  expect(text).not.toContain("ready-file");
});

test("the README's tables", () => {
  expectGolden("options.md", documents.readmeTables());
});

describe("bash completion, asked by bash", () => {
  const complete = (...words: string[]) => {
    const script = `${documents.bashCompletion()}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _pwru; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout } = Bun.spawnSync(["bash", "-c", script, "bash", "pwru", ...words]);
    return stdout.toString().split("\n").filter((word) => word !== "");
  };

  test.skipIf(Bun.which("bash") === null).each<[words: string[], offered: string[]]>([
    [["--time"], ["--timestamp"]],
    [["--output-t"], ["--output-tcp-flags", "--output-tunnel", "--output-tuple"]],
    [["--timestamp", "a"], ["absolute"]],
    [["--backend", "kprobe"], ["kprobe", "kprobe-multi"]],
    [["--filter-ifname", "l"], ["lo"]],
    [["--filter-func", "-"], []],
    [["tcp"], []],
  ])("%j", (words, offered) => {
    expect(complete(...words)).toEqual(offered);
  });
});

test("the manual page is roff that man accepts", () => {
  const groff = Bun.which("groff");
  if (groff === null) return;
  const { stderr, exitCode } = Bun.spawnSync([groff, "-man", "-Tascii", "-ww", "-z"], {
    stdin: Buffer.from(documents.manualPage("1.2.3")),
  });
  expect({ exitCode, stderr: stderr.toString() }).toEqual({ exitCode: 0, stderr: "" });
});

test("the README has the tables of the options", () => {
  const readme = readFileSync(join(import.meta.dir, "../../README.md"), "utf8");
  const rows = (text: string) =>
    text.split("\n").filter((line) => line.startsWith("| `--")).map((line) => line.replace(/\s+/g, " "));
  expect(rows(readme)).toEqual(rows(documents.readmeTables()));
});
