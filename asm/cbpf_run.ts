/**
 * Executes classic BPF on a packet in user space, with the rules of libpcap's interpreter: registers and
 * scratch memory start at 0, a load that is not wholly inside the captured bytes ends the program with 0,
 * and so does a division or modulus by X = 0. Shifts by 32 or more give 0.
 */
import {
  ancillary,
  BPF_A,
  BPF_LEN,
  BPF_MEMWORDS,
  BPF_MISC,
  BPF_MSH,
  BPF_RET,
  BPF_TAX,
  BPF_TXA,
  type CbpfInsn,
  SKF_AD_OFF,
} from "./cbpf.ts";
import { aluOps, BPF_ABS, BPF_ALU, BPF_IMM, BPF_IND, BPF_JA, BPF_JMP, BPF_LD } from "./opcodes.ts";
import { BPF_LDX, BPF_MEM, BPF_NEG, BPF_ST, BPF_STX, BPF_X, jumpOps, sizes } from "./opcodes.ts";

/** What Linux knows about a packet beside its bytes; absent means that such loads fail. */
export interface AncillaryData {
  /** PACKET_HOST 0 ... PACKET_OUTGOING 4 (include/uapi/linux/if_packet.h) */
  readonly packetType?: number;
  readonly ifindex?: number;
  /** the tag control information that the device took off the frame */
  readonly vlanTag?: number;
}

export interface RunOptions {
  /** length on the wire, which `ld #pktlen` sees; default: the captured length */
  readonly wireLength?: number;
  readonly ancillary?: AncillaryData;
  /** ends programs that loop (backward `ja`), with 0 */
  readonly maxSteps?: number;
}

const W = sizes[4].bits, H = sizes[2].bits, B = sizes[1].bits;

/** The load or ALU step failed: the packet does not match. */
const failed = -1;

/**
 * @param packet the captured bytes
 * @returns the operand of the `ret` that was reached, or 0: how many bytes of the packet to keep
 */
export function runCbpf(insns: readonly CbpfInsn[], packet: Uint8Array, options: RunOptions = {}): number {
  const { wireLength = packet.length, maxSteps = 1_000_000 } = options;
  const scratch = new Uint32Array(BPF_MEMWORDS);
  let a = 0, x = 0;
  let pc = 0;
  for (let step = 0; step < maxSteps; step++) {
    const insn = insns[pc++];
    if (insn === undefined) return 0;
    const { code, k } = insn;
    switch (code & 0x07) {
      case BPF_RET:
        return code === (BPF_RET | BPF_A) ? a : k;
      case BPF_LD:
        a = load(code, k, x);
        if (a === failed) return 0;
        break;
      case BPF_LDX:
        x = load(code, k, x);
        if (x === failed) return 0;
        break;
      case BPF_ST:
        scratch[k] = a;
        break;
      case BPF_STX:
        scratch[k] = x;
        break;
      case BPF_ALU:
        a = calculate(code, a, (code & BPF_X) !== 0 ? x : k);
        if (a === failed) return 0;
        break;
      case BPF_JMP:
        if (code === (BPF_JMP | BPF_JA)) pc += k | 0;
        else pc += holds(code, a, (code & BPF_X) !== 0 ? x : k) ? insn.jt : insn.jf;
        break;
      case BPF_MISC:
        if (code === (BPF_MISC | BPF_TAX)) x = a;
        else if (code === (BPF_MISC | BPF_TXA)) a = x;
        else return 0;
        break;
    }
  }
  return 0;

  function load(code: number, k: number, x: number): number {
    switch (code & 0xe0) {
      case BPF_IMM:
        return k;
      case BPF_MEM:
        return scratch[k] ?? failed;
      case BPF_LEN:
        return wireLength >>> 0;
      case BPF_ABS:
        if (k >= SKF_AD_OFF && options.ancillary !== undefined) {
          return loadAncillary(k - SKF_AD_OFF, options.ancillary);
        }
        return loadPacket(packet, code, k);
      case BPF_IND:
        return loadPacket(packet, code, k + x); // a sum above 2^32 is out of the packet, it does not wrap
      case BPF_MSH:
        return k < packet.length ? 4 * (packet[k]! & 0xf) : failed;
      default:
        return failed;
    }
  }
}

function loadPacket(packet: Uint8Array, code: number, at: number): number {
  switch (code & 0x18) {
    case W:
      if (at + 4 > packet.length) return failed;
      return ((packet[at]! << 24) | (packet[at + 1]! << 16) | (packet[at + 2]! << 8) | packet[at + 3]!) >>> 0;
    case H:
      if (at + 2 > packet.length) return failed;
      return (packet[at]! << 8) | packet[at + 1]!;
    case B:
      return at < packet.length ? packet[at]! : failed;
    default:
      return failed;
  }
}

function loadAncillary(offset: number, data: AncillaryData): number {
  switch (offset) {
    case ancillary.packetType.offset:
      return data.packetType ?? failed;
    case ancillary.ifindex.offset:
      return data.ifindex ?? failed;
    case ancillary.vlanTag.offset:
      return data.vlanTag ?? 0;
    case ancillary.vlanTagPresent.offset:
      return data.vlanTag === undefined ? 0 : 1;
    default:
      return failed;
  }
}

/** `a` op `b` in unsigned 32 bits; what a program and a compiler that folds constants must agree on. */
export function calculate(code: number, a: number, b: number): number {
  switch (code & 0xf0) {
    case aluOps.add.bits:
      return (a + b) >>> 0;
    case aluOps.sub.bits:
      return (a - b) >>> 0;
    case aluOps.mul.bits:
      return Math.imul(a, b) >>> 0;
    case aluOps.div.bits:
      return b === 0 ? failed : Math.floor(a / b);
    case aluOps.mod.bits:
      return b === 0 ? failed : a % b;
    case aluOps.or.bits:
      return (a | b) >>> 0;
    case aluOps.and.bits:
      return (a & b) >>> 0;
    case aluOps.xor.bits:
      return (a ^ b) >>> 0;
    case aluOps.lsh.bits:
      return b > 31 ? 0 : (a << b) >>> 0;
    case aluOps.rsh.bits:
      return b > 31 ? 0 : a >>> b;
    case BPF_NEG:
      return -a >>> 0;
    default:
      return failed;
  }
}

/** Whether the comparison `code` of `a` with `b` takes its true exit. */
export function holds(code: number, a: number, b: number): boolean {
  switch (code & 0xf0) {
    case jumpOps.jeq.bits:
      return a === b;
    case jumpOps.jgt.bits:
      return a > b;
    case jumpOps.jge.bits:
      return a >= b;
    default: // jset
      return (a & b) !== 0;
  }
}
