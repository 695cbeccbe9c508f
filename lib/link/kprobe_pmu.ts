/**
 * Classic kprobes where `kprobe_events` cannot be written: one perf event of the "kprobe" PMU per function,
 * by address, at the entry (kernel/events/core.c, perf_kprobe; Linux 4.17).
 *
 * Slow both ways, 7 to 13 ms to attach and 40 to 110 ms to close each, so the caller's order matters and our
 * fds are the limit. At exit a helper inherits the fds: our own close returns at once, and the kernel takes
 * the probes down, which still run the program meanwhile, when the helper ends. That can take minutes.
 */
import { readFileSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import { UnsupportedError } from "../errors.ts";
import type { OwnedFd } from "../sys/fd.ts";
import { freeFiles } from "../sys/process.ts";
import { spawnHelper } from "./helper.ts";
import { firingPlaces, firstPlace, type PlaceRules } from "./probe_place.ts";
import type {
  AttachFailure,
  AttachOptions,
  AttachResult,
  KprobeBackend,
  KprobeTarget,
  ReleaseOptions,
} from "./kprobe_backend.ts";

/** Opens perf events of the kprobe PMU; tests put a model in its place. */
export interface PmuEvents {
  /** A probe at `address` that runs `program`, or the errno's name. */
  open(pmuType: number, address: bigint, program: number): OwnedFd | string;
}

/** fds that the rest of the program may still want: ring buffer, maps, files, the helper's pipes. */
const spareFds = 64;

const pmuTypeFile = "/sys/bus/event_source/devices/kprobe/type";

/**
 * perf_event_attr.type of the PMU.
 *
 * @throws {UnsupportedError} the kernel has none
 */
export function kprobePmuType(
  read: (path: string) => string = (path) => readFileSync(path, "latin1"),
): number {
  try {
    return Number(read(pmuTypeFile));
  } catch (cause) {
    throw new UnsupportedError("Cannot attach kprobes: the kernel has no kprobe PMU", {
      cause,
      hint: "CONFIG_KPROBE_EVENTS=y is missing, or /sys is not mounted",
    });
  }
}

/** How many probes our fds allow. */
export function probeAllowance(): number {
  return Math.max(0, freeFiles() - spareFds);
}

export interface KprobePmuParts {
  readonly perf: PmuEvents;
  readonly pmuType: number;
  /** at most so many probes */
  readonly allowance: number;
  /** starts a process that holds the fds and ends */
  readonly spawn?: (words: string[], fds: number[]) => void;
  readonly pid?: number;
  readonly arch?: string;
}

export class KprobePmu<T extends KprobeTarget> implements KprobeBackend<T> {
  readonly name = "kprobe PMU";
  readonly #parts: Required<KprobePmuParts>;
  readonly #probes = new Map<bigint, T>();
  readonly #events: OwnedFd[] = [];

  constructor(parts: KprobePmuParts) {
    this.#parts = { spawn: spawnHelper, pid: process.pid, arch: process.arch, ...parts };
  }

  get probes(): ReadonlyMap<bigint, T> {
    return this.#probes;
  }

  async attach(
    batches: readonly (readonly T[])[],
    programs: ReadonlyMap<number, number>,
    options: AttachOptions<T> = {},
  ): Promise<AttachResult<T>> {
    const total = batches.reduce((sum, batch) => sum + batch.length, 0);
    const failed: AttachFailure<T>[] = [], before = this.#events.length;
    const rules = { arch: this.#parts.arch, recordAddresses: options.recordAddresses ?? false };
    let done = 0;
    for (const target of batches.flat()) {
      await turn(); // each takes longer than a turn costs
      if (options.signal?.aborted === true) {
        return { attached: this.#events.length - before, failed, interrupted: true };
      }
      const code = this.#attach(target, programs, rules, options.onProbe);
      if (code === undefined) options.onLive?.(this.#events.length - before);
      else {
        failed.push({ target, code });
        options.onFailure?.({ target, code });
      }
      options.onProgress?.(++done, total);
    }
    return { attached: this.#events.length - before, failed, interrupted: false };
  }

  #attach(
    target: T,
    programs: ReadonlyMap<number, number>,
    rules: PlaceRules,
    onProbe: AttachOptions<T>["onProbe"],
  ): string | undefined {
    const program = programs.get(target.argument);
    if (program === undefined) {
      throw new RangeError(`${target.name}: no program takes the packet from argument ${target.argument}`);
    }
    if (this.#events.length >= this.#parts.allowance) return "EMFILE";
    const { address } = target;
    const place = firstPlace(address, rules, true);
    for (const at of firingPlaces(address, rules, place)) {
      this.#probes.set(at, target);
      onProbe?.(at, target);
    }
    const event = this.#parts.perf.open(this.#parts.pmuType, place, program);
    if (typeof event === "string") return event;
    this.#events.push(event);
    return undefined;
  }

  /** Does nothing: the probes are closed by `release`, whose helper does it in our place. */
  missed(): bigint {
    return 0n; // perf counts them for itself and tells nobody (before bpf_link_info of Linux 6.7)
  }

  close(): void {}

  /** Hands the fds to a helper; as process 1 of a container, or without one, closes them here. */
  async release({ say }: ReleaseOptions): Promise<void> {
    const fds = this.#events.map(({ fd }) => fd);
    if (fds.length === 0) return;
    if (this.#parts.pid !== 1) {
      try {
        this.#parts.spawn(["hold"], fds);
        return this[Symbol.dispose]();
      } catch {
        // no helper: close here
      }
    }
    say(`Closing ${fds.length} probes, about ${Math.ceil(fds.length / 10)} s; the kernel cannot be hurried`);
    await turn(); // lets the sentence out
    this[Symbol.dispose]();
  }

  /** Closes what is left: quick while a helper holds the same fds, minutes otherwise. */
  [Symbol.dispose](): void {
    for (const event of this.#events.splice(0)) event[Symbol.dispose]();
  }
}
