/**
 * Packets by address, from their first record to their end.
 *
 * The kernel frees an sk_buff and gives its memory to the next packet, so an address is a packet only for a
 * while. A life ends where the kernel says so: a tracepoint at the last reference, or a function that gives the
 * memory back. Where no such record came (it was lost, or the packet did not match any more, or only tracepoints
 * are there, which do not tell of every end), the next packet shows itself when it enters a device with another
 * identity, or in a namespace that the last one cannot have come from.
 */
import { packetEvent } from "../../bpf-programs/events.ts";
import { offsetOf } from "../output/cells.ts";
import { Identity } from "./identity.ts";
import { isDrop, isEnding } from "./roles.ts";
import type { Station } from "./stations.ts";

/** How the kernel let go of a packet. */
export interface End {
  /** `free`: its memory was given back without a word */
  readonly kind: "drop" | "consume" | "free";
  /** enum skb_drop_reason; -1: not told */
  readonly reason: number;
  /** code address; 0n: not told */
  readonly place: bigint;
  /** in which this happened */
  readonly process: Process;
}

export interface Process {
  readonly pid: number;
  readonly comm: string;
}

export interface Device {
  readonly netns: number;
  readonly ifindex: number;
}

/** One packet. */
export class Life {
  /** who had it last; those that free it do not count */
  last: Station;
  /** a node sent on what it had received */
  forwarded = false;
  /** a socket took it */
  socket = false;
  /** who read it */
  reader: Process | undefined;
  /** whose driver has it, as of now */
  device: Device | undefined;
  /** whose queue it was handed to, while no driver has it */
  queue: Device | undefined;
  /** what the kernel said of its end; while it is not `over`, somebody else may still hold it */
  end: End | undefined;
  over = false;
  /** ns: when it was seen last */
  seen = 0;
  /** when it entered a device last; 0: unknown */
  identity = 0;
  wraps = false;
  /** the namespace that received it; 0: not received, or sent since */
  receivedIn = 0;

  constructor(last: Station) {
    this.last = last;
  }
}

export interface LivesOptions {
  /** packets to remember at a time */
  readonly limit?: number;
  /** seconds: a packet without a record for so long has gone where we cannot see it, or waits */
  readonly settledAfter?: number;
}

const DEFAULT_LIMIT = 65_536, DEFAULT_SETTLED_AFTER = 5, NS_PER_S = 1e9;
/** The part of the packets that a full memory is relieved of at a time. */
const SWEPT_SHARE = 1 / 16;

const { skb: SKB, netns: NETNS, ifindex: IFINDEX, pid: PID, comm: COMM } = offsetOf;
const { protocol: PROTOCOL, headerBytes: HEADER_LENGTH, headers: HEADERS } = offsetOf;
const HEADER_ROOM = packetEvent.fields.headers.type.size, COMM_BYTES = packetEvent.fields.comm.type.size;

export class Lives {
  /** packets that were given up while they may still have been on their way */
  forgotten = 0;
  readonly #lives = new Map<number, Life>();
  readonly #onEnd: (life: Life) => void;
  readonly #limit: number;
  readonly #settledAfterNs: number;
  readonly #identity = new Identity();

  /** @param onEnd is told of each packet once: when it ended, or when nothing more will be seen of it */
  constructor(
    onEnd: (life: Life) => void,
    { limit = DEFAULT_LIMIT, settledAfter = DEFAULT_SETTLED_AFTER }: LivesOptions = {},
  ) {
    this.#onEnd = onEnd;
    this.#limit = limit;
    this.#settledAfterNs = settledAfter * NS_PER_S;
  }

  /** packets that are remembered now */
  get size(): number {
    return this.#lives.size;
  }

  /** Takes in the record at `offset`, which is `station`'s and was made at `now`, in ns. */
  see(view: DataView, offset: number, station: Station, now: number): void {
    const role = station.role, ending = isEnding(role);
    // Multiples of 8 whose upper byte is the same in all of them: 53 bits tell them apart.
    const key = (view.getUint32(offset + SKB + 4, true) & 0xff_ffff) * 0x2000_0000 +
      (view.getUint32(offset + SKB, true) >>> 3);
    const known = this.#lives.get(key), living = known !== undefined && !known.over;
    // Of one that is over already; or of a copy that nobody saw, which is nobody's packet unless it is dropped. The
    // last reference to what is over is not dropped once more: that is such a copy, at the same address.
    if (!living && ending && (known === undefined ? !isDrop(role) : role !== "dropped")) return;
    const enters = role === "receive" || role === "transmit";
    if (enters) this.#identify(view, offset);
    let life = known;
    if (life === undefined || life.over || (enters && this.#isAnother(life, view, offset, station))) {
      if (life !== undefined && !life.over) this.#finish(life);
      life = this.#begin(key, station, now);
    }
    life.seen = now;
    if (ending) this.#approachEnd(life, view, offset, station);
    else this.#pass(life, view, offset, station);
  }

  /** Nothing more will be seen of any packet. */
  finish(): void {
    for (const life of this.#lives.values()) if (!life.over) this.#finish(life);
    this.#lives.clear();
  }

  #identify(view: DataView, offset: number): void {
    const bytes = Math.min(view.getUint16(offset + HEADER_LENGTH, true), HEADER_ROOM);
    this.#identity.read(view, offset + HEADERS, bytes, view.getUint16(offset + PROTOCOL));
  }

  /** Whether what enters a device now cannot be the packet that had this address last. */
  #isAnother(life: Life, view: DataView, offset: number, { role }: Station): boolean {
    const { hash, wraps } = this.#identity;
    if (hash !== 0 && life.identity !== 0 && hash !== life.identity && !wraps && !life.wraps) return true;
    // It leaves the namespace that received it through a device, and is then received in the next.
    const netns = view.getUint32(offset + NETNS, true);
    return role === "transmit" && life.receivedIn !== 0 && netns !== 0 && netns !== life.receivedIn;
  }

  /** A function that does not free it has it. */
  #pass(life: Life, view: DataView, offset: number, station: Station): void {
    life.end = undefined; // somebody still held it
    life.last = station;
    const netns = view.getUint32(offset + NETNS, true);
    switch (station.role) {
      case "receive":
        this.#enter(life);
        life.receivedIn = netns;
        break;
      case "transmit":
        this.#enter(life);
        life.queue = { netns, ifindex: view.getUint32(offset + IFINDEX, true) };
        if (life.receivedIn !== 0 && life.receivedIn === netns) life.forwarded = true;
        life.receivedIn = 0;
        break;
      case "xmit":
        life.device = { netns, ifindex: view.getUint32(offset + IFINDEX, true) };
        life.queue = undefined;
        break;
      case "forward":
        life.forwarded = true;
        break;
      case "socket":
        life.socket = true;
        break;
      case "read":
        life.reader = processOf(view, offset);
    }
  }

  #enter(life: Life): void {
    life.device = undefined;
    life.queue = undefined;
    if (this.#identity.hash === 0) return;
    life.identity = this.#identity.hash;
    life.wraps = this.#identity.wraps;
  }

  #approachEnd(life: Life, view: DataView, offset: number, { role, reason, place }: Station): void {
    const before = life.end;
    // Parts of giving it back are parts of an inner change as well (pskb_expand_head).
    if (role === "tail" && before === undefined) return;
    if (role !== "tail") {
      // Functions that free call one another: the first knows why, the last knows where.
      const kind = role === "dropped"
        ? "drop"
        : role === "consumed"
        ? "consume"
        : before?.kind ?? (role === "freed" ? "free" : role as "drop" | "consume");
      life.end = {
        kind,
        reason: reason < 0 ? before?.reason ?? -1 : view.getUint32(offset + reason, true),
        place: place < 0 ? before?.place ?? 0n : view.getBigUint64(offset + place, true),
        process: before?.process ?? processOf(view, offset),
      };
    }
    if (role !== "drop" && role !== "consume") this.#finish(life);
  }

  #finish(life: Life): void {
    life.over = true;
    this.#onEnd(life);
  }

  #begin(key: number, station: Station, now: number): Life {
    const life = new Life(station);
    this.#lives.delete(key); // to stand behind all others
    if (this.#lives.size >= this.#limit) this.#sweep(now);
    this.#lives.set(key, life);
    return life;
  }

  /** Makes room: what is over or settled goes; if that is not enough, so do those that began first. */
  #sweep(now: number): void {
    const wanted = Math.floor(this.#limit * (1 - SWEPT_SHARE));
    for (const [key, life] of this.#lives) {
      if (!life.over) {
        if (now - life.seen < this.#settledAfterNs) continue;
        this.#finish(life);
      }
      this.#lives.delete(key);
    }
    for (const key of this.#lives.keys()) {
      if (this.#lives.size <= wanted) return;
      this.#lives.delete(key);
      this.forgotten++;
    }
  }
}

const decoder = new TextDecoder();
/** Told last: those who read come in rows. */
let recent: Process = { pid: -1, comm: "" }, recentWords: readonly number[] = [];

function processOf(view: DataView, offset: number): Process {
  const pid = view.getUint32(offset + PID, true), at = offset + COMM;
  const words = [0, 4, 8, 12].map((word) => view.getInt32(at + word, true));
  if (recent.pid === pid && words.every((word, i) => word === recentWords[i])) return recent;
  const bytes = new Uint8Array(view.buffer, view.byteOffset + at, COMM_BYTES), nul = bytes.indexOf(0);
  recentWords = words;
  return recent = { pid, comm: decoder.decode(bytes.slice(0, nul < 0 ? COMM_BYTES : nul)) };
}
