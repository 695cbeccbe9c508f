/** What an examination of this machine says, one row per question. */

/** `note`: neither good nor bad, worth knowing; `unknown`: it could not be asked. */
export type State = "ok" | "no" | "note" | "unknown";

export interface Finding {
  /** what was asked: "kernel types" */
  readonly name: string;
  readonly state: State;
  /** the answer, one sentence without a final period */
  readonly found: string;
  /** what would help, only where we know: a command as a shell takes it, remarks behind #, or a sentence */
  readonly remedy?: string;
}

/** The error of a failed try as a finding: its message, and the remedy it carries itself or `otherwise`. */
export function refusal(name: string, error: unknown, otherwise?: string): Finding {
  if (!(error instanceof Error)) throw error;
  const own = "hint" in error && typeof error.hint === "string" ? error.hint : undefined;
  const remedy = own ?? otherwise;
  return { name, state: "no", found: error.message, ...(remedy === undefined ? {} : { remedy }) };
}
