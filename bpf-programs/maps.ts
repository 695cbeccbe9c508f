// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/** The maps that the tracing programs share. Types are those of enum bpf_map_type. */
import type { MapSpec } from "../asm/code.ts";
import { callerKey } from "./callers.ts";
import { LOOK_SLOTS, LOOK_STRIDE, traceCounters } from "./events.ts";
import { SCRATCH_BYTES } from "./fragments.ts";
import { bufferOwner, STACK_LINK_BYTES, STAMP_BYTES, trackingState } from "./tracking.ts";

export const BPF_MAP_TYPE_HASH = 1,
  BPF_MAP_TYPE_ARRAY = 2,
  BPF_MAP_TYPE_PERCPU_ARRAY = 6,
  BPF_MAP_TYPE_LRU_HASH = 9,
  BPF_MAP_TYPE_LPM_TRIE = 11,
  BPF_MAP_TYPE_RINGBUF = 27;

/** A power of two: functions that a packet passes are some tens, and few of them should share a place. */
export const RECENT_POSITIONS = 4096;
const BPF_F_NO_PREALLOC = 1;

/** Prefixes; memory is taken for those that are there. A program's code takes about 20. */
const CALLER_PREFIXES = 1 << 20;

/** As many tasks and CPUs can be at work on a packet, or asleep in the middle of that, at a time. */
const LINKED_STACKS = 16384;

export interface TraceMaps {
  /** ring buffer of packetEvent records */
  readonly events: MapSpec;
  /** one traceCounters per CPU */
  readonly counters: MapSpec;
  /** LOOK_SLOTS counters, as far apart as cache lines */
  readonly looks: MapSpec;
  /** instruction pointer of a probe -> which argument is the packet, for kprobes that share a program */
  readonly positions: MapSpec;
  /** those of them that were asked for last, in the only value of an array: see trace.ts */
  readonly recentPositions: MapSpec;
  /** room for the copy of a packet, per CPU */
  readonly scratch: MapSpec;
  /** sk_buff address -> stamp of the packet, for those that are followed */
  readonly tracked: MapSpec;
  /** bottom of a kernel stack -> stackLink */
  readonly stacks: MapSpec;
  /** one trackingState */
  readonly tracking: MapSpec;
  /** first byte of a packet's buffer -> bufferOwner */
  readonly buffers: MapSpec;
  /** where the code of BPF programs is whose calls are shown */
  readonly callers: MapSpec;
}

/**
 * @param ringBytes a power of two, at least a page
 * @param trackedPackets how many addresses can be followed at a time
 */
export function traceMaps(ringBytes: number, trackedPackets: number = 1): TraceMaps {
  return {
    events: { name: "events", type: BPF_MAP_TYPE_RINGBUF, keySize: 0, valueSize: 0, maxEntries: ringBytes },
    counters: {
      name: "counters",
      type: BPF_MAP_TYPE_PERCPU_ARRAY,
      keySize: 4,
      valueSize: traceCounters.size,
      maxEntries: 1,
    },
    looks: {
      name: "looks",
      type: BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: LOOK_SLOTS * LOOK_STRIDE,
      maxEntries: 1,
    },
    positions: { name: "positions", type: BPF_MAP_TYPE_HASH, keySize: 8, valueSize: 8, maxEntries: 8192 },
    recentPositions: {
      name: "recent_positions",
      type: BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: RECENT_POSITIONS * 8,
      maxEntries: 1,
    },
    scratch: {
      name: "scratch",
      type: BPF_MAP_TYPE_PERCPU_ARRAY,
      keySize: 4,
      valueSize: SCRATCH_BYTES,
      maxEntries: 1,
    },
    tracked: {
      name: "tracked",
      type: BPF_MAP_TYPE_HASH,
      keySize: 8,
      valueSize: STAMP_BYTES,
      maxEntries: trackedPackets,
    },
    stacks: {
      name: "stacks",
      type: BPF_MAP_TYPE_HASH,
      keySize: 8,
      valueSize: STACK_LINK_BYTES,
      maxEntries: LINKED_STACKS,
    },
    tracking: {
      name: "tracking",
      type: BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: trackingState.size,
      maxEntries: 1,
    },
    buffers: {
      name: "buffers",
      type: BPF_MAP_TYPE_LRU_HASH,
      keySize: 8,
      valueSize: bufferOwner.size,
      maxEntries: trackedPackets,
    },
    callers: {
      name: "callers",
      type: BPF_MAP_TYPE_LPM_TRIE,
      keySize: callerKey.size,
      valueSize: 1,
      maxEntries: CALLER_PREFIXES,
      flags: BPF_F_NO_PREALLOC,
    },
  };
}
