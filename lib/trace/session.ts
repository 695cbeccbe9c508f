/**
 * One run of the tracer, from options to a stream of records: the kernel's types, the programs, the probes,
 * the ring buffer, the counters. It prints nothing and knows no command line.
 */
import { traceCounters } from "../../bpf-programs/events.ts";
import { traceMaps } from "../../bpf-programs/maps.ts";
import { bulkAccess, directAccess } from "../../bpf-programs/memory_access.ts";
import { probeContext } from "../../bpf-programs/registers.ts";
import type { PacketFilter, TraceOptions } from "../../bpf-programs/frame.ts";
import { loadKernelBtf, loadModuleBtf, modulesWithBtf } from "../btf/load.ts";
import type { Btf } from "../btf/parse.ts";
import { BtfTypes } from "../btf/types.ts";
import { UnsupportedError, UsageError } from "../errors.ts";
import { compileFilter, skb } from "../expr/compile.ts";
import { openKprobes } from "../link/kprobe.ts";
import { readCounters } from "../maps/bpf_map.ts";
import { Maps } from "../maps/maps.ts";
import { RingBuffer } from "../maps/ring_buffer.ts";
import { fetchFtraceList } from "../symbols/ftrace.ts";
import type { SymbolTable } from "../symbols/table.ts";
import { releaseCode, releaseMemory } from "../sys/memory.ts";
import { readMemoryMap } from "../sys/memory_map.ts";
import { loadProgram } from "../sys/program.ts";
import type { BackendName, Load, ProbeBackend } from "./backend.ts";
import { ClassicKprobeBackend } from "./backends/kprobe.ts";
import { KprobeMultiBackend, requireKprobeMulti } from "./backends/kprobe_multi.ts";
import { TracepointBackend } from "./backends/tracepoint.ts";
import { readFunctionSources, selectFunctions, type TracedFunction } from "./functions.ts";
import { wholeName } from "./pattern.ts";
import { packetTracepoints } from "./tracepoints.ts";

export interface SessionOptions {
  /** absent: the best that this kernel allows */
  readonly backend?: BackendName;
  /** a file with the kernel's types */
  readonly kernelBtf?: string;
  /** whole names of functions to trace, a regular expression; "" for all */
  readonly functionPattern: string;
  /** modules whose functions are traced too */
  readonly modules: readonly string[] | "all";
  /** bytes, a power of two */
  readonly ringBytes: number;
  readonly filter?: PacketFilter;
  readonly mark?: { readonly value: number; readonly mask: number };
  readonly netns?: number;
  readonly ifindex?: number;
  /** C, about `skb` */
  readonly expression?: string;
  readonly meta: boolean;
  readonly tuple: boolean;
}

/** What the programs counted on all CPUs. */
export interface Counted {
  /** packets that matched, once per function: all of them were printed, lost, or are still in the ring */
  readonly matched: bigint;
  /** records for which the ring had no room */
  readonly lost: bigint;
  /** packets whose memory could not be read, so that the filter could not decide */
  readonly unreadable: bigint;
  /** hits during which another program of ours was running on the same CPU */
  readonly missed: bigint;
}

/** Told where each record lies; the memory is valid until it returns. */
export type OnRecord = (view: DataView, offset: number) => void;

export class Session implements Disposable {
  readonly types: BtfTypes;
  readonly backend: ProbeBackend;
  /** why a backend that would have been better was not taken */
  readonly remarks: readonly string[];
  readonly #maps: Maps;
  readonly #ring: RingBuffer;
  readonly #view: DataView;
  readonly #trace: TraceOptions;

  constructor(types: BtfTypes, maps: Maps, trace: TraceOptions, { backend, remarks }: Chosen) {
    this.types = types;
    this.remarks = remarks;
    this.#maps = maps;
    this.#trace = trace;
    this.#ring = RingBuffer.open(maps.get(trace.maps.events));
    this.#view = new DataView(this.#ring.bytes.buffer, this.#ring.bytes.byteOffset);
    this.backend = backend;
  }

  /** Hands over committed records, at most `limit`; returns how many there were. */
  drain(onRecord: OnRecord, limit: number): number {
    return this.#ring.drain((offset) => onRecord(this.#view, offset), limit);
  }

  /** Numbers and names of enum skb_drop_reason on this kernel; empty before Linux 5.17. */
  dropReasons(): ReadonlyMap<number, string> {
    return this.types.enumNames("skb_drop_reason");
  }

  counted(): Counted {
    const counters = readCounters(this.#maps.get(this.#trace.maps.counters));
    const of = ({ offset }: { offset: number }) => counters[offset / 8] ?? 0n;
    const { matched, lost, unreadable } = traceCounters.fields;
    return {
      matched: of(matched),
      lost: of(lost),
      unreadable: of(unreadable),
      missed: this.backend.missed(),
    };
  }

  [Symbol.dispose](): void {
    this.backend[Symbol.dispose]();
    this.#ring[Symbol.dispose]();
    this.#maps[Symbol.dispose]();
  }
}

/**
 * Reads the kernel's types, chooses backend and functions, creates the maps. Nothing is attached yet.
 *
 * @throws {UnsupportedError} this kernel, or these rights, allow no backend, or not the one that was asked for
 * @throws {FilterSyntaxError} the expression does not fit this kernel's types
 */
export async function openSession(options: SessionOptions): Promise<Session> {
  const ftrace = options.backend === "tracepoint" ? undefined : fetchFtraceList();
  ftrace?.catch(() => {}); // whoever needs the list awaits it and hears of it
  const btf = loadKernelBtf(options.kernelBtf === undefined ? {} : { file: options.kernelBtf });
  const { filter, mark, netns, ifindex, meta, tuple } = options;
  const expression = options.expression === undefined
    ? undefined
    : compileFilter(options.expression, btf, skb);
  const types = new BtfTypes(btf), maps = new Maps();
  const memory = filter === undefined ? undefined : readMemoryMap(types.sizeOf("page"));
  const trace: TraceOptions = {
    kernel: types,
    access: directAccess(types) ?? bulkAccess(),
    maps: traceMaps(options.ringBytes),
    meta,
    tuple,
    ...(filter === undefined ? {} : { filter }),
    ...(mark === undefined ? {} : { mark }),
    ...(netns === undefined ? {} : { netns }),
    ...(ifindex === undefined ? {} : { ifindex }),
    ...(expression === undefined ? {} : { expression }),
    ...(memory === undefined ? {} : { memory }),
  };
  const load: Load = (spec) => loadProgram(spec, { maps });
  const context = probeContext(process.arch);
  const select = async () => {
    const sources = readFunctionSources({
      kernel: btf,
      modules: moduleTypes(btf, options.modules),
      between: releaseCode,
      useFtrace: false,
    });
    // The peak of memory is here, where the lists of functions come on top of the types.
    releaseCode();
    let table: SymbolTable | undefined;
    const symbols = () => {
      if (table !== undefined) return table;
      table = sources.symbols();
      releaseMemory();
      return table;
    };
    const selection = selectFunctions({ ...sources, symbols, ftrace: await ftrace }, options.functionPattern);
    releaseMemory();
    if (selection.functions.length > 0) return selection;
    if (options.functionPattern === "") {
      throw new UnsupportedError("Cannot find a function that takes a packet and can be traced", {
        hint: "ftrace lists none: is tracefs mounted on /sys/kernel/tracing?",
      });
    }
    throw new UsageError(
      `Cannot find a function for "${options.functionPattern}": none of ${selection.found} that match can be traced`,
      "--filter-func",
    );
  };
  const create: Readonly<Record<BackendName, () => Promise<ProbeBackend>>> = {
    async "kprobe-multi"() {
      requireKprobeMulti(types);
      return new KprobeMultiBackend(await select(), trace, context, load, maps);
    },
    async kprobe() {
      const kprobes = openKprobes<TracedFunction>(); // first: where it says no, choosing functions is wasted
      return new ClassicKprobeBackend(kprobes, await select(), trace, context, load, maps);
    },
    // deno-lint-ignore require-await
    async tracepoint() {
      const matches = wholeName(options.functionPattern), all = packetTracepoints(btf);
      const hooks = options.functionPattern === "" ? all : all.filter(({ name }) => matches.test(name));
      if (hooks.length > 0) return new TracepointBackend(hooks, trace, load);
      throw new UsageError(
        `Cannot find a tracepoint for "${options.functionPattern}": there are ${
          all.map(({ name }) => name).join(", ")
        }`,
        "--filter-func",
      );
    },
  };
  try {
    return new Session(types, maps, trace, await choose(options.backend, create));
  } catch (error) {
    maps[Symbol.dispose]();
    throw error;
  }
}

function moduleTypes(kernel: Btf, modules: SessionOptions["modules"]): Btf[] {
  const names = modules === "all" ? modulesWithBtf() : modules;
  return names.map((name) => loadModuleBtf(name, kernel));
}

interface Chosen {
  readonly backend: ProbeBackend;
  readonly remarks: readonly string[];
}

/** The order in which backends are tried. */
const preference: readonly BackendName[] = ["kprobe-multi", "kprobe", "tracepoint"];

/** The backend that was asked for, or the first that works. */
async function choose(
  wanted: BackendName | undefined,
  create: Readonly<Record<BackendName, () => Promise<ProbeBackend>>>,
): Promise<Chosen> {
  if (wanted !== undefined) return { backend: await create[wanted](), remarks: [] };
  const remarks: string[] = [];
  let refusal: UnsupportedError | undefined;
  for (const name of preference) {
    try {
      return { backend: await create[name](), remarks };
    } catch (error) {
      // A function is no tracepoint: then the answer is why functions cannot be traced.
      if (error instanceof UsageError && name === "tracepoint" && refusal !== undefined) break;
      if (!(error instanceof UnsupportedError)) throw error;
      refusal = error;
      remarks.push(`${name}: ${error.message}`);
    }
  }
  throw refusal as UnsupportedError;
}
