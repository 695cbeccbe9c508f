// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * The set of packets that are followed: sk_buff address -> stamp of the packet that it belongs to.
 *
 *     a packet matches        its address is put in, under a stamp of its own
 *     it is cloned, copied    the child's address is put in, under the parent's stamp (lineage.ts)
 *     its memory is freed     its address is taken out (functions that are an `End`)
 *     memory is allocated     whatever its address stood for is taken out (lineage.ts)
 *
 * So an address that is used again is never taken for the old packet. While the set is empty a packet that does
 * not match pays one load and one branch for all this: `tracking_state.tracked` counts what is in the set.
 */
import { type Code, type Label, label } from "../asm/code.ts";
import {
  and,
  at,
  atomicAdd,
  call,
  fp,
  ja,
  jeq,
  jne,
  ldMap,
  ldMapValue,
  ldx,
  lea,
  lsh,
  mov,
  or,
  r0,
  r1,
  r2,
  r3,
  r4,
  type Register,
  st,
  stx,
} from "../asm/insn.ts";
import { type Struct, struct, u64 } from "../asm/layout.ts";
import type { TraceMaps } from "./maps.ts";

/** What is done with the set. */
export interface Tracking {
  /** a packet of the set matches, whatever has become of it */
  readonly follow: boolean;
  /** records say which packet they are about */
  readonly ids: boolean;
  /** what runs beneath a function that has a packet belongs to that packet (stacks.ts) */
  readonly stacks?: boolean;
  /** frames in XDP programs are packets too */
  readonly frames?: boolean;
}

/** Whether the set of packets is kept. */
export function keepsSet({ follow, ids }: Tracking): boolean {
  return follow || ids;
}

/** Counts of all CPUs, in the only value of an array. */
export const trackingState: Struct<Record<"tracked" | "untracked" | "linked" | "buffers", typeof u64>> =
  struct(
    "tracking_state",
    {
      /** addresses in the set; never less than there are */
      tracked: u64,
      /** how often a packet, a child of one, or a stack found no room */
      untracked: u64,
      /** stacks that are at work on a packet */
      linked: u64,
      /** 1 once a buffer was noted (buffers.ts) */
      buffers: u64,
    },
  );

/** Bytes of a stamp: ns of the monotonic clock above 10 bits of the CPU, so that no two packets share one. */
export const STAMP_BYTES = 8;
const CPU_BITS = 10;

/** Whose a buffer is: buffers.ts. */
export const bufferOwner: Struct<Record<"stamp" | "skb" | "device" | "since", typeof u64>> = struct(
  "buffer_owner",
  {
    /** the packet's */
    stamp: u64,
    /** struct sk_buff *; 0 while it is a frame without one */
    skb: u64,
    /** struct net_device * that the frame was seen on last */
    device: u64,
    /** ns, CLOCK_MONOTONIC: when that was */
    since: u64,
  },
);

/** A stack at work on a packet. */
export const stackLink: Struct<
  Record<"stamp" | "skb" | "callerFrame" | "returnTo" | "frame" | "records", typeof u64>
> = struct(
  "stack_link",
  {
    /** the packet's, or 0 where packets have none */
    stamp: u64,
    /** struct sk_buff *, or what stands for a frame that is none yet */
    skb: u64,
    /** on entry of the outermost function that is known to have the packet: where its caller's frame ends */
    callerFrame: u64,
    /** where that function returns to */
    returnTo: u64,
    /** struct xdp_buff * of a frame, 0 for an sk_buff */
    frame: u64,
    /** 1: the function is known by its frame record; 0: by what lies at `callerFrame` */
    records: u64,
  },
);
export const STACK_LINK_BYTES: number = stackLink.size;

const BPF_NOEXIST = 1, BPF_EXIST = 2;

/** dst = how many addresses are tracked. */
export function trackedCount({ tracking }: TraceMaps, dst: Register = r1): Code {
  return [ldMapValue(dst, tracking, trackingState.fields.tracked), ldx(dst, at(dst, u64))];
}

/** To `none` unless the address at fp + key is tracked; then its stamp is at fp + stamp. Loses r0-r5. */
export function lookUp({ tracked }: TraceMaps, key: number, stamp: number, none: Label): Code {
  return [
    ldMap(r1, tracked),
    lea(r2, at(fp, key, u64)),
    call("bpf_map_lookup_elem"),
    jeq(r0, 0, none),
    ldx(r1, at(r0, u64)),
    stx(at(fp, stamp, u64), r1),
  ];
}

/** A stamp that no other packet has, at fp + stamp. Loses r0-r5. */
export function newStamp(stamp: number): Code {
  return [
    call("bpf_ktime_get_ns"),
    lsh(r0, CPU_BITS),
    stx(at(fp, stamp, u64), r0),
    call("bpf_get_smp_processor_id"),
    and(r0, 2 ** CPU_BITS - 1),
    ldx(r1, at(fp, stamp, u64)),
    or(r0, r1),
    stx(at(fp, stamp, u64), r0),
  ];
}

function count({ tracking }: TraceMaps, what: "tracked" | "untracked", by: 1 | -1): Code {
  return [ldMapValue(r1, tracking, trackingState.fields[what]), mov(r2, by), atomicAdd(at(r1, u64), r2)];
}

function update({ tracked }: TraceMaps, key: number, stamp: number, flags: number): Code {
  return [
    ldMap(r1, tracked),
    lea(r2, at(fp, key, u64)),
    lea(r3, at(fp, stamp, u64)),
    mov(r4, flags),
    call("bpf_map_update_elem"),
  ];
}

/** Counts what found no room. Loses r0-r5. */
export function countUntracked(maps: TraceMaps): Code {
  return count(maps, "untracked", 1);
}

/**
 * Puts the address at fp + key into the set. If it is there already, the stamp that it has goes to fp + stamp; if the set
 * is full that is counted, and the stamp is 0. Loses r0-r5.
 */
export function remember(maps: TraceMaps, key: number, stamp: number): Code {
  const full = label("set_full"), done = label("remembered");
  return [
    count(maps, "tracked", 1), // before it is in: the count is never too small
    update(maps, key, stamp, BPF_NOEXIST),
    jeq(r0, 0, done),
    count(maps, "tracked", -1),
    lookUp(maps, key, stamp, full),
    ja(done),
    full,
    countUntracked(maps),
    st(at(fp, stamp, u64), 0),
    done,
  ];
}

/** The same for a child: what its address stood for before is forgotten. */
export function adopt(maps: TraceMaps, key: number, stamp: number): Code {
  const done = label("adopted");
  return [
    count(maps, "tracked", 1),
    update(maps, key, stamp, BPF_NOEXIST),
    jeq(r0, 0, done),
    count(maps, "tracked", -1),
    update(maps, key, stamp, BPF_EXIST),
    jeq(r0, 0, done),
    countUntracked(maps),
    done,
  ];
}

/** Takes the address at fp + key out of the set. Loses r0-r5. */
export function forget(maps: TraceMaps, key: number): Code {
  const absent = label("not_tracked");
  return [
    ldMap(r1, maps.tracked),
    lea(r2, at(fp, key, u64)),
    call("bpf_map_delete_elem"),
    jne(r0, 0, absent),
    count(maps, "tracked", -1),
    absent,
  ];
}

/** What a program for the function that frees a packet's memory does when nobody wants to see it: r6 is the packet. */
export function forgetSilently(maps: TraceMaps, packet: Register, key: number, done: Label): Code {
  return [trackedCount(maps), jeq(r1, 0, done), stx(at(fp, key, u64), packet), forget(maps, key)];
}
