/** For a trace of which only the summary is wanted: counts events, prints what another printer has for the end. */
import type { Ledger } from "./ledger.ts";
import type { EventPrinter } from "./printer.ts";

export class SilentPrinter implements EventPrinter {
  printed = 0;
  readonly #last: EventPrinter;

  constructor(last: EventPrinter) {
    this.#last = last;
  }

  header(): void {}

  print(): void {
    this.printed++;
  }

  gap(): void {}

  end(ledger: Ledger): void {
    this.#last.end(ledger);
  }
}
