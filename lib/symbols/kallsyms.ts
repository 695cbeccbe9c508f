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

/** @throws {UnsupportedError} it cannot be read, or hides its addresses */
export function readKallsyms(path: string = KALLSYMS): SymbolTable {
  try {
    return parseKallsyms(chunksOfLines(path), path);
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
