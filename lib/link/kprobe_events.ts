/**
 * Classic kprobes for kernels without FPROBE: many probes on one tracefs event, defined disarmed, then armed,
 * fed and later disarmed together by one perf event (kernel/trace/trace_kprobe.c, trace_event_perf.c).
 *
 *     batch -> one event per program -> one line per function -> one perf event, cpu 0, any process
 *
 * Measured for 1,340 to 1,600 functions under emulation: defining 0.5 ms each on 5.10 and 5 to 11 ms later
 * (the kernel decodes the jump labels at lower addresses, twice), arming 0.1 s, closing 0.1 to 0.7 s in all. A probe at a time would
 * take 45 ms to arm and 100 ms to close. What close leaves behind is inert: no breakpoint, no program, just
 * definitions; see sweep.ts for their end.
 */
import { setImmediate as turn } from "node:timers/promises";
import type {
  AttachFailure,
  AttachOptions,
  AttachResult,
  KprobeBackend,
  KprobeTarget,
  ReleaseOptions,
} from "./kprobe_backend.ts";
import { lock, lockBlocking } from "./lock.ts";
import { formatOwner, ourselves } from "./owner.ts";
import { formatDefinition, sumMisses } from "./probe_definition.ts";
import { firingPlaces, firstPlace, nextPlace, type PlaceRules } from "./probe_place.ts";
import { sweepAtExit } from "./sweep.ts";
import type { ProbeControl } from "./tracefs.ts";

/** Opens perf events on tracepoints; tests put a model in its place. */
export interface TracepointEvents {
  /** Arms the event's probes and runs `program` at each hit, until disposed. */
  open(eventId: number, program: number): Disposable;
}

/** The event loop gets a turn after `AttachOptions.batchSize` definitions or so much time, whichever is first. */
const defaultBatchSize = 10, msPerTurn = 100;

/** Deleters hold the lock for 8 deletions, 15 to 30 ms each. */
const lockPatienceMs = 2000, closingPatienceMs = 500;

/** Events of all instances in this process: their names must differ. */
let eventCount = 0;

/** Constant of the next probe, distinct among the probes of any one event. */
let probeCount = 0;

export interface KprobeEventsParts {
  readonly control: ProbeControl;
  readonly perf: TracepointEvents;
  /** functions that a livepatch redirects: a probe behind their nop would never fire */
  readonly livepatched?: ReadonlySet<string>;
  readonly group?: string;
  readonly arch?: string;
  /** who deletes the definitions at exit */
  readonly sweep?: (groups: string[], options: ReleaseOptions) => Promise<void>;
}

export class KprobeEvents<T extends KprobeTarget> implements KprobeBackend<T> {
  readonly name = "kprobe events";
  readonly group: string;
  readonly #control: ProbeControl;
  readonly #perf: TracepointEvents;
  readonly #livepatched: ReadonlySet<string>;
  readonly #arch: string;
  readonly #sweep: NonNullable<KprobeEventsParts["sweep"]>;
  readonly #probes = new Map<bigint, T>();
  readonly #open: Disposable[] = [];
  readonly #events = new Set<string>();
  #defined = 0;

  constructor(parts: KprobeEventsParts) {
    this.#control = parts.control;
    this.#perf = parts.perf;
    this.#livepatched = parts.livepatched ?? new Set();
    this.group = parts.group ?? formatOwner(ourselves());
    this.#arch = parts.arch ?? process.arch;
    this.#sweep = parts.sweep ?? sweepAtExit;
  }

  get probes(): ReadonlyMap<bigint, T> {
    return this.#probes;
  }

  /** @throws {KernelError} the perf event or the program was refused: then nothing would work */
  async attach(
    batches: readonly (readonly T[])[],
    programs: ReadonlyMap<number, number>,
    options: AttachOptions<T> = {},
  ): Promise<AttachResult<T>> {
    const total = batches.reduce((sum, batch) => sum + batch.length, 0);
    const failed: AttachFailure<T>[] = [];
    let attached = 0, done = 0;
    const rules = { arch: this.#arch, recordAddresses: options.recordAddresses ?? false };
    const pace = new Pace(options.batchSize ?? defaultBatchSize);
    // Shared: two that attach do not wait for one another, only deleting holds attaching up.
    const locked = await lock(this.#control, "probes", "shared", {
      patienceMs: lockPatienceMs,
      signal: options.signal,
    });
    try {
      for (const batch of batches) {
        for (const [program, targets] of byProgram(batch, programs)) {
          // The pid is for kprobe_profile, which knows no groups.
          const event = `e${eventCount++}_${process.pid}`;
          let defined = 0;
          for (const target of targets) {
            if (pace.isDue()) {
              options.onProgress?.(done, total);
              await pace.rest();
            }
            if (options.signal?.aborted === true) return { attached, failed, interrupted: true };
            pace.step();
            const code = this.#define(event, target, rules, options.onProbe);
            done++;
            if (code === undefined) defined++;
            else {
              failed.push({ target, code });
              options.onFailure?.({ target, code });
            }
          }
          if (defined === 0) continue;
          if (options.uncounted !== true) this.#events.add(event);
          this.#open.push(this.#perf.open(this.#control.eventId(this.group, event), program));
          attached += defined;
          options.onLive?.(attached);
        }
        options.onProgress?.(done, total);
        await pace.rest();
      }
      return { attached, failed, interrupted: false };
    } finally {
      if (locked) this.#control.unlock("probes");
    }
  }

  /** Tries the places of a function in turn; the errno's name when the kernel refused them all. */
  #define(
    event: string,
    target: T,
    rules: PlaceRules,
    onProbe: AttachOptions<T>["onProbe"],
  ): string | undefined {
    const { address, name } = target;
    for (let place = firstPlace(address, rules, this.#livepatched.has(name));;) {
      const definition = { group: this.group, event, address: place, index: probeCount++ };
      const code = this.#control.write(formatDefinition(definition));
      if (code === undefined) {
        this.#defined++;
        for (const at of firingPlaces(address, rules, place)) {
          this.#probes.set(at, target);
          onProbe?.(at, target);
        }
        return undefined;
      }
      const next = nextPlace(address, rules, place, code);
      if (next === undefined) return code;
      place = next;
    }
  }

  missed(): bigint {
    return this.#events.size === 0 ? 0n : sumMisses(this.#control.profile(), this.#events);
  }

  close(): void {
    if (this.#open.length === 0) return;
    // Another one's deletions would hold us up at every single event; they pause for who has this lock.
    const locked = lockBlocking(this.#control, "probes", "shared", closingPatienceMs);
    for (const event of this.#open.splice(0)) event[Symbol.dispose]();
    if (locked) this.#control.unlock("probes");
  }

  async release(options: ReleaseOptions): Promise<void> {
    this.close();
    if (this.#defined === 0) return;
    this.#defined = 0;
    this.#events.clear();
    await this.#sweep([this.group], options);
  }

  /** Closes the events. Definitions stay until `release` or the next start. */
  [Symbol.dispose](): void {
    this.close();
    this.#control[Symbol.dispose]();
  }
}

/** Says when the event loop should have its turn. */
class Pace {
  readonly #linesPerTurn: number;
  #lines = 0;
  #since = performance.now();

  constructor(linesPerTurn: number) {
    this.#linesPerTurn = linesPerTurn;
  }

  isDue(): boolean {
    return this.#lines >= this.#linesPerTurn || performance.now() - this.#since >= msPerTurn;
  }

  step(): void {
    this.#lines++;
  }

  async rest(): Promise<void> {
    await turn();
    this.#lines = 0;
    this.#since = performance.now();
  }
}

/**
 * The functions of a batch by the program that serves them, order kept.
 *
 * @throws {RangeError} no program for an argument position
 */
export function byProgram<T extends KprobeTarget>(
  batch: readonly T[],
  programs: ReadonlyMap<number, number>,
): Map<number, T[]> {
  const groups = new Map<number, T[]>();
  for (const target of batch) {
    const program = programs.get(target.argument);
    if (program === undefined) {
      throw new RangeError(`${target.name}: no program takes the packet from argument ${target.argument}`);
    }
    const group = groups.get(program);
    if (group === undefined) groups.set(program, [target]);
    else group.push(target);
  }
  return groups;
}
