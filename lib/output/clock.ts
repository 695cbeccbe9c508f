/** When an event happened, as each format writes it. */
import { cell, putCell, putDecimal, putNineDigits, putThreeDigits } from "./bytes.ts";
import { keep, NOTHING } from "./cells.ts";

const MINUS = 0x2d, ZULU = 0x5a; // "Z"

/** The time of one event at a time, as seconds and nanoseconds: together they exceed 2^53 after 104 days. */
export class EventClock {
  #seconds = 0;
  #nanoseconds = 0;
  readonly #offsetSeconds: number;
  readonly #offsetNanoseconds: number;
  /** `YYYY-MM-DDTHH:MM:SS.` of `#wallSecond` */
  #wallText = NOTHING;
  #wallSecond = NaN;
  #wallNanosecond = 0;
  /** times below are counted from the first event's second, to stay exact */
  #firstSecond = NaN;
  readonly #last = new Map<number, number>();

  constructor(bootOffsetNs: bigint) {
    // Floored, so that the nanoseconds are never negative.
    const second = 1_000_000_000n;
    const rest = ((bootOffsetNs % second) + second) % second;
    this.#offsetSeconds = Number((bootOffsetNs - rest) / second);
    this.#offsetNanoseconds = Number(rest);
  }

  /**
   * Takes a u64 in nanoseconds. The double of it is at most 2^10 off, so its seconds are at most one off, and the rest
   * is exact in 32 bits: a product's low word needs no others.
   */
  read(high: number, low: number): void {
    let seconds = Math.floor((high * 2 ** 32 + low) / 1e9);
    let rest = (low - Math.imul(seconds, 1e9)) | 0;
    if (rest < 0) {
      seconds--;
      rest += 1e9;
    } else if (rest >= 1e9) {
      seconds++;
      rest -= 1e9;
    }
    this.#seconds = seconds;
    this.#nanoseconds = rest;
  }

  /** CLOCK_MONOTONIC in nanoseconds. */
  putNanoseconds(out: DataView, at: number): number {
    if (this.#seconds === 0) return putDecimal(out, at, this.#nanoseconds);
    return putNineDigits(out, putDecimal(out, at, this.#seconds), this.#nanoseconds);
  }

  /** Nanoseconds since the last event with this address; 0 for the first, negative when they came out of order. */
  putSince(out: DataView, at: number, high: number, low: number): number {
    if (Number.isNaN(this.#firstSecond)) this.#firstSecond = this.#seconds;
    const time = (this.#seconds - this.#firstSecond) * 1e9 + this.#nanoseconds;
    // Kernel addresses agree in their top 11 bits; the other 53 are exact in a number.
    const key = (high & 0x1f_ffff) * 2 ** 32 + (low >>> 0);
    const last = this.#last.get(key) ?? time;
    keep(this.#last, key, time);
    if (time >= last) return putDecimal(out, at, time - last);
    out.setUint8(at, MINUS);
    return putDecimal(out, at + 1, last - time);
  }

  /** A JavaScript number, such as a JSON parser makes, holds these nanoseconds exactly. */
  get isSafe(): boolean {
    return this.#seconds * 1e9 + this.#nanoseconds <= Number.MAX_SAFE_INTEGER;
  }

  /** Local time `YYYY-MM-DDTHH:MM:SS.mmm` at which the kernel saw the packet. */
  putLocalTime(out: DataView, at: number): number {
    at = this.#putWallSecond(out, at, localTime);
    return putThreeDigits(out, at, Math.floor(this.#wallNanosecond / 1e6));
  }

  /** The same moment by RFC 3339, in UTC: `YYYY-MM-DDTHH:MM:SS.nnnnnnnnnZ`. */
  putUtc(out: DataView, at: number): number {
    at = putNineDigits(out, this.#putWallSecond(out, at, utc), this.#wallNanosecond);
    out.setUint8(at, ZULU);
    return at + 1;
  }

  /** `YYYY-MM-DDTHH:MM:SS.`; what is left is in `#wallNanosecond`. */
  #putWallSecond(out: DataView, at: number, format: (date: Date) => string): number {
    let second = this.#seconds + this.#offsetSeconds;
    this.#wallNanosecond = this.#nanoseconds + this.#offsetNanoseconds;
    if (this.#wallNanosecond >= 1e9) {
      second++;
      this.#wallNanosecond -= 1e9;
    }
    if (second !== this.#wallSecond) {
      this.#wallSecond = second;
      this.#wallText = cell(`${format(new Date(second * 1000))}.`);
    }
    return putCell(out, at, this.#wallText);
  }
}

function localTime(date: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  return `${String(date.getFullYear()).padStart(4, "0")}-${two(date.getMonth() + 1)}-${two(date.getDate())}` +
    `T${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

function utc(date: Date): string {
  return date.toISOString().slice(0, "YYYY-MM-DDTHH:MM:SS".length);
}
