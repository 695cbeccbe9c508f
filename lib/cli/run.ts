/**
 * The program: command line -> session -> lines, until a signal, the limit, or a reader that has gone.
 *
 * stdout is data, stderr is talk. Everything that is attached is let go of on every way out.
 */
import { writeFileSync, writeSync } from "node:fs";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import { loadKernelBtf } from "../btf/load.ts";
import { BtfTypes } from "../btf/types.ts";
import { UnsupportedError } from "../errors.ts";
import { InterfaceTable, type NetnsFailure } from "../output/interfaces.ts";
import { NetnsNameTable } from "../output/netns_names.ts";
import { makePrinter, openOutput } from "../output/open.ts";
import type { EventPrinter, Names } from "../output/printer.ts";
import type { BatchWriter } from "../output/writer.ts";
import { resolvedNames } from "../pcap_filter/names_files.ts";
import { readKallsyms } from "../symbols/kallsyms.ts";
import { type SymbolTable, symbolText } from "../symbols/table.ts";
import { CLOCK_MONOTONIC, CLOCK_REALTIME, clockGettime } from "../sys/clock.ts";
import { writeAll } from "../sys/fd.ts";
import { releaseCode, releaseMemory } from "../sys/memory.ts";
import { raiseLockedMemory, raiseOpenFiles } from "../sys/process.ts";
import type { ProbeBackend } from "../trace/backend.ts";
import { compileFor, compilePacketFilter } from "../trace/filter.ts";
import { isExactName } from "../trace/pattern.ts";
import { openSession, type Session, type SessionOptions } from "../trace/session.ts";
import { dumpText } from "./dump.ts";
import { helpText, versionText } from "./help.ts";
import type { Options } from "./options.ts";
import { parseCommandLine } from "./parse.ts";
import { Log } from "./log.ts";
import { errorText, exitStatusOf, summaryText } from "./report.ts";
import { requireRights } from "./rights.ts";
import { findTarget } from "./targets.ts";

/** Where kprobes can only be set through perf, each takes a file. */
const WANTED_FILES = 65536;
/** Records between two looks at signals and timers: 2 to 4 ms of work. */
const BATCH_RECORDS = 8192;
/** The nap after an empty ring: the first ones short, for a trace that has just begun to speak. */
const NAPS_MS = [1, 1, 2, 2, 5], LONGEST_NAP_MS = 10;
/** Probes that could not be set and are named in the warning; --debug names all. */
const NAMED_FAILURES = 5;
/** Attaching function by function takes so long that memory is given back in between. */
const FUNCTIONS_PER_RELEASE = 128;

/**
 * Runs the program with the words behind its name.
 *
 * @returns the exit status: 0 ended as asked, 1 failed, 2 wrong command line
 */
export async function run(words: readonly string[], version: string): Promise<number> {
  let debug = words.includes("--debug");
  try {
    const { options, filter } = parseCommandLine(words);
    debug = options.debug;
    if (options.help) writeSync(STDOUT, helpText());
    else if (options.version) writeSync(STDOUT, versionText(version));
    else if (options.dumpFilter !== "") writeAll(STDOUT, await dump(options, filter));
    else await trace(options, filter, new Log({ debug }));
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

async function trace(options: Options, filter: string, log: Log): Promise<void> {
  const wanted = await sessionOptions(options, filter);
  requireRights();
  raiseLockedMemory();
  raiseOpenFiles(WANTED_FILES);
  const stop = new AbortController();
  using _signals = onSignals((signal) => stop.abort(signal));
  using session = await openSession(wanted);
  const { backend } = session;
  await using _probes = letGo(backend, log);
  for (const remark of session.remarks) log.debug(remark);
  log.debug("Chosen what to probe", { functions: backend.found, ms: sinceStart() });

  const interfaces = new InterfaceTable();
  if (options.outputMeta) warnOfNamespaces(interfaces.scan(), log);
  const netnsNames = new NetnsNameTable();
  if (options.outputNetnsNames && netnsNames.scan() === 0) log.warn("No network namespace has a name");
  await using output = openOutput(options, (message, { message: error }) => log.warn(message, { error }));
  const printer = makePrinter(output.writer, {
    ...options,
    tracepoints: backend.name === "tracepoint",
    bootOffsetNs: clockGettime(CLOCK_REALTIME) - clockGettime(CLOCK_MONOTONIC),
  }, { names: names(session), interfaces, netnsNames });
  const reading = new Reading(session, printer, output.writer, options.outputLimitLines, stop);

  releaseMemory();
  log.info("Attaching probes", { via: backend.name });
  let releaseAt = FUNCTIONS_PER_RELEASE;
  await backend.attach({
    signal: stop.signal,
    onLive: () => reading.start(),
    onProgress(done, total) {
      log.progress(done, total, "Attached");
      if (done >= releaseAt) {
        releaseCode();
        releaseAt = done + FUNCTIONS_PER_RELEASE;
      }
    },
  });
  for (const remark of backend.remarks) log.warn(remark);
  log.debug("Attached", { ms: sinceStart() });
  refuseIfNamed(options.filterFunc, backend);
  warnOfFailures(backend, options.debug, log);
  if (!stop.signal.aborted) {
    log.info("Attached", { ignored: backend.failures.length });
    log.info("Listening for events..");
    if (options.readyFile !== undefined) writeFileSync(options.readyFile, "");
  }
  releaseMemory();
  await reading.ended;

  log.info(`${reading.reason}, exiting program..`);
  backend.close();
  reading.finish();
  const { matched, lost, unreadable, missed } = session.counted();
  log.debug("Counted in the kernel", { matched, lost, unreadable, missed });
  log.print(summaryText({
    probes: backend.name === "tracepoint" ? "tracepoint" : "function",
    attached: backend.attached,
    found: backend.found,
    shown: printer.printed,
    beyondLimit: reading.beyondLimit,
    lost,
    unreadable,
    missed,
  }));
  const giveUp = new AbortController();
  using _second = onSignals(() => giveUp.abort());
  await output.close(giveUp.signal);
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
  const [first] = failures;
  if (first === undefined || !(isExactName(pattern) || attached === 0)) return;
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

const STDOUT = 1;

/** Moves records from the ring to the printer from `start` on, until it is told to stop. */
class Reading {
  /** resolves when there is nothing more to wait for */
  readonly ended: Promise<void>;
  /** records that came after the last line that was asked for */
  beyondLimit = 0;
  readonly #session: Session;
  readonly #printer: EventPrinter;
  readonly #writer: BatchWriter;
  readonly #limit: number;
  readonly #stop: AbortController;
  readonly #started = Promise.withResolvers<void>();

  constructor(
    session: Session,
    printer: EventPrinter,
    writer: BatchWriter,
    limit: number,
    stop: AbortController,
  ) {
    this.#session = session;
    this.#printer = printer;
    this.#writer = writer;
    this.#limit = limit === 0 ? Infinity : limit;
    this.#stop = stop;
    this.ended = this.#run();
    // An error while probes are still being attached ends that; it is reported by whoever awaits the end.
    this.ended.catch(() => stop.abort());
  }

  /** why it ended, as the log says it */
  get reason(): string {
    if (this.#writer.closed) return "Nobody reads any more";
    return this.#printer.printed >= this.#limit ? "Printed events" : "Received signal";
  }

  /** The header, and from now on events. */
  start(): void {
    this.#printer.header();
    this.#writer.flush();
    this.#started.resolve();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    await Promise.race([this.#started.promise, aborted(signal)]);
    for (let idle = 0; !signal.aborted;) {
      const count = this.#drain();
      if (count > 0) {
        idle = 0;
        await turn(); // signals and timers have their turn
      } else {
        await sleep(NAPS_MS[idle++] ?? LONGEST_NAP_MS);
      }
    }
  }

  /** What is left in the ring once no probe fires any more. */
  finish(): void {
    while (this.#drain() > 0);
  }

  #drain(): number {
    const count = this.#session.drain((view, offset) => {
      if (this.#printer.printed < this.#limit) this.#printer.print(view, offset);
      else this.beyondLimit++;
    }, BATCH_RECORDS);
    this.#writer.flush();
    if (this.#writer.closed || this.#printer.printed >= this.#limit) this.#stop.abort();
    return count;
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  if (signal.aborted) resolve();
  else signal.addEventListener("abort", () => resolve(), { once: true });
  return promise;
}

const endingSignals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

function onSignals(handler: (signal: string) => void): Disposable {
  for (const signal of endingSignals) process.on(signal, handler);
  return {
    [Symbol.dispose]() {
      for (const signal of endingSignals) process.off(signal, handler);
    },
  };
}

/** Names of functions, code places and drop reasons. kallsyms is read when the first place is printed. */
function names(session: Session): Names {
  let symbols: SymbolTable | undefined;
  return {
    probe: (address) => session.backend.nameOf(address),
    place(address) {
      const found = (symbols ??= readKallsyms()).nearest(address);
      if (found === undefined) return undefined;
      return `${symbolText(found.symbol)}+0x${found.offset.toString(16)}`;
    },
    dropReasons: session.dropReasons(),
  };
}

/** The options as the session wants them; what the user got wrong is found here, before anything is opened. */
async function sessionOptions(options: Options, filter: string): Promise<SessionOptions> {
  const { netns, ifindex } = findTarget(options);
  return {
    functionPattern: options.filterFunc,
    modules: options.allKmods ? "all" : options.kmods,
    ringBytes: options.ringSize,
    meta: options.outputMeta || options.outputNetnsNames,
    tuple: options.outputTuple,
    ...(options.backend === "" ? {} : { backend: options.backend }),
    ...(options.kernelBtf === undefined ? {} : { kernelBtf: options.kernelBtf }),
    ...(filter === "" ? {} : { filter: compilePacketFilter(filter, await resolvedNames(filter)) }),
    ...(options.filterMark.mask === 0
      ? {}
      : { mark: { value: options.filterMark.mark, mask: options.filterMark.mask } }),
    ...(netns === undefined ? {} : { netns }),
    ...(ifindex === undefined ? {} : { ifindex }),
    ...(options.filterSkbExpr === undefined ? {} : { expression: options.filterSkbExpr }),
  };
}
