/**
 * Which kernel functions work on a BPF map, by the kernel's own BTF: those whose first parameter is one. Wrappers of
 * helpers (BPF_CALL) declare all their parameters as u64, and are known by the parameter's name.
 */
import type { MapOperation } from "../../bpf-programs/map_operation.ts";
import { type Btf, BTF_KIND } from "../btf/parse.ts";
import { parameters, pointee, strip } from "../btf/walk.ts";

/** A look-up as the verifier inlines it: what it returns is the element of the hash table, not the value in it. */
const ELEMENT = "__htab_map_lookup_elem";
/** Functions that put something where their `value` points to. */
const TAKES = /_(?:pop|peek)_elem$/;
const FINDS = /_lookup(?:_percpu)?_elem$/, ON_ELEMENTS = /_elem$/;

/** What the function does with its map; undefined: it has none. */
export function mapOperationOf(btf: Btf, name: string): MapOperation | undefined {
  const id = btf.find(name, BTF_KIND.FUNC);
  if (id === undefined) return undefined;
  const [map, ...others] = [...parameters(btf, id)];
  if (map === undefined) return undefined;
  const typed = isMap(btf, map.type), wrapper = !typed && map.name === "map" && isNumber(btf, map.type);
  if (!typed && !wrapper) return undefined;
  /** 0: there is none that points to such a thing */
  const position = (wanted: string) => {
    const index = others.findIndex(({ name }) => name.replace(/^_+/, "") === wanted);
    const points = typed ? pointee(btf, others[index]?.type ?? 0) !== undefined : ON_ELEMENTS.test(name);
    return index >= 0 && points ? index + 2 : 0;
  };
  const key = position("key"), value = TAKES.test(name) ? 0 : position("value"), finds = FINDS.test(name);
  return {
    ...(key === 0 ? {} : { key }),
    ...(value === 0 ? {} : { value }),
    ...(finds ? { result: name === ELEMENT ? "element" : "value" } : {}),
  };
}

function isMap(btf: Btf, type: number): boolean {
  const target = pointee(btf, type), struct = target === undefined ? 0 : strip(btf, target);
  return struct !== 0 && btf.kind(struct) === BTF_KIND.STRUCT && btf.nameOf(struct) === "bpf_map";
}

function isNumber(btf: Btf, type: number): boolean {
  return btf.kind(strip(btf, type)) === BTF_KIND.INT;
}
