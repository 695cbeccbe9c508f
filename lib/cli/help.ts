/** What `--help` and `--version` print. The column of the descriptions is pwru's. */
import { examples } from "./examples.ts";
import type { Option } from "./option.ts";
import { optionList } from "./options.ts";

/** Column in which descriptions start: pwru's longest option needs 36 and three spaces follow it. */
const DESCRIPTION_COLUMN = 39;

/** `      --filter-mark mark[/mask]`: one option as the help text names it. */
function leftPart(name: string, option: Option): string {
  const short = option.short === undefined ? "      " : `  -${option.short}, `;
  return `${short}--${name}${option.type === "" ? "" : ` ${option.type}`}`;
}

/** The text of `--help`: every visible option, sorted by name, and some examples. */
export function helpText(program = "pwru"): string {
  const shown = optionList.filter(([, option]) => !option.hidden);
  const column = Math.max(
    DESCRIPTION_COLUMN,
    ...shown.map(([name, option]) => leftPart(name, option).length + 3),
  );
  const lines = shown.map(([name, option]) => {
    const value = option.shownDefault === undefined ? "" : ` (default ${option.shownDefault})`;
    return `${leftPart(name, option).padEnd(column)}${option.help}${value}`;
  });
  const commands = Math.max(...examples.map(([, command]) => command.length));
  return [
    `Usage: ${program} [options] [pcap-filter]`,
    `    A pcap-filter selects packets as in tcpdump: see pcap-filter(7).`,
    `    Options:`,
    ...lines,
    `    Examples:`,
    ...examples.map(([question, command]) => `      ${command.padEnd(commands)}   ${question}`),
    "",
  ].join("\n");
}

/** The line of `--version`. */
export function versionText(version: string): string {
  return `pwru ${version}\n`;
}
