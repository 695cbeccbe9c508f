/** The loop of a trace: records come out of the ring and go to what prints them and what sums them up. */
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import type { EventPrinter } from "../output/printer.ts";
import type { BatchWriter } from "../output/writer.ts";
import type { Session } from "../trace/session.ts";
import type { Outcomes } from "../verdict/outcomes.ts";

/** Records between two looks at signals and timers: 2 to 4 ms of work. */
const BATCH_RECORDS = 8192;
/** Records between two looks at whether the reader still reads: their text may have to wait in memory. */
const SLICE_RECORDS = 1024;
/** The nap after an empty ring: the first ones short, for a trace that has just begun to speak. */
const NAPS_MS = [1, 1, 2, 2, 5], LONGEST_NAP_MS = 10;

/** After how many events a trace ends, 0 for no end, and how many there were. */
export interface Limit {
  readonly events: number;
  readonly counted: () => number;
}

/** Moves records from the ring to the printer from `start` on, until it is told to stop. */
export class Reading {
  /** resolves when there is nothing more to wait for */
  readonly ended: Promise<void>;
  /** records that came after the last line that was asked for */
  beyondLimit = 0;
  readonly #session: Session;
  readonly #printer: EventPrinter;
  readonly #outcomes: Outcomes | undefined;
  readonly #writer: BatchWriter;
  readonly #limit: Limit;
  readonly #stop: AbortController;
  readonly #started = Promise.withResolvers<void>();

  constructor(
    session: Session,
    printer: EventPrinter,
    outcomes: Outcomes | undefined,
    writer: BatchWriter,
    limit: Limit,
    stop: AbortController,
  ) {
    this.#session = session;
    this.#printer = printer;
    this.#outcomes = outcomes;
    this.#writer = writer;
    this.#limit = limit;
    this.#stop = stop;
    this.ended = this.#run();
    // An error while probes are still being attached ends that; it is reported by whoever awaits the end.
    this.ended.catch(() => stop.abort());
  }

  /** why it ended, as the log says it */
  get reason(): string {
    if (this.#writer.closed) return "Nobody reads any more";
    return this.#isReached() ? "Printed events" : "Received signal";
  }

  /** The header, and from now on events. */
  start(): void {
    this.#printer.header();
    this.#writer.flush();
    this.#started.resolve();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    await Promise.race([this.#started.promise, aborted(signal)]);
    for (let idle = 0; !signal.aborted;) {
      const count = this.#drain();
      if (count > 0 || this.#writer.blocked) {
        idle = 0;
        await turn(); // signals and timers have their turn
      } else {
        await sleep(NAPS_MS[idle++] ?? LONGEST_NAP_MS);
      }
    }
  }

  /** What is left in the ring once no probe fires any more. @throws {OutputError} nobody reads it */
  async finish(): Promise<void> {
    do await this.#writer.flushAll(); while (this.#drain() > 0);
    await this.#writer.flushAll();
  }

  #isReached(): boolean {
    return this.#limit.events !== 0 && this.#limit.counted() >= this.#limit.events;
  }

  #drain(): number {
    let count = 0;
    if (this.#writer.blocked) this.#writer.flush();
    for (let some = 1; some > 0 && count < BATCH_RECORDS && !this.#writer.blocked; count += some) {
      some = this.#slice();
    }
    if (!this.#writer.blocked) this.#writer.flush();
    if (this.#writer.closed || this.#isReached()) this.#stop.abort();
    return count;
  }

  #slice(): number {
    return this.#session.drain(
      (view, offset) => {
        if (this.#isReached()) {
          this.beyondLimit++;
          return;
        }
        this.#outcomes?.see(view, offset);
        if (!this.#session.isAside(view, offset)) this.#printer.print(view, offset);
      },
      SLICE_RECORDS,
      (lost) => {
        if (!this.#isReached()) this.#printer.gap(lost);
      },
    );
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  else signal.addEventListener("abort", () => resolve(), { once: true });
  return promise;
}
