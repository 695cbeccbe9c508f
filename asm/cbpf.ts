/**
 * Classic BPF: the instruction format of `struct sock_filter`, the table of its instructions and what a
 * program must satisfy to be run (kernel: include/uapi/linux/filter.h, net/core/filter.c).
 *
 * Class, size, mode and operation bits that classic and extended BPF share come from opcodes.ts; only the
 * two classes that mean something else here are added. cbpf_run.ts executes, cbpf_text.ts prints.
 */
import { AssemblyError } from "./errors.ts";
import * as op from "./opcodes.ts";

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

const W = op.sizes[4].bits, H = op.sizes[2].bits, B = op.sizes[1].bits;
const alu = (name: keyof typeof op.aluOps): WithOperand => withOperand(op.BPF_ALU | op.aluOps[name].bits);
const jump = (name: keyof typeof op.jumpOps): WithOperand => withOperand(op.BPF_JMP | op.jumpOps[name].bits);

/** An operation whose second operand is the constant or X. */
export interface WithOperand {
  readonly k: number;
  readonly x: number;
}

function withOperand(bits: number): WithOperand {
  return { k: bits | op.BPF_K, x: bits | op.BPF_X };
}

/** Every opcode there is, by mnemonic and operand. Packet loads are by their size in bytes. */
export const cbpf = {
  ldImm: op.BPF_LD | W | op.BPF_IMM,
  ldMem: op.BPF_LD | W | op.BPF_MEM,
  ldLen: op.BPF_LD | W | BPF_LEN,
  ldAbs: { 1: op.BPF_LD | B | op.BPF_ABS, 2: op.BPF_LD | H | op.BPF_ABS, 4: op.BPF_LD | W | op.BPF_ABS },
  ldInd: { 1: op.BPF_LD | B | op.BPF_IND, 2: op.BPF_LD | H | op.BPF_IND, 4: op.BPF_LD | W | op.BPF_IND },
  ldxImm: op.BPF_LDX | W | op.BPF_IMM,
  ldxMem: op.BPF_LDX | W | op.BPF_MEM,
  ldxLen: op.BPF_LDX | W | BPF_LEN,
  ldxMsh: op.BPF_LDX | B | BPF_MSH,
  st: op.BPF_ST,
  stx: op.BPF_STX,
  add: alu("add"),
  sub: alu("sub"),
  mul: alu("mul"),
  div: alu("div"),
  mod: alu("mod"),
  and: alu("and"),
  or: alu("or"),
  xor: alu("xor"),
  lsh: alu("lsh"),
  rsh: alu("rsh"),
  neg: op.BPF_ALU | op.BPF_NEG,
  ja: op.BPF_JMP | op.BPF_JA,
  jeq: jump("jeq"),
  jgt: jump("jgt"),
  jge: jump("jge"),
  jset: jump("jset"),
  ret: BPF_RET | op.BPF_K,
  retA: BPF_RET | BPF_A,
  tax: BPF_MISC | BPF_TAX,
  txa: BPF_MISC | BPF_TXA,
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

/** How every instruction reads, by opcode. */
export const instructions: ReadonlyMap<number, Instruction> = new Map([
  row(cbpf.ldImm, "ld", "hex"),
  row(cbpf.ldAbs[4], "ld", "packet"),
  row(cbpf.ldAbs[2], "ldh", "packet"),
  row(cbpf.ldAbs[1], "ldb", "packet"),
  row(cbpf.ldInd[4], "ld", "indexed"),
  row(cbpf.ldInd[2], "ldh", "indexed"),
  row(cbpf.ldInd[1], "ldb", "indexed"),
  row(cbpf.ldMem, "ld", "scratch"),
  row(cbpf.ldLen, "ld", "length"),
  row(cbpf.ldxImm, "ldx", "hex"),
  row(cbpf.ldxMem, "ldx", "scratch"),
  row(cbpf.ldxLen, "ldx", "length"),
  row(cbpf.ldxMsh, "ldxb", "nibble"),
  row(cbpf.st, "st", "scratch"),
  row(cbpf.stx, "stx", "scratch"),
  row(cbpf.neg, "neg", "none"),
  row(cbpf.ja, "ja", "jump"),
  row(cbpf.ret, "ret", "decimal"),
  row(cbpf.retA, "ret", "none"),
  row(cbpf.tax, "tax", "none"),
  row(cbpf.txa, "txa", "none"),
  ...(["add", "sub", "mul", "div", "mod", "lsh", "rsh"] as const).flatMap((name) => rows(name, "decimal")),
  ...(["and", "or", "xor"] as const).flatMap((name) => rows(name, "hex")),
  ...(["jeq", "jgt", "jge", "jset"] as const).flatMap((name) => rows(name, "hex")),
]);

function row(code: number, mnemonic: string, operand: Operand): [number, Instruction] {
  return [code, { mnemonic, operand }];
}

/** `operand` is how the constant prints. */
function rows(
  mnemonic:
    | "add"
    | "sub"
    | "mul"
    | "div"
    | "mod"
    | "and"
    | "or"
    | "xor"
    | "lsh"
    | "rsh"
    | "jeq"
    | "jgt"
    | "jge"
    | "jset",
  operand: Operand,
): [number, Instruction][] {
  return [row(cbpf[mnemonic].k, mnemonic, operand), row(cbpf[mnemonic].x, mnemonic, "x")];
}

/** The class bits: BPF_LD, BPF_JMP, ... */
export function classOf(code: number): number {
  return code & 0x07;
}

/** True for loads of what Linux knows about the packet, not of its bytes. */
export function isAncillaryLoad({ code, k }: CbpfInsn): boolean {
  return classOf(code) === op.BPF_LD && (code & 0xe0) === op.BPF_ABS && k >= SKF_AD_OFF;
}

/** Whether the second operand of a calculation or comparison is X; else it is k. */
export function usesX(code: number): boolean {
  return (code & op.BPF_X) !== 0;
}

/** True for the four comparisons, with a constant or with X. */
export function isBranch(code: number): boolean {
  return classOf(code) === op.BPF_JMP && code !== cbpf.ja;
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
  if (insn.code === cbpf.ja) return [pc + 1 + (insn.k | 0)];
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
  if ((code === cbpf.div.k || code === cbpf.mod.k) && k === 0) return "Division by the constant 0";
  if ((code === cbpf.lsh.k || code === cbpf.rsh.k) && k > 31) return "Shift by more than 31 bits";
  for (const target of jumpTargets(insn, pc)) {
    if (target >= count || target < 0) return "Jump out of the program";
    if (target <= pc && !backwardJumps) return "Jump backwards";
  }
  return undefined;
}

function isByte(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 0xff;
}

/**
 * Follows the kernel's check_load_and_stores: a word counts as set where every path set it. A return counts as a
 * path to the next instruction, since the kernel only looks at jumps.
 */
function checkScratch(insns: readonly CbpfInsn[]): void {
  const setOnEntry = new Uint16Array(insns.length + 1).fill(0xffff);
  let set = 0;
  insns.forEach((insn, pc) => {
    set = pc === 0 ? 0 : set & setOnEntry[pc]!;
    const { code, k } = insn;
    if (code === cbpf.st || code === cbpf.stx) set |= 1 << k;
    if ((code === cbpf.ldMem || code === cbpf.ldxMem) && (set & (1 << k)) === 0) {
      refuse(`Some path reads M[${k}] before it is set`, insn, pc);
    }
    const targets = jumpTargets(insn, pc);
    for (const target of targets) setOnEntry[target]! &= set;
    if (targets.length > 0) set = 0xffff;
  });
}
