/**
 * A ring buffer and the places in its stream where records are missing.
 *
 * The programs only count what finds the ring full. But while it is full the kernel's position stands still, so
 * a count that has grown since the last look puts the gap at or before the position of now, and behind the one
 * of then: the two are as far apart as what was written in between, which is nothing while nobody reads.
 */
import type { RecordHandler } from "../maps/ring_buffer.ts";

/** What is asked of a ring buffer. */
export interface PositionedRing {
  readonly produced: number;
  readonly consumed: number;
  drain(onRecord: RecordHandler, limit: number, until?: number): number;
}

interface Gap {
  /** the ring's position behind which the stream goes on */
  readonly at: number;
  lost: bigint;
}

export class GappedRing {
  readonly #ring: PositionedRing;
  readonly #countLost: () => bigint;
  /** seen, and not yet reached by the reader */
  readonly #gaps: Gap[] = [];
  #counted = 0n;

  /** @param countLost how many records found the ring full so far */
  constructor(ring: PositionedRing, countLost: () => bigint) {
    this.#ring = ring;
    this.#countLost = countLost;
  }

  /**
   * Delivers records as the ring does, and between them where some are missing.
   *
   * @returns records delivered. After a call that returned 0 with nobody writing any more, all that was counted
   *   as lost has been told
   */
  drain(onRecord: RecordHandler, limit: number, onGap: (lost: bigint) => void): number {
    this.#look();
    let delivered = 0;
    while (true) {
      const gap = this.#gaps[0];
      delivered += this.#ring.drain(onRecord, limit - delivered, gap?.at);
      if (gap === undefined || this.#ring.consumed !== gap.at) return delivered;
      this.#gaps.shift();
      onGap(gap.lost);
    }
  }

  /** The count first: what it holds was lost before the position that is read after it. */
  #look(): void {
    const lost = this.#countLost() - this.#counted;
    if (lost === 0n) return;
    this.#counted += lost;
    const at = this.#ring.produced, last = this.#gaps.at(-1);
    if (last?.at === at) last.lost += lost;
    else this.#gaps.push({ at, lost });
  }
}
