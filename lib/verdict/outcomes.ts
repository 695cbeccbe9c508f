/**
 * How packets ended: one row per distinct outcome, with a count. Computed from the records as they come, so that
 * a trace of any length takes the same memory.
 */
import { codeText, offsetOf } from "../output/cells.ts";
import type { InterfaceNames, Names } from "../output/printer.ts";
import { type Device, type Life, Lives, type LivesOptions, type Process } from "./lives.ts";
import { isDeferredFree, isErrand, isReader, isReplacement } from "./roles.ts";
import { Stations } from "./stations.ts";

/**
 * `dropped`         the kernel gave it up, for a reason
 * `delivered`       a socket took it, and perhaps a process read it
 * `forwarded`       a driver got it, after this node had received it; `sent`: after this node had made it
 * `consumed`        the kernel was done with it
 * `queued`          it still waits, for a device to send it or for a process to read it
 * `lost-from-view`  no end was seen: it went on, or waits, where nothing is probed
 * `other`           of too many distinct outcomes, those that came late
 */
export type Outcome =
  | "dropped"
  | "delivered"
  | "forwarded"
  | "sent"
  | "consumed"
  | "queued"
  | "lost-from-view"
  | "other";

export interface OutcomeRow {
  readonly outcome: Outcome;
  packets: number;
  /** the function that ended it, or the last one that had it; null for "other" */
  readonly func: string | null;
  /** the code that ended it, `symbol+0xoff`, where the kernel tells */
  readonly location: string | null;
  /** of what was dropped: the name in enum skb_drop_reason, and the number; null where the kernel has none */
  readonly reason: string | null;
  readonly reasonCode: number | null;
  /** `name:pid` of the process that read it; null: nobody, or nobody we know */
  readonly process: string | null;
  /** `name:index` of the device that it was handed to, and the inode of its namespace */
  readonly iface: string | null;
  readonly netns: number | null;
}

const TIMESTAMP = offsetOf.timestamp;
/** Distinct outcomes to tell apart. */
const DEFAULT_ROWS = 4096;
/** Reasons that say nothing; the second is no drop at all. */
const NO_REASON = "SKB_DROP_REASON_NOT_SPECIFIED", CONSUMED = "SKB_CONSUMED";

const nothing = {
  func: null,
  location: null,
  reason: null,
  reasonCode: null,
  process: null,
  iface: null,
  netns: null,
} as const;

export interface OutcomeOptions extends LivesOptions {
  readonly rows?: number;
  /** no packet leaves a queue unseen: what entered one and was not seen again is still there */
  readonly sees?: { readonly queues: boolean; readonly sockets: boolean };
  /** functions without a packet: that one ran beneath a packet's function says nothing of where the packet is */
  readonly packetless?: ReadonlySet<string>;
}

export class Outcomes {
  /** records that were taken in */
  seen = 0;
  /** ns, CLOCK_MONOTONIC: earlier records are left out. While probes are missing, so are stations and ends */
  from = 0;
  readonly #names: Names;
  readonly #interfaces: InterfaceNames;
  readonly #stations: Stations;
  readonly #lives: Lives;
  readonly #rows = new Map<string, OutcomeRow>();
  readonly #places = new Map<bigint, string>();
  readonly #limit: number;
  readonly #sees: { readonly queues: boolean; readonly sockets: boolean };

  constructor(
    names: Names,
    interfaces: InterfaceNames,
    {
      rows = DEFAULT_ROWS,
      packetless = new Set(),
      sees = { queues: false, sockets: false },
      ...lives
    }: OutcomeOptions = {},
  ) {
    this.#sees = sees;
    this.#names = names;
    this.#interfaces = interfaces;
    this.#stations = new Stations(names, packetless);
    this.#limit = rows;
    this.#lives = new Lives((life) => this.#count(life), lives);
  }

  /** Takes in the record at `offset`; nothing of it is kept. */
  see(view: DataView, offset: number): void {
    const now = view.getUint32(offset + TIMESTAMP + 4, true) * 2 ** 32 +
      view.getUint32(offset + TIMESTAMP, true);
    if (now < this.from) return;
    this.seen++;
    const station = this.#stations.at(view, offset);
    if (station.role !== "beneath") this.#lives.see(view, offset, station, now);
  }

  /** packets whose end is not known, because there were too many at a time */
  get forgotten(): number {
    return this.#lives.forgotten;
  }

  /** The table, once nothing more will be seen: most packets first. */
  finish(): OutcomeRow[] {
    this.#lives.finish();
    return [...this.#rows.entries()]
      .sort(([a, x], [b, y]) => y.packets - x.packets || (a < b ? -1 : 1))
      .map(([, row]) => row);
  }

  #count(life: Life): void {
    const row = this.#outcomeOf(life);
    const key = JSON.stringify([
      row.outcome,
      row.location,
      row.func,
      row.reasonCode,
      row.process,
      row.iface,
      row.netns,
    ]);
    let counted = this.#rows.get(key);
    if (counted === undefined) {
      if (this.#rows.size < this.#limit) this.#rows.set(key, counted = row);
      else {this.#rows.set(
          "other",
          counted = this.#rows.get("other") ?? { ...nothing, outcome: "other", packets: 0 },
        );}
    }
    counted.packets++;
  }

  #outcomeOf(life: Life): OutcomeRow {
    const { end, last, reader, device, queue } = life;
    const location = end === undefined || end.place === 0n ? null : this.#place(end.place);
    const placed = location?.replace(/\+0x[0-9a-f]+/, "") ?? "";
    const errand = isErrand(placed);
    const row = { ...nothing, packets: 0, location, func: location === null || errand ? last.name : placed };
    // Of what went well the last step matters, not by whose help its memory was freed.
    const good = { ...row, location: errand ? null : location };
    if (end?.kind === "drop") {
      const reasonCode = end.reason < 0 ? null : end.reason;
      const reason = this.#names.dropReasons.get(end.reason) ?? null;
      // What a process has read may be thrown away as it pleases; a reason that is one still counts.
      const mute = reason === NO_REASON || reasonCode === null;
      if (reason !== CONSUMED && !(mute && reader !== undefined)) {
        return { ...row, outcome: "dropped", reason, reasonCode };
      }
    }
    const process = reader ?? (end !== undefined && isReader(placed) ? end.process : undefined);
    if (process !== undefined) return { ...good, outcome: "delivered", process: processText(process) };
    if (end === undefined && life.socket && this.#sees.sockets) return { ...row, outcome: "queued" };
    const wasRead = end !== undefined && life.receivedIn !== 0 && isDeferredFree(placed);
    if (life.socket || wasRead) return { ...good, outcome: "delivered" };
    if (end !== undefined && isReplacement(placed)) return { ...row, outcome: "consumed" }; // the copy's end counts
    if (device !== undefined) {
      return { ...good, outcome: life.forwarded ? "forwarded" : "sent", ...this.#deviceOf(device) };
    }
    if (end === undefined && queue !== undefined && this.#sees.queues) {
      return { ...row, outcome: "queued", ...this.#deviceOf(queue) };
    }
    return { ...row, outcome: end === undefined ? "lost-from-view" : "consumed" };
  }

  #deviceOf({ netns, ifindex }: Device): Pick<OutcomeRow, "iface" | "netns"> {
    const name = this.#interfaces.nameOf(netns, ifindex);
    return { iface: name === undefined ? `${ifindex}` : `${name}:${ifindex}`, netns };
  }

  #place(address: bigint): string {
    let text = this.#places.get(address);
    if (text === undefined) {
      text = codeText(address, this.#names.symbol(address));
      this.#places.set(address, text);
    }
    return text;
  }
}

function processText({ comm, pid }: Process): string {
  return `${comm}:${pid}`;
}
