/** The table of outcomes: a frame for a terminal, plain columns for everything else. Text only. */
import { printable } from "../output/bytes.ts";
import { columns } from "../output/columns.ts";
import type { OutcomeRow } from "./outcomes.ts";

const HEADS = ["PACKETS", "OUTCOME", "AT", "REASON", "TO"] as const;

/** What stands for nothing in plain columns, so that they stay in step. */
const NOTHING = "-";

/** One line per row under a line of heads, at least two spaces between columns: a cell may have one. */
export function plainTable(rows: readonly OutcomeRow[]): string {
  return columns([[...HEADS], ...rows.map((row) => cellsOf(row).map((text) => text || NOTHING))], [0]);
}

/** The same in a frame. The package is loaded here: nobody else waits for it. */
export async function framedTable(rows: readonly OutcomeRow[]): Promise<string> {
  const { default: Table } = await import("cli-table3");
  // Colours are switched off: what is not asked for would come out of pagers as it is.
  const table = new Table({ head: [...HEADS], style: { head: [], border: [] }, colAligns: ["right"] });
  for (const row of rows) table.push(cellsOf(row));
  return `${table.toString()}\n`;
}

/** Whether a place in the code is one in this function. */
function isIn(location: string, func: string | null): boolean {
  return func === null || location.replace(/\+0x[0-9a-f]+$/, "") === func;
}

function cellsOf(
  { packets, outcome, location, func, reason, reasonCode, process, iface, netns }: OutcomeRow,
): string[] {
  const to = iface !== null
    ? `${iface} netns ${netns}`
    : process ?? (outcome === "delivered" || outcome === "queued" ? "a socket" : "");
  // Where the kernel does not tell the place, all we know is who had the packet last.
  const ended = outcome === "dropped" || outcome === "consumed" || outcome === "queued" ||
    outcome === "lost-from-view";
  const after = func === null ? "" : ended ? `after ${func}` : func;
  const at = location === null ? after : isIn(location, func) ? location : `${location} ${after}`;
  const why = reason ?? (reasonCode === null ? "" : `${reasonCode}`);
  return [`${packets}`, outcome, at, why, to].map(printable);
}
