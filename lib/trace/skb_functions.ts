/**
 * The functions in BTF that take a `struct sk_buff *`, and where.
 *
 * Nearly nothing of a kernel's types has to do with packets, so the few that do are found by looking for their
 * ids among all words of the blob, which a loop of the runtime's own does 100 times as fast as ours would in a
 * program that has just started.
 */
import { type Btf, BTF_KIND, type KindName } from "../btf/parse.ts";
import { BtfError } from "../errors.ts";
import { POINTER_SIZE, sizeOf, strip } from "../btf/walk.ts";

/** Arguments that are passed in registers on every architecture. */
export const MAX_ARGUMENTS = 5;
export type ArgumentPosition = 1 | 2 | 3 | 4 | 5;

/** A function of BTF that takes an skb. */
export interface SkbFunction {
  readonly name: string;
  readonly module: string | undefined;
  /** undefined: what comes before the skb does not fit one register each */
  readonly argument: ArgumentPosition | undefined;
}

/**
 * The functions of one blob, not of its base, that have an skb among their first five parameters, each name
 * once. 60,000 functions among 126,000 types take 15 ms in a program that has just started, 3 ms later on.
 */
export function skbFunctions(btf: Btf): SkbFunction[] {
  const { positions } = skbTypes(btf), found = new Map<string, SkbFunction>();
  const module = btf.base === undefined ? undefined : btf.name;
  for (const row of rowsReferring(btf, BTF_KIND.FUNC, positions)) {
    const id = btf.firstId + row, proto = btf.sizeOrType(id), at = positions[proto]!;
    const name = btf.nameOf(id), known = found.get(name); // 6.1 describes 444 functions twice
    let argument: ArgumentPosition | undefined = at as ArgumentPosition;
    if (at > 1 && !fitRegisters(btf, proto, at - 1)) argument = undefined;
    if (known !== undefined && known.argument !== argument) argument = undefined;
    found.set(name, { name, module, argument });
  }
  return [...found.values()];
}

/** Functions of one blob with a parameter of this type among their first five -> which, from 1. */
export function functionsTaking(btf: Btf, type: number): ReadonlyMap<string, number> {
  const types = [type], positions = new Uint8Array(btf.endId), found = new Map<string, number>();
  addReferring(btf, types);
  for (const id of types) markParameters(btf, id, positions);
  for (const row of rowsReferring(btf, BTF_KIND.FUNC, positions)) {
    const id = btf.firstId + row, name = btf.nameOf(id);
    if (!found.has(name)) found.set(name, positions[btf.sizeOrType(id)]!);
  }
  return found;
}

/** Whether this is a `struct sk_buff *`. */
export const isSkbPointer = (btf: Btf, type: number): boolean => skbTypes(btf).pointers.includes(type);

/** Ids, those of the base included. */
interface SkbTypes {
  /** struct sk_buff, whatever is const, tagged or behind a typedef */
  readonly structs: readonly number[];
  /** pointers to that, likewise */
  readonly pointers: readonly number[];
  /** by the id of a FUNC_PROTO: which of its parameters is the first such pointer, from 1; else 0 */
  readonly positions: Uint8Array;
}
/** Of struct sk_buff kernels have a dozen at most; each is looked for among all words. */
const MOST_TYPES = 200;
const skbTypesOf = new WeakMap<Btf, SkbTypes>();

function skbTypes(btf: Btf): SkbTypes {
  const known = skbTypesOf.get(btf);
  if (known !== undefined) return known;
  const base = btf.base === undefined ? undefined : skbTypes(btf.base);
  const structs = [...base?.structs ?? [], ...btf.ownIds("sk_buff", BTF_KIND.STRUCT)];
  addReferring(btf, structs);
  const pointers = [...base?.pointers ?? [], ...structs.flatMap((id) => referring(btf, pointer, id))];
  addReferring(btf, pointers);
  const positions = new Uint8Array(btf.endId);
  if (base !== undefined) positions.set(base.positions);
  for (const id of pointers) markParameters(btf, id, positions);
  const types = { structs, pointers, positions };
  if (btf.base === undefined) skbTypesOf.set(btf, types); // a module's are asked for once
  return types;
}

/** Adds what is the same with qualifiers, or by another name. @throws {BtfError} that does not come to an end soon */
function addReferring(btf: Btf, ids: number[]): void {
  for (const id of ids) { // what is added has its turn too
    ids.push(...referring(btf, qualifiers, id));
    if (ids.length > MOST_TYPES) {
      throw new BtfError(
        `Cannot use the BTF of ${btf.name}: over ${MOST_TYPES} of its types are one type`,
      );
    }
  }
}

const qualifiers = kindSet("TYPEDEF", "VOLATILE", "CONST", "RESTRICT", "TYPE_TAG"), pointer = kindSet("PTR");

function kindSet(...names: KindName[]): ReadonlySet<number> {
  return new Set(names.map((name) => BTF_KIND[name]));
}

/** Words of a record: its name, its kind, the type it refers to or its size. */
const RECORD_WORDS = 3, REFERENCE = 2;

/** Types of this blob, of these kinds, that refer to type `id`. */
function referring(btf: Btf, kinds: ReadonlySet<number>, id: number): number[] {
  const { index, firstId } = btf;
  return placesOf(btf, id).flatMap((at) => {
    const row = rowAround(index, at);
    return at === index[row]! + REFERENCE && kinds.has(btf.kind(firstId + row)) ? [firstId + row] : [];
  });
}

/** Marks the prototypes of this blob that have a parameter of type `id` among the first five. */
function markParameters(btf: Btf, id: number, positions: Uint8Array): void {
  const { words, index, firstId } = btf;
  for (const at of placesOf(btf, id)) {
    const row = rowAround(index, at), word = at - index[row]! - RECORD_WORDS; // name, type, name, type, ...
    if (word < 1 || word % 2 === 0 || word >= 2 * MAX_ARGUMENTS) continue;
    if ((words[index[row]! + 1]! >>> 24 & 0x7f) !== BTF_KIND.FUNC_PROTO) continue;
    const position = (word + 1) / 2, known = positions[firstId + row]!;
    if (known === 0 || position < known) positions[firstId + row] = position;
  }
}

/** Where this number stands among the words of the records, whatever it means there. */
function placesOf({ words }: Btf, value: number): number[] {
  const places: number[] = [];
  for (let at = words.indexOf(value); at >= 0; at = words.indexOf(value, at + 1)) places.push(at);
  return places;
}

/** The row of the record that word `at` is part of. */
function rowAround(index: Uint32Array, at: number): number {
  let from = 0, to = index.length;
  while (from < to) {
    const middle = (from + to) >>> 1;
    if (index[middle]! <= at) from = middle + 1;
    else to = middle;
  }
  return from - 1;
}

/** The rows of this kind that refer to a marked type, in order. */
function rowsReferring({ words, index }: Btf, kind: number, marked: Uint8Array): number[] {
  const rows: number[] = [];
  for (let row = 0; row < index.length; row++) {
    const at = index[row]!;
    if ((words[at + 1]! >>> 24 & 0x7f) === kind && marked[words[at + REFERENCE]!]! > 0) rows.push(row);
  }
  return rows;
}

/** Whether each of the first `count` parameters is passed in one register. */
function fitRegisters(btf: Btf, proto: number, count: number): boolean {
  for (let i = 0; i < count; i++) {
    const type = strip(btf, btf.word(proto, 2 * i + 1));
    if (btf.kind(type) === BTF_KIND.FLOAT || sizeOf(btf, type) > POINTER_SIZE) return false;
  }
  return true;
}
