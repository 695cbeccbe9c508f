/**
 * Text written as bytes into a `DataView`, without strings in between: six times as fast as template strings.
 * Each `put` function returns the position behind what it wrote.
 *
 * Stores are as wide as they can be (a cell moves by 8 bytes: 6 ns for 21 bytes, against 13 byte by byte and 20
 * with `Uint8Array.set`), so a `put` may also touch the `SLACK` bytes behind its text. The caller makes room
 * for text and slack, and fills from left to right.
 */

/** How far behind its text a `put` function may write. */
export const SLACK = 8;

const SPACE = 0x20, ZERO = 0x30;

const encoder = new TextEncoder();

/** Text that is written often, as 8-byte words. ASCII only: no such word is a NaN, which a store may alter. */
export interface Cell {
  readonly words: Float64Array;
  readonly length: number;
}

/**
 * A terminal must not obey a packet or a process name, so whatever is not printable ASCII becomes "?"; one byte
 * is then one column too.
 */
export function cell(text: string): Cell {
  const plain = printable(text);
  const bytes = encoder.encode(plain.padEnd(Math.ceil(plain.length / 8) * 8));
  return { words: new Float64Array(bytes.buffer, 0, bytes.length / 8), length: plain.length };
}

/** `text` with everything but printable ASCII replaced by "?". */
export function printable(text: string): string {
  return text.replace(/[^ -~]/gu, "?");
}

/** At most `width` characters: the last ones, of which the first becomes "~". */
export function tail(text: string, width: number): string {
  return text.length <= width ? text : `~${text.slice(text.length - width + 1)}`;
}

/** `text` in the middle of `width` columns; an odd space goes to the right. */
export function centre(text: string, width: number): string {
  const left = Math.max(0, Math.floor((width - text.length) / 2));
  return `${" ".repeat(left)}${text}`.padEnd(width);
}

/**
 * Texts of one length at most that were written last, by the number of a place: what comes again is copied, and only
 * the caller can say whether it is the same.
 */
export class RecentTexts {
  readonly #words: Float64Array;
  readonly #lengths: Uint8Array;
  readonly #stride: number;

  /** @param bytes the longest of them, below 256 */
  constructor(places: number, bytes: number) {
    this.#stride = Math.ceil(bytes / 8);
    this.#words = new Float64Array(places * this.#stride);
    this.#lengths = new Uint8Array(places);
  }

  put(out: DataView, at: number, place: number): number {
    const words = this.#words, length = this.#lengths[place]!, from = place * this.#stride;
    for (let i = 0; i * 8 < length; i++) out.setFloat64(at + i * 8, words[from + i]!, true);
    return at + length;
  }

  /** whether there is a text */
  has(place: number): boolean {
    return this.#lengths[place] !== 0;
  }

  /**
   * Keeps what stands in `out`, with up to SLACK bytes behind it, which are nobody's. All of `out` is ASCII or 0, as
   * in a Cell.
   */
  keep(out: DataView, at: number, end: number, place: number): void {
    const words = this.#words, length = end - at, from = place * this.#stride;
    for (let i = 0; i * 8 < length; i++) words[from + i] = out.getFloat64(at + i * 8, true);
    this.#lengths[place] = length;
  }
}

export function putCell(out: DataView, at: number, text: Cell): number {
  const words = text.words;
  for (let i = 0; i < words.length; i++) out.setFloat64(at + i * 8, words[i]!, true);
  return at + text.length;
}

const EIGHT_SPACES = cell(" ".repeat(8)).words[0]!;

/** Text that is written once, ASCII only; everything else becomes "?". */
export function putText(out: DataView, at: number, text: string): number {
  if (text === "") return at;
  const plain = text.replace(/[^ -~\n]/gu, "?");
  return at + encoder.encodeInto(plain, new Uint8Array(out.buffer, out.byteOffset + at)).written;
}

/** Spaces up to `end`; nothing when it has been passed. */
export function putSpaces(out: DataView, at: number, end: number): number {
  if (at >= end) return at;
  for (; at < end; at += 8) out.setFloat64(at, EIGHT_SPACES, true);
  return end;
}

/** Four characters as a little-endian u32 for each of `count` texts. */
function fours(count: number, text: (value: number) => string): Uint32Array {
  const bytes = encoder.encode(Array.from({ length: count }, (_, value) => text(value).padEnd(4)).join(""));
  return new Uint32Array(bytes.buffer, 0, count);
}

/** "7   " and "0007" for 0 to 9999. */
const PLAIN = fours(10_000, (value) => `${value}`);
const ZERO_FILLED = fours(10_000, (value) => `${value}`.padStart(4, "0"));
/** "7.  " and "255." */
const OCTETS = fours(256, (value) => `${value}.`);
/** "00" to "ff". */
const HEX_PAIRS = new Uint16Array(
  encoder.encode(Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, "0")).join(""))
    .buffer,
  0,
  256,
);

/** A whole number of 0 to 2^53. */
export function putDecimal(out: DataView, at: number, value: number): number {
  if (value < 10_000) {
    out.setUint32(at, PLAIN[value]!, true);
    return at + (value < 100 ? value < 10 ? 1 : 2 : value < 1000 ? 3 : 4);
  }
  // Quotients beyond 2^32 are rare; below, an unsigned division is one multiplication.
  const high = value > 0xffff_ffff ? Math.floor(value / 10_000) : (value / 10_000) >>> 0;
  at = putDecimal(out, at, high);
  out.setUint32(at, ZERO_FILLED[value - high * 10_000]!, true);
  return at + 4;
}

/** Nine digits of a number below 10^9, with leading zeros. */
export function putNineDigits(out: DataView, at: number, value: number): number {
  const first = (value / 100_000_000) >>> 0, rest = value - first * 100_000_000;
  const middle = (rest / 10_000) >>> 0;
  out.setUint8(at, ZERO + first);
  out.setUint32(at + 1, ZERO_FILLED[middle]!, true);
  out.setUint32(at + 5, ZERO_FILLED[rest - middle * 10_000]!, true);
  return at + 9;
}

/** Three digits of a number below 1000, with leading zeros. */
export function putThreeDigits(out: DataView, at: number, value: number): number {
  out.setUint32(at, ZERO_FILLED[value]! >>> 8, true);
  return at + 3;
}

/** A number below 256 and a dot. */
export function putOctet(out: DataView, at: number, value: number): number {
  out.setUint32(at, OCTETS[value]!, true);
  return at + (value < 10 ? 2 : value < 100 ? 3 : 4);
}

/** A u32 in hexadecimal without leading zeros. */
export function putHex(out: DataView, at: number, value: number): number {
  const end = at + (value === 0 ? 1 : (35 - Math.clz32(value)) >> 2);
  for (let i = end - 1; i >= at; i--) {
    const digit = value & 15;
    out.setUint8(i, digit < 10 ? ZERO + digit : 0x57 + digit);
    value >>>= 4;
  }
  return end;
}

/** All eight hexadecimal digits of a u32. */
export function putHexEight(out: DataView, at: number, value: number): number {
  putHexFour(out, at, value >>> 16);
  return putHexFour(out, at + 4, value & 0xffff);
}

/** All four hexadecimal digits of a u16. */
export function putHexFour(out: DataView, at: number, value: number): number {
  out.setUint16(at, HEX_PAIRS[value >>> 8]!, true);
  out.setUint16(at + 2, HEX_PAIRS[value & 255]!, true);
  return at + 4;
}

/** A u64 as `0x` and its digits without leading zeros. */
export function putAddress(out: DataView, at: number, high: number, low: number): number {
  out.setUint8(at, ZERO);
  out.setUint8(at + 1, 0x78);
  at += 2;
  if (high === 0) return putHex(out, at, low);
  // A kernel address has all its sixteen digits.
  at = high >>> 28 !== 0 ? putHexEight(out, at, high) : putHex(out, at, high);
  return putHexEight(out, at, low);
}

/** Addresses that were written last. */
const ADDRESSES = 256;

/** As putAddress, in half the time when it is one of the last few hundred. */
export class Addresses {
  readonly #texts = new RecentTexts(ADDRESSES, 18);
  readonly #high = new Int32Array(ADDRESSES);
  readonly #low = new Int32Array(ADDRESSES);

  put(out: DataView, at: number, high: number, low: number): number {
    // What the kernel allocates one after the other lies 64 bytes to some hundred apart.
    const place = (low >>> 6 ^ low >>> 14) & (ADDRESSES - 1), texts = this.#texts;
    if (this.#low[place] === low && this.#high[place] === high && texts.has(place)) {
      return texts.put(out, at, place);
    }
    const end = putAddress(out, at, high, low);
    this.#low[place] = low;
    this.#high[place] = high;
    texts.keep(out, at, end, place);
    return end;
  }
}

/** One space. */
export function putSpace(out: DataView, at: number): number {
  out.setUint8(at, SPACE);
  return at + 1;
}
