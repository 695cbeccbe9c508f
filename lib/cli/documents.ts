/** What is made from the option table for other readers: the manual page, shell completions, the README's table. */
import { examples } from "./examples.ts";
import { type Completion, type Option, SECTIONS } from "./option.ts";
import { optionList, type Shell } from "./options.ts";
import { recipes } from "./recipes.ts";

const shown = optionList.filter(([, option]) => !option.hidden);

/** The options of each section, in the sections' order. */
const sections = SECTIONS.map((section) => ({
  section,
  rows: shown.filter(([, option]) => option.section === section),
}));

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

/** When the words of the manual page changed last. */
const PAGE_DATE = "2026-11-27";
/** Longer source lines are bad style in roff. */
const LINE_LENGTH = 78;

/** For roff: a backslash, a leading dot or quote, and the minus sign that must not become a hyphen. */
function roff(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replace(/^([.'])/gm, "\\&$1");
}

/** Prose in short lines; where they end means nothing to roff, but what they begin with does. `Words` are bold. */
function prose(text: string): string {
  const set = (line: string) => roff(line).replace(/`([^`]*)`/g, "\\fB$1\\fR");
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    const longer = line === "" ? word : `${line} ${word}`;
    if (line !== "" && set(longer).length > LINE_LENGTH) {
      lines.push(line);
      line = word;
    } else line = longer;
  }
  return [...lines, line].map(set).join("\n");
}

/** pwru(8), as man(7) source. */
export function manualPage(version: string): string {
  const option = ([name, row]: readonly [string, Option]) =>
    [
      ".TP",
      `${row.short === undefined ? "" : `\\fB\\-${row.short}\\fR, `}\\fB\\-\\-${roff(name)}\\fR` +
      `${row.type === "" ? "" : ` \\fI${roff(row.type)}\\fR`}`,
      prose(sentence(row.help)),
      ...(row.detail === undefined ? [] : [prose(row.detail)]),
      ...(row.since === undefined ? [] : [prose(`Needs ${row.since}.`)]),
      ...(row.shownDefault === undefined ? [] : [prose(`Default: ${row.shownDefault}.`)]),
    ].join("\n");
  return [
    `.TH PWRU 8 "${PAGE_DATE}" "pwru ${version}" "System administration"`,
    ".SH NAME",
    "pwru \\- trace packets through the Linux kernel",
    ".SH SYNOPSIS",
    ".B pwru",
    "[\\fIoptions\\fR] [\\fIpcap\\-filter\\fR]",
    ".SH DESCRIPTION",
    "Prints a line for every kernel function that a packet passes.",
    "The filter selects packets, in the language of",
    ".BR pcap\\-filter (7).",
    "Options and words of the filter may come in any order;",
    "behind \\fB\\-\\-\\fR there are only words of the filter.",
    "A boolean takes a value only behind an equals sign:",
    "\\fB\\-\\-output\\-meta=false\\fR.",
    ...sections.flatMap(({ section, rows }) => [`.SH ${section.toUpperCase()}`, ...rows.map(option)]),
    ".SH EXAMPLES",
    ...examples.map(([question, command]) => `.TP\n${roff(question)}\n\\fB${roff(command)}\\fR`),
    ".SH RECIPES",
    "What is set in bold is what to look for.",
    ...recipes.map(({ incident, command, reading }) =>
      `.TP\n${roff(incident)}\n\\fB${roff(command)}\\fR\n.br\n${prose(reading)}`
    ),
    ".SH EXIT STATUS",
    ".TP",
    "0",
    "The trace was ended by a signal, by \\fB\\-\\-output\\-limit\\-lines\\fR,",
    "or by a reader that went away.",
    "\\fB\\-\\-doctor\\fR found a backend that works.",
    ".TP",
    "1",
    "It could not be started, or broke; \\fB\\-\\-doctor\\fR found none.",
    ".TP",
    "2",
    "The command line is wrong.",
    ".TP",
    "3",
    "Something was lost or could not be looked at, and \\fB\\-\\-strict\\fR was given.",
    ".SH SEE ALSO",
    ".BR pcap\\-filter (7),",
    ".BR ip\\-netns (8)",
    "",
  ].join("\n");
}

/** Markdown: a table per section. */
export function readmeTables(): string {
  const cell = (text: string) => text.replaceAll("|", "\\|");
  return sections.map(({ section, rows }) =>
    [
      `### ${section}`,
      "",
      "| Option | Default | What it does |",
      "|---|---|---|",
      ...rows.map(([name, row]) =>
        `| \`--${name}${row.type === "" ? "" : ` ${row.type}`}\` | ` +
        `${row.shownDefault === undefined ? "" : `\`${row.shownDefault}\``} | ` +
        `${cell(sentence(row.help))}${row.detail === undefined ? "" : ` ${cell(row.detail)}`}` +
        `${row.since === undefined ? "" : ` Needs ${row.since}.`} |`
      ),
      "",
    ].join("\n")
  ).join("\n");
}

/** Markdown: a list. */
export function readmeRecipes(): string {
  return recipes.map(({ incident, command, reading }, index) =>
    `${index + 1}. **${incident}.** \`sudo ./${command}\`\n\n    ${reading}\n`
  ).join("\n");
}

/** A shell's name -> what `--completions` prints for it. */
export const completions: Readonly<Record<Shell, () => string>> = {
  bash: bashCompletion,
  fish: fishCompletion,
  zsh: zshCompletion,
};

/** The shell command that lists what may follow; for bash and fish. */
const LISTS: Readonly<Record<Exclude<Completion, "file">, string>> = {
  interface: "ls /sys/class/net",
  netns: "ls /run/netns 2>/dev/null",
  module: "ls --ignore=vmlinux /sys/kernel/btf 2>/dev/null",
};

/** For /usr/share/bash-completion/completions/pwru. */
export function bashCompletion(): string {
  const cases = shown.filter(([, row]) => row.type !== "").map(([name, row]) => {
    const words = row.words !== undefined
      ? `-W "${row.words.join(" ")}"`
      : row.completion === "file"
      ? "-f"
      : row.completion !== undefined
      ? `-W "$(${LISTS[row.completion]})"`
      : undefined;
    return `    --${name}) ${
      words === undefined ? "" : `COMPREPLY=($(compgen ${words} -- "$current")); `
    }return ;;`;
  });
  return [
    "# bash completion for pwru",
    "_pwru() {",
    '  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"',
    "  COMPREPLY=()",
    '  case "$previous" in',
    ...cases,
    "  esac",
    '  if [[ "$current" == -* ]]; then',
    `    COMPREPLY=($(compgen -W "${shown.map(([name]) => `--${name}`).join(" ")}" -- "$current"))`,
    "  fi",
    "}",
    "complete -F _pwru pwru",
    "",
  ].join("\n");
}

/** For a directory of zsh's $fpath, as _pwru. */
export function zshCompletion(): string {
  const quote = (text: string) => text.replaceAll("'", "'\\''").replace(/[[\]:]/g, "\\$&");
  const rows = shown.map(([name, row]) => {
    const action = row.words !== undefined
      ? `(${row.words.join(" ")})`
      : row.completion === "file"
      ? "_files"
      : row.completion !== undefined
      ? `(\${(f)"$(${LISTS[row.completion]})"})`
      : "";
    return `  '--${name}[${quote(row.help)}]${row.type === "" ? "" : `:${quote(row.type)}:${action}`}'`;
  });
  return [
    "#compdef pwru",
    "_arguments \\",
    ...rows.map((row) => `${row} \\`),
    // The guard keeps words of the filter from standing in the way of options that are begun.
    `  '*:pcap filter:_guard "^-*" "pcap filter"'`,
    "",
  ].join("\n");
}

/** For /usr/share/fish/vendor_completions.d/pwru.fish. */
export function fishCompletion(): string {
  const quote = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const rows = shown.map(([name, row]) => {
    const words = row.words !== undefined
      ? ` -xa ${quote(row.words.join(" "))}`
      : row.completion === "file"
      ? " -rF"
      : row.completion !== undefined
      ? ` -xa ${quote(`(${LISTS[row.completion]})`)}`
      : row.type === ""
      ? ""
      : " -x";
    const short = row.short === undefined ? "" : ` -s ${row.short}`;
    return `complete -c pwru -l ${name}${short}${words} -d ${quote(row.help)}`;
  });
  return ["# fish completion for pwru", "complete -c pwru -f", ...rows, ""].join("\n");
}
