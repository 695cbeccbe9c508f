/** `--demo`: two paths side by side, where they part, and why. Text only; nothing is traced or written here. */
import { commonSteps, type Demonstration, endOf, isAsTold, type Passage, type Step } from "../demo/paths.ts";
import { ANSWER_BYTES } from "../demo/scene.ts";

/** A demonstration as it is shown: `reason` says why it is a recording; undefined: it has just happened. */
export interface Shown {
  readonly demonstration: Demonstration;
  readonly reason: string | undefined;
}

/** Rows that are shown of what both paths begin with, and of what follows; between them they are counted. */
const COMMON_FIRST = 2, COMMON_LAST = 4, APART_FIRST = 6, APART_LAST = 2;

/** Node and interface in front of the function. */
const WHERE_WIDTH = 4, IFACE_WIDTH = 7;

/** The prefix that all reasons have. */
const shorter = (func: string) => func.replace("SKB_DROP_REASON_", "");

function cell(step: Step | undefined): string {
  if (step === undefined) return "";
  return `${step.where.padEnd(WHERE_WIDTH)} ${step.iface.padEnd(IFACE_WIDTH)} ${shorter(step.func)}`;
}

const title = ({ mtu, arrived }: Passage) => `MTU ${mtu}: ${arrived ? "delivered" : "never arrives"}`;

/** The rows to show: the beginning, the parting, every reason, and the end. */
function shownRows(left: readonly Step[], right: readonly Step[], common: number, all: boolean): boolean[] {
  const rows = Math.max(left.length, right.length);
  return Array.from(
    { length: rows },
    (_, row) =>
      all || row < COMMON_FIRST || (row >= common - COMMON_LAST && row < common + APART_FIRST) ||
      row >= rows - APART_LAST || [left, right].some((steps) => steps[row]?.reason != null),
  );
}

/**
 * The two paths in columns. `->` marks the first difference.
 *
 * @param all without leaving out rows
 */
export function pathsText({ passages: [first, second] }: Demonstration, all: boolean): string {
  const common = commonSteps(first.steps, second.steps);
  const shown = shownRows(first.steps, second.steps, common, all);
  const width = Math.max(
    title(first).length,
    ...first.steps.filter((_, row) => shown[row]).map((step) => cell(step).length),
  );
  const line = (mark: string, left: string, right: string) =>
    `${mark.padEnd(2)} ${left.padEnd(width)}  | ${right}`.trimEnd();
  const lines = [line("", title(first), title(second))];
  for (let row = 0; row < shown.length; row++) {
    if (shown[row]) {
      lines.push(line(row === common ? "->" : "", cell(first.steps[row]), cell(second.steps[row])));
      continue;
    }
    const end = shown.indexOf(true, row);
    const more = ({ steps }: Passage) => {
      const count = Math.min(end, steps.length) - Math.min(row, steps.length);
      return count === 0 ? "" : `... ${count} more`;
    };
    lines.push(line("", more(first), more(second)));
    row = end - 1;
  }
  return `${lines.join("\n")}\n`;
}

/** Why the second answer did not arrive, from what was seen. */
export function whyText(demonstration: Demonstration): string {
  if (!isAsTold(demonstration)) {
    return "This is not what should happen: both answers are seen, the first arrives, the second does not\n";
  }
  const { passages: [first, second] } = demonstration;
  const common = commonSteps(first.steps, second.steps);
  const before = second.steps[common - 1], [on, aside] = [first.steps[common], second.steps[common]];
  const end = endOf(second.steps);
  const bytes = before?.len ?? ANSWER_BYTES; // where they part there is an IP header in front, and no other
  const parting = before === undefined || on === undefined || aside === undefined
    ? "The paths never part"
    : `They part behind ${before.func} in ${before.where}: one goes on to ${on.func}, the other to ` +
      shorter(aside.func);
  const reason = end === undefined
    ? "This kernel names no reasons (Linux 5.17 is the first that does)"
    : `The kernel's reason is ${end.reason}${end.location === null ? "" : `, at ${end.location}`}`;
  return `${parting}.\n${reason}: the answer has ${bytes} bytes with its headers and may not be fragmented, ` +
    `the pod's link takes ${second.mtu}.\n`;
}

/** Everything that is printed. */
export function demoText(shown: Shown, all: boolean): string {
  const { demonstration, reason } = shown, { kernel, backend, attached } = demonstration;
  const things = backend === "tracepoint" ? "tracepoints" : "functions";
  const how = `by ${backend} at ${attached} ${things}`;
  return [
    `A server (dns) answers a client (pod) through a node, twice: ${ANSWER_BYTES} bytes of UDP that may not be ` +
    "fragmented.",
    reason === undefined
      ? `Seen just now on Linux ${kernel}, ${how}:`
      : `This is a recording from Linux ${kernel}, ${how}. Nothing was traced here: ${reason}`,
    "",
    `${pathsText(demonstration, all)}`,
    whyText(demonstration),
  ].join("\n");
}

/** One JSON object, in one line. */
export function demoJson({ demonstration, reason }: Shown): string {
  return `${JSON.stringify({ ...demonstration, recorded: reason !== undefined, reason: reason ?? null })}\n`;
}
