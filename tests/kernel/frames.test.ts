/**
 * Which packet a frame in an XDP program is: the programs, run by BPF_PROG_TEST_RUN on structs of our making that lie in a
 * map. That drivers do as is played here is for the virtual machines to show.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type Code, items, type ProgramSpec } from "../../asm/code.ts";
import { at, ldx, mov, r0, r1, r2, r3, stx } from "../../asm/insn.ts";
import { u64 } from "../../asm/layout.ts";
import { packetEvent, recordLayout } from "../../bpf-programs/events.ts";
import type { TraceOptions } from "../../bpf-programs/frame.ts";
import { headChangeProgram, headerCopyProgram, lineageExitProgram } from "../../bpf-programs/lineage.ts";
import { traceMaps } from "../../bpf-programs/maps.ts";
import { bulkAccess } from "../../bpf-programs/memory_access.ts";
import { BPF_PROG_TYPE_RAW_TRACEPOINT } from "../../asm/uapi.ts";
import { kprobeProgram } from "../../bpf-programs/function_programs.ts";
import { stackProgram } from "../../bpf-programs/stack_programs.ts";
import { stackLink, type Tracking, trackingState } from "../../bpf-programs/tracking.ts";
import { xdpProgram } from "../../bpf-programs/xdp.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { RingBuffer } from "../../lib/maps/ring_buffer.ts";
import { loadProgram, type Program } from "../../lib/sys/program.ts";
import { hasKernelBtf } from "../kernel_btf.ts";
import { addressOf, regionOf, registers } from "./kernel_region.ts";
import { isAtLeast, isRoot } from "./requires.ts";

const PLACE = 4096, PLACES = 24;
const region = regionOf(PLACE * PLACES);
const STAMP = recordLayout({ stamp: true }).fields.stamp!.offset;
/** enum xdp_action */
const XDP_DROP = 1n, XDP_PASS = 2n, XDP_TX = 3n, XDP_REDIRECT = 4n;
/** Packets on the first of the devices match. */
const MATCHING = 5;

const enabled = isRoot && isAtLeast(5, 17) && hasKernelBtf;
const types = enabled ? new BtfTypes(loadKernelBtf()) : undefined;

/** A raw tracepoint has no bpf_get_func_ret: what was returned is its second argument instead. */
function withResult(code: Code): Code {
  return [...items(code)].map((item) =>
    "text" in item && item.text.includes("bpf_get_func_ret")
      ? [ldx(r3, at(r1, 8, u64)), stx(at(r2, u64), r3), mov(r0, 0)]
      : item
  );
}

const programs = {
  entered: (options: TraceOptions) => xdpProgram(options, { btfId: 1, at: "entry", address: 1n }),
  left: (options: TraceOptions) => xdpProgram(options, { btfId: 1, at: "exit", address: 2n }),
  seen: (options: TraceOptions) => kprobeProgram(options, registers, 1),
  ended: (options: TraceOptions) => kprobeProgram(options, registers, 1, "ends unseen"),
  built: (options: TraceOptions) => lineageExitProgram(options, { name: "built", btfId: 1, parameters: 1 }),
  copied: (options: TraceOptions) => headerCopyProgram(options, { name: "copied", btfId: 1 }),
  expanded: (options: TraceOptions) => headChangeProgram(options, { name: "expanded", btfId: 1 }),
  called: (options: TraceOptions) =>
    stackProgram(
      { ...options, meta: true, tracking: { ...options.tracking as Tracking, stacks: true } },
      registers,
      "kprobe",
    ),
};

/** Numbered devices, sk_buffs and buffers. */
class Machine implements Disposable {
  readonly #maps = new Maps();
  readonly #traceMaps = traceMaps(4096, 100);
  readonly #programs: Record<keyof typeof programs, Program>;
  readonly #ring: RingBuffer;
  readonly #bytes = new DataView(new ArrayBuffer(region.valueSize));
  readonly #base: bigint;

  constructor() {
    const maps = this.#traceMaps, kernel = types as BtfTypes;
    const options: TraceOptions = {
      kernel,
      access: bulkAccess(),
      maps,
      meta: false,
      tuple: false,
      ifindex: MATCHING,
      tracking: { follow: true, ids: true, frames: true },
    };
    const load = (make: (options: TraceOptions) => ProgramSpec) => {
      const { name, license, code } = make(options);
      return loadProgram(
        { name, license, code: withResult(code), type: BPF_PROG_TYPE_RAW_TRACEPOINT },
        { maps: this.#maps },
      );
    };
    this.#programs = Object.fromEntries(
      Object.entries(programs).map(([name, make]) => [name, load(make)]),
    ) as Record<keyof typeof programs, Program>;
    this.#ring = RingBuffer.open(this.#maps.get(maps.events));
    this.#base = addressOf(region, this.#maps);
    for (let device = 0; device < 4; device++) {
      this.#put(this.device(device), "net_device", "ifindex", BigInt(MATCHING + device));
    }
  }

  device = (number: number): bigint => this.#base + BigInt(number * PLACE);
  skb = (number: number): bigint => this.#base + BigInt((4 + number) * PLACE);
  buffer = (number: number): bigint => this.#base + BigInt((12 + number) * PLACE);

  #put(address: bigint, struct: string, path: string, value: bigint): void {
    const { offset, type } = (types as BtfTypes).field(struct, path),
      at = Number(address - this.#base) + offset;
    if (type.size === 8) this.#bytes.setBigUint64(at, value, true);
    else this.#bytes.setUint32(at, Number(value), true);
  }

  /** An sk_buff on a device, in a buffer. */
  place(skb: number, device: number, buffer: number): void {
    this.#put(this.skb(skb), "sk_buff", "dev", this.device(device));
    this.#put(this.skb(skb), "sk_buff", "head", this.buffer(buffer));
  }

  /** Runs a program; returns the stamps of the records that it made. */
  run(name: keyof typeof programs, ...words: bigint[]): bigint[] {
    this.#maps.get(region).update(0, new Uint8Array(this.#bytes.buffer));
    const context = BigUint64Array.from({ length: 8 }, (_, i) => words[i] ?? 0n);
    this.#programs[name].testRun({ ctx_in: new Uint8Array(context.buffer) });
    const stamps: bigint[] = [], view = new DataView(this.#ring.bytes.buffer, this.#ring.bytes.byteOffset);
    this.#ring.drain((offset) => {
      expect(view.getBigUint64(offset + packetEvent.fields.skb.offset, true)).not.toBe(0n);
      stamps.push(view.getBigUint64(offset + STAMP, true));
    }, 100);
    return stamps;
  }

  /**
   * A function is called beneath an XDP program that has the frame in a buffer, from a device: the kernel's stack is a
   * part of the region. Returns what the record says of the packet.
   */
  calledBeneath(buffer: number, device: number, length: number) {
    const xdp = this.#base + BigInt(22 * PLACE), queue = this.#base + BigInt(23 * PLACE);
    this.#put(queue, "xdp_rxq_info", "dev", this.device(device));
    this.#put(xdp, "xdp_buff", "rxq", queue);
    this.#put(xdp, "xdp_buff", "data_hard_start", this.buffer(buffer));
    this.#put(xdp, "xdp_buff", "data", this.buffer(buffer) + 256n);
    this.#put(xdp, "xdp_buff", "data_end", this.buffer(buffer) + 256n + BigInt(length));
    const sp = this.#base + BigInt(21 * PLACE) + 512n, link = new DataView(new ArrayBuffer(stackLink.size));
    this.#bytes.setBigUint64(Number(sp - this.#base), xdp, true);
    stackLink.encode(link, 0, {
      stamp: 77n,
      skb: this.buffer(buffer),
      callerFrame: sp,
      returnTo: xdp,
      frame: xdp,
    });
    const key = new Uint8Array(BigUint64Array.of(sp - 64n & ~0x3fffn).buffer), state = new BigUint64Array(4);
    state[trackingState.fields.linked.offset / 8] = 1n;
    this.#maps.get(this.#traceMaps.stacks).update(key, new Uint8Array(link.buffer));
    this.#maps.get(this.#traceMaps.tracking).update(0, new Uint8Array(state.buffer));
    this.#maps.get(region).update(0, new Uint8Array(this.#bytes.buffer));
    const context = BigUint64Array.of(0n, 0n, 0n, 0n, 0n, 3n, sp - 64n, 0n);
    this.#programs.called.testRun({ ctx_in: new Uint8Array(context.buffer) });
    const records: unknown[] = [], view = new DataView(this.#ring.bytes.buffer, this.#ring.bytes.byteOffset);
    this.#ring.drain((offset) => {
      const { skb, ifindex, len } = packetEvent.decode(view, offset);
      records.push({
        skb: skb === this.buffer(buffer),
        ifindex,
        len,
        stamp: view.getBigUint64(offset + STAMP, true),
      });
    }, 100);
    return records;
  }

  /** An XDP program sees the frame in a buffer, from a device, and returns the verdict. */
  frame(buffer: number, device: number, verdict: bigint): bigint[] {
    const xdp = this.#base + BigInt(22 * PLACE), queue = this.#base + BigInt(23 * PLACE);
    this.#put(queue, "xdp_rxq_info", "dev", this.device(device));
    this.#put(xdp, "xdp_buff", "rxq", queue);
    this.#put(xdp, "xdp_buff", "data_hard_start", this.buffer(buffer));
    return [...this.run("entered", xdp), ...this.run("left", xdp, verdict)];
  }

  [Symbol.dispose](): void {
    for (const program of Object.values(this.#programs)) program[Symbol.dispose]();
    this.#ring[Symbol.dispose]();
    this.#maps[Symbol.dispose]();
  }
}

describe.skipIf(!enabled)("frames in XDP programs (needs root, Linux 5.17)", () => {
  let machine: Machine;
  beforeEach(() => {
    machine = new Machine();
  });
  afterEach(() => machine[Symbol.dispose]());

  /** A frame that matches, twice shown: its stamp. */
  const matching = (buffer: number, verdict: bigint) => {
    const [stamp, ...others] = machine.frame(buffer, 0, verdict);
    expect(stamp).toBeGreaterThan(0n);
    expect(others).toEqual([stamp as bigint]);
    return stamp as bigint;
  };

  test("a frame that does not match is none", () => {
    expect(machine.frame(0, 1, XDP_PASS)).toEqual([]);
  });

  test.each([["XDP_TX", XDP_TX], ["XDP_REDIRECT", XDP_REDIRECT]])(
    "a frame that was sent by %s is the same on the next device, and no longer on its own",
    (_, verdict) => {
      const stamp = matching(0, verdict);
      expect(machine.frame(0, 1, verdict)).toEqual([stamp, stamp]);
      expect(machine.frame(0, 2, XDP_PASS)).toEqual([stamp, stamp]);
      expect(machine.frame(0, 2, XDP_PASS)).toEqual([]);
    },
  );

  test("a buffer that comes to the same device again holds another packet, which may match too", () => {
    const stamp = matching(0, XDP_TX);
    const [other] = machine.frame(0, 0, XDP_TX);
    expect(other).toBeGreaterThan(stamp);
  });

  test("a frame that was dropped is over", () => {
    matching(0, XDP_DROP);
    expect(machine.frame(0, 1, XDP_PASS)).toEqual([]);
  });

  test("an sk_buff that is built in a frame's buffer is that packet, one in other memory is not", () => {
    const stamp = matching(0, XDP_PASS);
    machine.place(0, 1, 0);
    machine.place(1, 1, 1);
    machine.run("built", machine.buffer(0), machine.skb(0)); // build_skb(head)
    machine.run("built", 1000n, machine.skb(1)); // alloc_skb(size)
    expect(machine.run("seen", machine.skb(0))).toEqual([stamp]);
    expect(machine.run("seen", machine.skb(1))).toEqual([]);
  });

  test("so is one that is seen in its buffer for the first time, and matches too", () => {
    const stamp = matching(0, XDP_PASS);
    machine.place(0, 0, 0);
    machine.place(1, 0, 1);
    expect(machine.run("seen", machine.skb(0))).toEqual([stamp]);
    const [other] = machine.run("seen", machine.skb(1));
    expect(other).toBeGreaterThan(stamp);
    expect(machine.frame(0, 1, XDP_PASS)).toEqual([stamp, stamp]);
  });

  test("so is one that is built around it: build_skb_around(skb, head), where there was another sk_buff before", () => {
    machine.place(0, 0, 3);
    const [earlier] = machine.run("seen", machine.skb(0));
    const stamp = matching(0, XDP_REDIRECT);
    machine.place(0, 1, 0);
    machine.run("built", machine.skb(0), machine.skb(0));
    expect(machine.run("seen", machine.skb(0))).toEqual([stamp]);
    expect(stamp).not.toBe(earlier as bigint);
  });

  test("memory that is allocated where a frame was is another packet's", () => {
    matching(0, XDP_TX);
    machine.place(0, 1, 0);
    machine.run("built", 1000n, machine.skb(0));
    expect(machine.run("seen", machine.skb(0))).toEqual([]);
    expect(machine.frame(0, 1, XDP_PASS)).toEqual([]);
  });

  test("an sk_buff that becomes a frame stays the packet when the program sends it and the sk_buff ends", () => {
    machine.place(0, 0, 0);
    const [stamp = 0n] = machine.run("seen", machine.skb(0));
    expect(machine.frame(0, 1, XDP_TX)).toEqual([stamp, stamp]);
    machine.run("ended", machine.skb(0));
    expect(machine.frame(0, 2, XDP_PASS)).toEqual([stamp, stamp]);
    machine.place(1, 3, 0);
    machine.run("built", machine.buffer(0), machine.skb(1));
    expect(machine.run("seen", machine.skb(1))).toEqual([stamp]);
  });

  test("when an sk_buff ends, its buffer is nobody's; nor when it got another buffer", () => {
    machine.place(0, 0, 0);
    machine.run("seen", machine.skb(0));
    machine.run("ended", machine.skb(0));
    expect(machine.frame(0, 1, XDP_PASS)).toEqual([]);
    const [stamp = 0n] = machine.run("seen", machine.skb(0));
    machine.place(0, 1, 1);
    expect(machine.frame(0, 1, XDP_PASS)).toEqual([]);
    expect(machine.run("expanded", machine.skb(0))).toEqual([]);
    expect(machine.frame(1, 1, XDP_PASS)).toEqual([stamp, stamp]);
  });

  test("a packet that is copied for an XDP program", () => {
    machine.place(0, 0, 0);
    const [stamp = 0n] = machine.run("seen", machine.skb(0));
    machine.place(1, 1, 1);
    machine.run("copied", machine.skb(1), machine.skb(0));
    machine.run("ended", machine.skb(0));
    expect(machine.frame(1, 1, XDP_PASS)).toEqual([stamp, stamp]);
    expect(machine.run("seen", machine.skb(1))).toEqual([stamp]);
    machine.place(2, 1, 2);
    machine.run("copied", machine.skb(3), machine.skb(2)); // of one that nobody follows
    expect(machine.run("seen", machine.skb(3))).toEqual([]);
  });

  test("a function that is called beneath an XDP program has the frame", () => {
    expect(machine.calledBeneath(3, 1, 64)).toEqual([{
      skb: true,
      ifindex: MATCHING + 1,
      len: 64,
      stamp: 77n,
    }]);
  });

  test("a frame that was longer on its way than a second is another", async () => {
    matching(0, XDP_TX);
    await Bun.sleep(1100);
    expect(machine.frame(0, 1, XDP_PASS)).toEqual([]);
  });
});
