/** From what BPF programs call to where it can be probed. */
import { UnsupportedError } from "../errors.ts";
import { symbolText } from "../symbols/table.ts";
import type { FunctionSources, TracedFunction } from "./functions.ts";
import type { Callee } from "./helper_calls.ts";

/** Before ftrace's record there is a landing pad, or nothing, and one of the compiler's at the most. */
const LONGEST_PAD = 16n;

/** Where helpers' addresses count from, which is a function of that name. */
const BASE = "__bpf_call_base";

export interface HelperPlaces {
  readonly base: bigint;
  /** a text says what it is that cannot be probed */
  readonly find: (callee: Callee) => TracedFunction | string;
}

/** @throws {UnsupportedError} the kernel does not say where its functions are */
export function helperPlaces(
  { kernel, ftrace, symbols: read }: FunctionSources,
  recordAddresses: boolean,
): HelperPlaces {
  const symbols = read(), [base] = symbols.addresses(BASE);
  if (base === undefined) {
    throw new UnsupportedError(
      `Cannot find what BPF programs call: ${BASE} is not among the kernel's symbols`,
    );
  }
  const symbolOf = (callee: Callee) => {
    if ("address" in callee) return symbols.at(callee.address);
    const [row] = symbols.rowsIn(undefined, kernel.nameOf(callee.btfId));
    return row === undefined ? undefined : symbols.symbol(row);
  };
  return {
    base,
    find(callee) {
      const symbol = symbolOf(callee);
      if (symbol === undefined) {
        return "address" in callee ? `0x${callee.address.toString(16)}` : kernel.nameOf(callee.btfId);
      }
      const function_ = { ...symbol, argument: 1 as const };
      if (ftrace === undefined) return function_;
      const rows = ftrace.table.rowsIn(symbol.module, symbol.name);
      if (!recordAddresses) return rows.length > 0 ? function_ : symbolText(symbol);
      const row = rows.find((row) => {
        const distance = ftrace.table.addressOf(row) - symbol.address;
        return distance >= 0n && distance < LONGEST_PAD;
      });
      return row === undefined ? symbolText(symbol) : { ...function_, address: ftrace.table.addressOf(row) };
    },
  };
}
