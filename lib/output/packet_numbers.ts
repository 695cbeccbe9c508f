/**
 * Small numbers for packets: 1, 2, 3 ... in the order in which they are first printed, by the stamps that the programs
 * gave them.
 *
 * Two generations of a cache: a packet that has not been printed while a whole generation of others was gets a new
 * number, so memory is bounded.
 */
import type { RecordLayout } from "../../bpf-programs/events.ts";

/** Packets per generation. */
const GENERATION = 1 << 17;

export class PacketNumbers {
  readonly #stamp: number;
  readonly #generation: number;
  #recent = new Map<bigint, number>();
  #older = new Map<bigint, number>();
  #last = 0;

  /** @param stamp where it lies in a record */
  constructor(stamp: number, generation: number = GENERATION) {
    this.#stamp = stamp;
    this.#generation = generation;
  }

  /** The number of the packet that the record at `offset` is about; 0 when the programs did not know. */
  read(view: DataView, offset: number): number {
    const stamp = view.getBigUint64(offset + this.#stamp, true);
    if (stamp === 0n) return 0;
    const known = this.#recent.get(stamp);
    if (known !== undefined) return known;
    const number = this.#older.get(stamp) ?? ++this.#last;
    if (this.#recent.size >= this.#generation) {
      this.#older = this.#recent;
      this.#recent = new Map();
    }
    this.#recent.set(stamp, number);
    return number;
  }
}

/** Of records that have stamps; undefined: these have none. */
export function packetNumbers(record: RecordLayout | undefined): PacketNumbers | undefined {
  const stamp = record?.fields.stamp;
  return stamp === undefined ? undefined : new PacketNumbers(stamp.offset);
}
