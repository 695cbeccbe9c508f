/**
 * Which packet a stack is about: the programs for kprobes, run by BPF_PROG_TEST_RUN on registers and a stack of our making
 * that lie in maps. That the registers are where they are is for the virtual machines to show.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import type { ProgramSpec } from "../../asm/code.ts";
import { packetEvent, recordLayout } from "../../bpf-programs/events.ts";
import type { TraceOptions } from "../../bpf-programs/frame.ts";
import { traceMaps } from "../../bpf-programs/maps.ts";
import { bulkAccess } from "../../bpf-programs/memory_access.ts";
import { type ProbeContext, STACK_BYTES } from "../../bpf-programs/registers.ts";
import { BPF_PROG_TYPE_RAW_TRACEPOINT } from "../../asm/uapi.ts";
import { kprobeProgram } from "../../bpf-programs/function_programs.ts";
import type { Fate } from "../../bpf-programs/trace.ts";
import { stackProgram, stackWatchProgram } from "../../bpf-programs/stack_programs.ts";
import type { Tracking } from "../../bpf-programs/tracking.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { readCounters } from "../../lib/maps/bpf_map.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { RingBuffer } from "../../lib/maps/ring_buffer.ts";
import { loadProgram, type Program } from "../../lib/sys/program.ts";
import { hasKernelBtf } from "../kernel_btf.ts";
import { addressOf, regionOf, registers } from "./kernel_region.ts";
import { isAtLeast, isRoot } from "./requires.ts";

/** Packets, then three blocks as large as a stack: wherever the map lies, one of them is aligned. */
const PACKET_BYTES = 1024, PACKETS = 8, BLOCK = STACK_BYTES;
const region = regionOf(PACKET_BYTES * PACKETS + 4 * BLOCK);

const STAMP = recordLayout({ stamp: true }).fields.stamp!.offset;

const inRegister: ProbeContext = {
  ...registers,
  returnAddress: { in: "register", register: 64, framePointer: 56 },
};
/** Of the kernel's code, and what a signature makes of it. */
const CODE = 0xffff_8000_8000_0000n, signed = (address: bigint) => address ^ 0x5a25_0000_0000_0000n;

/** Functions by what their probe does, with their addresses in events. */
const functions = {
  lives: 1n,
  ends: 2n,
  unseen: 3n,
  packetless: 4n,
  begins: 5n,
  watch: 6n,
  heir: 7n,
  heirUnseen: 8n,
};

const enabled = isRoot && isAtLeast(5, 10) && hasKernelBtf && process.arch === "x64";
const types = enabled ? new BtfTypes(loadKernelBtf()) : undefined;

/** A machine with one stack at a time; only packets with mark 7 match by themselves. */
class Machine implements Disposable {
  readonly #maps = new Maps();
  readonly #options: TraceOptions;
  readonly #registers: ProbeContext;
  /** functions that are running, the innermost last */
  readonly #running: { depth: number; from: number }[] = [];
  readonly #programs: Record<keyof typeof functions, Program>;
  readonly #ring: RingBuffer;
  readonly #bytes = new DataView(new ArrayBuffer(region.valueSize));
  readonly #base: bigint;
  /** top of an aligned stack */
  readonly top: bigint;

  constructor(tracking: Tracking, registers: ProbeContext) {
    this.#registers = registers;
    const kernel = types as BtfTypes, maps = traceMaps(4096, 100);
    const mark = { value: 7, mask: 0xffffffff };
    this.#options = { kernel, access: bulkAccess(), maps, meta: false, tuple: false, mark, tracking };
    const load = ({ name, license, code }: ProgramSpec) =>
      loadProgram({ name, license, code, type: BPF_PROG_TYPE_RAW_TRACEPOINT }, { maps: this.#maps });
    const probe = (fate: Fate) => load(kprobeProgram(this.#options, registers, 1, fate));
    this.#programs = {
      lives: probe("lives"),
      ends: probe("ends"),
      unseen: probe("ends unseen"),
      begins: probe("begins"),
      heir: probe("takes after"),
      heirUnseen: probe("takes after unseen"),
      watch: load(stackWatchProgram(this.#options, registers, "kprobe")),
      packetless: load(stackProgram(this.#options, registers, "kprobe")),
    };
    this.#ring = RingBuffer.open(this.#maps.get(maps.events));
    this.#base = addressOf(region, this.#maps);
    const stacks = this.#base + BigInt(PACKET_BYTES * PACKETS);
    this.top = (stacks / BigInt(BLOCK) + 2n) * BigInt(BLOCK);
  }

  packet(number: number): bigint {
    return this.#base + BigInt(number * PACKET_BYTES);
  }

  mark(packet: number, mark: number): void {
    const { offset } = (types as BtfTypes).field("sk_buff", "mark");
    this.#bytes.setUint32(packet * PACKET_BYTES + offset, mark, true);
  }

  /** Enters a function whose caller's frame ends at `sp`; those as deep have returned. */
  #enter(sp: bigint, depth: number, from: number): void {
    const word = (address: bigint, value: bigint) =>
      this.#bytes.setBigUint64(Number(address - this.#base), value, true);
    if (this.#registers.returnAddress.in === "memory") return word(sp, CODE + BigInt(from));
    while ((this.#running.at(-1)?.depth ?? -Infinity) >= depth) this.#running.pop();
    const caller = this.#running.at(-1);
    word(sp, caller === undefined ? 0n : this.top - BigInt(caller.depth));
    word(sp + 8n, caller === undefined ? 0n : signed(CODE + BigInt(caller.from)));
    this.#running.push({ depth, from });
  }

  /**
   * Calls a function with a packet, `depth` bytes below the top of the stack, from the place `from`; returns the packets that
   * were shown for it, each with its stamp where there are stamps. The second argument is the packet `model`.
   */
  call(name: keyof typeof functions, packet: number, depth: number, from: number, model = 0): bigint[] {
    const sp = this.top - BigInt(depth);
    this.#enter(sp, depth, from);
    this.#maps.get(region).update(0, new Uint8Array(this.#bytes.buffer));
    const context = BigUint64Array.of(
      ...[this.packet(packet), this.packet(model), 0n, 0n, 0n, functions[name], sp, sp, CODE + BigInt(from)],
    );
    const shown: bigint[] = [];
    this.#programs[name].testRun({ ctx_in: new Uint8Array(context.buffer) });
    const view = new DataView(this.#ring.bytes.buffer, this.#ring.bytes.byteOffset);
    this.#ring.drain((offset) => {
      expect(packetEvent.fields.address.type.decode(view, offset + packetEvent.fields.address.offset))
        .toBe(functions[name]);
      const { skb } = packetEvent.fields;
      shown.push((view.getBigUint64(offset + skb.offset, true) - this.#base) / BigInt(PACKET_BYTES));
      if (this.#options.tracking?.ids === true) {
        this.stamps.push(
          view.getBigUint64(offset + STAMP, true),
        );
      }
    }, 100);
    return shown;
  }

  readonly stamps: bigint[] = [];

  /** stacks that are at work on a packet, by the counter that the gate reads */
  get linked(): bigint {
    const [tracked, untracked, linked] = readCounters(this.#maps.get(this.#options.maps.tracking));
    expect([tracked, untracked]).toEqual([this.#options.tracking?.ids === true ? 1n : 0n, 0n]);
    expect([...this.#maps.get(this.#options.maps.stacks).keys()].length).toBe(Number(linked));
    return linked!;
  }

  [Symbol.dispose](): void {
    for (const program of Object.values(this.#programs)) program[Symbol.dispose]();
    this.#ring[Symbol.dispose]();
    this.#maps[Symbol.dispose]();
  }
}

describe.skipIf(!enabled).each([
  ["on the stack", registers],
  ["in a register", inRegister],
])("stacks, the return address %s (needs root, Linux 5.10, x86-64)", (_, registers) => {
  let machine: Machine;
  beforeEach(() => {
    machine = new Machine({ follow: false, ids: false, stacks: true }, registers);
    machine.mark(1, 7);
  });
  afterEach(() => machine[Symbol.dispose]());

  test("nothing is shown before a packet matched", () => {
    expect(machine.call("packetless", 0, 500, 10)).toEqual([]);
    expect(machine.call("lives", 2, 400, 10)).toEqual([]);
    expect(machine.linked).toBe(0n);
  });

  test("what runs beneath a function that has the packet, with a packet of its own or none", () => {
    expect(machine.call("lives", 1, 400, 10)).toEqual([1n]);
    expect(machine.linked).toBe(1n);
    expect(machine.call("packetless", 0, 500, 20)).toEqual([1n]);
    expect(machine.call("lives", 2, 500, 21)).toEqual([2n]);
    expect(machine.call("packetless", 0, 600, 22)).toEqual([1n]);
  });

  test("the outermost function counts: what follows a deeper one that has returned is still beneath it", () => {
    machine.call("lives", 1, 400, 10);
    machine.call("lives", 1, 600, 11);
    expect(machine.call("packetless", 0, 500, 20)).toEqual([1n]);
    expect(machine.linked).toBe(1n);
  });

  test("after its return: what is called next from the same frame is not beneath it, nor what that calls", () => {
    machine.call("lives", 1, 400, 10);
    expect(machine.call("packetless", 0, 400, 11)).toEqual([]);
    expect(machine.linked).toBe(0n);
    machine.call("lives", 1, 400, 10);
    machine.call("lives", 2, 400, 11); // a packet that does not match
    expect(machine.linked).toBe(0n);
    expect(machine.call("packetless", 0, 500, 20)).toEqual([]);
  });

  test("after its return, a call that nobody saw has put another return address there", () => {
    machine.call("lives", 1, 400, 10);
    machine.mark(3, 7);
    machine.call("unseen", 5, 400, 99); // another packet's end, which says nothing of this one
    expect(machine.call("packetless", 0, 500, 20)).toEqual([]);
    expect(machine.linked).toBe(0n);
  });

  test("after its return, a hole where it was entered: a gate further out has ended it", () => {
    machine.call("lives", 1, 400, 10);
    expect(machine.call("watch", 0, 500, 20)).toEqual([]);
    expect(machine.linked).toBe(1n);
    expect(machine.call("watch", 0, 300, 20)).toEqual([]);
    expect(machine.linked).toBe(0n);
    expect(machine.call("packetless", 0, 500, 20)).toEqual([]);
  });

  test("a frame further out is not beneath it", () => {
    machine.call("lives", 1, 400, 10);
    expect(machine.call("packetless", 0, 300, 11)).toEqual([]);
    expect(machine.linked).toBe(0n);
  });

  test("the next packet on the same stack takes over", () => {
    machine.call("lives", 1, 400, 10);
    machine.mark(2, 7);
    expect(machine.call("lives", 2, 400, 10)).toEqual([2n]);
    expect(machine.call("packetless", 0, 500, 20)).toEqual([2n]);
    expect(machine.linked).toBe(1n);
  });

  test("a packet that ends is no longer what its stack is about", () => {
    machine.call("lives", 1, 400, 10);
    expect(machine.call("ends", 1, 500, 20)).toEqual([1n]);
    expect(machine.linked).toBe(0n);
    expect(machine.call("packetless", 0, 600, 30)).toEqual([]);
    machine.call("lives", 1, 400, 10);
    expect(machine.call("unseen", 1, 500, 20)).toEqual([]);
    expect(machine.linked).toBe(0n);
  });

  test("a stack that is not aligned: the packet is in its upper block", () => {
    const above = -200; // the link lies above the border, the call beneath
    expect(machine.call("lives", 1, above, 10)).toEqual([1n]);
    expect(machine.call("packetless", 0, 100, 20)).toEqual([1n]);
    expect(machine.call("packetless", 0, 100 + BLOCK, 20)).toEqual([]); // another stack
    expect(machine.linked).toBe(1n);
  });

  test("a packet that begins is not the one that was at its address", () => {
    using numbered = new Machine({ follow: true, ids: true }, registers);
    numbered.mark(1, 7);
    expect(numbered.call("lives", 1, 400, 10)).toEqual([1n]);
    numbered.mark(1, 0);
    expect(numbered.call("lives", 1, 400, 10)).toEqual([1n]);
    expect(numbered.call("begins", 1, 400, 10)).toEqual([]);
    expect(numbered.call("lives", 1, 400, 10)).toEqual([]);
    numbered.mark(1, 7);
    expect(numbered.call("begins", 1, 400, 10)).toEqual([1n]);
    expect(numbered.stamps.length).toBe(3);
    expect(new Set(numbered.stamps).size).toBe(2);
  });

  test("what is made after a packet of the set has its number, before it matches by itself", () => {
    using numbered = new Machine({ follow: true, ids: true }, registers);
    numbered.mark(1, 7);
    numbered.mark(4, 7);
    expect(numbered.call("heir", 2, 400, 10, 1)).toEqual([]); // a stranger after a stranger
    numbered.call("lives", 1, 400, 10);
    expect(numbered.call("heir", 2, 400, 10, 3)).toEqual([]);
    expect(numbered.call("heir", 2, 400, 10, 1)).toEqual([2n]);
    expect(numbered.call("heirUnseen", 3, 400, 10, 2)).toEqual([]);
    expect(numbered.call("lives", 3, 400, 10)).toEqual([3n]);
    expect(new Set(numbered.stamps).size).toBe(1);
    numbered.call("lives", 4, 400, 10);
    expect(numbered.call("heir", 4, 400, 10, 1)).toEqual([4n]); // it was somebody before
    expect(numbered.stamps.slice(-2)).toEqual([numbered.stamps.at(-1)!, numbered.stamps.at(-1)!]);
    expect(new Set(numbered.stamps).size).toBe(2);
  });

  test("numbers alone: what is made after a packet that matched is its child", () => {
    using numbered = new Machine({ follow: false, ids: true }, registers);
    for (const packet of [1, 2]) numbered.mark(packet, 7);
    numbered.call("lives", 1, 400, 10);
    expect(numbered.call("heir", 2, 400, 10, 1)).toEqual([2n]);
    expect(numbered.call("heir", 3, 400, 10, 1)).toEqual([]);
    expect(new Set(numbered.stamps).size).toBe(1);
  });

  test("beneath it, all have the packet's number", () => {
    using numbered = new Machine({ follow: true, ids: true, stacks: true }, registers);
    numbered.mark(1, 7);
    numbered.call("lives", 1, 400, 10);
    numbered.call("packetless", 0, 500, 20);
    numbered.call("lives", 2, 500, 21);
    expect(numbered.stamps.length).toBe(3);
    expect(new Set(numbered.stamps).size).toBe(1);
    expect(numbered.linked).toBe(1n);
  });
});
