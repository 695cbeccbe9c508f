/**
 * Classic BPF: the instruction format of `struct sock_filter`, the table of its instructions and what a
 * program must satisfy to be run (kernel: include/uapi/linux/filter.h, net/core/filter.c).
 *
 * Class, size, mode and operation bits that classic and extended BPF share come from opcodes.ts; only the
 * two classes that mean something else here are added. cbpf_run.ts executes, cbpf_text.ts prints.
 */
import { AssemblyError } from "./errors.ts";
import { BPF_ABS, BPF_ALU, BPF_IMM, BPF_IND, BPF_JA, BPF_JMP, BPF_K, BPF_LD, BPF_LDX } from "./opcodes.ts";
import { aluOps, BPF_MEM, BPF_NEG, BPF_ST, BPF_STX, BPF_X, jumpOps, sizes } from "./opcodes.ts";

/** One instruction. `jt` and `jf` count instructions from the next one, `k` is unsigned 32 bits. */
export interface CbpfInsn {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

/** Classes that extended BPF reuses for other things. */
export const BPF_RET = 0x06, BPF_MISC = 0x07;
/** Addressing modes that extended BPF dropped: packet length, and four times the low nibble of a byte. */
export const BPF_LEN = 0x80, BPF_MSH = 0xa0;
/** BPF_RET | BPF_A returns the accumulator. */
export const BPF_A = 0x10;
/** BPF_MISC operations. */
export const BPF_TAX = 0x00, BPF_TXA = 0x80;

/** Words of scratch memory, M[0] to M[15]. */
export const BPF_MEMWORDS = 16;
/** The most instructions the kernel takes from a socket (include/uapi/linux/bpf_common.h). */
export const BPF_MAXINSNS = 4096;

/**
 * Absolute loads from here up read what Linux knows about the packet instead of its bytes
 * (SKF_AD_OFF, -0x1000 in 32 bits).
 */
export const SKF_AD_OFF = 0xfffff000;
/** Distance from SKF_AD_OFF and the text of a listing. */
export const ancillary = {
  protocol: { offset: 0, text: "proto" },
  packetType: { offset: 4, text: "type" },
  ifindex: { offset: 8, text: "ifidx" },
  mark: { offset: 20, text: "mark" },
  queue: { offset: 24, text: "queue" },
  hatype: { offset: 28, text: "hatype" },
  rxhash: { offset: 32, text: "rxhash" },
  cpu: { offset: 36, text: "cpu" },
  vlanTag: { offset: 44, text: "vlan_tci" },
  vlanTagPresent: { offset: 48, text: "vlanp" },
} as const;

/** How an instruction uses `k`, which decides how it prints and what is checked. */
export type Operand =
  | "none"
  | "decimal" // #k
  | "hex" // #0xk
  | "packet" // [k]
  | "indexed" // [x + k]
  | "scratch" // M[k]
  | "length" // #pktlen
  | "nibble" // 4*([k]&0xf)
  | "x"
  | "jump"; // ja

/** One row of the instruction table. */
export interface Instruction {
  readonly mnemonic: string;
  readonly operand: Operand;
}

const W = sizes[4].bits, H = sizes[2].bits, B = sizes[1].bits;
/** Classic arithmetic in listing order; the operand column is how a constant prints. */
const arithmetic = [
  ["add", "decimal"],
  ["sub", "decimal"],
  ["mul", "decimal"],
  ["div", "decimal"],
  ["mod", "decimal"],
  ["and", "hex"],
  ["or", "hex"],
  ["xor", "hex"],
  ["lsh", "decimal"],
  ["rsh", "decimal"],
] as const;
const comparisons = ["jeq", "jgt", "jge", "jset"] as const;

/** Every instruction there is, by opcode. */
export const instructions: ReadonlyMap<number, Instruction> = new Map<number, Instruction>([
  [BPF_LD | W | BPF_IMM, { mnemonic: "ld", operand: "hex" }],
  [BPF_LD | W | BPF_ABS, { mnemonic: "ld", operand: "packet" }],
  [BPF_LD | H | BPF_ABS, { mnemonic: "ldh", operand: "packet" }],
  [BPF_LD | B | BPF_ABS, { mnemonic: "ldb", operand: "packet" }],
  [BPF_LD | W | BPF_IND, { mnemonic: "ld", operand: "indexed" }],
  [BPF_LD | H | BPF_IND, { mnemonic: "ldh", operand: "indexed" }],
  [BPF_LD | B | BPF_IND, { mnemonic: "ldb", operand: "indexed" }],
  [BPF_LD | W | BPF_MEM, { mnemonic: "ld", operand: "scratch" }],
  [BPF_LD | W | BPF_LEN, { mnemonic: "ld", operand: "length" }],
  [BPF_LDX | W | BPF_IMM, { mnemonic: "ldx", operand: "hex" }],
  [BPF_LDX | W | BPF_MEM, { mnemonic: "ldx", operand: "scratch" }],
  [BPF_LDX | W | BPF_LEN, { mnemonic: "ldx", operand: "length" }],
  [BPF_LDX | B | BPF_MSH, { mnemonic: "ldxb", operand: "nibble" }],
  [BPF_ST, { mnemonic: "st", operand: "scratch" }],
  [BPF_STX, { mnemonic: "stx", operand: "scratch" }],
  [BPF_ALU | BPF_NEG, { mnemonic: "neg", operand: "none" }],
  [BPF_JMP | BPF_JA, { mnemonic: "ja", operand: "jump" }],
  [BPF_RET | BPF_K, { mnemonic: "ret", operand: "decimal" }],
  [BPF_RET | BPF_A, { mnemonic: "ret", operand: "none" }],
  [BPF_MISC | BPF_TAX, { mnemonic: "tax", operand: "none" }],
  [BPF_MISC | BPF_TXA, { mnemonic: "txa", operand: "none" }],
  ...arithmetic.flatMap(([mnemonic, operand]): [number, Instruction][] => [
    [BPF_ALU | aluOps[mnemonic].bits | BPF_K, { mnemonic, operand }],
    [BPF_ALU | aluOps[mnemonic].bits | BPF_X, { mnemonic, operand: "x" }],
  ]),
  ...comparisons.flatMap((mnemonic): [number, Instruction][] => [
    [BPF_JMP | jumpOps[mnemonic].bits | BPF_K, { mnemonic, operand: "hex" }],
    [BPF_JMP | jumpOps[mnemonic].bits | BPF_X, { mnemonic, operand: "x" }],
  ]),
]);

/** The class bits: BPF_LD, BPF_JMP, ... */
export function classOf(code: number): number {
  return code & 0x07;
}

/** True for loads of what Linux knows about the packet, not of its bytes. */
export function isAncillaryLoad({ code, k }: CbpfInsn): boolean {
  return classOf(code) === BPF_LD && (code & 0xe0) === BPF_ABS && k >= SKF_AD_OFF;
}

/** True for the four comparisons, with a constant or with X. */
export function isBranch(code: number): boolean {
  return classOf(code) === BPF_JMP && code !== (BPF_JMP | BPF_JA);
}

export interface ValidationOptions {
  /** what the kernel takes from a socket by default */
  readonly maxInsns?: number;
  /** let `ja` go backwards, as libpcap's own interpreter does (protochain) */
  readonly backwardJumps?: boolean;
  /** refuse to read scratch words that some path leaves unset, as the kernel does; default true */
  readonly initializedScratch?: boolean;
}

/**
 * Refuses what the kernel's `bpf_check_classic` refuses.
 *
 * @throws {AssemblyError} with the number and text of the first bad instruction
 */
export function validateCbpf(insns: readonly CbpfInsn[], options: ValidationOptions = {}): void {
  const { maxInsns = BPF_MAXINSNS, backwardJumps = false, initializedScratch = true } = options;
  if (insns.length === 0) throw new AssemblyError("A classic BPF program needs at least one instruction");
  if (insns.length > maxInsns) {
    throw new AssemblyError(
      `A classic BPF program has at most ${maxInsns} instructions, this one has ${insns.length}`,
    );
  }
  insns.forEach((insn, pc) => {
    const complaint = insnComplaint(insn, pc, insns.length, backwardJumps);
    if (complaint !== undefined) refuse(complaint, insn, pc);
  });
  const last = insns.at(-1)!;
  if (classOf(last.code) !== BPF_RET) refuse("The last instruction must be a return", last, insns.length - 1);
  if (initializedScratch) checkScratch(insns);
}

function refuse(complaint: string, insn: CbpfInsn, pc: number): never {
  const mnemonic = instructions.get(insn.code)?.mnemonic ?? `opcode ${insn.code}`;
  throw new AssemblyError(complaint, { item: `(${pc}) ${mnemonic} jt ${insn.jt} jf ${insn.jf} k ${insn.k}` });
}

/** The successors of a jump at `pc`, as absolute positions; empty for anything else. */
function jumpTargets(insn: CbpfInsn, pc: number): number[] {
  if (isBranch(insn.code)) return [pc + 1 + insn.jt, pc + 1 + insn.jf];
  if (insn.code === (BPF_JMP | BPF_JA)) return [pc + 1 + (insn.k | 0)];
  return [];
}

function insnComplaint(
  insn: CbpfInsn,
  pc: number,
  count: number,
  backwardJumps: boolean,
): string | undefined {
  const { code, k } = insn;
  const row = instructions.get(code);
  if (row === undefined) return "Unknown classic BPF instruction";
  if (!Number.isInteger(k) || k < 0 || k > 0xffffffff) return "k must be an unsigned 32-bit number";
  if (!isByte(insn.jt) || !isByte(insn.jf)) return "jt and jf must be unsigned 8-bit numbers";
  if (row.operand === "scratch" && k >= BPF_MEMWORDS) return `Scratch memory has ${BPF_MEMWORDS} words`;
  if (code === (BPF_ALU | aluOps.div.bits) || code === (BPF_ALU | aluOps.mod.bits)) {
    if (k === 0) return "Division by the constant 0";
  }
  if ((code === (BPF_ALU | aluOps.lsh.bits) || code === (BPF_ALU | aluOps.rsh.bits)) && k > 31) {
    return "Shift by more than 31 bits";
  }
  for (const target of jumpTargets(insn, pc)) {
    if (target >= count || target < 0) return "Jump out of the program";
    if (target <= pc && !backwardJumps) return "Jump backwards";
  }
  return undefined;
}

function isByte(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 0xff;
}

/** Follows the kernel's check_load_and_stores: a word counts as set where every path set it. */
function checkScratch(insns: readonly CbpfInsn[]): void {
  const setOnEntry = new Uint16Array(insns.length + 1).fill(0xffff);
  let set = 0;
  insns.forEach((insn, pc) => {
    set = pc === 0 ? 0 : set & setOnEntry[pc]!;
    const { code, k } = insn;
    if (code === BPF_ST || code === BPF_STX) set |= 1 << k;
    if ((code === (BPF_LD | BPF_MEM) || code === (BPF_LDX | BPF_MEM)) && (set & (1 << k)) === 0) {
      refuse(`Some path reads M[${k}] before it is set`, insn, pc);
    }
    const targets = jumpTargets(insn, pc);
    for (const target of targets) setOnEntry[target]! &= set;
    if (targets.length > 0 || classOf(code) === BPF_RET) set = 0xffff;
  });
}
