import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import * as documents from "../../lib/cli/documents.ts";
import { examples } from "../../lib/cli/examples.ts";
import { recipes } from "../../lib/cli/recipes.ts";
import { parseCommandLine } from "../../lib/cli/parse.ts";
import { resolvedNames } from "../../lib/pcap_filter/names_files.ts";
import { compilePacketFilter } from "../../lib/trace/filter.ts";
import { optionList } from "../../lib/cli/options.ts";
import { expectGolden } from "../golden.ts";

setDefaultTimeout(60_000); // shells take seconds to start on a busy machine

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

describe("zsh completion, asked by zsh at a terminal of its own", () => {
  /** The words that a function named pwru is given when `keys` are typed. */
  const type = (keys: string) => {
    const folder = mkdtempSync(join(tmpdir(), "pwru-zsh-"));
    try {
      writeFileSync(join(folder, "_pwru"), documents.zshCompletion());
      const { stdout } = Bun.spawnSync(["zsh", "-f", "-c", zshDialogue, "zsh", folder, keys], {
        timeout: 30_000,
      });
      return /GOT (.*) END/.exec(stdout.toString())?.[1];
    } finally {
      rmSync(folder, { recursive: true });
    }
  };

  // What zsh prints is written so that it differs from what was typed.
  const zshDialogue = `zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1=; pwru() { print -r -- GO''T \\$@ E''ND }; fpath=($1 \\$fpath); autoload -Uz compinit; compinit -u -D; print REA''DY"
zpty -m -r z out '*READY*'
zpty -w -n z "$2"
zpty -m -r z out '*END*'
print -r -- "$out"`;

  test.skipIf(Bun.which("zsh") === null).each<[keys: string, words: string]>([
    ["--timest\t ab\t", "--timestamp absolute"],
    ["--filter-ifn\t l\t tcp and po\t", "--filter-ifname lo tcp and po"],
    ["--output-li\t5 --backend t\t", "--output-limit-lines 5 --backend tracepoint"],
  ])("%j", (keys, words) => {
    expect(type(`pwru ${keys}\n`)).toBe(words);
  });
});

describe("fish completion, asked by fish", () => {
  test.skipIf(Bun.which("fish") === null).each<[line: string, offered: string[]]>([
    ["--timest", ["--timestamp"]],
    ["--timestamp a", ["absolute"]],
    ["--backend kprobe", ["kprobe", "kprobe-multi"]],
    ["--filter-ifname l", ["lo"]],
    ["tc", []],
  ])("%j", (line, offered) => {
    const script = `${documents.fishCompletion()}\ncomplete -C 'pwru ${line}'`;
    const { stdout } = Bun.spawnSync(["fish", "-N", "-c", script]);
    expect(stdout.toString().split("\n").map((row) => row.split("\t")[0]).filter((word) => word !== ""))
      .toEqual(
        offered,
      );
  });
});

test.skipIf(Bun.which("mandoc") === null)("mandoc finds nothing to say about the manual page", () => {
  const { stdout, exitCode } = Bun.spawnSync(["mandoc", "-Tlint"], {
    stdin: Buffer.from(documents.manualPage("1.2.3")),
  });
  expect({ exitCode, stdout: stdout.toString() }).toEqual({ exitCode: 0, stdout: "" });
});

test.skipIf(Bun.which("man") === null)("man renders the manual page without a warning", () => {
  const { stdout, stderr, exitCode } = Bun.spawnSync(["man", "--warnings", "-l", "-"], {
    stdin: Buffer.from(documents.manualPage("1.2.3")),
    env: { ...process.env, MANWIDTH: "80", LC_ALL: "C.UTF-8" },
  });
  expect({ exitCode, stderr: stderr.toString() }).toEqual({ exitCode: 0, stderr: "" });
  expect(stdout.toString()).toContain("RECIPES");
});

describe("what the program prints", () => {
  const printed = (...words: string[]) => {
    const { stdout, exitCode } = Bun.spawnSync([
      process.execPath,
      join(import.meta.dir, "../../main.ts"),
      ...words,
    ]);
    return { text: stdout.toString(), exitCode };
  };

  test.each<[words: string[], text: string]>([
    [["--completions", "bash"], documents.bashCompletion()],
    [["--completions", "fish"], documents.fishCompletion()],
    [["--completions=zsh"], documents.zshCompletion()],
    [["--man"], documents.manualPage("unbuilt")],
  ])("%j", (words, text) => {
    expect(printed(...words)).toEqual({ text, exitCode: 0 });
  });

  test("bash takes it the way the manual says", () => {
    const script = `source <("$0" "$1" --completions bash) && complete -p pwru`;
    const { stdout } = Bun.spawnSync([
      "bash",
      "-c",
      script,
      process.execPath,
      join(import.meta.dir, "../../main.ts"),
    ]);
    expect(stdout.toString()).toBe("complete -F _pwru pwru\n");
  });
});

test.skipIf(Bun.which("groff") === null)("the manual page is roff that man accepts", () => {
  const { stderr, exitCode } = Bun.spawnSync(["groff", "-man", "-Tascii", "-ww", "-z"], {
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

test("the README has the recipes, as many as it says", () => {
  const readme = readFileSync(join(import.meta.dir, "../../README.md"), "utf8");
  const words = (text: string) => text.replace(/\s+/g, " ").trim();
  expect(words(readme)).toContain(words(documents.readmeRecipes()));
  expect(readme).toContain("## Ten incidents");
  expect(recipes.length).toBe(10);
});

describe("commands of the README", () => {
  const readme = readFileSync(join(import.meta.dir, "../../README.md"), "utf8");
  const rows = [...readme.matchAll(/^\| (.*?) +\| `(?:sudo )?\.\/(pwru .*?)` +\|$/gm)]
    .map(([, question = "", command = ""]) => [question, command.replaceAll("\\|", "|")] as const);

  /** The words that a shell gives the program. */
  const wordsOf = (command: string) => {
    const { stdout } = Bun.spawnSync([
      "bash",
      "-c",
      `pwru() { printf '%s\\0' "$@" >&3; }; ${command} 3>&1 >/dev/null`,
    ]);
    return stdout.toString().split("\0").slice(0, -1);
  };

  test("there are some, and the manual's are among them", () => {
    expect(rows.length).toBeGreaterThanOrEqual(examples.length);
    for (const example of examples) expect(rows).toContainEqual(example);
  });

  test.each(rows)("%s", async (_, command) => {
    const words = wordsOf(command.replace(/ \| .*/, "")); // not what it is piped into
    expect(words.length).toBeGreaterThan(0);
    const { filter } = parseCommandLine(words);
    if (filter !== "") {
      expect(compilePacketFilter(filter, await resolvedNames(filter)).l2?.length).toBeGreaterThan(0);
    }
  });
});
