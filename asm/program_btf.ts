/**
 * The BTF that a program with functions of its own brings along: one FUNC per function, all of them
 * `u64 name(u64 a1, ...)`. The kernel asks for it before it takes the address of a callback (bpf_loop,
 * bpf_for_each_map_elem). Encoding: Documentation/bpf/btf.rst; checks: kernel/bpf/btf.c.
 *
 * Omitted: argument types. The verifier takes those of a callback from the helper, not from here.
 */
import type { FunctionInfo, Label } from "./code.ts";
import { AssemblyError } from "./errors.ts";
import { struct, u16, u32, u8 } from "./layout.ts";

export const BTF_MAGIC = 0xeb9f, BTF_VERSION = 1;

/** Kinds of types that we write: bits 24-28 of btf_type.info. */
export const BTF_KIND_INT = 1, BTF_KIND_FUNC = 12, BTF_KIND_FUNC_PROTO = 13;

/** Who may call a FUNC: the low 16 bits of btf_type.info. */
export const BTF_FUNC_STATIC = 0, BTF_FUNC_GLOBAL = 1;

/** struct btf_header; the offsets count from its end. */
export const btfHeader = struct("btf_header", {
  magic: u16,
  version: u8,
  flags: u8,
  hdr_len: u32,
  type_off: u32,
  type_len: u32,
  str_off: u32,
  str_len: u32,
});

/** struct btf_type; what follows depends on its kind. */
export const btfType = struct("btf_type", {
  name_off: u32,
  info: u32, // vlen | kind << 24
  size_or_type: u32,
});

/** struct btf_param, one per argument after a FUNC_PROTO. */
export const btfParam = struct("btf_param", { name_off: u32, type: u32 });

/** struct bpf_func_info: which function starts at which slot. */
export const bpfFuncInfo = struct("bpf_func_info", { insn_off: u32, type_id: u32 });

/** What bpf_attr wants to know of the functions of a program. */
export interface ProgramBtf {
  /** for bpf(BPF_BTF_LOAD) */
  readonly btf: Uint8Array;
  /** one bpf_func_info per function, by rising slot */
  readonly funcInfo: Uint8Array;
  /** bytes per entry of `funcInfo` */
  readonly funcInfoRecSize: number;
}

/** The type id of `u64`; ids count from 1. Each function then takes two: its FUNC_PROTO and its FUNC. */
const U64 = 1;

/**
 * Encodes BTF for `functions`, which have to be all functions of the program: its entry and every target
 * of `callLocal` and `ldFunction`. The entry is global, the others static, so the verifier follows calls
 * into them. Linux 5.6 (FUNC linkage).
 *
 * @param labels of the assembled program
 * @throws {AssemblyError} a label that is never placed, or a name that is no C identifier
 */
export function programBtf(
  functions: readonly FunctionInfo[],
  labels: ReadonlyMap<Label, number>,
): ProgramBtf {
  const strings = new Strings(), types: Uint8Array[] = [];
  const place = functions.map((info) => ({ ...info, slot: slotOf(info, labels) }));
  place.sort((a, b) => a.slot - b.slot);

  types.push(type(strings.add("u64"), BTF_KIND_INT, 0, 8), encode(u32, 64)); // unsigned, bit 0, 64 bits
  const funcInfo = place.map(({ name, parameters, entry, slot }, index) => {
    if (!/^[A-Za-z_]\w*$/.test(name)) {
      throw new AssemblyError("Function name is no C identifier", { item: `"${name}"` });
    }
    const proto = U64 + 1 + index * 2;
    types.push(type(0, BTF_KIND_FUNC_PROTO, parameters, U64));
    for (let i = 1; i <= parameters; i++) {
      types.push(encode(btfParam, { name_off: strings.add(`a${i}`), type: U64 }));
    }
    const linkage = entry === undefined ? BTF_FUNC_GLOBAL : BTF_FUNC_STATIC;
    types.push(type(strings.add(name), BTF_KIND_FUNC, linkage, proto));
    return encode(bpfFuncInfo, { insn_off: slot, type_id: proto + 1 });
  });

  const typeSection = concat(types), stringSection = strings.bytes();
  const header = encode(btfHeader, {
    magic: BTF_MAGIC,
    version: BTF_VERSION,
    flags: 0,
    hdr_len: btfHeader.size,
    type_off: 0,
    type_len: typeSection.length,
    str_off: typeSection.length,
    str_len: stringSection.length,
  });
  return {
    btf: concat([header, typeSection, stringSection]),
    funcInfo: concat(funcInfo),
    funcInfoRecSize: bpfFuncInfo.size,
  };
}

function slotOf({ entry, name }: FunctionInfo, labels: ReadonlyMap<Label, number>): number {
  if (entry === undefined) return 0;
  const slot = labels.get(entry);
  if (slot === undefined) {
    throw new AssemblyError("Label is never placed", { label: entry.name, item: `function ${name}` });
  }
  return slot;
}

/** The string section: each text once, ended by a NUL; offset 0 is the empty name. */
class Strings {
  readonly #offsets = new Map<string, number>();
  #text = "\0";
  add(text: string): number {
    const known = this.#offsets.get(text);
    if (known !== undefined) return known;
    const offset = this.#text.length;
    this.#offsets.set(text, offset);
    this.#text += `${text}\0`;
    return offset;
  }
  bytes(): Uint8Array {
    return new TextEncoder().encode(this.#text);
  }
}

function type(name_off: number, kind: number, vlen: number, size_or_type: number): Uint8Array {
  return encode(btfType, { name_off, info: vlen | (kind << 24), size_or_type });
}

function encode<T>(
  layout: { size: number; encode(view: DataView, offset: number, value: T): void },
  value: T,
) {
  const bytes = new Uint8Array(new ArrayBuffer(layout.size));
  layout.encode(new DataView(bytes.buffer), 0, value);
  return bytes;
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(new ArrayBuffer(parts.reduce((sum, part) => sum + part.length, 0)));
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.length;
  }
  return bytes;
}
