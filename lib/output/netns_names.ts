/**
 * Names of network namespaces: those of ip-netns(8), and Docker's where there is none of those.
 *
 * All are read at the start. A packet of a namespace without a name makes us read them again, and rarely so when
 * that is in vain: most namespaces, such as the first one, never get a name.
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
  readonly #patience: Patience;
  #known: ReadonlyMap<number, string> = new Map();

  constructor(system: Partial<NetnsNameSystem> = {}) {
    this.#system = { ...realSystem, ...system };
    this.#patience = new Patience(this.#system.now);
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
    return names.size;
  }

  nameOf(netns: number): string | undefined {
    const name = this.#known.get(netns);
    if (name !== undefined || netns === 0) return name;
    return this.#patience.look(netns, () => {
      this.scan();
      return this.#known.get(netns);
    });
  }
}
