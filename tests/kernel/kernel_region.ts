/** Memory of the kernel that a test lays packets, frames and stacks out in, and probes whose registers it makes up. */
import type { MapSpec, ProgramSpec } from "../../asm/code.ts";
import { at, ldMapValue, r1, ret, stx } from "../../asm/insn.ts";
import { u64 } from "../../asm/layout.ts";
import { BPF_MAP_TYPE_ARRAY, BPF_PROG_TYPE_RAW_TRACEPOINT } from "../../asm/uapi.ts";
import { type ProbeContext, STACK_BYTES } from "../../bpf-programs/registers.ts";
import type { Maps } from "../../lib/maps/maps.ts";
import { loadProgram } from "../../lib/sys/program.ts";

/** So many bytes in one piece. */
export function regionOf(bytes: number): MapSpec {
  return { name: "region", type: BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: bytes, maxEntries: 1 };
}

/** The region's address in the kernel. Its first 8 bytes are lost. */
export function addressOf(region: MapSpec, maps: Maps): bigint {
  const tell: ProgramSpec = {
    name: "tell",
    type: BPF_PROG_TYPE_RAW_TRACEPOINT,
    license: "GPL",
    code: [ldMapValue(r1, region), stx(at(r1, u64), r1), ret(0)],
  };
  using program = loadProgram(tell, { maps });
  program.testRun();
  const address = maps.get(region).lookup(0)?.getBigUint64(0, true) ?? 0n;
  // with five levels of page tables the upper half begins at 0xff00000000000000
  if (address >> 56n !== 0xffn) throw new Error(`The kernel has nothing at 0x${address.toString(16)}`);
  return address;
}

/** Registers as the arguments of a raw tracepoint: five arguments, instruction pointer, stack pointer, return value. */
export const registers: ProbeContext = {
  arguments: [0, 8, 16, 24, 32],
  instructionPointer: 40,
  stackPointer: 48,
  stackBytes: STACK_BYTES,
  returnAddress: { in: "memory", register: 48 },
  returnValue: 56,
};
