/** `--doctor`: the examination as people and programs read it. */
import { arch, release } from "node:os";
import type { Examination } from "../doctor/examine.ts";
import type { Finding } from "../doctor/finding.ts";
import { columns } from "../output/columns.ts";

/** What the tracer would do here, and what that would cost. */
export function verdictText({ backend, isDefault, costs }: Examination): string {
  if (backend === undefined || costs === undefined) return "Nothing can be traced here as it is";
  const { probes, startSeconds, missNanoseconds, matchNanoseconds } = costs;
  const things = backend === "tracepoint" ? "tracepoints" : "functions";
  const how = isDefault
    ? `pwru traces here by ${backend}, at ${probes} ${things}`
    : `pwru traces here by --backend ${backend}, at ${probes} ${things}: what it takes by itself does not work`;
  return `${how}\n` +
    `It starts in about ${seconds(startSeconds)}. A packet is held up by ${
      nanoseconds(missNanoseconds)
    } at each of ` +
    `them, by ${nanoseconds(matchNanoseconds)} where it matches`;
}

/** A difference of two measured times: 0 is one that is lost in the noise of a busy machine. */
const nanoseconds = (value: number) => value === 0 ? "less than could be measured" : `about ${value} ns`;

const seconds = (value: number) => `${value < 10 ? value.toFixed(1) : value.toFixed(0)} s`;

/** The findings for people: a remedy that is the same as an earlier one is not said again. */
function toldOnce(findings: readonly Finding[]): Finding[] {
  const said = new Set<string>();
  return findings.map(({ remedy, ...rest }) => {
    if (remedy === undefined || said.has(remedy)) return rest;
    said.add(remedy);
    return { ...rest, remedy };
  });
}

/** Columns, for whatever is no terminal: name, state, finding; the remedy is a row of its own. */
export function plainText(examination: Examination): string {
  const rows = toldOnce(examination.findings).flatMap(({ name, state, found, remedy }) => [
    [name, state, found],
    ...(remedy === undefined ? [] : [["", "", `-> ${remedy}`]]),
  ]);
  return `${columns(rows)}\n${verdictText(examination)}\n`;
}

/** What a row takes beside its texts: four lines and a space on either side of three cells. */
const FRAME = 10;
const NARROWEST = 30;

/** A table for a terminal of so many columns: rules only around it and under the head, so that it fits a screen. */
export async function tableText(examination: Examination, terminalColumns: number): Promise<string> {
  const { default: Table } = await import("cli-table3"); // not before it is needed
  const head = ["asked", "state", "found, and -> what would help"];
  const cells = toldOnce(examination.findings).map(({ name, state, found, remedy }) => [
    name,
    state,
    remedy === undefined ? found : `${found}\n-> ${remedy}`,
  ]);
  const width = (column: number) => Math.max(...[head, ...cells].map((row) => row[column]?.length ?? 0));
  const room = Math.max(NARROWEST, terminalColumns - width(0) - width(1) - FRAME);
  const table = new Table({
    head,
    colWidths: [width(0) + 2, width(1) + 2, room + 2],
    wordWrap: true,
    style: { head: [], border: [] },
    chars: { mid: "", "left-mid": "", "mid-mid": "", "right-mid": "" },
  });
  table.push(...cells);
  return `${table.toString()}\n\n${verdictText(examination)}\n`;
}

/** One JSON object, in one line. */
export function jsonText({ findings, backend, isDefault, costs, features }: Examination): string {
  return `${
    JSON.stringify({
      kernel: release(),
      arch: arch(),
      backend: backend ?? null,
      is_default: isDefault,
      probes: costs?.probes ?? null,
      start_seconds: costs?.startSeconds ?? null,
      miss_ns: costs?.missNanoseconds ?? null,
      match_ns: costs?.matchNanoseconds ?? null,
      findings: findings.map(({ name, state, found, remedy }) => ({
        name,
        state,
        found,
        remedy: remedy ?? null,
      })),
      features,
    })
  }\n`;
}
