/**
 * The examination: what of this machine the tracer can use. It opens what the loader opens, by the loader's own
 * code, and lets go of it again; what it says is what happened.
 */
import { existsSync, readFileSync } from "node:fs";
import { arch, release } from "node:os";
import { loadModuleBtf, modulesWithBtf } from "../btf/load.ts";
import type { Btf } from "../btf/parse.ts";
import { BtfTypes } from "../btf/types.ts";
import { type FeatureName, features, probe } from "../features.ts";
import { kprobePmuType } from "../link/kprobe_pmu.ts";
import { mountHint, openTracefs, tracefsPresence } from "../link/tracefs.ts";
import { InterfaceTable } from "../output/interfaces.ts";
import { fetchFtraceList, type FtraceList } from "../symbols/ftrace.ts";
import { readKallsyms } from "../symbols/kallsyms.ts";
import { tracefsDirectories } from "../sys/tracefs.ts";
import { ownNetnsInode, reachableNetns } from "../sys/netns.ts";
import { capabilities } from "../sys/process.ts";
import type { BackendName } from "../trace/backend.ts";
import { preference } from "../trace/choose.ts";
import { type KernelSources, readKernel } from "../trace/open_session.ts";
import type { SessionOptions } from "../trace/session.ts";
import { type Costs, measureCosts } from "./costs.ts";
import { type Finding, refusal } from "./finding.ts";
import {
  moduleFinding,
  networkNamespaceFinding,
  readLockdown,
  readNamespaces,
  rightsFinding,
} from "./surroundings.ts";
import { type Trial, tryBackend } from "./trial.ts";

export interface Examination {
  readonly findings: readonly Finding[];
  /** the best backend that works; undefined: none does */
  readonly backend: BackendName | undefined;
  /** whether the tracer takes it without being asked */
  readonly isDefault: boolean;
  /** of a trace with these options, by the best backend */
  readonly costs: Costs | undefined;
  /** what the kernel has of what makes a trace faster or richer; absent: it could not be asked */
  readonly features: Readonly<Partial<Record<FeatureName, boolean>>>;
}

/**
 * @param options those of the trace that would follow
 * @param requireRights throws UnsupportedError where a trace would not begin
 */
export async function examine(
  options: SessionOptions,
  requireRights: (own: ReadonlySet<string>) => void,
): Promise<Examination> {
  const rights = rightsFinding(capabilities(), requireRights);
  const otherwise = rights.state === "no" ? rights.remedy : undefined;
  const types = attempt("kernel types", otherwise, () => {
    const { btf } = readKernel({ ...options, backend: "tracepoint" });
    return { value: btf, found: `${btf.index.length} types, read from the kernel's BTF` };
  });
  const symbols = attempt("kernel symbols", otherwise, () => {
    const value = readKallsyms();
    return { value, found: `${value.size} functions with their addresses` };
  });
  const list = await functionList(otherwise);
  const around: Finding[] = [
    { name: "kernel", state: "ok", found: `Linux ${release()} on ${arch()}` },
    readLockdown(),
    rights,
    ...readNamespaces(),
    networkNamespaceFinding(ownNetnsInode(), reachableNetns().size, new InterfaceTable().scan().length),
    types.finding,
    ...(types.value === undefined ? [] : [moduleTypes(types.value)]),
    ringBuffer(otherwise),
    symbols.finding,
    list.finding,
    kprobeEvents(otherwise),
  ];
  const known = answers(types.value);
  if (types.value === undefined) {
    return { findings: around, backend: undefined, isDefault: false, costs: undefined, features: known };
  }
  const reading = performance.now();
  const kernel: KernelSources = {
    btf: types.value,
    ftrace: { atHand: true, read: () => list.list },
    symbols: symbols.value,
  };
  const trials: Trial[] = [];
  for (const name of preference) trials.push(await tryBackend(name, kernel, otherwise));
  const best = trials.find(({ works }) => works)?.backend;
  return {
    findings: [...around, ...trials.map(({ finding }) => finding)],
    backend: best,
    isDefault: best !== undefined && best === trials.find(({ opens }) => opens)?.backend,
    costs: best === undefined ? undefined : await measureCosts(best, options, kernel, reading),
    features: known,
  };
}

/** Each feature that the kernel says yes or no to. */
function answers(btf: Btf | undefined): Examination["features"] {
  const types = btf === undefined ? undefined : new BtfTypes(btf);
  return Object.fromEntries(features.flatMap(({ name }) => {
    const { supported } = probe(name, { types });
    return supported === "unknown" ? [] : [[name, supported]];
  }));
}

/** Does something once: what it found, or why it could not. */
function attempt<T>(
  name: string,
  otherwise: string | undefined,
  run: () => { value: T; found: string },
): { value?: T; finding: Finding } {
  try {
    const { value, found } = run();
    return { value, finding: { name, state: "ok", found } };
  } catch (error) {
    return { finding: refusal(name, error, otherwise) };
  }
}

/** What ftrace can trace; the promise is for sessions, which are refused with the same error. */
async function functionList(
  otherwise: string | undefined,
): Promise<{ list: Promise<FtraceList | undefined>; finding: Finding }> {
  const name = "function list", promise = fetchFtraceList();
  try {
    const list = await promise;
    if (list !== undefined) {
      const addresses = list.hasAddresses ? "with their addresses" : "by name";
      return {
        list: promise,
        finding: { name, state: "ok", found: `${list.table.size} functions ${addresses}` },
      };
    }
    const [found, remedy] = noList();
    return { list: promise, finding: { name, state: "no", found, remedy } };
  } catch (error) {
    return { list: promise, finding: refusal(name, error, otherwise) };
  }
}

/** Why there is no list, and what would help. */
function noList(): [found: string, remedy: string] {
  if (tracefsPresence() !== "mounted") return ["tracefs is not mounted", mountHint];
  // The file is there and empty: after an error of its own ftrace does nothing more.
  if (tracefsDirectories().some((directory) => existsSync(`${directory}/available_filter_functions`))) {
    return ["it is empty: the kernel has shut ftrace down after an error", "reboot; dmesg has the error"];
  }
  return ["the kernel is built without function tracing", "CONFIG_DYNAMIC_FTRACE=y is missing"];
}

/** Where the classic kprobes are defined, or else their slow way. */
function kprobeEvents(otherwise: string | undefined): Finding {
  const name = "kprobe events";
  const events = attempt(name, otherwise, () => {
    using control = openTracefs();
    return { value: control.listing(), found: "can be defined in tracefs" };
  }).finding;
  if (events.state === "ok") return events;
  const pmu = attempt(name, otherwise, () => ({ value: kprobePmuType(), found: "" })).finding;
  if (pmu.state !== "ok") return events;
  return { ...events, state: "note", found: `${events.found}; perf sets kprobes one by one, which is slow` };
}

function ringBuffer(otherwise: string | undefined): Finding {
  const name = "ring buffer", answer = probe("ring buffer");
  if (answer.supported === true) return { name, state: "ok", found: "can be made" };
  return refusal(name, answer.error, answer.supported === false ? "it takes Linux 5.8" : otherwise);
}

/** Reads the types of every loaded module that has some. */
function moduleTypes(kernel: Btf): Finding {
  let loaded: string | undefined;
  try {
    loaded = readFileSync("/proc/modules", "latin1");
  } catch {
    // The kernel is built without modules.
  }
  try {
    const refused: string[] = [], described = modulesWithBtf();
    for (const module of described) {
      try {
        loadModuleBtf(module, kernel);
      } catch (error) {
        refused.push((error as Error).message);
      }
    }
    return moduleFinding(loaded, described.length, refused);
  } catch (error) {
    return refusal("module types", error);
  }
}
