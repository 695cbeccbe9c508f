/**
 * The kernel's own classic BPF: a filter on one end of a pair of Unix datagram sockets, which needs no root. What
 * is sent at the other end arrives, cut to what the filter keeps, or does not (net/core/filter.c, sk_filter_trim_cap).
 *
 * It differs from libpcap's interpreter: see `kernelAgrees`.
 */
import { BPF_MSH, type CbpfInsn, classOf, validateCbpf } from "../../asm/cbpf.ts";
import { AssemblyError } from "../../asm/errors.ts";
import { struct, u16, u32, u64, u8 } from "../../asm/layout.ts";
import { aluOps, BPF_ABS, BPF_ALU, BPF_IND, BPF_LD, BPF_LDX, BPF_X } from "../../asm/opcodes.ts";
import { allocate, scope } from "../../lib/sys/arena.ts";
import { errno } from "../../lib/sys/errno.ts";
import { OwnedFd } from "../../lib/sys/fd.ts";
import { kernelError, syscall, trySyscall } from "../../lib/sys/ffi.ts";

const AF_UNIX = 1, SOCK_DGRAM = 2, SOCK_CLOEXEC = 0x80000, SOL_SOCKET = 1, SO_ATTACH_FILTER = 26;
const MSG_DONTWAIT = 0x40;

const sockFilter = struct("sock_filter", { code: u16, jt: u8, jf: u8, k: u32 });
const sockFprog = struct("sock_fprog", { len: u16, _pad: u16, _pad2: u32, filter: u64 });

/** Longer than any packet of these tests. */
const BUFFER_BYTES = 0x10000;

export class ClassicSocket implements Disposable {
  readonly #sender: OwnedFd;
  readonly #receiver: OwnedFd;
  readonly #buffer = allocate(BUFFER_BYTES);

  constructor() {
    using memory = scope();
    const pair = memory.alloc(8);
    syscall("socketpair", AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair.address);
    this.#sender = new OwnedFd(pair.view.getInt32(0, true));
    this.#receiver = new OwnedFd(pair.view.getInt32(4, true));
  }

  /** Puts `insns` in place of the filter before. @throws {KernelError} the kernel refuses them */
  attach(insns: readonly CbpfInsn[]): void {
    using memory = scope();
    const filter = memory.alloc(insns.length * sockFilter.size);
    for (const [index, insn] of insns.entries()) {
      sockFilter.encode(filter.view, index * sockFilter.size, insn);
    }
    const { address } = memory.struct(sockFprog, { len: insns.length, filter: BigInt(filter.address) });
    syscall("setsockopt", this.#receiver.fd, SOL_SOCKET, SO_ATTACH_FILTER, address, sockFprog.size);
  }

  /** Whether the filter lets `packet` through. */
  passes(packet: Uint8Array): boolean {
    const { address, bytes } = this.#buffer;
    bytes.set(packet);
    syscall("sendto", this.#sender.fd, address, packet.length, MSG_DONTWAIT, 0, 0);
    const result = trySyscall("recvfrom", this.#receiver.fd, address, BUFFER_BYTES, MSG_DONTWAIT, 0, 0);
    if (result === -(errno.EAGAIN as number)) return false;
    if (result < 0) throw kernelError("recvfrom", -result);
    return true;
  }

  [Symbol.dispose](): void {
    this.#sender[Symbol.dispose]();
    this.#receiver[Symbol.dispose]();
  }
}

const shifts: readonly number[] = [aluOps.lsh.bits, aluOps.rsh.bits].map((bits) => BPF_ALU | bits | BPF_X);
const loads: readonly number[] = [BPF_LD | BPF_ABS, BPF_LD | BPF_IND, BPF_LDX | BPF_MSH];

/** Whether this reads the packet from 2^31 on, where Linux has other things to read. */
function readsBehindTheSign({ code, k }: CbpfInsn): boolean {
  return k >= 2 ** 31 && loads.includes(classOf(code) | (code & 0xe0));
}

/**
 * Whether the kernel takes `insns` and means by them what our interpreter means when `indexWraps` is set. It
 * refuses backward jumps and scratch words that some path leaves unset, and masks a shift by X with 31.
 */
export function kernelAgrees(insns: readonly CbpfInsn[]): boolean {
  if (insns.some((insn) => shifts.includes(insn.code) || readsBehindTheSign(insn))) return false;
  try {
    validateCbpf(insns);
    return true;
  } catch (error) {
    if (error instanceof AssemblyError) return false;
    throw error;
  }
}
