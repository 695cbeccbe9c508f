/**
 * The eBPF instruction set as tables (RFC 9669): class and operation bits beside the text that the
 * kernel's verifier log prints. insn.ts builds from these rows, disasm.ts reads with them.
 */
import type { Width } from "./layout.ts";

/** The low three bits of an opcode. */
export const BPF_LD = 0x00, BPF_LDX = 0x01, BPF_ST = 0x02, BPF_STX = 0x03;
export const BPF_ALU = 0x04, BPF_JMP = 0x05, BPF_JMP32 = 0x06, BPF_ALU64 = 0x07;

/** Where an operand comes from. */
export const BPF_K = 0x00, BPF_X = 0x08;

/** How a load or store addresses memory. */
export const BPF_IMM = 0x00,
  BPF_ABS = 0x20,
  BPF_IND = 0x40,
  BPF_MEM = 0x60,
  BPF_MEMSX = 0x80,
  BPF_ATOMIC = 0xc0;

/** Two-slot loads: what the 64-bit immediate is. */
export const BPF_PSEUDO_MAP_FD = 1, BPF_PSEUDO_MAP_VALUE = 2, BPF_PSEUDO_BTF_ID = 3, BPF_PSEUDO_FUNC = 4;

/** Calls: `src` says what `imm` is. */
export const BPF_HELPER_CALL = 0, BPF_PSEUDO_CALL = 1, BPF_PSEUDO_KFUNC_CALL = 2;

/** Bytes moved -> size bits and the type name of the log. */
export const sizes: Readonly<
  Record<Width, { readonly bits: number; readonly unsigned: string; readonly signed: string }>
> = {
  1: { bits: 0x10, unsigned: "u8", signed: "s8" },
  2: { bits: 0x08, unsigned: "u16", signed: "s16" },
  4: { bits: 0x00, unsigned: "u32", signed: "s32" },
  8: { bits: 0x18, unsigned: "u64", signed: "s64" },
};

/** Arithmetic on two operands. `off` 1 makes the signed variant of div and mod. */
export const aluOps = {
  add: { bits: 0x00, off: 0, sign: "+=" },
  sub: { bits: 0x10, off: 0, sign: "-=" },
  mul: { bits: 0x20, off: 0, sign: "*=" },
  div: { bits: 0x30, off: 0, sign: "/=" },
  sdiv: { bits: 0x30, off: 1, sign: "s/=" },
  or: { bits: 0x40, off: 0, sign: "|=" },
  and: { bits: 0x50, off: 0, sign: "&=" },
  lsh: { bits: 0x60, off: 0, sign: "<<=" },
  rsh: { bits: 0x70, off: 0, sign: ">>=" },
  mod: { bits: 0x90, off: 0, sign: "%=" },
  smod: { bits: 0x90, off: 1, sign: "s%=" },
  xor: { bits: 0xa0, off: 0, sign: "^=" },
  mov: { bits: 0xb0, off: 0, sign: "=" },
  arsh: { bits: 0xc0, off: 0, sign: "s>>=" },
} as const;

/** Arithmetic on one operand. */
export const BPF_NEG = 0x80, BPF_END = 0xd0;

/** Conditional jumps. */
export const jumpOps = {
  jeq: { bits: 0x10, sign: "==" },
  jgt: { bits: 0x20, sign: ">" },
  jge: { bits: 0x30, sign: ">=" },
  jset: { bits: 0x40, sign: "&" },
  jne: { bits: 0x50, sign: "!=" },
  jsgt: { bits: 0x60, sign: "s>" },
  jsge: { bits: 0x70, sign: "s>=" },
  jlt: { bits: 0xa0, sign: "<" },
  jle: { bits: 0xb0, sign: "<=" },
  jslt: { bits: 0xc0, sign: "s<" },
  jsle: { bits: 0xd0, sign: "s<=" },
} as const;

/** Unconditional control flow. */
export const BPF_JA = 0x00, BPF_CALL = 0x80, BPF_EXIT = 0x90;

/**
 * Atomic operations: the `imm` of a STX | BPF_ATOMIC. `fetch` ones leave the old value in the source,
 * cmpxchg in r0.
 */
export const atomicOps = {
  atomicAdd: { imm: 0x00, sign: "+=", fetch: undefined },
  atomicOr: { imm: 0x40, sign: "|=", fetch: undefined },
  atomicAnd: { imm: 0x50, sign: "&=", fetch: undefined },
  atomicXor: { imm: 0xa0, sign: "^=", fetch: undefined },
  atomicFetchAdd: { imm: 0x01, sign: undefined, fetch: "fetch_add" },
  atomicFetchOr: { imm: 0x41, sign: undefined, fetch: "fetch_or" },
  atomicFetchAnd: { imm: 0x51, sign: undefined, fetch: "fetch_and" },
  atomicFetchXor: { imm: 0xa1, sign: undefined, fetch: "fetch_xor" },
  atomicXchg: { imm: 0xe1, sign: undefined, fetch: "xchg" },
  atomicCmpxchg: { imm: 0xf1, sign: undefined, fetch: "cmpxchg" },
} as const;
