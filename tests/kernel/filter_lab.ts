/**
 * Runs translated filters in the kernel on packets of our choice.
 *
 * The packets lie in a map's value, whose kernel address a program tells us. A filter is then a
 * raw_tracepoint program whose arguments are address, length and wire length, and BPF_PROG_TEST_RUN calls
 * it: memory is read exactly as in a tracing program.
 */
import type { CbpfInsn } from "../../asm/cbpf.ts";
import { cbpfToEbpf } from "../../asm/cbpf_to_ebpf.ts";
import { type Code, label, type MapSpec } from "../../asm/code.ts";
import { withoutDeadCode } from "../../asm/dead_code.ts";
import { at, fp, ldMapValue, ldx, r1, r6, r7, r8, r9, ret, stx } from "../../asm/insn.ts";
import { u64 } from "../../asm/layout.ts";
import { BPF_MAP_TYPE_ARRAY } from "../../bpf-programs/maps.ts";
import type { MemoryAccess } from "../../bpf-programs/memory_access.ts";
import { BPF_PROG_TYPE_RAW_TRACEPOINT } from "../../bpf-programs/trace.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { bpfProgTestRun } from "../../lib/sys/bpf.ts";
import { loadProgram, type Program } from "../../lib/sys/program.ts";

/** What a run says. */
export const NO_MATCH = 0, MATCH = 1, UNREADABLE = 2;

/** Behind each packet there is as much room as skb_shared_info takes behind a packet's buffer. */
const ROOM = 512;

export interface LabPacket {
  readonly bytes: Uint8Array;
  readonly wireLength: number;
}

/** Packets in kernel memory. */
export class PacketMemory implements Disposable {
  readonly #maps = new Maps();
  readonly #arguments: Uint8Array[] = [];

  constructor(packets: readonly LabPacket[]) {
    const offsets: number[] = [];
    let size = 8;
    for (const { bytes } of packets) {
      offsets.push(size);
      size += bytes.length + ROOM;
    }
    const spec: MapSpec = {
      name: "packets",
      type: BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: size,
      maxEntries: 1,
    };
    const map = this.#maps.get(spec);
    using teller = loadProgram({
      name: "address",
      type: BPF_PROG_TYPE_RAW_TRACEPOINT,
      license: "GPL",
      code: [ldMapValue(r1, spec), stx(at(r1, u64), r1), ret(0)],
    }, { maps: this.#maps });
    bpfProgTestRun(teller.fd);
    const address = map.lookup(0)?.getBigUint64(0, true) ?? 0n;
    const value = new Uint8Array(size);
    for (const [index, { bytes, wireLength }] of packets.entries()) {
      const offset = offsets[index] as number;
      value.set(bytes, offset);
      // what a filter must not see
      value.fill(0xa5, offset + bytes.length, offset + bytes.length + ROOM);
      const words = new BigUint64Array([address + BigInt(offset), BigInt(bytes.length), BigInt(wireLength)]);
      this.#arguments.push(new Uint8Array(words.buffer));
    }
    map.update(0, value);
  }

  /** The verdict of `program` on packet number `index`. */
  run(program: Program, index: number): number {
    return bpfProgTestRun(program.fd, { ctx_in: this.#arguments[index] as Uint8Array }).retval;
  }

  [Symbol.dispose](): void {
    this.#maps[Symbol.dispose]();
  }
}

/** A filter on its own, with the stack of the real programs. */
export function filterCode(insns: readonly CbpfInsn[], access: MemoryAccess): Code {
  const match = label("match"), noMatch = label("no_match"), unreadable = label("unreadable");
  return withoutDeadCode([
    ldx(r9, at(r1, 0, u64)),
    ldx(r6, at(r1, 8, u64)),
    ldx(r7, at(r1, 16, u64)),
    stx(at(fp, -8, u64), r7),
    cbpfToEbpf(insns, {
      access: access.packet({ base: r9, spill: -32, stack: -424, stackBytes: 104, unreadable }),
      a: r7,
      x: r8,
      length: r6,
      wireLength: (dst) => ldx(dst, at(fp, -8, u64)),
      scratch: -112,
      match,
      noMatch,
    }),
    noMatch,
    ret(NO_MATCH),
    match,
    ret(MATCH),
    unreadable,
    ret(UNREADABLE),
  ]);
}

/** @throws {VerifierError} the kernel refuses the translation */
export function loadFilter(insns: readonly CbpfInsn[], access: MemoryAccess): Program {
  return loadProgram({
    name: "filter",
    type: BPF_PROG_TYPE_RAW_TRACEPOINT,
    license: "GPL",
    code: filterCode(insns, access),
  });
}
