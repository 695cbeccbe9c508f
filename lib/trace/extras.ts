/** What backends for functions attach beside what was selected, when packets are tracked. */
import { UsageError } from "../errors.ts";
import type { SymbolTable } from "../symbols/table.ts";
import { endingFunctions } from "./lineage.ts";
import { type FunctionSources, selectFunctions, type Selection, type TracedFunction } from "./functions.ts";

export interface Extras {
  /** functions at which a packet ends, among the selected ones */
  readonly endsShown: readonly TracedFunction[];
  /** the others, of which nobody wants to see anything */
  readonly endsUnseen: readonly TracedFunction[];
  /** functions without a packet, shown where their stack is at work on one; the argument means nothing */
  readonly packetless: readonly TracedFunction[];
}

/** For runs that track nothing. */
export const noExtras: Extras = { endsShown: [], endsUnseen: [], packetless: [] };

/**
 * Finds them on this kernel, whatever was selected.
 *
 * @throws {UsageError} there is no function of such a name
 */
export function findExtras(
  sources: FunctionSources,
  { functions, recordAddresses }: Selection,
  packetless: readonly string[],
): Extras {
  const ends = selectFunctions(sources, endingFunctions.join("|")).functions;
  const addresses = new Set(ends.map(({ address }) => address));
  const shown = functions.filter(({ address }) => addresses.has(address));
  const selected = new Set(functions.map(({ address }) => address));
  const table = recordAddresses ? sources.ftrace!.table : sources.symbols();
  return {
    endsShown: shown,
    endsUnseen: ends.filter(({ address }) => !selected.has(address)),
    packetless: [...new Set(packetless)].flatMap((name) => named(table, name))
      .filter(({ address }) => !selected.has(address)),
  };
}

/** All functions of that name, of the kernel and its modules. */
function named(table: SymbolTable, name: string): TracedFunction[] {
  const rows = table.rowsNamed(name);
  if (rows.length === 0) {
    throw new UsageError(
      `Cannot find "${name}" among the functions that can be traced`,
      "--filter-non-skb-funcs",
    );
  }
  return rows.map((row) => {
    const module = table.moduleOf(row), place = { name, address: table.addressOf(row), argument: 1 as const };
    return module === undefined ? place : { ...place, module };
  });
}
