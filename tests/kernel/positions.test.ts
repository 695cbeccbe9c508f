/**
 * Which argument is the packet: the program that serves functions of every kind, run by BPF_PROG_TEST_RUN with registers
 * of our making. That probes call it so is for the virtual machines to show.
 */
import { describe, expect, test } from "bun:test";
import { packetEvent } from "../../bpf-programs/events.ts";
import type { TraceOptions } from "../../bpf-programs/frame.ts";
import { traceMaps } from "../../bpf-programs/maps.ts";
import { bulkAccess } from "../../bpf-programs/memory_access.ts";
import type { ProbeContext } from "../../bpf-programs/registers.ts";
import { BPF_PROG_TYPE_RAW_TRACEPOINT } from "../../asm/uapi.ts";
import { kprobePositionsProgram } from "../../bpf-programs/function_programs.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { RingBuffer } from "../../lib/maps/ring_buffer.ts";
import { bpfProgTestRun } from "../../lib/sys/bpf.ts";
import { loadProgram } from "../../lib/sys/program.ts";
import { hasKernelBtf } from "../kernel_btf.ts";
import { isAtLeast, isRoot } from "./requires.ts";

/** Five arguments, the instruction pointer, the stack pointer: what a raw tracepoint is given in a row. */
const context: ProbeContext = {
  arguments: [0, 8, 16, 24, 32],
  instructionPointer: 40,
  stackPointer: 48,
  returnAddress: { in: "memory", register: 48 },
  returnValue: 0,
  stackBytes: 1 << 14,
};
const bytesOf = (...words: bigint[]) => new Uint8Array(BigUint64Array.from(words).buffer);

describe.skipIf(!isRoot || !isAtLeast(5, 10) || !hasKernelBtf)("positions (needs root, Linux 5.10)", () => {
  test("each function's own argument is taken, first and later, also where functions share a place", () => {
    using maps = new Maps();
    const options: TraceOptions = {
      kernel: new BtfTypes(loadKernelBtf()),
      access: bulkAccess(),
      maps: traceMaps(1 << 20),
      meta: false,
      tuple: false,
    };
    using program = loadProgram(
      { ...kprobePositionsProgram(options, context), type: BPF_PROG_TYPE_RAW_TRACEPOINT },
      { maps },
    );
    using ring = RingBuffer.open(maps.get(options.maps.events));
    const view = new DataView(ring.bytes.buffer, ring.bytes.byteOffset);
    const { skb, address } = packetEvent.fields;
    /** What the program shows of a hit at `place` with the arguments 101 to 105. */
    const hit = (place: bigint) => {
      bpfProgTestRun(program.fd, { ctx_in: bytesOf(101n, 102n, 103n, 104n, 105n, place, 0n) });
      const seen: [place: bigint, packet: bigint][] = [];
      ring.drain((offset) =>
        seen.push([
          view.getBigUint64(offset + address.offset, true),
          view.getBigUint64(offset + skb.offset, true),
        ])
      );
      return seen;
    };
    const text = 0xffffffff81000001n, positions = [1n, 2n, 3n, 4n, 5n];
    const functions = positions.flatMap((position) => [
      [text + 16n * position, position] as const, // neighbours
      [text + 0x100000n * position, position] as const, // all of them in one place of the table
    ]);
    const known = maps.get(options.maps.positions);
    for (const [place, position] of functions) known.update(bytesOf(place), bytesOf(position));
    for (const [place, position] of [...functions, ...functions, ...functions.toReversed()]) {
      expect(hit(place)).toEqual([[place, 100n + position]]);
    }
    expect(hit(text)).toEqual([]); // nobody's
    expect(hit(0n)).toEqual([]);
  });
});
