/**
 * Which programs others go on in by tail calls: those that are in a map of type BPF_MAP_TYPE_PROG_ARRAY. A tail call
 * jumps behind the place at a program's entry where it can be traced, so that nothing is seen of it there.
 */
import { BpfMap } from "../maps/bpf_map.ts";
import { bpfMapGetFdById, bpfMapGetNextId, bpfMapInfo, bpfObjGetInfoByFd, infoName } from "../sys/bpf.ts";

const BPF_MAP_TYPE_PROG_ARRAY = 3;
/** Larger ones are looked at so far: they have a place for each endpoint or connection, and few programs. */
const MOST_ENTRIES = 65_536;

/** A program that is reached through a map. */
export interface TailCallee {
  readonly program: number;
  /** id and name of a map that it is in */
  readonly map: string;
}

/** All of them, each once. */
export function tailCallees(): TailCallee[] {
  const found = new Map<number, TailCallee>();
  for (let id = bpfMapGetNextId(0); id !== undefined; id = bpfMapGetNextId(id)) {
    const fd = bpfMapGetFdById(id);
    if (fd === undefined) continue; // gone meanwhile
    const info = bpfObjGetInfoByFd(fd, bpfMapInfo), name = infoName(info.name);
    const { type, key_size: keySize, value_size: valueSize, max_entries: maxEntries } = info;
    using map = new BpfMap({ name, type, keySize, valueSize, maxEntries }, fd);
    if (type !== BPF_MAP_TYPE_PROG_ARRAY) continue;
    for (let index = 0; index < Math.min(maxEntries, MOST_ENTRIES); index++) {
      const program = map.lookup(index)?.getUint32(0, true);
      if (program !== undefined && program !== 0 && !found.has(program)) {
        found.set(program, { program, map: `${id} ${name}`.trim() });
      }
    }
  }
  return [...found.values()];
}
