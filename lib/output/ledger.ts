/** What one run saw and what it did not: the numbers behind the closing lines and behind `--strict`. */

export interface Ledger {
  readonly probes: "function" | "tracepoint";
  /** that carry a packet and were asked for */
  readonly found: number;
  readonly attached: number;
  /** the kernel allows no probe there; the others that are not attached were not tried any more */
  readonly refused: number;
  /** packets that probes had before them, matching or not, once per function */
  readonly looked: bigint;
  /** packets that passed every filter, once per function */
  readonly matched: bigint;
  /** events that were printed */
  readonly shown: number;
  /** events behind the summary; undefined: none was asked for */
  readonly summedUp: number | undefined;
  /** no lines were asked for */
  readonly summaryOnly: boolean;
  /** packets whose end the summary does not know, because too many were on their way at a time */
  readonly forgotten: number;
  /** events that came after the last line that was asked for */
  readonly beyondLimit: number;
  /** events that found the ring buffer full */
  readonly lost: bigint;
  /** packets that the filter could not read, once per function */
  readonly unreadable: bigint;
  /** how often a packet found too many others being followed */
  readonly untracked: bigint;
  /** hits for which no program ran */
  readonly missed: bigint;
}

/** Whether nothing escaped that was asked for. A limit on lines was asked for, so it takes nothing away. */
export function isWhole({ refused, lost, unreadable, missed, forgotten, untracked }: Ledger): boolean {
  return refused === 0 && forgotten === 0 && lost === 0n && unreadable === 0n && missed === 0n &&
    untracked === 0n;
}
