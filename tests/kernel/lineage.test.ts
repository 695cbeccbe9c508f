/**
 * Who is whose child: the program behind functions that return packets, run by BPF_PROG_TEST_RUN with a parent and a list
 * of children that lie in a map. That it sees what a function returns is for the virtual machines to show.
 */
import { beforeEach, describe, expect, test } from "bun:test";
import type { ProgramSpec } from "../../asm/code.ts";
import type { TraceOptions } from "../../bpf-programs/frame.ts";
import {
  bulkEndProgram,
  handOverProgram,
  hasSessions,
  joinedProgram,
  lateEndProgram,
  lineageExitProgram,
  lineageSessionProgram,
  type TracedByName,
} from "../../bpf-programs/lineage.ts";
import { traceMaps } from "../../bpf-programs/maps.ts";
import { bulkAccess, directAccess } from "../../bpf-programs/memory_access.ts";
import { probeContext } from "../../bpf-programs/registers.ts";
import { BPF_PROG_TYPE_RAW_TRACEPOINT } from "../../asm/uapi.ts";
import { trackingState } from "../../bpf-programs/tracking.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { readCounters } from "../../lib/maps/bpf_map.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { loadProgram } from "../../lib/sys/program.ts";
import { hasKernelBtf } from "../kernel_btf.ts";
import { addressOf, regionOf } from "./kernel_region.ts";
import { isAtLeast, isRoot, kernelTest } from "./requires.ts";

const STRIDE = 1024, PACKETS = 200;
/** Room for packets; the first 8 bytes of all say where the map is. */
const region = regionOf(STRIDE * (PACKETS + 1));

const enabled = isRoot && isAtLeast(5, 10) && hasKernelBtf;
const types = enabled ? new BtfTypes(loadKernelBtf()) : undefined;

const bigints = (...values: bigint[]) => new Uint8Array(BigUint64Array.from(values).buffer);
const key = (address: bigint) => bigints(BigInt.asUintN(64, address));

/** One set of at most `room` packets, and the program at work on it. */
class Family implements Disposable {
  readonly #maps = new Maps();
  readonly #options: TraceOptions;
  readonly #base: bigint;
  readonly #next = new BigUint64Array(region.valueSize / 8);

  constructor(access: "direct" | "bulk", room: number) {
    const kernel = types as BtfTypes;
    this.#options = {
      kernel,
      access: (access === "direct" ? directAccess(kernel) : undefined) ?? bulkAccess(),
      maps: traceMaps(4096, room),
      meta: false,
      tuple: false,
      tracking: { follow: true, ids: true },
    };
    this.#base = addressOf(region, this.#maps);
  }

  /** Address of the packet with this number, from 1. */
  packet(number: number): bigint {
    return this.#base + BigInt(number * STRIDE);
  }

  /** Makes `after` the next of `packet` in a list. */
  link(packet: number, after: number): void {
    this.write(packet, (types as BtfTypes).field("sk_buff", "next").offset, this.packet(after));
  }

  /** 8 bytes of a packet's memory. */
  write(packet: number, offset: number, value: bigint): void {
    new DataView(this.#next.buffer).setBigUint64(packet * STRIDE + offset, value, true);
    this.#maps.get(region).update(0, new Uint8Array(this.#next.buffer));
  }

  /** Runs a program that is for a traced function, as if this function had these arguments. */
  run(make: (options: TraceOptions, traced: TracedByName) => ProgramSpec, ...words: bigint[]): void {
    const { name, license, code } = make(this.#options, { name: "f", btfId: 1 });
    const spec = { name, license, code, type: BPF_PROG_TYPE_RAW_TRACEPOINT };
    using program = loadProgram(spec, { maps: this.#maps });
    program.testRun({ ctx_in: bigints(...words.map((word) => BigInt.asUintN(64, word))) });
  }

  /** Puts it into the set, as a program that saw it match. */
  track(packet: number, stamp: bigint): void {
    const { tracked, tracking } = this.#options.maps;
    this.#maps.get(tracked).update(key(this.packet(packet)), bigints(stamp));
    const { untracked, tracked: before } = this.counts();
    this.#maps.get(tracking).update(0, bigints(before + 1n, untracked, 0n, 0n));
  }

  /** As if nothing were tracked, whatever is in the set. */
  closeGate(): void {
    this.#maps.get(this.#options.maps.tracking).update(0, bigints(0n, 0n, 0n, 0n));
  }

  returns(parent: bigint, child: bigint): void {
    this.run((options, traced) => lineageExitProgram(options, { ...traced, parameters: 1 }), parent, child);
  }

  stampOf(packet: number): bigint | undefined {
    return this.#maps.get(this.#options.maps.tracked).lookup(key(this.packet(packet)))?.getBigUint64(0, true);
  }

  counts(): { tracked: bigint; untracked: bigint } {
    const counters = readCounters(this.#maps.get(this.#options.maps.tracking));
    const { tracked, untracked } = trackingState.fields;
    return { tracked: counters[tracked.offset / 8]!, untracked: counters[untracked.offset / 8]! };
  }

  [Symbol.dispose](): void {
    this.#maps[Symbol.dispose]();
  }
}

describe.skipIf(!enabled).each(["direct", "bulk"] as const)(
  "children, %s reads (needs root, Linux 5.10)",
  (access) => {
    let family: Family;
    beforeEach(() => {
      family?.[Symbol.dispose]();
      family = new Family(access, 400);
    });

    test("a clone has its parent's stamp", () => {
      family.track(1, 77n);
      family.returns(family.packet(1), family.packet(2));
      expect([family.stampOf(1), family.stampOf(2)]).toEqual([77n, 77n]);
      expect(family.counts()).toEqual({ tracked: 2n, untracked: 0n });
    });

    test("a stranger's clone is no child, and what its address was is forgotten", () => {
      family.track(2, 77n);
      family.returns(family.packet(1), family.packet(2));
      expect(family.stampOf(2)).toBeUndefined();
      expect(family.counts()).toEqual({ tracked: 0n, untracked: 0n });
    });

    test("a packet from nowhere is not what was at its address", () => {
      family.track(2, 77n);
      family.track(3, 78n);
      family.returns(256n, family.packet(2)); // __alloc_skb(size)
      expect([family.stampOf(2), family.stampOf(3)]).toEqual([undefined, 78n]);
      expect(family.counts().tracked).toBe(1n);
      family.returns(256n, family.packet(4));
      expect(family.counts().tracked).toBe(1n);
    });

    test("a child at the address of another packet is the new one", () => {
      family.track(1, 77n);
      family.track(2, 5n);
      family.returns(family.packet(1), family.packet(2));
      expect(family.stampOf(2)).toBe(77n);
      expect(family.counts()).toEqual({ tracked: 2n, untracked: 0n });
    });

    test.each([["NULL", 0n], ["-ENOMEM", -12n], ["-4095", -4095n]])("%s is no child", (_, result) => {
      family.track(1, 77n);
      family.returns(family.packet(1), result);
      expect(family.counts()).toEqual({ tracked: 1n, untracked: 0n });
    });

    test("all segments of a list, the parent itself among them", () => {
      family.track(1, 77n);
      family.link(1, 2);
      family.link(2, 3);
      family.returns(family.packet(1), family.packet(1));
      expect([1, 2, 3, 4].map((packet) => family.stampOf(packet))).toEqual([77n, 77n, 77n, undefined]);
      expect(family.counts()).toEqual({ tracked: 3n, untracked: 0n });
    });

    test("a list that is too long is cut, and that is counted", () => {
      family.track(1, 77n);
      for (let packet = 2; packet < 190; packet++) family.link(packet, packet + 1);
      family.returns(family.packet(1), family.packet(2));
      expect([family.stampOf(2), family.stampOf(129), family.stampOf(130)]).toEqual([77n, 77n, undefined]);
      expect(family.counts()).toEqual({ tracked: 129n, untracked: 1n });
    });

    test("without room it is counted", () => {
      using small = new Family(access, 2);
      small.track(1, 77n);
      small.returns(small.packet(1), small.packet(2));
      small.returns(small.packet(1), small.packet(3));
      expect([1, 2, 3].map((packet) => small.stampOf(packet))).toEqual([77n, 77n, undefined]);
      expect(small.counts()).toEqual({ tracked: 2n, untracked: 1n });
    });

    const split = (options: TraceOptions, traced: TracedByName) =>
      handOverProgram(options, { ...traced, parent: 0, child: 1 });
    const morph = (options: TraceOptions, traced: TracedByName) =>
      handOverProgram(options, { ...traced, parent: 1, child: 0 });

    test("what one argument is made of another has its stamp, alone", () => {
      family.track(1, 77n);
      family.track(4, 5n);
      family.link(2, 3);
      family.run(split, family.packet(1), family.packet(2));
      family.run(morph, family.packet(4), family.packet(1));
      expect([1, 2, 3, 4].map((packet) => family.stampOf(packet))).toEqual([77n, 77n, undefined, 77n]);
      expect(family.counts()).toEqual({ tracked: 3n, untracked: 0n });
    });

    test("what is made of a stranger stays what it is", () => {
      family.track(2, 77n);
      family.run(split, family.packet(1), family.packet(2));
      family.run(split, family.packet(1), family.packet(3));
      expect([2, 3].map((packet) => family.stampOf(packet))).toEqual([77n, undefined]);
      expect(family.counts().tracked).toBe(1n);
    });

    test("the packets of a frag_list are one with their head", () => {
      const kernel = types as BtfTypes, end = 256;
      const join = (options: TraceOptions, traced: TracedByName) =>
        joinedProgram(options, { ...traced, parent: 1 });
      family.write(1, kernel.field("sk_buff", "end").offset, BigInt(end));
      family.write(1, kernel.field("sk_buff", "head").offset, family.packet(5));
      const { offset } = kernel.field("skb_shared_info", "frag_list");
      family.track(1, 77n);
      family.run(join, 0n, family.packet(1));
      expect(family.counts().tracked).toBe(1n);
      family.write(5, end + offset, family.packet(2));
      family.link(2, 3);
      family.run(join, 0n, family.packet(1));
      expect([1, 2, 3].map((packet) => family.stampOf(packet))).toEqual([77n, 77n, 77n]);
      expect(family.counts()).toEqual({ tracked: 3n, untracked: 0n });
    });

    test("a function that frees a packet itself if it says so", () => {
      const late = (when: number | undefined) => (options: TraceOptions, traced: TracedByName) =>
        lateEndProgram(options, { ...traced, when });
      for (const packet of [1, 2, 3]) family.track(packet, 77n);
      family.run(late(1), family.packet(1), 0xff00n); // only the lowest byte is the bool
      family.run(late(1), family.packet(2), 0x701n);
      family.run(late(undefined), family.packet(3));
      family.run(late(undefined), family.packet(4));
      expect([1, 2, 3].map((packet) => family.stampOf(packet))).toEqual([77n, undefined, undefined]);
      expect(family.counts().tracked).toBe(1n);
    });

    test("all that are freed together, and no more", () => {
      for (const packet of [1, 2, 3]) family.track(packet, 77n);
      [2, 9, 3, 1].forEach((packet, index) => family.write(10, 8 * index, family.packet(packet)));
      family.run(bulkEndProgram, 1n, 0n, family.packet(10));
      expect(family.counts().tracked).toBe(3n);
      family.run(bulkEndProgram, 1n, 3n, family.packet(10));
      expect([1, 2, 3].map((packet) => family.stampOf(packet))).toEqual([77n, undefined, undefined]);
      expect(family.counts().tracked).toBe(1n);
    });

    test("64 that are freed together", () => {
      for (let packet = 1; packet <= 65; packet++) {
        family.track(packet, 77n);
        family.write(100, 8 * (packet - 1), family.packet(packet));
      }
      family.run(bulkEndProgram, 1n, 64n, family.packet(100));
      expect(family.counts().tracked).toBe(1n);
    });

    test("while nothing is tracked it looks at nothing", () => {
      family.track(1, 77n);
      family.closeGate();
      family.returns(family.packet(1), family.packet(2));
      expect(family.stampOf(2)).toBeUndefined();
      expect(family.counts().tracked).toBe(0n);
    });
  },
);

kernelTest([6, 10], "the session program passes the verifier", () => {
  const kernel = types as BtfTypes;
  using maps = new Maps();
  const options = {
    kernel,
    access: bulkAccess(),
    maps: traceMaps(4096),
    meta: false,
    tuple: false,
    tracking: { follow: true, ids: false },
  };
  using program = loadProgram(lineageSessionProgram(options, probeContext(process.arch)), { maps });
  expect(program.fd).toBeGreaterThan(0);
}, enabled && hasSessions(types as BtfTypes));
