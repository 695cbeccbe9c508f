/**
 * A live ring buffer: a raw tracepoint writes one record for each of our own system calls, and what comes
 * out plus what the kernel counted as lost is what we sent.
 */
import { describe, expect } from "bun:test";
import type { MapSpec, ProgramSpec } from "../../asm/code.ts";
import { label } from "../../asm/code.ts";
import {
  add,
  and,
  at,
  atomicAdd,
  call,
  fp,
  jeq,
  jne,
  ldMap,
  ldMapValue,
  ldx,
  mov,
  mov32,
  probeRead,
  r0,
  r1,
  r2,
  r3,
  r6,
  r7,
  r8,
  ret,
  stx,
} from "../../asm/insn.ts";
import { struct, u64 } from "../../asm/layout.ts";
import { BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_RINGBUF, BPF_PROG_TYPE_RAW_TRACEPOINT } from "../../asm/uapi.ts";
import { attachRawTracepoint } from "../../lib/link/raw_tracepoint.ts";
import { readCounters } from "../../lib/maps/bpf_map.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { RingBuffer } from "../../lib/maps/ring_buffer.ts";
import { pageSize, syscall } from "../../lib/sys/ffi.ts";
import { loadProgram } from "../../lib/sys/program.ts";
import { syscallNumber } from "../../lib/sys/syscalls.ts";
import { openFds } from "../open_fds.ts";
import { kernelTest } from "./requires.ts";

const stats = struct("stats", { sent: u64, lost: u64 });
/** TP_PROTO(struct pt_regs *regs, long id) */
const sysEnter = struct("sys_enter", { regs: u64, id: u64 });
/** Where pt_regs has the first argument. */
const firstArgument = process.arch === "arm64" ? 0 : 112;
/** getppid takes no argument, so nobody else passes this one. */
const MAGIC = 0x70777275;

/** One record of `bytes` for each getppid(MAGIC): the number of the call in its first and last 8 bytes. */
function numbered(
  maps: { events: MapSpec; counters: MapSpec },
  bytes: number,
  discardOdd: boolean,
): ProgramSpec {
  const out = label("out"), full = label("full"), submit = label("submit");
  return {
    name: "numbered",
    type: BPF_PROG_TYPE_RAW_TRACEPOINT,
    license: "GPL",
    code: [
      mov(r6, r1),
      ldx(r7, at(r6, sysEnter.fields.id)),
      jne(r7, syscallNumber.getppid, out),
      ldx(r7, at(r6, sysEnter.fields.regs)),
      probeRead(at(fp, -8, u64), at(r7, firstArgument, u64)),
      ldx(r7, at(fp, -8, u64)),
      jne(r7, MAGIC, out),

      ldMapValue(r8, maps.counters, stats.fields.sent),
      ldx(r7, at(r8, u64)), // r7 = number of this call; only one thread makes them
      mov(r1, 1),
      atomicAdd(at(r8, u64), r1),

      ldMap(r1, maps.events),
      mov(r2, bytes),
      mov(r3, 0),
      call("bpf_ringbuf_reserve"),
      jeq(r0, 0, full),
      stx(at(r0, u64), r7),
      mov(r1, r0),
      add(r1, bytes - 8),
      stx(at(r1, u64), r7),
      mov(r1, r0),
      mov(r2, 1), // BPF_RB_NO_WAKEUP
      ...(discardOdd
        ? [mov32(r3, r7), and(r3, 1), jeq(r3, 0, submit), call("bpf_ringbuf_discard"), ret(0), submit]
        : []),
      call("bpf_ringbuf_submit"),
      out,
      ret(0),

      full,
      ldMapValue(r1, maps.counters, stats.fields.lost),
      mov(r2, 1),
      atomicAdd(at(r1, u64), r2),
      ret(0),
    ],
  };
}

interface Rig extends Disposable {
  readonly ring: RingBuffer;
  /** Makes `count` system calls that give a record each. */
  send(count: number): void;
  /** Drains the ring and checks each record; how many there were. */
  receive(limit?: number): number;
  counters(): { sent: number; lost: number };
}

/** Numbers must rise; with nothing lost, by one. */
function rig(ringBytes: number, recordBytes: number, { discardOdd = false } = {}): Rig {
  using resources = new DisposableStack();
  const maps = resources.use(new Maps());
  const specs: { events: MapSpec; counters: MapSpec } = {
    events: { name: "events", type: BPF_MAP_TYPE_RINGBUF, keySize: 0, valueSize: 0, maxEntries: ringBytes },
    counters: {
      name: "counters",
      type: BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: stats.size,
      maxEntries: 1,
    },
  };
  const program = resources.use(loadProgram(numbered(specs, recordBytes, discardOdd), { maps }));
  resources.use(attachRawTracepoint(program, "sys_enter"));
  const ring = resources.use(RingBuffer.open(maps.get(specs.events)));
  let last = -1;
  const check = (offset: number, length: number) => {
    const number = ring.words[offset >>> 2] as number, end = ring.words[offset + length - 8 >>> 2];
    if (length !== recordBytes || end !== number || number <= last) {
      throw new Error(`Record ${number} of ${length} bytes ends in ${end} and follows ${last}`);
    }
    last = number;
  };
  const kept = resources.move();
  return {
    ring,
    send(count) {
      for (let i = 0; i < count; i++) syscall("getppid", MAGIC);
    },
    receive: (limit) => ring.drain(check, limit),
    counters() {
      const [sent = 0n, lost = 0n] = readCounters(maps.get(specs.counters));
      return { sent: Number(sent), lost: Number(lost) };
    },
    [Symbol.dispose]: () => kept.dispose(),
  };
}

describe("ring buffer", () => {
  kernelTest([5, 8], "a full ring counts what it loses", () => {
    const before = openFds();
    {
      using small = rig(pageSize, 24);
      small.send(200);
      const received = small.receive();
      expect(received).toBe(pageSize / 32 - 1);
      expect(small.counters()).toEqual({ sent: 200, lost: 200 - received });
      expect(small.receive()).toBe(0);
    }
    expect(openFds()).toBeLessThanOrEqual(before); // what earlier tests left may close meanwhile
  });

  kernelTest([5, 8], "300,000 records wrap many times, under collections, in compiled code", () => {
    using rigged = rig(16 * pageSize, 104);
    let received = 0;
    for (let round = 0; round < 1000; round++) {
      rigged.send(300);
      received += rigged.receive();
      if (round % 100 === 0) Bun.gc(true);
    }
    expect(received).toBe(300_000);
    expect(rigged.counters()).toEqual({ sent: 300_000, lost: 0 });
  });

  kernelTest([5, 8], "losses in between: received and lost are what was sent", () => {
    using rigged = rig(pageSize, 40);
    let received = 0;
    for (let round = 0; round < 500; round++) {
      rigged.send(round % 170);
      received += rigged.receive(round % 60);
    }
    received += rigged.receive();
    const { sent, lost } = rigged.counters();
    expect(lost).toBeGreaterThan(0);
    expect(received + lost).toBe(sent);
  });

  kernelTest([5, 8], "discarded records are skipped", () => {
    using rigged = rig(pageSize, 16, { discardOdd: true });
    rigged.send(100);
    expect(rigged.receive()).toBe(50);
    expect(rigged.ring.unread).toBe(0);
  });

  kernelTest([5, 8], "positions beyond 4 GiB", () => {
    // the kernel does not touch the bytes of a record, so half a ring at a time is quick
    const half = 0x80000 - 8;
    using rigged = rig(0x100000, half);
    const rounds = Math.ceil(2 ** 32 / (half + 8)) + 100;
    let received = 0;
    for (let round = 0; round < rounds; round++) {
      rigged.send(1);
      received += rigged.receive();
    }
    expect(received).toBe(rounds);
    expect(rigged.counters()).toEqual({ sent: rounds, lost: 0 });
  });
});
