/**
 * /proc/kallsyms: the kernel's symbols with their addresses, functions only (letters t, T, w, W), modules and
 * compiled BPF programs (`bpf_prog_TAG_NAME[bpf]`) included.
 *
 * 120,000 lines take about 60 ms natively, of which the kernel's own share is 37.
 */
import { UnsupportedError } from "../errors.ts";
import { addLines } from "./line_parser.ts";
import { chunksOfLines } from "./lines.ts";
import { SymbolTable } from "./table.ts";

/**
 * The padding in front of a function, a symbol of its own since Linux 6.2: two symbols of five, and no
 * address on a stack or in an event ever lies there.
 */
const PADDING = "__pfx_";

export const KALLSYMS = "/proc/kallsyms";

/** The last of the kernel's own code, that of its start apart. Data comes next, then modules. */
const END_OF_TEXT = " _etext\n";

/** @throws {UnsupportedError} it cannot be read, or hides its addresses */
export function readKallsyms(path: string = KALLSYMS): SymbolTable {
  return readSymbols(path, (lines) => lines);
}

/**
 * The kernel's own functions. What comes behind them is not read: data, which is half of the file where
 * CONFIG_KALLSYMS_ALL is set, the code of its start and modules. Where no symbol says that they end, all is read.
 *
 * @throws {UnsupportedError} as above
 */
export function readKernelText(path: string = KALLSYMS): SymbolTable {
  return readSymbols(path, untilEndOfText);
}

/** Of chunks of lines those until the end of the text; all of them where nothing says that it ends. */
export function* untilEndOfText(chunks: Iterable<Uint8Array>): Generator<Uint8Array> {
  for (const lines of chunks) {
    const end = Buffer.from(lines.buffer, lines.byteOffset, lines.length).indexOf(END_OF_TEXT);
    if (end >= 0) return yield lines.subarray(0, end + END_OF_TEXT.length);
    yield lines;
  }
}

function readSymbols(
  path: string,
  part: (chunks: Iterable<Uint8Array>) => Iterable<Uint8Array>,
): SymbolTable {
  try {
    return parseKallsyms(part(chunksOfLines(path)), path);
  } catch (cause) {
    if (cause instanceof UnsupportedError) throw cause;
    throw new UnsupportedError(`Cannot read ${path}: ${(cause as NodeJS.ErrnoException).code ?? cause}`, {
      hint: "it takes a kernel with CONFIG_KALLSYMS=y and /proc mounted",
      cause,
    });
  }
}

/** @param chunks whole lines each */
export function parseKallsyms(chunks: Iterable<Uint8Array>, path: string = KALLSYMS): SymbolTable {
  const table = new SymbolTable();
  for (const lines of chunks) addLines(table, lines, { address: true, letters: "tTwW", skipPrefix: PADDING });
  for (let row = 0; row < table.size; row++) if (table.lowAddressOf(row) !== 0) return table;
  throw new UnsupportedError(
    table.size === 0 ? `Cannot find functions in ${path}` : `Cannot see addresses in ${path}: all are 0`,
    table.size === 0
      ? { hint: "it takes a kernel with CONFIG_KALLSYMS=y and /proc mounted" }
      : { hint: "sysctl -w kernel.kptr_restrict=1 # and CAP_SYSLOG, which root has" },
  );
}
