/**
 * Names of network interfaces in every namespace in reach.
 *
 * All are read at the start. A packet on an interface that is not known then, such as that of a container which
 * has just been started, makes us look again: first into its namespace, or for it; each time it is in vain,
 * the wait before the next look doubles. A name that is known may be another one by now, as that of an interface
 * that a container is given and that is then called eth0: what has expired is read again when a packet asks.
 *
 * Sockets that the kernel tells of changes would know at once, but each keeps its namespace alive, long after the
 * container is gone.
 */
import { linksOf, reachableNetns } from "../sys/netns.ts";
import type { NetworkLink } from "../sys/rtnetlink.ts";
import { Patience } from "./patience.ts";
import type { InterfaceNames } from "./printer.ts";

/** What the table needs from the system. */
export interface InterfaceSystem {
  /** files that stand for each namespace, by inode number */
  namespaces(): ReadonlyMap<number, readonly string[]>;
  /** undefined: no file leads there any more */
  links(inode: number, paths: readonly string[]): readonly NetworkLink[] | undefined;
  /** ms, of any clock that does not jump */
  now(): number;
}

const realSystem: InterfaceSystem = {
  namespaces: reachableNetns,
  links: linksOf,
  now: () => performance.now(),
};

/** A namespace that could not be read. */
export interface NetnsFailure {
  readonly inode: number;
  readonly cause: Error;
}

/** Names of one namespace to keep of interfaces that are gone. */
const KEPT_LIMIT = 16_384;

interface KnownNetns {
  /** how often names had expired then */
  readonly epoch: number;
  readonly paths: readonly string[];
  /** as read last */
  readonly links: readonly NetworkLink[];
  /** also of interfaces that are gone: their last packets may still be in the ring */
  readonly names: ReadonlyMap<number, string>;
}

export class InterfaceTable implements InterfaceNames {
  /** changes when a name given before is another one now */
  generation = 0;
  readonly #system: InterfaceSystem;
  readonly #known = new Map<number, KnownNetns>();
  /** for names that are missing, and for those that have expired: the latter must not hold up the former */
  readonly #patience: Patience;
  readonly #agePatience: Patience;
  #epoch = 0;

  constructor(system: Partial<InterfaceSystem> = {}) {
    this.#system = { ...realSystem, ...system };
    this.#patience = new Patience(this.#system.now);
    this.#agePatience = new Patience(this.#system.now);
  }

  /**
   * Reads every namespace, again where it has been read before.
   *
   * @returns those that could not be read, for one warning; the others are known
   */
  scan(): NetnsFailure[] {
    const failures: NetnsFailure[] = [];
    const reachable = this.#system.namespaces();
    for (const [inode, paths] of reachable) {
      try {
        this.#read(inode, paths);
      } catch (cause) {
        failures.push({ inode, cause: cause as Error });
      }
    }
    return failures;
  }

  /** All names may have changed: each is read again when it is asked for. */
  expire(): void {
    this.#epoch++;
    this.generation++;
  }

  nameOf(netns: number, ifindex: number): string | undefined {
    const known = this.#known.get(netns), name = known?.names.get(ifindex);
    if (netns === 0 || ifindex === 0 || (name !== undefined && known?.epoch === this.#epoch)) return name;
    const patience = name === undefined ? this.#patience : this.#agePatience;
    return patience.look(netns, () => {
      this.#look(netns);
      return this.#known.get(netns)?.names.get(ifindex);
    }) ?? name;
  }

  /** The index of the interface with this name or alternative name, now. */
  indexOf(netns: number, name: string): number | undefined {
    this.#look(netns);
    const links = this.#known.get(netns)?.links ?? [];
    const link = links.find((link) => link.name === name) ??
      links.find((link) => link.altNames.includes(name));
    return link?.ifindex;
  }

  /** Reads one namespace by the files it had, or by those it has now. */
  #look(netns: number): void {
    const paths = this.#known.get(netns)?.paths;
    try {
      if (paths !== undefined && this.#read(netns, paths)) return;
      const now = this.#system.namespaces().get(netns);
      if (now !== undefined) this.#read(netns, now);
    } catch {
      // What could not be read at the start was reported then; a packet line is no place to repeat it.
    }
  }

  /** Returns whether a file led there. */
  #read(inode: number, paths: readonly string[]): boolean {
    const links = this.#system.links(inode, paths);
    if (links === undefined) return false;
    const names = new Map(links.map((link) => [link.ifindex, link.name]));
    for (const [ifindex, name] of this.#known.get(inode)?.names ?? []) {
      const now = names.get(ifindex);
      if (now !== undefined && now !== name) this.generation++;
      else if (now === undefined && names.size < KEPT_LIMIT) names.set(ifindex, name);
    }
    this.#known.set(inode, { epoch: this.#epoch, paths, links, names });
    return true;
  }
}
