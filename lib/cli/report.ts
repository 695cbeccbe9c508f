/**
 * What a person reads on stderr when a trace fails, and when it ends. Text only; nothing is written here.
 *
 * An error that somebody can act on is one line, then labelled facts. An error that only we can act on is a bug
 * and shows its whole stack.
 */
import {
  BtfError,
  FilterSyntaxError,
  KernelError,
  OutputError,
  RingBufferError,
  UnsupportedError,
  UsageError,
  VerifierError,
} from "../errors.ts";
import { isWhole, type Ledger } from "../output/ledger.ts";
import { readVerifierLog } from "../sys/verifier_log.ts";

/** 0 is success. */
export const EXIT_FAILURE = 1, EXIT_USAGE = 2, EXIT_INCOMPLETE = 3;

export function exitStatusOf(error: unknown): number {
  return error instanceof UsageError ? EXIT_USAGE : EXIT_FAILURE;
}

/** Of a run that ended as asked. */
export function exitStatusFor(ledger: Ledger, { strict }: { strict: boolean }): number {
  return strict && !isWhole(ledger) ? EXIT_INCOMPLETE : 0;
}

/**
 * ```
 * error: Cannot load program "drop": bpf(BPF_PROG_LOAD): EACCES
 *   verifier  1: (61) r0 = *(u32 *)(r6 +112): R6 invalid mem access 'scalar'
 *   item      1: ldx r0, [r6 + sk_buff.len]
 *   hint      r6 is a plain number to the verifier here; read through it with probeRead()
 *             (3 more log lines with --debug)
 * ```
 *
 * @param debug adds the verifier's whole log and every stack
 * @returns lines, the last one ended too
 */
export function errorText(error: unknown, { debug = false }: { debug?: boolean } = {}): string {
  const lines = isExpected(error) ? [`error: ${error.message}`, ...facts(error, debug)] : bug(error);
  return `${lines.join("\n")}\n`;
}

/** Errors of ours, and of node:fs, which name a system call. */
function isExpected(error: unknown): error is Error {
  return error instanceof KernelError || error instanceof BtfError || error instanceof UsageError ||
    error instanceof FilterSyntaxError || error instanceof UnsupportedError ||
    error instanceof RingBufferError || error instanceof OutputError ||
    (error instanceof Error && "syscall" in error && "code" in error);
}

function facts(error: Error, debug: boolean): string[] {
  const lines: string[] = [];
  if (error instanceof FilterSyntaxError) lines.push(...pointAt(error));
  if (error instanceof VerifierError) lines.push(...verdict(error, debug));
  lines.push(...causes(error));
  if (error instanceof UsageError) lines.push(fact("hint", "pwru --help lists the options"));
  else if ("hint" in error && typeof error.hint === "string") lines.push(fact("hint", error.hint));
  if (error instanceof VerifierError && !debug) {
    const hidden = readVerifierLog(error.log)?.hidden ?? 0;
    if (hidden > 0) lines.push(fact("", `(${count(hidden, "more log line")} with --debug)`));
  }
  if (debug && error.stack !== undefined) lines.push(...indented("stack", stackOf(error)));
  return lines;
}

/** The expression, and carets under the part that is wrong. */
function pointAt({ source, offset, length }: FilterSyntaxError): string[] {
  // Tabs and line ends would move the carets away from what they point at.
  const line = source.replace(/\p{Cc}/gu, " ");
  const before = Bun.stringWidth(line.slice(0, offset));
  const width = Math.max(1, Bun.stringWidth(line.slice(offset, offset + length)));
  return [fact("filter", line), fact("", `${" ".repeat(before)}${"^".repeat(width)}`)];
}

function verdict(error: VerifierError, debug: boolean): string[] {
  const found = readVerifierLog(error.log);
  return [
    ...(debug
      ? indented("verifier", error.log.trimEnd())
      : found === undefined
      ? []
      : [fact("verifier", found.reason)]),
    ...(error.item === undefined ? [] : [fact("item", error.item)]),
  ];
}

/** What each wrapped error adds to the message around it. */
function causes(error: Error): string[] {
  const lines: string[] = [];
  const seen = new Set<unknown>([error]);
  let said = error.message;
  for (let cause = error.cause; cause instanceof Error && !seen.has(cause); cause = cause.cause) {
    seen.add(cause);
    // node:fs repeats in words what a KernelError has said by name.
    const repeats = error instanceof KernelError && "code" in cause && cause.code === error.code;
    if (!repeats && !said.includes(cause.message)) lines.push(fact("cause", cause.message));
    said = cause.message;
  }
  return lines;
}

function bug(error: unknown): string[] {
  if (!(error instanceof Error)) return [`error: internal: ${String(error)}`];
  return [
    `error: internal: ${error.name}: ${error.message}`,
    ...indented("stack", stackOf(error)),
    ...causes(error),
    fact("hint", "this is a bug in pwru; please report it with these lines"),
  ];
}

/** The frames alone; the message is said already. */
function stackOf(error: Error): string {
  return (error.stack ?? "").split("\n").map((line) => line.trim()).filter((line) => line.startsWith("at "))
    .join("\n");
}

const LABEL_WIDTH = 9;

function fact(label: string, text: string): string {
  return `  ${label.padEnd(LABEL_WIDTH)} ${text}`.trimEnd();
}

function indented(label: string, text: string): string[] {
  return text.split("\n").map((line, index) => fact(index === 0 ? label : "", line));
}

/**
 * The closing lines: what was watched, what was shown, then a line for each way in which something was not.
 *
 * ```
 * Attached to 1462 of 1503 functions, showed 120 events, lost 70 in a full ring buffer
 *   lost      70 events; a larger --ring-size rides out bursts
 *   refused   41 functions, which could not be probed: the warning above says why
 * ```
 */
export function ledgerText(ledger: Ledger): string {
  const { probes, attached, found, refused, looked, matched, shown, beyondLimit, lost, unreadable, missed } =
    ledger;
  const { summedUp = 0, summaryOnly, forgotten, untracked } = ledger;
  const untried = found - attached - refused;
  const lines: [label: string, number: number | bigint, thing: string, explanation: string][] = [
    [
      "lost",
      lost,
      "event",
      `; a larger --ring-size rides out bursts${summedUp === 0 ? "" : ". The summary knows nothing of them"}`,
    ],
    ["unread", unreadable, "time", " the filter could not read the packet and showed nothing"],
    [
      "untracked",
      untracked,
      "time",
      " a packet was not followed, because too many were (--filter-track-limit)",
    ],
    ["missed", missed, "hit", " not looked at, in probes that interrupted probes"],
    ["forgotten", forgotten, "packet", " whose end is not in the summary: too many were on their way"],
    ["refused", refused, probes, ", which could not be probed: the warning above says why"],
    ["untried", untried, probes, ", because it was ended while attaching"],
    ["limit", beyondLimit, "event", " came after --output-limit-lines"],
  ];
  return [
    `Attached to ${attached} of ${count(found, probes)}, ${
      summaryOnly ? `summed up ${count(summedUp, "event")}` : `showed ${count(shown, "event")}`
    }, lost ${lost === 0n ? "none" : `${lost} in a full ring buffer`}`,
    ...(matched === 0n ? [fact("matched", unmatched(looked))] : []),
    ...lines.filter(([, number]) => number !== 0 && number !== 0n)
      .map(([label, number, thing, explanation]) => fact(label, `${count(number, thing)}${explanation}`)),
    "",
  ].join("\n");
}

/** Whether there were packets tells whether to look for the mistake in the filter. */
function unmatched(looked: bigint): string {
  if (looked === 0n) return "nothing: no packet came by";
  return `nothing: looked at packets ${count(looked, "time")}, and none passed the filter`;
}

function count(number: number | bigint, thing: string): string {
  return `${number} ${thing}${BigInt(number) === 1n ? "" : "s"}`;
}
