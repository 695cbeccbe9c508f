/** The shape of line that /proc/kallsyms and ftrace's lists have in common, read from bytes. */
import { FNV_OFFSET, FNV_PRIME } from "../name_index.ts";
import { low48Of, type SymbolTable } from "./table.ts";

const NEWLINE = 0x0a, SPACE = 0x20, OPEN = 0x5b, CLOSE = 0x5d;
/** "a\n", the shortest line that makes a row */
const MIN_LINE_BYTES = 2;

/** 0 to 15 for a hexadecimal digit, else 255 */
const nibbles = new Uint8Array(256).fill(255);
for (const [value, digit] of [..."0123456789abcdef"].entries()) nibbles[digit.charCodeAt(0)] = value;

/** What stands at the start of each line. */
export interface LineShape {
  /** a hexadecimal address and a space */
  readonly address: boolean;
  /** kallsyms: the letters of the symbol types to keep, and a space */
  readonly letters?: string;
  /** names that start so are left out */
  readonly skipPrefix: string;
}

/**
 * Adds the rows of `lines` to `table`: `[ADDRESS ][LETTER ]NAME[<space or tab>[MODULE]]`. A line of another
 * shape is left out.
 *
 * One loop over the bytes without a call per line: such a loop is compiled after a few hundred rounds, and
 * most of the time of a short run is spent before that.
 */
export function addLines(table: SymbolTable, lines: Uint8Array, shape: LineShape): void {
  const wanted = new Uint8Array(256), prefix = Buffer.from(shape.skipPrefix), { address } = shape;
  for (const letter of shape.letters ?? "") wanted[letter.charCodeAt(0)] = 1;
  const hasLetter = shape.letters !== undefined, end = lines.length;
  const rows = Math.ceil(end / (MIN_LINE_BYTES + (address ? 2 : 0) + (hasLetter ? 2 : 0)));
  const { addresses, names, hashes, modules, blob } = table.reserve(rows, end + 1);
  let row = table.size, to = table.blobEnd, at = 0;
  const moduleAt = moduleReader(table, lines);

  while (at < end) {
    let lowWord = 0, highWord = 0, good = true;
    if (address) {
      const start = at;
      for (let nibble; at < end && (nibble = nibbles[lines[at]!]!) < 16; at++) {
        highWord = highWord << 4 | lowWord >>> 28;
        lowWord = lowWord << 4 | nibble;
      }
      good = at > start && lines[at] === SPACE;
      if (good) at++;
    }
    if (hasLetter && good) {
      good = wanted[lines[at]!] === 1 && lines[at + 1] === SPACE;
      if (good) at += 2;
    }
    if (good && prefix.length > 0 && lines[at] === prefix[0]) good = !startsWith(lines, at, prefix);
    if (good) {
      const start = to;
      let hash = FNV_OFFSET;
      for (; at < end; at++) {
        const byte = lines[at]!;
        if (byte <= SPACE) break;
        blob[to++] = byte;
        hash = Math.imul(hash ^ byte, FNV_PRIME);
      }
      if (to > start) {
        addresses[row] = low48Of(lowWord >>> 0, highWord);
        names[row] = start;
        hashes[row] = hash;
        modules[row] = 0;
        if (lines[at] !== NEWLINE && lines[at + 1] === OPEN) modules[row] = moduleAt(at + 2);
        row++;
        blob[to++] = 0;
      }
    }
    while (at < end && lines[at] !== NEWLINE) at++;
    at++;
  }
  table.commit(row, to);
}

function startsWith(bytes: Uint8Array, at: number, prefix: Uint8Array): boolean {
  for (let i = 0; i < prefix.length; i++) if (bytes[at + i] !== prefix[i]) return false;
  return true;
}

/** Gives the number of the module whose name starts at a byte of `lines` and ends with "]". */
function moduleReader(table: SymbolTable, lines: Uint8Array): (start: number) => number {
  let number = 0, lastStart = 0, lastEnd = 0; // modules come in runs: mostly it is the one before
  return (start) => {
    let at = start;
    while (at < lines.length && lines[at] !== CLOSE && lines[at] !== NEWLINE) at++;
    if (!same(lines, start, at, lastStart, lastEnd)) {
      number = table.moduleNumber(Buffer.from(lines.subarray(start, at)).toString("latin1"));
      lastStart = start;
      lastEnd = at;
    }
    return number;
  };
}

function same(bytes: Uint8Array, start: number, end: number, otherStart: number, otherEnd: number): boolean {
  if (end - start !== otherEnd - otherStart) return false;
  for (let i = 0; i < end - start; i++) if (bytes[start + i] !== bytes[otherStart + i]) return false;
  return true;
}
