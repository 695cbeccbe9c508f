/**
 * Executes classic BPF on a packet in user space, with the rules of libpcap's interpreter: registers and
 * scratch memory start at 0, a load that is not wholly inside the captured bytes ends the program with 0,
 * and so does a division or modulus by X = 0. Shifts by 32 or more give 0.
 */
import {
  ancillary,
  BPF_LEN,
  BPF_MEMWORDS,
  BPF_MISC,
  BPF_RET,
  cbpf,
  type CbpfInsn,
  classOf,
  SKF_AD_OFF,
  usesX,
} from "./cbpf.ts";
import {
  BPF_ABS,
  BPF_ALU,
  BPF_IMM,
  BPF_IND,
  BPF_JMP,
  BPF_LD,
  BPF_LDX,
  BPF_MEM,
  BPF_ST,
  BPF_STX,
  BPF_X,
  sizes,
} from "./opcodes.ts";

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
  /** add offset and X in 32 bits, as Linux does; libpcap finds no packet that long */
  readonly indexWraps?: boolean;
  /** ends programs that loop (backward `ja`), with 0 */
  readonly maxSteps?: number;
}

const W = sizes[4].bits, H = sizes[2].bits;

/** A load or an operation that cannot be carried out; no 32-bit value is negative. */
const failed = -1;

/** How a run ended: at a `ret`, or because a load or a division was impossible, or after too many steps. */
export interface Outcome {
  /** how many bytes of the packet to keep; 0 unless a `ret` was reached */
  readonly result: number;
  readonly end: "return" | "load" | "division" | "steps";
}

/**
 * @param packet the captured bytes
 * @returns the operand of the `ret` that was reached, or 0: how many bytes of the packet to keep
 */
export function runCbpf(insns: readonly CbpfInsn[], packet: Uint8Array, options: RunOptions = {}): number {
  return executeCbpf(insns, packet, options).result;
}

/** runCbpf that also tells why. `insns` must be valid. */
export function executeCbpf(
  insns: readonly CbpfInsn[],
  packet: Uint8Array,
  options: RunOptions = {},
): Outcome {
  const { wireLength = packet.length, indexWraps = false, maxSteps = 1_000_000 } = options;
  const scratch = new Uint32Array(BPF_MEMWORDS);
  let a = 0, x = 0;
  let pc = 0;
  for (let step = 0; step < maxSteps; step++) {
    const insn = insns[pc++];
    if (insn === undefined) throw new RangeError(`Cannot run classic BPF: no instruction at ${pc - 1}`);
    const { code, k } = insn;
    switch (classOf(code)) {
      case BPF_RET:
        return { result: code === cbpf.retA ? a : k, end: "return" };
      case BPF_LD:
        a = load(code, k);
        if (a === failed) return { result: 0, end: "load" };
        break;
      case BPF_LDX:
        x = load(code, k);
        if (x === failed) return { result: 0, end: "load" };
        break;
      case BPF_ST:
        scratch[k] = a;
        break;
      case BPF_STX:
        scratch[k] = x;
        break;
      case BPF_ALU:
        a = calculate(code, a, usesX(code) ? x : k);
        if (a === failed) return { result: 0, end: "division" };
        break;
      case BPF_JMP:
        if (code === cbpf.ja) pc += k | 0;
        else pc += holds(code, a, usesX(code) ? x : k) ? insn.jt : insn.jf;
        break;
      case BPF_MISC:
        if (code === cbpf.tax) x = a;
        else a = x;
        break;
    }
  }
  return { result: 0, end: "steps" };

  function load(code: number, k: number): number {
    switch (code & 0xe0) {
      case BPF_IMM:
        return k;
      case BPF_MEM:
        return scratch[k]!;
      case BPF_LEN:
        return wireLength >>> 0;
      case BPF_ABS:
        if (k >= SKF_AD_OFF && options.ancillary !== undefined) {
          return loadAncillary(k - SKF_AD_OFF, options.ancillary);
        }
        return loadPacket(packet, code, k);
      case BPF_IND:
        return loadPacket(packet, code, indexWraps ? (k + x) >>> 0 : k + x);
      default: // BPF_MSH
        return k < packet.length ? 4 * (packet[k]! & 0xf) : failed;
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
    default: // B
      return at < packet.length ? packet[at]! : failed;
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

/** `a` op `b` in unsigned 32 bits, or -1 for a division by 0. Compilers fold constants with it. */
export function calculate(code: number, a: number, b: number): number {
  switch (code & ~BPF_X) {
    case cbpf.add.k:
      return (a + b) >>> 0;
    case cbpf.sub.k:
      return (a - b) >>> 0;
    case cbpf.mul.k:
      return Math.imul(a, b) >>> 0;
    case cbpf.div.k:
      return b === 0 ? failed : Math.floor(a / b);
    case cbpf.mod.k:
      return b === 0 ? failed : a % b;
    case cbpf.or.k:
      return (a | b) >>> 0;
    case cbpf.and.k:
      return (a & b) >>> 0;
    case cbpf.xor.k:
      return (a ^ b) >>> 0;
    case cbpf.lsh.k:
      return b > 31 ? 0 : (a << b) >>> 0;
    case cbpf.rsh.k:
      return b > 31 ? 0 : a >>> b;
    default: // neg
      return -a >>> 0;
  }
}

/** Whether the comparison `code` of `a` with `b` takes its true exit. */
export function holds(code: number, a: number, b: number): boolean {
  switch (code & ~BPF_X) {
    case cbpf.jeq.k:
      return a === b;
    case cbpf.jgt.k:
      return a > b;
    case cbpf.jge.k:
      return a >= b;
    default: // jset
      return (a & b) !== 0;
  }
}
