/** One live map per MapSpec object: programs that hold the same spec share the map. */
import type { MapSpec } from "../../asm/code.ts";
import { BpfMap } from "./bpf_map.ts";

export class Maps implements Disposable {
  readonly #maps = new Map<MapSpec, BpfMap>();

  /** The map of `spec`, created on first use. */
  get(spec: MapSpec): BpfMap {
    let map = this.#maps.get(spec);
    if (map === undefined) this.#maps.set(spec, map = BpfMap.create(spec));
    return map;
  }

  fd(spec: MapSpec): number {
    return this.get(spec).fd;
  }

  [Symbol.dispose](): void {
    for (const map of this.#maps.values()) map[Symbol.dispose]();
    this.#maps.clear();
  }
}
