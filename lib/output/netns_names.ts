/**
 * Names of network namespaces: those of ip-netns(8), and Docker's where there is none of those.
 *
 * All are read at the start. A packet of a namespace without a name makes us read them again, and rarely so when
 * that is in vain: most namespaces, such as the first one, never get a name. Those that have one may lose it, or
 * get another.
 */
import { namedNetns } from "../sys/netns.ts";
import { Patience } from "./patience.ts";
import type { NetnsNames } from "./printer.ts";

export interface NetnsNameSystem {
  /** names by inode number, now */
  names(): ReadonlyMap<number, string>;
  /** ms, of any clock that does not jump */
  now(): number;
}

const realSystem: NetnsNameSystem = { names: namedNetns, now: () => performance.now() };

export class NetnsNameTable implements NetnsNames {
  generation = 0;
  readonly #system: NetnsNameSystem;
  /** for names that are missing, and for those that have expired: the latter must not hold up the former */
  readonly #patience: Patience;
  readonly #agePatience: Patience;
  #known: ReadonlyMap<number, string> = new Map();
  #expired = false;

  constructor(system: Partial<NetnsNameSystem> = {}) {
    this.#system = { ...realSystem, ...system };
    this.#patience = new Patience(this.#system.now);
    this.#agePatience = new Patience(this.#system.now);
  }

  /**
   * Reads all names, again where they have been read before. One that is gone is forgotten: the kernel gives its
   * inode number to the next namespace.
   *
   * @returns how many there are
   */
  scan(): number {
    const names = this.#system.names();
    for (const [inode, name] of this.#known) if (names.get(inode) !== name) this.generation++;
    this.#known = names;
    this.#expired = false;
    return names.size;
  }

  /** All names may have changed: they are read again when one is asked for. */
  expire(): void {
    this.#expired = true;
    this.generation++;
  }

  nameOf(netns: number): string | undefined {
    const name = this.#known.get(netns);
    if (netns === 0 || (name !== undefined && !this.#expired)) return name;
    const patience = name === undefined ? this.#patience : this.#agePatience;
    patience.look(netns, () => {
      this.scan();
      return this.#known.get(netns);
    });
    return this.#known.get(netns);
  }
}
