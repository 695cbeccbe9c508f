/**
 * Which kernel functions BPF programs call that work on packets, and where the code of those programs is. Nothing is
 * known of helpers beforehand: the calls stand in the instructions that the kernel runs, by address, on every
 * architecture (struct bpf_prog_info, xlated_prog_insns). What the verifier has put in their place is seen as it is: a
 * look-up in a hash map is a call of __htab_map_lookup_elem, one in an array no call at all.
 */
import { helperId } from "../../asm/helpers.ts";
import { callerKey } from "../../bpf-programs/callers.ts";
import { KernelError } from "../errors.ts";
import type { BpfMap } from "../maps/bpf_map.ts";
import { bpfProgCode, bpfProgGetFdById } from "../sys/bpf.ts";
import { OwnedFd } from "../sys/fd.ts";
import { programsAfter } from "./loaded_programs.ts";

/** enum bpf_prog_type: those whose context is a packet. */
const packetPrograms: ReadonlyMap<number, string> = new Map([
  [1, "socket_filter"],
  [3, "sched_cls"],
  [4, "sched_act"],
  [6, "xdp"],
  [8, "cgroup_skb"],
  [10, "lwt_in"],
  [11, "lwt_out"],
  [12, "lwt_xmit"],
  [14, "sk_skb"],
  [19, "lwt_seg6local"],
  [21, "sk_reuseport"],
  [22, "flow_dissector"],
  [28, "ext"],
  [32, "netfilter"],
]);

/** A kernel function that is called: by its address, or by its BTF id where that is what the call has. */
export type Callee = { readonly address: bigint } | { readonly btfId: number };

/** BPF_JMP | BPF_CALL, and what src_reg says of the callee. */
const CALL = 0x85, HELPER = 0, KFUNC = 2;

/**
 * What these instructions call in the kernel.
 *
 * @param base address of __bpf_call_base, from which helpers are counted
 * @param kfuncsById kfuncs may be farther than 2 GiB from it (arm64): then they are called by BTF id
 */
export function* calleesOf(insns: Uint8Array, base: bigint, kfuncsById: boolean): Generator<Callee> {
  const view = new DataView(insns.buffer, insns.byteOffset, insns.byteLength);
  for (let at = 0; at < insns.byteLength; at += 8) {
    if (view.getUint8(at) !== CALL) continue;
    const kind = view.getUint8(at + 1) >> 4, imm = view.getInt32(at + 4, true);
    if (kind === HELPER && imm === helperId.bpf_tail_call) continue; // a jump, shown as a call of that number
    if (kind === KFUNC && kfuncsById) {
      if (view.getInt16(at + 2, true) === 0) yield { btfId: imm }; // others are of modules
    } else if (kind === HELPER || kind === KFUNC) yield { address: BigInt.asUintN(64, base + BigInt(imm)) };
  }
}

/** The prefixes that cover `length` addresses from `start` on, and no other. */
export function* prefixesOf(start: bigint, length: number): Generator<{ prefixlen: number; data: bigint }> {
  for (let at = start, end = start + BigInt(length); at < end;) {
    let bits = 0;
    while (bits < 32 && (at & (1n << BigInt(bits))) === 0n && at + (2n << BigInt(bits)) <= end) bits++;
    yield { prefixlen: 64 - bits, data: at };
    at += 1n << BigInt(bits);
  }
}

const key = new Uint8Array(callerKey.size), keyView = new DataView(key.buffer), present = Uint8Array.of(1);

function keyOf({ prefixlen, data }: { prefixlen: number; data: bigint }): Uint8Array {
  keyView.setUint32(callerKey.fields.prefixlen.offset, prefixlen, true);
  keyView.setBigUint64(callerKey.fields.data.offset, data); // the highest byte first
  return key;
}

/** What a look at the loaded programs brought. */
export interface HelpersFound {
  /** functions that no program called before */
  readonly callees: readonly Callee[];
  readonly remarks: readonly string[];
}

interface Code {
  readonly start: bigint;
  readonly length: number;
}

export class HelperCalls {
  readonly #callers: BpfMap;
  readonly #base: bigint;
  readonly #kfuncsById: boolean;
  readonly #programs = new Map<number, readonly Code[]>();
  readonly #known = new Set<bigint | number>();

  /** @param callers is kept up to date: the code of all programs */
  constructor(callers: BpfMap, base: bigint, { kfuncsById }: { readonly kfuncsById: boolean }) {
    this.#callers = callers;
    this.#base = base;
    this.#kfuncsById = kfuncsById;
  }

  /** Takes in the programs that are new, and forgets those that are gone. */
  look(): HelpersFound {
    const callees: Callee[] = [], remarks: string[] = [], ids = new Set(programsAfter(0));
    for (const [id, code] of this.#programs) {
      if (ids.has(id)) continue;
      this.#programs.delete(id);
      for (const { start, length } of code) {
        for (const prefix of prefixesOf(start, length)) this.#callers.delete(keyOf(prefix));
      }
    }
    for (const id of ids) if (!this.#programs.has(id)) this.#take(id, callees, remarks);
    return { callees, remarks };
  }

  #take(id: number, callees: Callee[], remarks: string[]): void {
    this.#programs.set(id, []);
    const fd = bpfProgGetFdById(id);
    if (fd === undefined) return; // gone meanwhile
    using program = new OwnedFd(fd);
    try {
      const { type, name, functions, insns } = bpfProgCode(program.fd);
      if (!packetPrograms.has(type)) return;
      if (insns.length === 0 || functions.every(({ address }) => address === 0n)) {
        remarks.push(`What BPF program ${id} (${name}) calls is hidden, or it was not compiled`);
        return;
      }
      const code = functions.map(({ address, length }) => ({ start: address, length }));
      this.#programs.set(id, code);
      for (const { start, length } of code) {
        for (const prefix of prefixesOf(start, length)) this.#callers.update(keyOf(prefix), present);
      }
      for (const callee of calleesOf(insns, this.#base, this.#kfuncsById)) {
        const what = "address" in callee ? callee.address : callee.btfId;
        if (this.#known.has(what)) continue;
        this.#known.add(what);
        callees.push(callee);
      }
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      remarks.push(`What BPF program ${id} calls is not known: ${error.call}: ${error.code}`);
    }
  }
}
