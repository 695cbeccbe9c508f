/** Writes the summary, in the format of the lines before it. */
import { jsonObject } from "../output/json.ts";
import { type LineSink, putLine } from "../output/writer.ts";
import type { OutcomeRow } from "./outcomes.ts";
import { framedTable, plainTable } from "./table.ts";

/** @param form `columns`: plain text; `frame`: for a terminal */
export async function printOutcomes(
  sink: LineSink,
  rows: readonly OutcomeRow[],
  form: "json" | "columns" | "frame",
): Promise<void> {
  if (form === "json") {
    for (const row of rows) putLine(sink, jsonOutcome(row));
    return;
  }
  const text = form === "frame" ? await framedTable(rows) : plainTable(rows);
  for (const line of text.trimEnd().split("\n")) putLine(sink, line);
}

function jsonOutcome(row: OutcomeRow): string {
  const { outcome, packets, func, location, reason, reasonCode, process, iface, netns } = row;
  const fields = { outcome, packets, func, location, reason, reason_code: reasonCode, process, iface, netns };
  return jsonObject("outcome", fields);
}
