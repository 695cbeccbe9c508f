/**
 * The functions that ftrace can trace: available_filter_functions, one `NAME` or `NAME [MODULE]` a line, and
 * since Linux 6.5 available_filter_functions_addrs, with an address in front.
 *
 * That address is of ftrace's record, the call or nop at the function's entry: the symbol's own address, or
 * behind the ENDBR (x86) or BTI (arm64) that it begins with. kprobe-multi takes either.
 */
import { existsSync, statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { UnsupportedError } from "../errors.ts";
import { tracefsDirectories } from "../sys/tracefs.ts";
import { addLines } from "./line_parser.ts";
import { chunksOfLines } from "./lines.ts";
import { SymbolTable } from "./table.ts";

/** How records without a symbol are listed. */
const INVALID = "__ftrace_invalid_address__";

/** What ftrace lists; rows may repeat a name. */
export interface FtraceList {
  readonly table: SymbolTable;
  readonly hasAddresses: boolean;
}

/** Which files to try. */
export interface FtraceOptions {
  readonly directories?: readonly string[];
  /** false: names only */
  readonly addresses?: boolean;
}

/**
 * The list of the running kernel, with addresses where it has them; undefined when tracefs is not to be had or
 * the kernel has no ftrace. Reading 1.7 MB takes 15 ms, the kernel's own share not counted.
 *
 * @throws {UnsupportedError} it is there but may not be read
 */
export function readFtraceList(options: FtraceOptions = {}): FtraceList | undefined {
  for (const { path, hasAddresses } of candidates(options)) {
    try {
      const list = parseFtraceList(chunksOfLines(path), hasAddresses);
      if (list.table.size > 0) return list;
    } catch (cause) {
      refuseUnlessAbsent(path, cause);
    }
  }
  return undefined;
}

/**
 * The same while the caller goes on: the kernel writes the list for a thread of the pool, which takes it as
 * long as everything else that a start does.
 */
export async function fetchFtraceList(options: FtraceOptions = {}): Promise<FtraceList | undefined> {
  for (const { path, hasAddresses } of candidates(options)) {
    try {
      statSync(path); // not in the pool: that would be heard of only when the caller has nothing left to do
      const list = parseFtraceList([await readFile(path)], hasAddresses);
      if (list.table.size > 0) return list;
    } catch (cause) {
      refuseUnlessAbsent(path, cause);
    }
  }
  return undefined;
}

/** The list of the running kernel, for those who may do without it. */
export interface FtraceSource {
  /** It is being read, or has been. */
  readonly atHand: boolean;
  /** Reads it once. @throws {UnsupportedError} it is there but may not be read */
  readonly read: () => Promise<FtraceList | undefined>;
}

/** Reads it at once where it has addresses, else when it is asked for: to write it takes an old kernel 0.2 s. */
export function ftraceSource(options: FtraceOptions = {}): FtraceSource {
  let list: Promise<FtraceList | undefined> | undefined;
  const read = () => {
    list ??= fetchFtraceList(options);
    list.catch(() => {}); // whoever awaits it hears of it
    return list;
  };
  const atHand = candidates(options).some(({ path, hasAddresses }) => hasAddresses && existsSync(path));
  if (atHand) void read();
  return { atHand, read };
}

function candidates({ directories = tracefsDirectories(), addresses = true }: FtraceOptions) {
  return (addresses ? [true, false] : [false]).flatMap((hasAddresses) =>
    directories.map((directory) => ({
      path: `${directory}/available_filter_functions${hasAddresses ? "_addrs" : ""}`,
      hasAddresses,
    }))
  );
}

/** A tracefs that is mounted for us alone has no path that means something to others. */
function shownPath(path: string): string {
  return path.replace(/^\/proc\/self\/fd\/\d+\/(.*)/, "$1 of tracefs");
}

function refuseUnlessAbsent(path: string, cause: unknown): void {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === "ENOENT" || code === "ENOTDIR" || code === "ENODEV") return;
  throw new UnsupportedError(`Cannot read ${shownPath(path)}: ${code ?? cause}`, {
    hint: code === "EPERM"
      ? "root is not enough here: /sys/kernel/security/lockdown may say why"
      : "run it as root",
    cause,
  });
}

/** @param chunks whole lines each */
export function parseFtraceList(chunks: Iterable<Uint8Array>, hasAddresses: boolean): FtraceList {
  const table = new SymbolTable();
  for (const lines of chunks) addLines(table, lines, { address: hasAddresses, skipPrefix: INVALID });
  return { table, hasAddresses: hasAddresses && visible(table) };
}

/** kernel.kptr_restrict makes every address 0. */
function visible(table: SymbolTable): boolean {
  for (let row = 0; row < table.size; row++) if (table.lowAddressOf(row) !== 0) return true;
  return false;
}
