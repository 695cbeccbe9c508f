/** Where records are said to be missing, against a ring that loses what finds it full. */
import { describe, expect, test } from "bun:test";
import { GappedRing } from "../../lib/trace/gapped_ring.ts";
import type { RecordHandler } from "../../lib/maps/ring_buffer.ts";

/** Holds `room` records of 16 bytes, numbered from 0 on; positions begin shortly before they wrap. */
class Ring {
  lost = 0n;
  reads = 0;
  /** called before each record is handed over, while it still takes its room */
  meanwhile: () => void = () => {};
  readonly #room: number;
  readonly #records: number[] = [];
  #made = 0;
  #written = 0xffff_ffe0;

  constructor(room: number) {
    this.#room = room;
  }

  get produced(): number {
    return this.#written;
  }

  get consumed(): number {
    return (this.#written - this.#records.length * 16) >>> 0;
  }

  write(count: number): void {
    for (let i = 0; i < count; i++) {
      const number = this.#made++;
      if (this.#records.length >= this.#room) {
        this.lost++;
      } else {
        this.#records.push(number);
        this.#written = (this.#written + 16) >>> 0;
      }
    }
  }

  drain(onRecord: RecordHandler, limit: number, until?: number): number {
    let count = 0;
    while (count < limit && this.#records.length > 0 && this.consumed !== until) {
      this.meanwhile();
      const number = this.#records.shift() as number;
      count++;
      onRecord(number, 16);
    }
    return count;
  }
}

/** What a reader is told: numbers of records, and how many are missing. */
function reader(ring: Ring) {
  const gapped = new GappedRing(ring, () => ring.lost), told: (number | string)[] = [];
  const drain = (limit = 1000) =>
    gapped.drain((number) => void told.push(number), limit, (lost) => void told.push(`${lost} lost`));
  return { told, drain };
}

describe("a ring that loses", () => {
  test("nothing says nothing", () => {
    const ring = new Ring(4), { told, drain } = reader(ring);
    ring.write(4);
    expect(drain()).toBe(4);
    expect(drain()).toBe(0);
    expect(told).toEqual([0, 1, 2, 3]);
  });

  test("while nobody reads: the gap is where the ring was full", () => {
    const ring = new Ring(4), { told, drain } = reader(ring);
    ring.write(7);
    expect(drain(2)).toBe(2);
    ring.write(2);
    expect(drain(2)).toBe(2);
    expect(drain(2)).toBe(2);
    expect(told).toEqual([0, 1, 2, 3, "3 lost", 7, 8]);
  });

  test("twice in the same place: one gap, however often it is looked at", () => {
    const ring = new Ring(4), { told, drain } = reader(ring);
    ring.write(6);
    drain(0);
    ring.write(1);
    drain(0);
    drain();
    expect(told).toEqual([0, 1, 2, 3, "3 lost"]);
  });

  test("again before the reader has come to the first gap", () => {
    const ring = new Ring(3), { told, drain } = reader(ring);
    ring.write(4);
    drain(1);
    ring.write(2);
    drain(1);
    drain();
    expect(told).toEqual([0, 1, 2, "1 lost", 4, "1 lost"]);
  });

  test("while it is read: a gap lies between the two looks around it, and nothing is forgotten", () => {
    const ring = new Ring(8), { told, drain } = reader(ring);
    let writes = 0;
    ring.meanwhile = () => {
      if (writes++ < 500) ring.write(3);
    };
    ring.write(8);
    while (drain(5) > 0);
    const lost = told.filter((entry) => typeof entry === "string").reduce(
      (sum, text) => sum + parseInt(text),
      0,
    );
    const numbers = told.filter((entry) => typeof entry === "number");
    expect(ring.lost).toBeGreaterThan(500n);
    expect(BigInt(lost)).toBe(ring.lost);
    expect(numbers.length + lost).toBe(1508);
    // In front of each gap as many are missing as it says, give or take what passed between two looks.
    let missing = 0, said = 0, next = 0;
    for (const entry of told) {
      if (typeof entry === "string") said += parseInt(entry);
      else {
        missing += entry - next;
        next = entry + 1;
        expect(missing - said).toBeLessThanOrEqual(15);
        expect(said - missing).toBeLessThanOrEqual(15);
      }
    }
  });
});
