/** The functions at which a packet ends, for backends that attach to functions. */
import { endingFunctions } from "./lineage.ts";
import { type FunctionSources, selectFunctions, type Selection, type TracedFunction } from "./functions.ts";

/** Both lists hold what the programs have to know; only one of them is to be shown. */
export interface Ends {
  /** among the selected functions */
  readonly shown: readonly TracedFunction[];
  /** the others */
  readonly unseen: readonly TracedFunction[];
}

/** For runs that follow no packet. */
export const noEnds: Ends = { shown: [], unseen: [] };

/** Finds them on this kernel, whatever was selected. */
export function findEnds(sources: FunctionSources, { functions }: Selection): Ends {
  const ends = selectFunctions(sources, endingFunctions.join("|")).functions;
  const addresses = new Set(ends.map(({ address }) => address));
  const shown = functions.filter(({ address }) => addresses.has(address));
  const seen = new Set(shown.map(({ address }) => address));
  return { shown, unseen: ends.filter(({ address }) => !seen.has(address)) };
}
