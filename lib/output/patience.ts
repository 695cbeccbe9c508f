/** When to look again for what was not there: a packet line must not cost a scan each. */

/** Wait after a look in vain, and the longest such wait. */
const FIRST_WAIT_MS = 250, LONGEST_WAIT_MS = 60_000;
/** Looks may take this part of the time: one may read a link per process, of which there may be thousands. */
const SHARE = 1 / 20;
/** Keys with a wait to remember. */
const WAITS_LIMIT = 4096;

/** Counts looks by key. Each in vain doubles the wait before the next with that key. */
export class Patience {
  readonly #now: () => number;
  readonly #waits = new Map<number, { until: number; nextMs: number }>();
  #busyUntil = -Infinity;

  /** @param now ms, of any clock that does not jump */
  constructor(now: () => number) {
    this.#now = now;
  }

  mayLook(key: number): boolean {
    const now = this.#now();
    return now >= this.#busyUntil && now >= (this.#waits.get(key)?.until ?? -Infinity);
  }

  /** Looks, if it may. Returns what was found. */
  look<T>(key: number, find: () => T | undefined): T | undefined {
    if (!this.mayLook(key)) return undefined;
    const start = this.#now();
    const found = find();
    const end = this.#now();
    this.#busyUntil = end + (end - start) / SHARE;
    this.#remember(key, end, found !== undefined);
    return found;
  }

  #remember(key: number, now: number, found: boolean): void {
    const waitMs = found ? 0 : this.#waits.get(key)?.nextMs ?? FIRST_WAIT_MS;
    if (this.#waits.size >= WAITS_LIMIT) this.#waits.clear();
    this.#waits.set(key, {
      until: now + waitMs,
      nextMs: found ? FIRST_WAIT_MS : Math.min(waitMs * 2, LONGEST_WAIT_MS),
    });
  }
}
