/** From the address in a record to what it tells about the packet. */
import { dropArguments, keep, offsetOf } from "../output/cells.ts";
import type { Names } from "../output/printer.ts";
import { functionRole, type Role, tracepointRole } from "./roles.ts";

/** A function or tracepoint. */
export interface Station {
  readonly role: Role;
  /** with "[module]" */
  readonly name: string;
  /** where in the record the drop reason is; -1: there is none */
  readonly reason: number;
  /** where in the record the code is that let go of the packet; -1: it is not told */
  readonly place: number;
}

const ADDRESS = offsetOf.address;

export class Stations {
  readonly #names: Names;
  readonly #packetless: ReadonlySet<string>;
  readonly #known = new Map<number, { readonly high: number; readonly station: Station }>();

  /** @param packetless names of functions without a packet; may grow */
  constructor(names: Names, packetless: ReadonlySet<string>) {
    this.#names = names;
    this.#packetless = packetless;
  }

  at(view: DataView, offset: number): Station {
    const low = view.getInt32(offset + ADDRESS, true), high = view.getInt32(offset + ADDRESS + 4, true);
    const known = this.#known.get(low);
    if (known !== undefined && known.high === high) return known.station;
    const station = this.#find(view.getBigUint64(offset + ADDRESS, true));
    return keep(this.#known, low, { high, station }).station;
  }

  /** The kernel lies in the upper half of the addresses; tracepoints have small numbers. */
  #find(address: bigint): Station {
    const name = this.#names.probe(address) ?? `0x${address.toString(16)}`;
    const isTracepoint = address < 2n ** 32n;
    const drop = dropArguments(this.#names, name, isTracepoint);
    return {
      name,
      role: isTracepoint
        ? tracepointRole(name)
        : this.#packetless.has(name.replace(/ ?\[.*/, ""))
        ? "beneath"
        : functionRole(name),
      reason: drop?.reason ?? -1,
      place: drop?.place ?? -1,
    };
  }
}
