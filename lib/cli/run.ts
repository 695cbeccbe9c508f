/**
 * The program: command line -> session -> lines, until a signal, the limit, or a reader that has gone.
 *
 * stdout is data, stderr is talk. Everything that is attached is let go of on every way out.
 */
import { closeSync, constants, openSync } from "node:fs";
import { loadKernelBtf } from "../btf/load.ts";
import { BtfTypes } from "../btf/types.ts";
import { UnsupportedError } from "../errors.ts";
import { keepFresh } from "../output/freshness.ts";
import { InterfaceTable, type NetnsFailure } from "../output/interfaces.ts";
import type { Ledger } from "../output/ledger.ts";
import { NetnsNameTable } from "../output/netns_names.ts";
import { makePrinter, openOutput } from "../output/open.ts";
import type { Names } from "../output/printer.ts";
import { putLine } from "../output/writer.ts";
import { resolvedNames } from "../pcap_filter/names_files.ts";
import { readKallsyms } from "../symbols/kallsyms.ts";
import { type SymbolTable, symbolText } from "../symbols/table.ts";
import { CLOCK_MONOTONIC, CLOCK_REALTIME, clockGettime } from "../sys/clock.ts";
import { confine } from "../sys/confine.ts";
import { isatty, STDOUT } from "../sys/fd.ts";
import { isErrno } from "../sys/ffi.ts";
import { releaseCode, releaseMemory } from "../sys/memory.ts";
import type { ProbeBackend } from "../trace/backend.ts";
import { compileFor, compilePacketFilter, compileTunnelFilter } from "../trace/filter.ts";
import { isExactName } from "../trace/pattern.ts";
import { programsAfter } from "../trace/loaded_programs.ts";
import { watchPrograms } from "../trace/new_programs.ts";
import { openSession } from "../trace/open_session.ts";
import type { Session, SessionOptions } from "../trace/session.ts";
import { Outcomes } from "../verdict/outcomes.ts";
import { printOutcomes } from "../verdict/print.ts";
import { completions, manualPage } from "./documents.ts";
import { demonstrate } from "./demonstrate.ts";
import { diagnose } from "./diagnose.ts";
import { dumpText } from "./dump.ts";
import { helpText, versionText } from "./help.ts";
import type { Options } from "./options.ts";
import { parseCommandLine } from "./parse.ts";
import { Log } from "./log.ts";
import { Reading } from "./reading.ts";
import { errorText, exitStatusFor, exitStatusOf, ledgerText } from "./report.ts";
import { raiseLimits, requireRights } from "./rights.ts";
import { onSignals } from "./signals.ts";
import { printText } from "./stdout.ts";
import { findTarget } from "./targets.ts";

/** Through no symbolic link, which somebody else may have put there. */
const READY_FLAGS = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
/** Bytes. Code farther behind a symbol came after the symbols were read: BPF programs and trampolines do. */
const LONGEST_FUNCTION = 2 ** 20, LONGEST_BPF_PROGRAM = 2 ** 16;
/** Probes that could not be set and are named in the warning; --debug names all. */
const NAMED_FAILURES = 5;

/**
 * Runs the program with the words behind its name.
 *
 * @returns the exit status: 0 ended as asked, 1 failed, 2 wrong command line, 3 something was lost and --strict
 */
export async function run(words: readonly string[], version: string): Promise<number> {
  let debug = words.includes("--debug");
  try {
    const { options, filter } = parseCommandLine(words);
    debug = options.debug;
    if (options.help) printText(helpText());
    else if (options.version) printText(versionText(version));
    else if (options.man) printText(manualPage(version));
    else if (options.completions !== "") printText(completions[options.completions]());
    else if (options.dumpFilter !== "") printText(await dump(options, filter));
    else if (options.demo) {
      const log = new Log({ debug });
      return await demonstrate(options, filter, (session) => names(session, log), log);
    } else if (options.doctor) return await diagnose(options, await sessionOptions(options, filter));
    else return await trace(options, filter, new Log({ debug }));
    return 0;
  } catch (error) {
    new Log({ debug }).print(errorText(error, { debug }));
    return exitStatusOf(error);
  }
}

/** What the filter compiles to. */
async function dump({ dumpFilter, dumpLinkType, kernelBtf }: Options, filter: string): Promise<Uint8Array> {
  const insns = compileFor(dumpLinkType, filter, await resolvedNames(filter));
  const kernel = () => new BtfTypes(loadKernelBtf(kernelBtf === undefined ? {} : { file: kernelBtf }));
  return new TextEncoder().encode(dumpText(dumpFilter, insns, kernel));
}

async function trace(options: Options, filter: string, log: Log): Promise<number> {
  const wanted = await sessionOptions(options, filter);
  requireRights();
  raiseLimits();
  const stop = new AbortController();
  // For as long as the process lives: a signal while it ends should not take away its last words.
  onSignals((signal) => stop.abort(signal));
  using session = await openSession(wanted);
  const { backend } = session;
  await using _probes = letGo(backend, log);
  for (const remark of session.remarks) log.debug(remark);
  if (backend.name === "tracepoint" && options.backend === "") {
    log.warn("Functions cannot be traced here, only tracepoints", {
      why: session.remarks.at(-1) ?? "unknown",
    });
  }
  log.debug("Chosen what to probe", { functions: backend.found, ms: sinceStart() });

  const interfaces = new InterfaceTable();
  const summing = options.summary !== "";
  if (options.outputMeta || summing) warnOfNamespaces(interfaces.scan(), log);
  const netnsNames = new NetnsNameTable();
  if (options.outputNetnsNames && netnsNames.scan() === 0) log.warn("No network namespace has a name");
  using _fresh = keepFresh([interfaces, netnsNames]);
  const namesOf = names(session, log, wanted.contents?.caller || wanted.contents?.stack);
  await using output = openOutput(options, {
    warn: (message, { message: error }) => log.warn(message, { error }),
    beforeTerminal: () => log.clearProgress(),
  });
  const printer = makePrinter(output.writer, {
    ...options,
    tracepoints: backend.name === "tracepoint",
    ...session.contents,
    silent: options.summary === "only",
    bootOffsetNs: clockGettime(CLOCK_REALTIME) - clockGettime(CLOCK_MONOTONIC),
  }, { names: namesOf, interfaces, netnsNames });
  const outcomes = summing
    ? new Outcomes(namesOf, interfaces, {
      packetless: session.packetless,
      sees: seen(options, backend),
    })
    : undefined;
  if (outcomes !== undefined) outcomes.from = Infinity;
  const limit = {
    events: options.outputLimitLines,
    // what happened before all probes were set is printed, and not summed up
    counted: options.summary === "only" ? () => outcomes?.seen ?? 0 : () => printer.printed,
  };
  const reading = new Reading(session, printer, outcomes, output.writer, limit, stop);

  releaseCode();
  log.info("Attaching probes", { via: backend.name });
  for (const remark of session.followLineage()) log.warn(remark);
  await backend.attach({
    signal: stop.signal,
    onLive: () => reading.start(),
    onProgress: (done, total) => log.progress(done, total, "Attached"),
  });
  if (outcomes !== undefined) outcomes.from = Number(clockGettime(CLOCK_MONOTONIC));
  for (const remark of backend.remarks) log.warn(remark);
  log.debug("Attached", { ms: sinceStart() });
  refuseIfNamed(options.filterFunc, backend);
  warnOfFailures(backend, options.debug, log);
  // Classic kprobes are swept up by a helper, which has to be started.
  const unconfined = confine({ mayStartPrograms: backend.name === "kprobe" });
  if (unconfined !== undefined) log.debug("Nothing was given up", { seccomp: unconfined });
  if (!stop.signal.aborted) {
    log.info("Attached", { ignored: backend.failures.length });
    log.info("Listening for events..");
    if (options.readyFile !== undefined) closeSync(openSync(options.readyFile, READY_FLAGS));
  }
  releaseMemory();
  const followsPrograms = wanted.helpers === true || (wanted.programs?.length ?? 0) > 0;
  {
    const onRemark = (remark: string) => log.warn(remark);
    using _new = followsPrograms ? watchPrograms(backend, { signal: stop.signal, onRemark }) : undefined;
    await reading.ended;
  }

  log.info(`${reading.reason}, exiting program..`);
  backend.close();
  await reading.finish();
  const { tracked, ...counted } = session.counted();
  log.debug("Counted in the kernel", { ...counted });
  if (wanted.follow || wanted.ids) log.debug("Still followed", { packets: tracked });
  const ledger: Ledger = {
    ...counted,
    probes: backend.name === "tracepoint" ? "tracepoint" : "function",
    found: backend.found,
    attached: backend.attached,
    refused: backend.failures.length,
    shown: options.summary === "only" ? 0 : printer.printed,
    summaryOnly: options.summary === "only",
    summedUp: outcomes?.seen,
    forgotten: outcomes?.forgotten ?? 0,
    beyondLimit: reading.beyondLimit,
  };
  if (outcomes !== undefined) {
    if (options.summary === "lines" && !options.outputJson) putLine(output.writer, "");
    const frame = options.outputFile === undefined && isatty(STDOUT);
    const form = options.outputJson ? "json" : frame ? "frame" : "columns";
    await printOutcomes(output.writer, outcomes.finish(), form);
  }
  printer.end(ledger);
  await output.writer.flushAll();
  log.print(ledgerText(ledger));
  const giveUp = new AbortController();
  using _second = onSignals(() => giveUp.abort());
  await output.close(giveUp.signal);
  return exitStatusFor(ledger, options);
}

/** Whether packets that leave queues are seen: by functions all of them, by tracepoints those of devices. */
function seen({ filterFunc }: Options, { name }: ProbeBackend): { queues: boolean; sockets: boolean } {
  const all = filterFunc === "";
  return { queues: all, sockets: all && name !== "tracepoint" };
}

/** On every way out: no event comes any more, and what closed probes leave behind is seen to. */
function letGo(backend: ProbeBackend, log: Log): AsyncDisposable {
  return {
    async [Symbol.asyncDispose]() {
      backend.close();
      const giveUp = new AbortController();
      using _signals = onSignals(() => giveUp.abort());
      await backend.release({ say: (sentence) => log.info(sentence), signal: giveUp.signal });
    },
  };
}

/** ms since the process began. */
function sinceStart(): number {
  return Math.round(performance.now());
}

function warnOfNamespaces(failures: readonly NetnsFailure[], log: Log): void {
  if (failures.length === 0) return;
  const { inode, cause } = failures[0] as NetnsFailure;
  log.warn("Some interfaces will have no name", {
    namespaces: failures.length,
    first: inode,
    error: cause.message,
  });
}

/** A function that the user named must be there; of a pattern's, those that can be. */
function refuseIfNamed(pattern: string, { failures, attached }: ProbeBackend): void {
  const named = isExactName(pattern)
    ? failures.find(({ name }) => name.replace(/[.[].*/, "") === pattern)
    : undefined;
  const first = named ?? (attached === 0 ? failures[0] : undefined);
  if (first === undefined) return;
  throw new UnsupportedError(`Cannot probe "${first.name}": ${first.code}`, {
    hint:
      "the kernel refuses probes there; --backend kprobe-multi, kprobe and tracepoint differ in where they can",
  });
}

function warnOfFailures({ failures }: ProbeBackend, all: boolean, log: Log): void {
  if (failures.length === 0) return;
  const named = failures.slice(0, all ? Infinity : NAMED_FAILURES).map(({ name, code }) =>
    `${name} (${code})`
  );
  const more = failures.length - named.length;
  log.warn("Some functions cannot be probed", {
    count: failures.length,
    functions: named.join(" ") + (more === 0 ? "" : ` and ${more} more`),
  });
}

/** Names of functions, code places and drop reasons. kallsyms is read now, or when a place is printed. */
function names(session: Session, log: Log, now = false): Names {
  const dropReasons = session.dropReasons();
  let newest = 0, symbols: SymbolTable | undefined | "hidden";
  const read = () => {
    newest = newestProgram(newest); // first, so that none is taken for known that came after the symbols
    symbols = readSymbols(log);
  };
  if (now) read();
  const nearest = (address: bigint) => {
    if (symbols === "hidden") return undefined;
    const found = symbols?.nearest(address);
    if (found === undefined) return undefined;
    return found.offset > (found.symbol.module === "bpf" ? LONGEST_BPF_PROGRAM : LONGEST_FUNCTION)
      ? undefined
      : found;
  };
  return {
    probe: (address) => session.backend.nameOf(address),
    symbol(address) {
      if (symbols === undefined) read();
      let found = nearest(address);
      const mayBeNewer = symbols !== "hidden" && (found === undefined || found.symbol.module === "bpf");
      // A program that was loaded since lies among those that were there, or where nothing was.
      if (mayBeNewer && newestProgram(newest) > newest) {
        read();
        found = nearest(address);
      }
      return found === undefined ? undefined : { name: symbolText(found.symbol), offset: found.offset };
    },
    verdicts: (address) => session.backend.verdicts?.(address),
    dropReasons,
    reasonArgument: (func) => dropReasons.argumentOf(func),
  };
}

/** The largest id of a BPF program, at least `since`; `since` where we may not list them (CAP_SYS_ADMIN). */
function newestProgram(since: number): number {
  let newest = since;
  try {
    for (const id of programsAfter(since)) newest = id;
  } catch (error) {
    if (!isErrno(error, "EPERM")) throw error;
  }
  return newest;
}

/** Where the kernel hides them, that is said once, and places have no names. */
function readSymbols(log: Log): SymbolTable | "hidden" {
  try {
    return readKallsyms();
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    log.warn("Places in the code have no names", { error: error.message });
    return "hidden";
  }
}

/** The options as the session wants them; what the user got wrong is found here, before anything is opened. */
async function sessionOptions(options: Options, filter: string): Promise<SessionOptions> {
  const { netns, ifindex } = findTarget(options), summing = options.summary !== "";
  const lines = options.summary !== "only"; // else what only lines show need not be collected
  const { filterTunnelPcapL2: l2, filterTunnelPcapL3: l3 } = options;
  const tunnel = await compileTunnelFilter({ l2, l3 }, resolvedNames);
  return {
    functionPattern: options.filterFunc,
    modules: options.allKmods ? "all" : options.kmods,
    ringBytes: options.ringSize,
    meta: options.outputMeta || options.outputNetnsNames || summing,
    tuple: options.outputTuple || summing,
    ends: summing,
    contents: {
      caller: lines && options.outputCaller,
      stack: lines && options.outputStack,
      controlBlock: lines && options.outputSkbCb,
      tunnel: lines && options.outputTunnel,
      mapOperation: lines && options.outputBpfmap,
      dumps: [
        ...(lines && options.outputSkb ? ["skb" as const] : []),
        ...(lines && options.outputSkbSharedInfo ? ["sharedInfo" as const] : []),
      ],
      values: options.outputSkbMetadata,
      xdpValues: options.outputXdpMetadata,
    },
    follow: options.filterTrackSkb,
    ids: lines && options.outputPacketId,
    stacks: options.filterTrackSkbByStackid || options.filterNonSkbFuncs.length > 0 ||
      options.filterTrackBpfHelpers,
    packetlessFunctions: options.filterNonSkbFuncs,
    helpers: options.filterTrackBpfHelpers,
    programs: [
      ...(options.filterTraceTc ? ["tc" as const] : []),
      ...(options.filterTraceXdp ? ["xdp" as const] : []),
    ],
    kprobeBatch: options.filterKprobeBatch,
    trackedPackets: options.filterTrackLimit,
    ...(options.backend === "" ? {} : { backend: options.backend }),
    ...(options.kernelBtf === undefined ? {} : { kernelBtf: options.kernelBtf }),
    ...(filter === "" ? {} : { filter: compilePacketFilter(filter, await resolvedNames(filter)) }),
    ...(tunnel === undefined ? {} : { tunnel }),
    ...(options.filterMark.mask === 0
      ? {}
      : { mark: { value: options.filterMark.mark, mask: options.filterMark.mask } }),
    ...(netns === undefined ? {} : { netns }),
    ...(ifindex === undefined ? {} : { ifindex }),
    ...(options.filterSkbExpr === undefined ? {} : { expression: options.filterSkbExpr }),
    ...(options.filterXdpExpr === undefined ? {} : { xdpExpression: options.filterXdpExpr }),
  };
}
