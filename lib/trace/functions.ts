/**
 * Which kernel functions to trace: those that take a `struct sk_buff *`, by the kernel's own BTF, that the
 * kernel can trace, by ftrace's list, at the addresses where they are.
 *
 * The argument's position is that of the *first* such parameter, 1 to 5. Unlike in pwru, pointers to const
 * skbs count (about 200 functions more), and a function that the compiler renamed (`NAME.constprop.0`,
 * `NAME.isra.0`) is found when there is exactly one of it: BTF describes these only if their parameters are
 * still as declared. `NAME.part.0` and `NAME.cold` are pieces of a function with parameters of their own.
 *
 * | plan                       | kernels          | addresses from     | what cannot be traced is |
 * | ftrace addresses           | 6.5 and newer    | ftrace             | left out                 |
 * | ftrace names and kallsyms  | with tracefs     | /proc/kallsyms     | left out by name         |
 * | kallsyms                   | without the list | /proc/kallsyms     | refused when attaching   |
 */
import { type Btf, BTF_KIND } from "../btf/parse.ts";
import { parameters } from "../btf/walk.ts";
import { UnsupportedError, UsageError } from "../errors.ts";
import { nearestName } from "../nearest_name.ts";
import { type FtraceList, readFtraceList } from "../symbols/ftrace.ts";
import { readKallsyms, readKernelText } from "../symbols/kallsyms.ts";
import type { KernelSymbol, SymbolTable } from "../symbols/table.ts";
import { isExactName, wholeName } from "./pattern.ts";
import {
  type ArgumentPosition,
  isSkbPointer,
  MAX_ARGUMENTS,
  type SkbFunction,
  skbFunctions,
} from "./skb_functions.ts";

/** A place to attach to; `name` is the symbol's, so it may carry the compiler's suffix. */
export interface TracedFunction extends KernelSymbol {
  /** which parameter is the skb */
  readonly argument: ArgumentPosition;
}

export type Plan = "ftrace addresses" | "ftrace names and kallsyms" | "kallsyms";

/** Why a function that takes an skb is not among the selected ones. */
export interface Skipped {
  /** ftrace does not list it: notrace, inlined everywhere, or freed with the init code */
  readonly untraceable: number;
  /** it has several renamed copies, whose parameters may differ */
  readonly ambiguous: number;
  /** its skb is not where its position says, because a parameter before it takes more than a register */
  readonly displaced: number;
  /** /proc/kallsyms has no address for it */
  readonly unknownAddress: number;
}

export interface Selection {
  readonly functions: readonly TracedFunction[];
  readonly plan: Plan;
  /**
   * The addresses are those of ftrace's records: a function that begins with ENDBR (x86) or BTI (arm64)
   * starts 4 bytes earlier, and that is what bpf_get_func_ip gives.
   */
  readonly recordAddresses: boolean;
  /** functions in BTF that take an skb (not: make one) and whose name matches */
  readonly found: number;
  readonly skipped: Skipped;
}

/** What the selection is made from. */
export interface FunctionSources {
  readonly kernel: Btf;
  /** modules whose functions are wanted too */
  readonly modules: readonly Btf[];
  readonly ftrace?: FtraceList | undefined;
  /** read when it is needed */
  readonly symbols: () => SymbolTable;
  /** the kernel's own functions, which take half as long to read; absent: among all symbols */
  readonly text?: () => SymbolTable;
}

/**
 * The sources of the running kernel.
 *
 * @param useFtrace false: do not spend time on ftrace's list, let the kernel refuse what it cannot trace
 */
export function readFunctionSources(
  { kernel, modules = [], useFtrace = true, symbols }: {
    kernel: Btf;
    modules?: readonly Btf[];
    useFtrace?: boolean;
    /** all of them, if they have been read */
    symbols?: SymbolTable | undefined;
  },
): FunctionSources {
  let text: SymbolTable | undefined;
  return {
    kernel,
    modules,
    ftrace: useFtrace ? readFtraceList() : undefined,
    symbols: () => symbols ??= readKallsyms(),
    text: () => symbols ?? (text ??= readKernelText()),
  };
}

/**
 * The functions to trace.
 *
 * @param pattern --filter-func: a regular expression for whole names (pattern.ts); "" for all
 * @param doubtful whether a function whose packet may be none is among them; by default only when it is named
 * @throws {UsageError} the pattern is no expression, or a plain name that cannot be traced: says why
 * @throws {UnsupportedError} the addresses are hidden
 */
export function selectFunctions(
  sources: FunctionSources,
  pattern: string = "",
  { doubtful = isExactName(pattern) }: { readonly doubtful?: boolean } = {},
): Selection {
  const matches = wholeName(pattern), all = pattern === "";
  const { ftrace } = sources;
  const plan: Plan = ftrace === undefined
    ? "kallsyms"
    : ftrace.hasAddresses
    ? "ftrace addresses"
    : "ftrace names and kallsyms";
  const candidates = [sources.kernel, ...sources.modules].flatMap(skbFunctions);
  const wanted = candidates.filter(({ name }) =>
    (all || matches.test(name)) && (doubtful || !perhapsNoPacket.has(name))
  );
  const functions: TracedFunction[] = [], taken = new Set<number>();
  const skipped = { untraceable: 0, ambiguous: 0, displaced: 0, unknownAddress: 0 };

  const places = ftrace?.table ?? symbolsFor(sources);
  const renamed = renamedFunctions(places);
  const isInit = plan === "kallsyms" ? initTextTest(places) : () => false;
  for (const { name, module, argument } of wanted) {
    if (argument === undefined) {
      skipped.displaced++;
      continue;
    }
    let rows = places.rowsIn(module, name);
    if (rows.length === 0) {
      rows = renamed(name).filter((row) => places.moduleOf(row) === module);
      if (rows.length > 1) {
        skipped.ambiguous++;
        continue;
      }
    }
    if (plan === "kallsyms") rows = rows.filter((row) => !isInit(places.addressOf(row)) && !isNotrace(name));
    if (rows.length === 0) {
      skipped.untraceable++;
      continue;
    }
    const symbol = places.nameOf(rows[0]!);
    const table = plan === "ftrace names and kallsyms" ? symbolsFor(sources) : places;
    if (table !== places) rows = table.rowsIn(module, symbol);
    if (rows.length === 0) skipped.unknownAddress++;
    for (const row of rows) {
      if (taken.has(table.lowAddressOf(row))) continue; // another name of the same code
      taken.add(table.lowAddressOf(row));
      const place = { name: symbol, address: table.addressOf(row), argument };
      functions.push(module === undefined ? place : { ...place, module });
    }
  }
  if (functions.length === 0 && isExactName(pattern)) {
    throw new UsageError(
      `Cannot trace "${pattern}": ${whyNot(sources, pattern, candidates)}`,
      "--filter-func",
    );
  }
  return {
    functions,
    plan,
    recordAddresses: plan === "ftrace addresses",
    found: wanted.length,
    skipped,
  };
}

/** Symbols enough to find what is wanted. */
function symbolsFor({ modules, symbols, text = symbols }: FunctionSources): SymbolTable {
  return modules.length === 0 ? text() : symbols();
}

/**
 * What these are given may be no packet: memory that is to become one has the pointers of the packet that was
 * there before, which would be shown in this one's place. They are traced only by their exact names.
 */
const perhapsNoPacket: ReadonlySet<string> = new Set([
  "build_skb_around",
  "__build_skb_around",
  "__xdp_build_skb_from_frame",
  "__skb_clone", // the clone comes first; Linux 5.10 has it inline
  "__copy_skb_header", // likewise
  "__skb_wait_for_more_packets", // the last of a queue: the queue itself, where it is empty
]);

/** Suffixes after which the parameters in BTF still hold, in any combination. */
const keptParameters = /^(?:\.(?:constprop|isra)\.\d+|\.llvm\.\d+)+$/;

/** From a plain name to the rows of its renamed copies. */
function renamedFunctions(table: SymbolTable): (name: string) => number[] {
  const rows = new Map<string, number[]>();
  for (const row of table.suffixedRows()) {
    const symbol = table.nameOf(row), dot = symbol.indexOf("."), name = symbol.slice(0, dot);
    if (!keptParameters.test(symbol.slice(dot))) continue;
    const others = rows.get(name);
    if (others === undefined) rows.set(name, [row]);
    else others.push(row);
  }
  return (name) => rows.get(name) ?? [];
}

/** Without ftrace's list: the bodies of trace events, which are notrace in every kernel. */
function isNotrace(name: string): boolean {
  return /^(?:__bpf_trace_|perf_trace_|trace_event_raw_event_)/.test(name);
}

/** Without ftrace's list: code that is freed after boot and keeps its symbols. */
function initTextTest(symbols: SymbolTable): (address: bigint) => boolean {
  const [start] = symbols.addresses("_sinittext"), [end] = symbols.addresses("_einittext");
  return (address) => start !== undefined && end !== undefined && address >= start && address < end;
}

/** Why the function that the user named is not among the selected ones. */
function whyNot(sources: FunctionSources, name: string, candidates: readonly SkbFunction[]): string {
  const candidate = candidates.find((other) => other.name === name);
  if (candidate !== undefined) {
    if (candidate.argument === undefined) return "its skb is not passed in the register of its position";
    return sources.ftrace === undefined
      ? "it is not among the kernel's symbols (inlined), or cannot be probed"
      : "ftrace does not list it, so it is inlined, renamed by the compiler or marked notrace";
  }
  for (const btf of [sources.kernel, ...sources.modules]) {
    for (const id of btf.ownIds(name, BTF_KIND.FUNC)) {
      const late = [...parameters(btf, id)].findIndex(({ type }) => isSkbPointer(btf, type));
      return late < 0
        ? "it takes no struct sk_buff *"
        : `its struct sk_buff * is parameter ${late + 1}, only the first ${MAX_ARGUMENTS} can be read`;
    }
  }
  const elsewhere = modulesOf(sources, name);
  if (elsewhere === undefined) {
    const nearest = nearestName(name, candidates.map((other) => other.name));
    return `there is no such function${nearest === undefined ? "" : `; did you mean ${nearest}`}`;
  }
  const [module] = elsewhere;
  return module === undefined || sources.modules.some((btf) => btf.name === module)
    ? "the kernel's BTF does not describe it"
    : `it is in module ${module}; add --kmods ${module}`;
}

/** The modules that have a symbol `name` (undefined: the kernel itself), or undefined when nothing has. */
function modulesOf(sources: FunctionSources, name: string): (string | undefined)[] | undefined {
  const tables: SymbolTable[] = sources.ftrace === undefined ? [] : [sources.ftrace.table];
  try {
    tables.push(sources.symbols());
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error; // without symbols we only know less
  }
  for (const table of tables) {
    const modules = table.rowsNamed(name).map((row) => table.moduleOf(row));
    if (modules.length > 0) return modules;
  }
  return undefined;
}
