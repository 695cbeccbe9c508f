/** The two shapes of line that /proc/kallsyms and ftrace's lists have in common, read from bytes. */
import { low48Of, type SymbolTable } from "./table.ts";

const TAB = 0x09, NEWLINE = 0x0a, SPACE = 0x20, OPEN = 0x5b;

/** 0 to 15 for a hexadecimal digit, else 255 */
const nibbles = new Uint8Array(256).fill(255);
for (const [digit, value] of [..."0123456789abcdef"].entries()) nibbles[value.charCodeAt(0)] = digit;

/** What stands at the start of each line. */
export interface LineShape {
  /** a hexadecimal address and a space */
  readonly address: boolean;
  /** kallsyms: the letters of the symbol types to keep, and a space */
  readonly letters?: string;
  /** names that start so are left out */
  readonly skipPrefix?: string;
}

/**
 * Adds the rows of `lines` to `table`: `[ADDRESS ][LETTER ]NAME[<space or tab>[MODULE]]`.
 * A line of another shape is left out; returns how many there were.
 */
export function addLines(table: SymbolTable, lines: Uint8Array, shape: LineShape): number {
  const wanted = new Uint8Array(256), prefix = Buffer.from(shape.skipPrefix ?? "");
  for (const letter of shape.letters ?? "") wanted[letter.charCodeAt(0)] = 1;
  let module = 0, moduleStart = 0, moduleEnd = 0, odd = 0; // the module of the line before, and its bytes
  for (let at = 0, next = 0; at < lines.length; at = next) {
    let end = at; // a call of indexOf() per line would double the time
    while (end < lines.length && lines[end] !== NEWLINE) end++;
    next = end + 1;
    let low = 0;
    if (shape.address) {
      let lowWord = 0, highWord = 0;
      const start = at;
      for (let nibble; at < end && (nibble = nibbles[lines[at]!]!) < 16; at++) {
        highWord = highWord << 4 | lowWord >>> 28;
        lowWord = lowWord << 4 | nibble;
      }
      if (at === start || lines[at++] !== SPACE) {
        odd++;
        continue;
      }
      low = low48Of(lowWord >>> 0, highWord);
    }
    if (shape.letters !== undefined) {
      if (wanted[lines[at]!] !== 1) continue;
      at += 2;
    }
    let nameEnd = at;
    while (nameEnd < end && lines[nameEnd] !== SPACE && lines[nameEnd] !== TAB) nameEnd++;
    if (nameEnd === at) {
      odd++;
      continue;
    }
    if (prefix.length > 0 && startsWith(lines, at, prefix)) continue;
    let number = 0;
    if (lines[nameEnd + 1] === OPEN && nameEnd < end) {
      const start = nameEnd + 2, stop = end - 1;
      if (!same(lines, start, stop, moduleStart, moduleEnd)) {
        module = table.moduleNumber(Buffer.from(lines.subarray(start, stop)).toString("latin1"));
        moduleStart = start;
        moduleEnd = stop;
      }
      number = module;
    }
    table.add(lines, at, nameEnd, low, number);
  }
  return odd;
}

function startsWith(bytes: Uint8Array, at: number, prefix: Uint8Array): boolean {
  for (let i = 0; i < prefix.length; i++) if (bytes[at + i] !== prefix[i]) return false;
  return true;
}

function same(bytes: Uint8Array, start: number, end: number, otherStart: number, otherEnd: number): boolean {
  if (end - start !== otherEnd - otherStart) return false;
  for (let i = 0; i < end - start; i++) if (bytes[start + i] !== bytes[otherStart + i]) return false;
  return true;
}
