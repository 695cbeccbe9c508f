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
 * | kallsyms                   | without tracefs  | /proc/kallsyms     | refused when attaching   |
 */
import { type Btf, BTF_KIND, type KindName } from "../btf/parse.ts";
import { parameters, POINTER_SIZE, sizeOf, strip } from "../btf/walk.ts";
import { UnsupportedError, UsageError } from "../errors.ts";
import { nearestName } from "../nearest_name.ts";
import { type FtraceList, readFtraceList } from "../symbols/ftrace.ts";
import { readKallsyms } from "../symbols/kallsyms.ts";
import type { KernelSymbol, SymbolTable } from "../symbols/table.ts";
import { isExactName, wholeName } from "./pattern.ts";

/** Arguments that are passed in registers on every architecture. */
const MAX_ARGUMENTS = 5;
export type ArgumentPosition = 1 | 2 | 3 | 4 | 5;

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
}

/**
 * The sources of the running kernel.
 *
 * @param useFtrace false: do not spend time on ftrace's list, let the kernel refuse what it cannot trace
 */
export function readFunctionSources(
  { kernel, modules = [], useFtrace = true }: {
    kernel: Btf;
    modules?: readonly Btf[];
    useFtrace?: boolean;
  },
): FunctionSources {
  let symbols: SymbolTable | undefined;
  return {
    kernel,
    modules,
    ftrace: useFtrace ? readFtraceList() : undefined,
    symbols: () => symbols ??= readKallsyms(),
  };
}

/** A function of BTF that takes an skb. */
export interface SkbFunction {
  readonly name: string;
  readonly module: string | undefined;
  /** undefined: what comes before the skb does not fit one register each */
  readonly argument: ArgumentPosition | undefined;
}

/**
 * The functions of one blob, not of its base, that have an skb among their first five parameters, each name
 * once. 60,000 functions among 126,000 types take 20 ms in a program that has just started, 3 ms later on.
 */
export function skbFunctions(btf: Btf): SkbFunction[] {
  const { words, index, firstId } = btf, { pointers } = skbTypes(btf);
  const module = btf.base === undefined ? undefined : btf.name, found = new Map<string, SkbFunction>();
  for (let row = 0; row < index.length; row++) {
    const record = index[row]!;
    if ((words[record + 1]! >>> 24 & 0x7f) !== BTF_KIND.FUNC) continue;
    const proto = words[record + 2]!, older = proto < firstId ? btf.base : undefined;
    const at = older === undefined
      ? firstMarked(words, index[proto - firstId], pointers)
      : firstMarked(older.words, older.index[proto - older.firstId], pointers);
    if (at < 0) continue;
    const name = btf.nameOf(firstId + row), known = found.get(name); // 6.1 describes 444 functions twice
    let argument: ArgumentPosition | undefined = at + 1 as ArgumentPosition;
    if (at > 0 && !fitRegisters(btf, proto, at)) argument = undefined;
    if (known !== undefined && known.argument !== argument) argument = undefined;
    found.set(name, { name, module, argument });
  }
  return [...found.values()];
}

/** Which of the first parameters of the FUNC_PROTO at `record` is of a marked type, from 0; -1 for none. */
function firstMarked(words: Uint32Array, record: number | undefined, marked: Uint8Array): number {
  if (record === undefined) return -1; // void, in a damaged blob
  const info = words[record + 1]!;
  if ((info >>> 24 & 0x7f) !== BTF_KIND.FUNC_PROTO) return -1;
  const count = Math.min(info & 0xffffff, MAX_ARGUMENTS);
  for (let i = 0; i < count; i++) if (marked[words[record + 4 + 2 * i]!] === 1) return i;
  return -1;
}

const qualifiers = kindSet("TYPEDEF", "VOLATILE", "CONST", "RESTRICT", "TYPE_TAG"), pointer = kindSet("PTR");

function kindSet(...names: KindName[]): Uint8Array {
  const set = new Uint8Array(128);
  for (const name of names) set[BTF_KIND[name]] = 1;
  return set;
}

/** By type id, 1 for: struct sk_buff, whatever is const, tagged or behind a typedef; a pointer to that. */
interface SkbTypes {
  readonly structs: Uint8Array;
  readonly pointers: Uint8Array;
}
const skbTypesOf = new WeakMap<Btf, SkbTypes>();

function skbTypes(btf: Btf): SkbTypes {
  let types = skbTypesOf.get(btf);
  if (types !== undefined) return types;
  types = { structs: new Uint8Array(btf.endId), pointers: new Uint8Array(btf.endId) };
  if (btf.base !== undefined) {
    types.structs.set(skbTypes(btf.base).structs);
    types.pointers.set(skbTypes(btf.base).pointers);
  }
  for (const id of btf.ownIds("sk_buff", BTF_KIND.STRUCT)) types.structs[id] = 1;
  while (markReferring(btf, qualifiers, types.structs, types.structs));
  markReferring(btf, pointer, types.structs, types.pointers);
  while (markReferring(btf, qualifiers, types.pointers, types.pointers));
  if (btf.base === undefined) skbTypesOf.set(btf, types); // a module's are asked for once
  return types;
}

/** Marks in `to` the types of these kinds that refer to one marked in `from`; whether any was new. */
function markReferring(
  { words, index, firstId }: Btf,
  kinds: Uint8Array,
  from: Uint8Array,
  to: Uint8Array,
): boolean {
  let changed = false;
  for (let row = 0; row < index.length; row++) {
    const at = index[row]!;
    if (kinds[words[at + 1]! >>> 24 & 0x7f] === 1 && from[words[at + 2]!] === 1 && to[firstId + row] === 0) {
      to[firstId + row] = 1;
      changed = true;
    }
  }
  return changed;
}

/** Whether each of the first `count` parameters is passed in one register. */
function fitRegisters(btf: Btf, proto: number, count: number): boolean {
  for (let i = 0; i < count; i++) {
    const type = strip(btf, btf.word(proto, 2 * i + 1));
    if (btf.kind(type) === BTF_KIND.FLOAT || sizeOf(btf, type) > POINTER_SIZE) return false;
  }
  return true;
}

/**
 * The functions to trace.
 *
 * @param pattern --filter-func: a regular expression for whole names (pattern.ts); "" for all
 * @param makers whether a function that makes a packet may be among them; by default only when it is named
 * @throws {UsageError} the pattern is no expression, or a plain name that cannot be traced: says why
 * @throws {UnsupportedError} the addresses are hidden
 */
export function selectFunctions(
  sources: FunctionSources,
  pattern: string = "",
  { makers = isExactName(pattern) }: { readonly makers?: boolean } = {},
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
    (all || matches.test(name)) && (makers || !constructors.has(name))
  );
  const functions: TracedFunction[] = [], taken = new Set<number>();
  const skipped = { untraceable: 0, ambiguous: 0, displaced: 0, unknownAddress: 0 };

  const places = ftrace?.table ?? sources.symbols();
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
    const table = plan === "ftrace names and kallsyms" ? sources.symbols() : places;
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

/**
 * What these are given is memory that is to become an skb: its pointers are those of the packet that was there
 * before, which would be shown in this one's place. They are traced only by their exact names.
 */
const constructors: ReadonlySet<string> = new Set([
  "build_skb_around",
  "__build_skb_around",
  "__xdp_build_skb_from_frame",
  "__skb_clone", // the clone comes first; Linux 5.10 has it inline
  "__copy_skb_header", // likewise
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
      const late = [...parameters(btf, id)].findIndex(({ type }) => skbTypes(btf).pointers[type] === 1);
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
