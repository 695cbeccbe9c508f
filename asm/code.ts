/**
 * What a program is made of before it has bytes: items, labels, specs.
 *
 * A *spec* is frozen data: the same arguments give the same bytes on any machine, and no fd is inside.
 * Fds and the running kernel enter only when lib/ turns a spec into an object.
 */
import type { BitField, Field } from "./layout.ts";

/** A place in the code, equal only to itself: two copies of a fragment cannot collide. */
export class Label {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/** A fresh label; putting it into a code list marks its place. */
export function label(name: string): Label {
  return new Label(name);
}

/** What the loader has to put into an instruction. */
export type Reference =
  | { readonly kind: "map"; readonly map: MapSpec }
  | { readonly kind: "map_value"; readonly map: MapSpec; readonly offset: number }
  | { readonly kind: "function"; readonly target: Label };

/** One instruction. `lib` never builds one: the constructors of insn.ts do. */
export interface Insn {
  /** the opcode byte */
  readonly opcode: number;
  readonly dst: number;
  readonly src: number;
  readonly off: number;
  /** signed or unsigned 32 bits; 64 bits for the two-slot load */
  readonly imm: number | bigint;
  /** 2 for `lddw`, else 1 */
  readonly slots: 1 | 2;
  /** where a jump or a local call goes */
  readonly target?: Label;
  readonly reference?: Reference;
  /** the name of the kernel function whose BTF id is `imm` */
  readonly kfunc?: string;
  /** what a person reads, e.g. `ldx r0, [r6 + sk_buff.len]` */
  readonly text: string;
}

/** A nested list of instructions and labels. A fragment is a function that returns Code. */
export type Code = Insn | Label | readonly Code[];

/** The items of `code` in order, nesting removed. */
export function* items(code: Code): Generator<Insn | Label> {
  if (Array.isArray(code)) { for (const part of code as readonly Code[]) yield* items(part); }
  else yield code as Insn | Label;
}

/** A map before it has an fd. Two programs that hold the same MapSpec object share one map. */
export interface MapSpec {
  /** at most 15 characters reach the kernel */
  readonly name: string;
  /** enum bpf_map_type */
  readonly type: number;
  /** bytes */
  readonly keySize: number;
  /** bytes */
  readonly valueSize: number;
  readonly maxEntries: number;
  /** BPF_F_* of bpf_attr.map_flags */
  readonly flags?: number;
}

/** A function of the program that has to be described to the kernel in BTF (callbacks). */
export interface FunctionInfo {
  /** absent: the program's entry */
  readonly entry?: Label;
  readonly name: string;
  /** how many u64 arguments it declares */
  readonly parameters: number;
}

/** A program before it has an fd. */
export interface ProgramSpec {
  readonly name: string;
  /** enum bpf_prog_type */
  readonly type: number;
  /** enum bpf_attach_type */
  readonly expectedAttachType?: number;
  /** id of the target in the kernel's BTF, for tp_btf and fentry */
  readonly attachBtfId?: number;
  /** kernel functions need a GPL-compatible one */
  readonly license: string;
  readonly code: Code;
  /** present when the kernel needs BTF of our functions (bpf_loop, bpf_for_each_map_elem) */
  readonly functions?: readonly FunctionInfo[];
}

/** What a program asks of the running kernel's types; lib/btf implements it. */
export interface KernelTypes {
  /**
   * The place of `path` ("len", "dev", "__sk_common.skc_net") in `struct`, anonymous structs and unions
   * looked through. Pointers are u64.
   *
   * @throws {Error} no such struct or member on this kernel, or it is a bitfield
   */
  field(struct: string, path: string): Field;
  /** The same for a bitfield member. */
  bitField(struct: string, path: string): BitField;
  /** Whether `struct` exists and has `path`, bitfield or not. */
  has(struct: string, path: string): boolean;
  /** BTF id of a struct or union, or undefined. */
  structId(name: string): number | undefined;
  /** BTF id of a FUNC: a kernel function that a program may call, or undefined. */
  functionId(name: string): number | undefined;
  /** Value of an enumerator, or undefined. */
  enumerator(enumName: string, name: string): bigint | undefined;
  /** A struct with a byte array wide enough to view any memory through, or undefined. */
  byteArrayStruct(
    minBytes: number,
  ): { readonly id: number; readonly offset: number; readonly bytes: number } | undefined;
}
