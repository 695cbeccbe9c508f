/**
 * What a trace costs here: measured with the tracer's own programs, and carried over from a part of the functions
 * where all of them would take seconds.
 */
import type { BackendName, ProbeBackend } from "../trace/backend.ts";
import { type KernelSources, openSession } from "../trace/open_session.ts";
import type { Session, SessionOptions } from "../trace/session.ts";
import { datagramTime, PLACE, TIMED_DATAGRAMS } from "./datagram.ts";

export interface Costs {
  /** functions or tracepoints that a trace with these options would be attached to */
  readonly probes: number;
  /** s, from the start of the process until the last one is attached */
  readonly startSeconds: number;
  /** ns, at each function that a packet passes which does not match; 0: less than could be measured */
  readonly missNanoseconds: number;
  /** ns, at each function that a packet passes which does; 0 likewise */
  readonly matchNanoseconds: number;
}

/** Enough to tell what one more takes; every kernel with IPv4 has some dozens of them. */
const SAMPLE = "ip_.*";
/** So many are attached for real. */
const FEW = 50;
/** Holds the records of all datagrams that are timed. */
const RING_BYTES = 1 << 20;

/** While a match costs less than 1 ns, which is not true: what else the machine did took longer. */
const ROUNDS = 5;

/**
 * @param options of the trace that would follow
 * @param reading ms that the process took until now, for what a trace reads of the kernel too
 */
export async function measureCosts(
  backend: BackendName,
  options: SessionOptions,
  kernel: KernelSources,
  reading: number,
): Promise<Costs> {
  const atPlace = {
    ...options,
    backend,
    functionPattern: PLACE,
    ringBytes: RING_BYTES,
    programs: [],
    ends: false,
  };
  const { unprobed, miss, match, hits, one } = await timedAt(atPlace, kernel);

  const begin = performance.now();
  const all = await openSession({ ...options, backend }, kernel);
  const opening = performance.now() - begin, probes = all.backend.found;
  const attaching = backend === "kprobe" && probes > FEW
    ? await carriedOver(all, { ...options, backend, functionPattern: SAMPLE }, kernel, one)
    : (await attached(all, () => {})).milliseconds;
  const perHit = (time: number) => Math.max(0, Math.round((time - unprobed) / hits));
  return {
    probes,
    startSeconds: Math.round(reading + opening + attaching) / 1000,
    missNanoseconds: perHit(miss),
    matchNanoseconds: perHit(match),
  };
}

/** What datagrams take that pass one probe, and how long it took to attach. */
interface Times {
  /** ns for each, in the round that was disturbed least: without the probe, not matching, matching */
  unprobed: number;
  miss: number;
  match: number;
  /** of the probe, by each */
  hits: number;
  /** ms to attach it */
  one: number;
}

async function timedAt(place: SessionOptions, kernel: KernelSources): Promise<Times> {
  const unlike = place.filter === undefined ? { mark: { value: 1, mask: 1 } } : {};
  datagramTime(); // until the code is warm
  const least = { unprobed: datagramTime(), miss: Infinity, match: Infinity, hits: 1, one: 0 };
  for (let round = 0; round < ROUNDS; round++) {
    const miss = await attached(await openSession({ ...place, ...unlike }, kernel), () => datagramTime());
    const match = await attached(await openSession(unfiltered(place), kernel), (session) => {
      const time = datagramTime();
      return { time, hits: Number(session.counted().matched) / TIMED_DATAGRAMS };
    });
    least.miss = Math.min(least.miss, miss.result);
    least.match = Math.min(least.match, match.result.time);
    least.unprobed = Math.min(least.unprobed, datagramTime());
    least.hits = Math.max(1, match.result.hits);
    least.one = miss.milliseconds;
    if (least.match - least.unprobed >= least.hits) break;
  }
  return least;
}

/** The same for all packets. */
function unfiltered(options: SessionOptions): SessionOptions {
  const { filter: _filter, tunnel: _tunnel, mark: _mark, netns: _netns, ...others } = options;
  const { ifindex: _ifindex, expression: _expression, ...rest } = others;
  return rest;
}

/** Attaches, does something, and lets go; ms that attaching took. */
async function attached<T>(
  session: Session,
  run: (session: Session) => T,
): Promise<{ milliseconds: number; probes: number; result: T }> {
  using opened = session;
  const probes: ProbeBackend = opened.backend, { signal } = new AbortController();
  const begin = performance.now();
  try {
    await probes.attach({ signal, onLive: () => {}, onProgress: () => {} });
    const milliseconds = performance.now() - begin;
    return { milliseconds, probes: probes.attached, result: run(opened) };
  } finally {
    probes.close();
    await probes.release({ say: () => {}, signal });
  }
}

/** ms to attach all functions of a session, of what `one` and what a sample took. Nothing of `all` is attached. */
async function carriedOver(
  all: Session,
  sample: SessionOptions,
  kernel: KernelSources,
  one: number,
): Promise<number> {
  const count = all.backend.found;
  all[Symbol.dispose]();
  const some = await attached(await openSession(sample, kernel), () => {});
  const each = Math.max(0, some.milliseconds - one) / Math.max(1, some.probes - 1);
  return one + each * (count - 1);
}
