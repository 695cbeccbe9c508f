/**
 * From options to a session: how memory is read here, which backend there is, which functions, which programs.
 */
import { traceMaps } from "../../bpf-programs/maps.ts";
import { bulkAccess, directAccess } from "../../bpf-programs/memory_access.ts";
import { probeContext } from "../../bpf-programs/registers.ts";
import { recordOf, type TraceOptions } from "../../bpf-programs/frame.ts";
import type { TracepointHook } from "../../bpf-programs/tracepoint_program.ts";
import { loadKernelBtf, loadModuleBtf, modulesWithBtf } from "../btf/load.ts";
import type { Btf } from "../btf/parse.ts";
import { BtfTypes } from "../btf/types.ts";
import { UnsupportedError, UsageError } from "../errors.ts";
import { compileFilter, skb, xdp } from "../expr/compile.ts";
import { openKprobes } from "../link/kprobe.ts";
import { Maps } from "../maps/maps.ts";
import { type FtraceSource, ftraceSource } from "../symbols/ftrace.ts";
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
import { choose } from "./choose.ts";
import { compileContents } from "./contents.ts";
import { type Extras, findExtras, hasEnds, noExtras } from "./extras.ts";
import { readFunctionSources, selectFunctions, type Selection, type TracedFunction } from "./functions.ts";
import { HelperCalls } from "./helper_calls.ts";
import { type HelperPlaces, helperPlaces } from "./helper_places.ts";
import { endingTracepoints } from "./lineage.ts";
import { wholeName } from "./pattern.ts";
import { ProgramTracing } from "./program_tracing.ts";
import { Session, type SessionOptions } from "./session.ts";
import { packetTracepoints } from "./tracepoints.ts";

/** What every start reads of the kernel; who opens several sessions reads it once. */
export interface KernelSources {
  readonly btf: Btf;
  /** absent: no backend that needs the list will be opened */
  readonly ftrace?: FtraceSource;
  /** /proc/kallsyms; absent: read when it is needed */
  readonly symbols?: SymbolTable | undefined;
}

/** @throws {UnsupportedError} there are no types to be had */
export function readKernel(
  { backend, kernelBtf }: Pick<SessionOptions, "backend" | "kernelBtf">,
): KernelSources {
  const ftrace = backend === "tracepoint" ? undefined : ftraceSource();
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
  const { stacks = false, packetlessFunctions: packetless = [] } = options;
  const xdpExpression = options.xdpExpression === undefined
    ? undefined
    : compileFilter(options.xdpExpression, btf, xdp);
  const types = new BtfTypes(btf), maps = new Maps();
  const { additions, ...shown } = compileContents(options.contents ?? {}, types);
  const trace = { ...traceOptions(options, types), additions };
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
  const select = async (withList = true): Promise<Selected> => {
    const sources = readFunctionSources({
      kernel: btf,
      modules: moduleTypes(btf, options.modules),
      useFtrace: false,
      symbols,
    });
    // The peak of memory comes now, with the lists of functions on top of the types.
    releaseCode();
    const all = { ...sources, ftrace: withList ? await ftrace?.read() : undefined };
    // Who wants all symbols later on should not read those of the kernel twice.
    if (options.helpers === true || packetless.length > 0) delete all.text;
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
      // Who wants all that there are need not know beforehand which the kernel will refuse.
      const named = options.functionPattern !== "" || trace.tracking !== undefined ||
        options.helpers === true;
      const withList = named || ftrace?.atHand === true;
      const selected = await select(withList), { selection, extras } = selected;
      return withBeneath(
        new ClassicKprobeBackend(
          kprobes,
          selection,
          trace,
          context,
          load,
          maps,
          extras,
          {
            batchSize: options.kprobeBatch,
            ...(withList || ftrace === undefined ? {} : { traceable: ftrace.read }),
          },
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
      if (options.modules !== "all") moduleTypes(btf, options.modules); // a name that is none is said to be so
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

/** What shapes the programs, but what records have beyond the usual. */
function traceOptions(options: SessionOptions, kernel: BtfTypes): Omit<TraceOptions, "additions"> {
  const { filter, tunnel, mark, netns, ifindex, meta, tuple } = options;
  const { follow = false, ids = false, stacks = false, expression, programs = [] } = options;
  const memory = filter === undefined && tunnel === undefined
    ? undefined
    : readMemoryMap(kernel.sizeOf("page"));
  return {
    kernel,
    access: directAccess(kernel) ?? bulkAccess(),
    maps: traceMaps(options.ringBytes, options.trackedPackets),
    meta,
    tuple,
    ...(follow || ids || stacks
      ? { tracking: { follow, ids, stacks, frames: programs.includes("xdp") } }
      : {}),
    ...(filter === undefined ? {} : { filter }),
    ...(tunnel === undefined ? {} : { tunnel }),
    ...(mark === undefined ? {} : { mark }),
    ...(netns === undefined ? {} : { netns }),
    ...(ifindex === undefined ? {} : { ifindex }),
    ...(expression === undefined ? {} : { expression: compileFilter(expression, kernel.btf, skb) }),
    ...(memory === undefined ? {} : { memory }),
  };
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

/** What a backend for functions is given. */
interface Selected {
  readonly selection: Selection;
  readonly extras: Extras;
  /** absent: helpers are not asked for */
  readonly places?: HelperPlaces;
}
