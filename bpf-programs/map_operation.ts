// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/** What a function on a BPF map is about: the map, the key and the value, copied into the record. */
import { type Code, type Label, label } from "../asm/code.ts";
import {
  add,
  and,
  at,
  call,
  ja,
  jeq,
  jeq32,
  jle,
  jne,
  ldx,
  lea,
  mov,
  or,
  r0,
  r1,
  r2,
  r3,
  r7,
  r8,
  r9,
  type Register,
  st,
  stx,
} from "../asm/insn.ts";
import { type Field, u64 } from "../asm/layout.ts";
import { MAP_BYTES, MAP_HAS, type RecordLayout } from "./events.ts";
import { slot, type TraceOptions } from "./frame.ts";

/** A function whose first argument is a map. Positions of arguments count from 1. */
export interface MapOperation {
  /** the argument that points to a key */
  readonly key?: number;
  /** the argument that points to a value */
  readonly value?: number;
  /** what it returns, NULL where nothing was found: a value, or struct htab_elem */
  readonly result?: "value" | "element";
}

/** How a hook gets at what the function was given and what it returned. The context is in its slot. May lose r1-r5. */
export interface MapSources {
  readonly argument: (dst: Register, position: number) => Code;
  /** absent: it has not returned yet */
  readonly result?: (dst: Register) => Code;
}

/** enum bpf_map_type: what a look-up finds in them is no value but a pointer to one, or another map. */
const BPF_MAP_TYPE_PERCPU_HASH = 5, BPF_MAP_TYPE_LRU_PERCPU_HASH = 10;
const BPF_MAP_TYPE_ARRAY_OF_MAPS = 12, BPF_MAP_TYPE_HASH_OF_MAPS = 13;
const OF_MAPS = [BPF_MAP_TYPE_ARRAY_OF_MAPS, BPF_MAP_TYPE_HASH_OF_MAPS];
const PER_CPU = [BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH];

/** Fills the map's part of the record at r8. Loses r0-r5, r7, r9. */
export function collectMapOperation(
  options: TraceOptions,
  { fields }: RecordLayout,
  { key, value, result }: MapOperation,
  from: MapSources,
): Code {
  const { kernel, access } = options, done = label("map_done");
  const map = (name: string) => kernel.field("bpf_map", name);
  const { mapHas, mapId, mapName, mapKeySize, mapValueSize, mapKey, mapValue } = fields;
  const store = (to: Field | undefined, name: string): Code => [
    access.read(r1, r7, map(name), slot.temp),
    stx(at(r8, to!), r1),
  ];
  const returned = from.result !== undefined && result !== undefined;
  return [
    st(at(r8, mapHas!), 0),
    from.argument(r7, 1),
    jeq(r7, 0, done),
    store(mapId, "id"),
    store(mapKeySize, "key_size"),
    store(mapValueSize, "value_size"),
    lea(r1, at(r8, mapName!.offset, u64)),
    mov(r2, mapName!.type.size),
    mov(r3, r7),
    add(r3, map("name").offset),
    call("bpf_probe_read_kernel"),
    jne(r0, 0, done),
    st(at(r8, mapHas!), MAP_HAS.map),
    key === undefined ? [] : copyPart(fields, { size: mapKeySize!, to: mapKey!, has: MAP_HAS.key }, [
      from.argument(r3, key),
    ]),
    value === undefined ? [] : copyPart(fields, { size: mapValueSize!, to: mapValue!, has: MAP_HAS.value }, [
      from.argument(r3, value),
    ]),
    !returned ? [] : copyFound(options, fields, result, from.result(r9), done),
    done,
  ];
}

/** What a look-up returned: its value, or that there is none. r7 is the map. */
function copyFound(
  { kernel, access }: TraceOptions,
  fields: RecordLayout["fields"],
  result: "value" | "element",
  load: Code,
  done: Label,
): Code {
  const some = label("found_some"), notValues = result === "element" ? [...OF_MAPS, ...PER_CPU] : OF_MAPS;
  return [
    load, // r9 = what was found
    jne(r9, 0, some),
    setHas(fields, MAP_HAS.nothing),
    ja(done),
    some,
    access.read(r1, r7, kernel.field("bpf_map", "map_type"), slot.temp),
    notValues.map((type) => jeq32(r1, type, done)),
    result === "value" ? [] : [ // struct htab_elem: the key, filled up to 8 bytes, then the value
      ldx(r1, at(r8, fields.mapKeySize!)),
      add(r1, 7),
      and(r1, ~7),
      add(r9, r1),
      add(r9, kernel.field("htab_elem", "key").offset),
    ],
    copyPart(fields, { size: fields.mapValueSize!, to: fields.mapValue!, has: MAP_HAS.value }, mov(r3, r9)),
  ];
}

/** Copies as much as there is room for; `source` makes r3 its address. What cannot be read is not noted. */
function copyPart(
  fields: RecordLayout["fields"],
  { size, to, has }: { readonly size: Field; readonly to: Field; readonly has: number },
  source: Code,
): Code {
  const fits = label("part_fits"), failed = label("part_failed");
  return [
    source,
    ldx(r2, at(r8, size)),
    jle(r2, MAP_BYTES, fits),
    mov(r2, MAP_BYTES),
    fits,
    lea(r1, at(r8, to.offset, u64)),
    call("bpf_probe_read_kernel"),
    jne(r0, 0, failed),
    setHas(fields, has),
    failed,
  ];
}

function setHas({ mapHas }: RecordLayout["fields"], bit: number): Code {
  return [ldx(r1, at(r8, mapHas!)), or(r1, bit), stx(at(r8, mapHas!), r1)];
}
