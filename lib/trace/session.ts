/**
 * One run of the tracer, from options to a stream of records: the kernel's types, the programs, the probes,
 * the ring buffer, the counters. It prints nothing and knows no command line.
 */
import { packetEvent, traceCounters } from "../../bpf-programs/events.ts";
import { traceMaps } from "../../bpf-programs/maps.ts";
import { bulkAccess, directAccess } from "../../bpf-programs/memory_access.ts";
import { probeContext } from "../../bpf-programs/registers.ts";
import { type PacketFilter, recordOf, type TraceOptions } from "../../bpf-programs/frame.ts";
import type { TracepointHook } from "../../bpf-programs/tracepoint_program.ts";
import { keepsSet } from "../../bpf-programs/tracking.ts";
import type { TunnelFilter } from "../../bpf-programs/tunnel.ts";
import { loadKernelBtf, loadModuleBtf, modulesWithBtf, tryModuleBtf } from "../btf/load.ts";
import type { Btf } from "../btf/parse.ts";
import { BtfTypes } from "../btf/types.ts";
import { UnsupportedError, UsageError } from "../errors.ts";
import { compileFilter, skb, xdp } from "../expr/compile.ts";
import { openKprobes } from "../link/kprobe.ts";
import { readCounters } from "../maps/bpf_map.ts";
import { Maps } from "../maps/maps.ts";
import { RingBuffer } from "../maps/ring_buffer.ts";
import { fetchFtraceList, type FtraceList } from "../symbols/ftrace.ts";
import type { SymbolTable } from "../symbols/table.ts";
import { pageSize } from "../sys/ffi.ts";
import { releaseCode, releaseMemory } from "../sys/memory.ts";
import { readMemoryMap } from "../sys/memory_map.ts";
import { loadProgram } from "../sys/program.ts";
import type { BackendName, FunctionBackend, Load, ProbeBackend } from "./backend.ts";
import { ClassicKprobeBackend } from "./backends/kprobe.ts";
import { KprobeMultiBackend, requireFtrace, requireKprobeMulti } from "./backends/kprobe_multi.ts";
import { TracepointBackend } from "./backends/tracepoint.ts";
import { BackendWithEnds } from "./backends/with_ends.ts";
import { BackendWithBeneath } from "./backends/with_beneath.ts";
import { BackendWithPrograms } from "./backends/with_programs.ts";
import { BeneathProbes } from "./beneath_probes.ts";
import { choose, type Chosen } from "./choose.ts";
import { compileContents, type RecordContents, type WantedContents } from "./contents.ts";
import { DropReasons } from "./drop_reasons.ts";
import { type Extras, findExtras, hasEnds, noExtras } from "./extras.ts";
import { GappedRing } from "./gapped_ring.ts";
import { readFunctionSources, selectFunctions, type Selection, type TracedFunction } from "./functions.ts";
import { HelperCalls } from "./helper_calls.ts";
import { type HelperPlaces, helperPlaces } from "./helper_places.ts";
import { attachLineage, endingTracepoints, type Lineage } from "./lineage.ts";
import { wholeName } from "./pattern.ts";
import type { ProgramKind } from "./loaded_programs.ts";
import { ProgramTracing } from "./program_tracing.ts";
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
  readonly tunnel?: TunnelFilter;
  readonly mark?: { readonly value: number; readonly mask: number };
  readonly netns?: number;
  readonly ifindex?: number;
  /** C, about `skb` */
  readonly expression?: string;
  readonly meta: boolean;
  readonly tuple: boolean;
  /** what each record has beyond the line that is always printed; absent: nothing */
  readonly contents?: WantedContents;
  /** also probe where the kernel lets go of packets, whatever `functionPattern` says: see `isAside` */
  readonly ends?: boolean;
  /** shows a packet that matched wherever it goes, and its children */
  readonly follow?: boolean;
  /** records say which packet they are about */
  readonly ids?: boolean;
  /** shows what runs beneath a function that has a packet as that packet's */
  readonly stacks?: boolean;
  /** functions without a packet to show in this way */
  readonly packetlessFunctions?: readonly string[];
  /** shows the functions that BPF programs call beneath a packet */
  readonly helpers?: boolean;
  /** BPF programs to trace too, of these kinds */
  readonly programs?: readonly ProgramKind[];
  /** C, about `xdp`: frames to show of XDP programs */
  readonly xdpExpression?: string;
  /** how many kprobes are set at a time */
  readonly kprobeBatch?: number;
  /** how many packets can be followed at a time */
  readonly trackedPackets?: number;
}

/** What the programs counted on all CPUs. */
export interface Counted {
  /** packets that programs had before them, once per function */
  readonly looked: bigint;
  /** packets that matched, once per function: all of them were printed, lost, or are still in the ring */
  readonly matched: bigint;
  /** records for which the ring had no room */
  readonly lost: bigint;
  /** packets whose memory could not be read, so that the filter could not decide */
  readonly unreadable: bigint;
  /** hits during which another probe of ours was at work on the same CPU */
  readonly missed: bigint;
  /** how often a packet could not be followed because too many were */
  readonly untracked: bigint;
  /** packets that are being followed now */
  readonly tracked: bigint;
}

/** Told where each record lies; the memory is valid until it returns. */
export type OnRecord = (view: DataView, offset: number) => void;

/** Told that so many records found the ring full since the last one that was handed over, or a little earlier. */
export type OnGap = (lost: bigint) => void;

export class Session implements Disposable {
  readonly types: BtfTypes;
  readonly backend: ProbeBackend;
  readonly contents: RecordContents;
  /** why a backend that would have been better was not taken */
  readonly remarks: readonly string[];
  /** names of the functions without a packet that are shown */
  readonly packetless: ReadonlySet<string>;
  readonly #maps: Maps;
  readonly #ring: RingBuffer;
  readonly #view: DataView;
  readonly #trace: TraceOptions;
  readonly #gaps: GappedRing;
  readonly #asides: ReadonlySet<number>;
  readonly #load: Load;
  readonly #warnings: readonly string[];
  #lineage: Lineage | undefined;

  constructor(
    types: BtfTypes,
    maps: Maps,
    trace: TraceOptions,
    load: Load,
    { backend, remarks, contents, warnings, asides, packetless }: Opened,
  ) {
    this.#warnings = warnings;
    this.types = types;
    this.packetless = packetless;
    this.contents = contents;
    this.remarks = remarks;
    this.#maps = maps;
    this.#trace = trace;
    this.#load = load;
    this.#ring = RingBuffer.open(maps.get(trace.maps.events));
    this.#view = new DataView(this.#ring.bytes.buffer, this.#ring.bytes.byteOffset);
    this.#asides = new Set(asides.map(({ index }) => index));
    this.#gaps = new GappedRing(this.#ring, () => this.#counter("lost"));
    this.backend = backend;
  }

  /**
   * Attaches what tells a packet's children and strangers apart, if packets are followed; returns what is not to be
   * had on this kernel.
   */
  followLineage(): readonly string[] {
    const { tracking } = this.#trace;
    if (tracking === undefined || !keepsSet(tracking)) return [];
    const context = probeContext(process.arch, pageSize);
    this.#lineage = attachLineage(this.#trace, this.types, context, this.#load);
    return [...this.#warnings, ...this.#lineage.remarks];
  }

  /** Hands over committed records, at most `limit`, and where some are missing; returns how many there were. */
  drain(onRecord: OnRecord, limit: number, onGap: OnGap): number {
    return this.#gaps.drain((offset) => onRecord(this.#view, offset), limit, onGap);
  }

  /** Whether a record comes from a probe that was not asked for but tells of an end. */
  isAside(view: DataView, offset: number): boolean {
    const { address } = packetEvent.fields;
    return this.#asides.size > 0 && view.getUint32(offset + address.offset + 4, true) === 0 &&
      this.#asides.has(view.getUint32(offset + address.offset, true));
  }

  /** Names of drop reasons on this kernel. */
  dropReasons(): DropReasons {
    const { types } = this;
    return new DropReasons(types, {
      names: () => modulesWithBtf(),
      load: (module) => tryModuleBtf(module, types.btf),
    });
  }

  counted(): Counted {
    return {
      looked: this.#looked(),
      matched: this.#counter("matched"),
      lost: this.#counter("lost"),
      unreadable: this.#counter("unreadable"),
      missed: this.backend.missed() + (this.#lineage?.missed() ?? 0n),
      ...this.#following(),
    };
  }

  #counter(name: keyof typeof traceCounters.fields): bigint {
    const counters = readCounters(this.#maps.get(this.#trace.maps.counters));
    return counters[traceCounters.fields[name].offset / 8] ?? 0n;
  }

  #looked(): bigint {
    const slots = readCounters(this.#maps.get(this.#trace.maps.looks));
    return slots.reduce((sum, slot) => sum + slot, 0n);
  }

  #following(): Pick<Counted, "tracked" | "untracked"> {
    const { maps, tracking } = this.#trace;
    if (tracking === undefined) return { tracked: 0n, untracked: 0n };
    const [tracked = 0n, untracked = 0n] = readCounters(this.#maps.get(maps.tracking));
    return { tracked, untracked };
  }

  [Symbol.dispose](): void {
    this.backend[Symbol.dispose]();
    this.#lineage?.[Symbol.dispose]();
    this.#ring[Symbol.dispose]();
    this.#maps[Symbol.dispose]();
  }
}

/** What every start reads of the kernel; who opens several sessions reads it once. */
export interface KernelSources {
  readonly btf: Btf;
  /** absent: no backend that needs the list will be opened; whoever awaits it hears of what went wrong */
  readonly ftrace?: Promise<FtraceList | undefined>;
  /** /proc/kallsyms; absent: read when it is needed */
  readonly symbols?: SymbolTable | undefined;
}

/** @throws {UnsupportedError} there are no types to be had */
export function readKernel(
  { backend, kernelBtf }: Pick<SessionOptions, "backend" | "kernelBtf">,
): KernelSources {
  const ftrace = backend === "tracepoint" ? undefined : fetchFtraceList();
  ftrace?.catch(() => {}); // whoever needs the list awaits it and hears of it
  const btf = loadKernelBtf(kernelBtf === undefined ? {} : { file: kernelBtf });
  return { btf, ...(ftrace === undefined ? {} : { ftrace }) };
}

/**
 * Chooses backend and functions, creates the maps. Nothing is attached yet.
 *
 * @throws {UnsupportedError} this kernel, or these rights, allow no backend, or not the one that was asked for
 * @throws {FilterSyntaxError} the expression does not fit this kernel's types
 */
export async function openSession(
  options: SessionOptions,
  { btf, ftrace, symbols }: KernelSources = readKernel(options),
): Promise<Session> {
  const { filter, tunnel, mark, netns, ifindex, meta, tuple } = options;
  const { follow = false, ids = false, stacks = false, packetlessFunctions: packetless = [] } = options;
  const expression = options.expression === undefined
    ? undefined
    : compileFilter(options.expression, btf, skb);
  const xdpExpression = options.xdpExpression === undefined
    ? undefined
    : compileFilter(options.xdpExpression, btf, xdp);
  const types = new BtfTypes(btf), maps = new Maps();
  const { additions, ...shown } = compileContents(options.contents ?? {}, types);
  const memory = filter === undefined && tunnel === undefined
    ? undefined
    : readMemoryMap(types.sizeOf("page"));
  const trace: TraceOptions = {
    kernel: types,
    access: directAccess(types) ?? bulkAccess(),
    maps: traceMaps(options.ringBytes, options.trackedPackets),
    meta,
    tuple,
    additions,
    ...(follow || ids || stacks
      ? { tracking: { follow, ids, stacks, frames: options.programs?.includes("xdp") === true } }
      : {}),
    ...(filter === undefined ? {} : { filter }),
    ...(tunnel === undefined ? {} : { tunnel }),
    ...(mark === undefined ? {} : { mark }),
    ...(netns === undefined ? {} : { netns }),
    ...(ifindex === undefined ? {} : { ifindex }),
    ...(expression === undefined ? {} : { expression }),
    ...(memory === undefined ? {} : { memory }),
  };
  if (stacks) requireStacks(options.backend);
  const load: Load = (spec) => loadProgram(spec, { maps });
  const context = probeContext(process.arch, pageSize), warnings: string[] = [], names = new Set(packetless);
  const withBeneath = (backend: FunctionBackend, { extras: { packetless: named }, places }: Selected) => {
    if (named.length === 0 && places === undefined) return backend;
    const helpers = places === undefined ? undefined : {
      places,
      calls: new HelperCalls(maps.get(trace.maps.callers), places.base, {
        kfuncsById: process.arch === "arm64",
      }),
    };
    return new BackendWithBeneath(backend, new BeneathProbes(trace, types, load), { named, helpers }, names);
  };
  const select = async (): Promise<Selected> => {
    const sources = readFunctionSources({
      kernel: btf,
      modules: moduleTypes(btf, options.modules),
      useFtrace: false,
    });
    // The peak of memory comes now, with the lists of functions on top of the types.
    releaseCode();
    const all = { ...sources, symbols: () => symbols ?? sources.symbols(), ftrace: await ftrace };
    const selection = selectFunctions(all, options.functionPattern);
    if (selection.functions.length > 0) {
      const extras = trace.tracking === undefined
        ? undefined
        : findExtras(all, selection, { stacks, packetless });
      const places = options.helpers === true ? helperPlaces(all, selection.recordAddresses) : undefined;
      releaseMemory();
      if (extras === undefined) return { selection, extras: noExtras };
      if (!hasEnds(extras)) warnings.push(ENDLESS);
      return { selection, extras, ...(places === undefined ? {} : { places }) };
    }
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
  let asides: readonly TracepointHook[] = options.ends === true
    ? packetTracepoints(btf).filter(({ name }) => endingTracepoints.includes(name))
    : [];
  const create: Readonly<Record<BackendName, () => Promise<ProbeBackend>>> = {
    async "kprobe-multi"() {
      requireKprobeMulti(types);
      requireFtrace();
      const selected = await select(), { selection, extras } = selected;
      return withBeneath(
        new KprobeMultiBackend(selection, trace, context, load, maps, extras),
        selected,
      );
    },
    async kprobe() {
      const kprobes = openKprobes<TracedFunction>(); // first: where it says no, choosing functions is wasted
      const selected = await select(), { selection, extras } = selected;
      return withBeneath(
        new ClassicKprobeBackend(
          kprobes,
          selection,
          trace,
          context,
          load,
          maps,
          extras,
          options.kprobeBatch,
        ),
        selected,
      );
    },
    // deno-lint-ignore require-await
    async tracepoint() {
      if (options.contents?.caller) {
        const instead = options.backend === undefined ? "kprobes cannot be set here, and " : "";
        throw new UnsupportedError(`Cannot print callers: ${instead}tracepoints have none`, {
          hint: "leave out --output-caller, or take --output-stack, which shows callers too",
        });
      }
      if (stacks) requireStacks("tracepoint");
      const matches = wholeName(options.functionPattern), all = packetTracepoints(btf);
      const hooks = options.functionPattern === "" ? all : all.filter(({ name }) => matches.test(name));
      asides = asides.filter(({ index }) => !hooks.some((hook) => hook.index === index));
      if (hooks.length > 0) {
        const followed = trace.tracking !== undefined;
        if (followed) asides = asides.map((hook) => ({ ...hook, fate: "ends" }));
        return new TracepointBackend(followed ? withFates(hooks, all, asides) : hooks, trace, load);
      }
      throw new UsageError(
        `Cannot find a tracepoint for "${options.functionPattern}": there are ${
          all.map(({ name }) => name).join(", ")
        }`,
        "--filter-func",
      );
    },
  };
  try {
    const chosen = await choose(options.backend, create);
    // They are not printed, so they carry nothing for that.
    const backend = asides.length === 0
      ? chosen.backend
      : new BackendWithEnds(chosen.backend, new TracepointBackend(asides, { ...trace, additions: {} }, load));
    const contents = { ...shown, record: recordOf(trace) };
    const programs = options.programs ?? [];
    const whole = programs.length === 0 ? backend : new BackendWithPrograms(
      backend,
      new ProgramTracing({
        kinds: new Set(programs),
        options: trace,
        load: (spec, target) => loadProgram(spec, { maps, attachBtfObjFd: target.fd }),
        ...(xdpExpression === undefined ? {} : { xdpExpression }),
      }, types.enumNames("xdp_action")),
      programs,
    );
    return new Session(types, maps, trace, load, {
      ...chosen,
      backend: whole,
      contents,
      warnings,
      asides,
      packetless: names,
    });
  } catch (error) {
    maps[Symbol.dispose]();
    throw error;
  }
}

/** @throws {UnsupportedError} stacks cannot be told apart with this backend */
function requireStacks(backend: BackendName | undefined): void {
  if (backend === "tracepoint") {
    throw new UnsupportedError(
      "Cannot follow packets by their stacks: tracepoints do not tell where the stack is",
      { hint: "--backend kprobe-multi and --backend kprobe do" },
    );
  }
}

/**
 * The hooks of packets that are followed, those first where packets end, and where nobody sees that, hooks for it.
 *
 * @param asides what else is probed, which tells of ends too
 */
function withFates(
  hooks: readonly TracepointHook[],
  all: readonly TracepointHook[],
  asides: readonly TracepointHook[],
): TracepointHook[] {
  const ends = all.filter(({ name }) => endingTracepoints.includes(name));
  const [shown, others] = [
    ends.filter((hook) => hooks.includes(hook)),
    hooks.filter((hook) => !ends.includes(hook)),
  ];
  const unseen = asides.length > 0 ? [] : ends.filter((hook) => !shown.includes(hook));
  return [
    ...unseen.map((hook) => ({ ...hook, fate: "ends unseen" as const })),
    ...shown.map((hook) => ({ ...hook, fate: "ends" as const })),
    ...others,
  ];
}

function moduleTypes(kernel: Btf, modules: SessionOptions["modules"]): Btf[] {
  const names = modules === "all" ? modulesWithBtf() : modules;
  return names.map((name) => loadModuleBtf(name, kernel));
}

/** What a kernel that hides its `endingFunctions` means for tracking. */
const ENDLESS =
  "Packets are followed until their addresses are used again: no function that frees them can be traced";

/** What a session is made of. */
interface Opened extends Chosen {
  readonly contents: RecordContents;
  /** tracepoints that tell of ends and were not asked for */
  readonly asides: readonly TracepointHook[];
  /** what cannot be told of packets that are followed */
  readonly warnings: readonly string[];
  /** names of functions without a packet; grows */
  readonly packetless: ReadonlySet<string>;
}

/** What a backend for functions is given. */
interface Selected {
  readonly selection: Selection;
  readonly extras: Extras;
  /** absent: helpers are not asked for */
  readonly places?: HelperPlaces;
}
