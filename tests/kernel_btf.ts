/**
 * Walks the running kernel's BTF with as little as a test needs, independently of lib/btf: names, kinds, ids
 * and enumerators (Documentation/bpf/btf.rst).
 */
import { existsSync, readFileSync } from "node:fs";

const path = "/sys/kernel/btf/vmlinux";

/** BTF of the kernel itself came with Linux 5.2. */
export const hasKernelBtf = existsSync(path);

export const ENUM = 6, TYPEDEF = 8, FUNC = 12, VAR = 14;

export interface KernelType {
  readonly id: number;
  readonly kind: number;
  readonly name: string;
  /** of an enum, else empty */
  readonly enumerators: ReadonlyMap<string, number>;
}

/** Bytes behind the 12 of struct btf_type: fixed ones, and those per member. */
const fixed: Readonly<Record<number, number>> = { 1: 4, 3: 12, 14: 4, 17: 4 };
const perMember: Readonly<Record<number, number>> = { 4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12 };

/** The first type of `kind` that `isIt` accepts. */
export function findKernelType(kind: number, isIt: (type: KernelType) => boolean): KernelType {
  const btf = new Uint8Array(readFileSync(path)), view = new DataView(btf.buffer);
  const u32 = (at: number) => view.getUint32(at, true);
  const header = u32(4), types = header + u32(8), end = types + u32(12), strings = header + u32(16);
  const text = (at: number) => {
    const start = strings + at;
    return new TextDecoder().decode(btf.subarray(start, btf.indexOf(0, start)));
  };
  for (let at = types, id = 1; at < end; id++) {
    const info = u32(at + 4), members = info & 0xffff, body = at + 12, found = info >>> 24 & 0x1f;
    if (found === kind) {
      const enumerators = new Map<string, number>();
      for (let i = 0; kind === ENUM && i < members; i++) {
        enumerators.set(text(u32(body + i * 8)), u32(body + i * 8 + 4));
      }
      const type = { id, kind, name: text(u32(at)), enumerators };
      if (isIt(type)) return type;
    }
    at = body + (fixed[found] ?? (perMember[found] ?? 0) * members);
  }
  throw new Error(`No such type of kind ${kind} in ${path}`);
}
