// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * Which packet a buffer holds, for packets that are a frame in an XDP program on their way: a frame has no sk_buff, but
 * both have the buffer's first byte, sk_buff.head and xdp_buff.data_hard_start.
 *
 *     an sk_buff is followed            its buffer is its                          skb
 *     it is turned into a frame         the frame is that packet, and stays it when the program sends it
 *                                       elsewhere and the sk_buff is freed         skb = 0
 *     a frame matches                   its buffer is of a packet without sk_buff  skb = 0
 *     an sk_buff is built in a buffer   it is that packet (lineage.ts)             skb
 *
 * Buffers are used again, and no driver says so. What lies in one is another packet when its sk_buff is followed no
 * more or has another buffer, when a frame comes from the device again on which it was last seen, and when it was on
 * its way for longer than a second. The map makes room by itself: what is in it and no more on its way is forgotten first.
 */
import { type Code, type Label, label } from "../asm/code.ts";
import {
  at,
  call,
  fp,
  ja,
  jeq,
  jgt,
  jne,
  ldMap,
  ldMapValue,
  ldx,
  lea,
  mov,
  or,
  r0,
  r1,
  r2,
  r3,
  r4,
  r7,
  r9,
  st,
  stx,
  sub,
} from "../asm/insn.ts";
import { u32, u64 } from "../asm/layout.ts";
import { slot, type TraceOptions } from "./frame.ts";
import type { TraceMaps } from "./maps.ts";
import { bufferOwner, lookUp, trackingState } from "./tracking.ts";

/** ns that a frame may take from one device to the next, or to its sk_buff. */
const LONGEST_FLIGHT = 1_000_000_000;
const BPF_ANY = 0;
/** Where a new owner is put together, and the stamp that another packet has: the packet filter's words. */
const OWNER = slot.scratch, OTHER_STAMP = OWNER + bufferOwner.size;
const owner = bufferOwner.fields;

/** r1 = 0 while nothing is followed, neither sk_buffs nor, if they are packets too, frames. */
export function followedCount({ tracking, maps }: TraceOptions): Code {
  const counted = ldMapValue(r1, maps.tracking, trackingState.fields.tracked);
  const load = (field: "tracked" | "buffers") => {
    const place = trackingState.fields[field].offset - trackingState.fields.tracked.offset;
    return at(r1, place, u64);
  };
  if (tracking?.frames !== true) return [counted, ldx(r1, load("tracked"))];
  return [counted, ldx(r2, load("buffers")), ldx(r1, load("tracked")), or(r1, r2)];
}

/** r1 = whether there ever was one in the map. */
function anyBuffers({ tracking }: TraceMaps): Code {
  return [ldMapValue(r1, tracking, trackingState.fields.buffers), ldx(r1, at(r1, u64))];
}

/** r0 = the owner of the buffer at fp + head, or to `none`. */
function findOwner({ buffers }: TraceMaps, head: number, none: Label): Code {
  return [ldMap(r1, buffers), lea(r2, at(fp, head, u64)), call("bpf_map_lookup_elem"), jeq(r0, 0, none)];
}

function removeOwner({ buffers }: TraceMaps, head: number): Code {
  return [ldMap(r1, buffers), lea(r2, at(fp, head, u64)), call("bpf_map_delete_elem")];
}

/** The owner that was put together becomes that of the buffer at fp + head. */
function storeOwner({ buffers, tracking }: TraceMaps, head: number): Code {
  return [
    ldMapValue(r1, tracking, trackingState.fields.buffers),
    mov(r2, 1),
    stx(at(r1, u64), r2),
    ldMap(r1, buffers),
    lea(r2, at(fp, head, u64)),
    lea(r3, at(fp, OWNER, u64)),
    mov(r4, BPF_ANY),
    call("bpf_map_update_elem"),
  ];
}

/** A member of the owner that is put together. */
const put = (field: keyof typeof owner) => at(fp, OWNER + owner[field].offset, u64);

/**
 * The buffer at fp + head is that of the sk_buff at fp + skb, if that is followed: its stamp is in its slot. Of sk_buffs
 * that share one, the first keeps it. Loses r0-r5.
 */
export function noteBuffer(maps: TraceMaps, head: number, skb: number): Code {
  const note = label("note_buffer"), done = label("buffer_noted");
  return [
    ldx(r1, at(fp, slot.stamp, u64)),
    jeq(r1, 0, done),
    findOwner(maps, head, note),
    ldx(r1, at(r0, owner.stamp)),
    ldx(r2, at(fp, slot.stamp, u64)),
    jne(r1, r2, note),
    ldx(r1, at(r0, owner.skb)),
    jne(r1, 0, done),
    note,
    ldx(r1, at(fp, slot.stamp, u64)),
    stx(put("stamp"), r1),
    ldx(r1, at(fp, skb, u64)),
    stx(put("skb"), r1),
    st(put("device"), 0),
    st(put("since"), 0),
    storeOwner(maps, head),
    done,
  ];
}

/** The sk_buff at fp + skb is freed: the buffer at fp + head is its no more, unless it was taken from it. */
export function leaveBuffer(maps: TraceMaps, head: number, skb: number): Code {
  const done = label("buffer_left");
  return [
    anyBuffers(maps),
    jeq(r1, 0, done),
    findOwner(maps, head, done),
    ldx(r1, at(r0, owner.skb)),
    ldx(r2, at(fp, skb, u64)),
    jne(r1, r2, done),
    removeOwner(maps, head),
    done,
  ];
}

/**
 * An sk_buff, at fp + skb, was built in the buffer at fp + head: to `adopted` if that holds a packet, whose stamp is then in its
 * slot. What another sk_buff had, or was there too long ago, is forgotten. Loses r0-r5.
 */
export function takeBuffer(maps: TraceMaps, head: number, skb: number, adopted: Label): Code {
  const none = label("no_packet"), owned = label("owned_buffer"), take = label("take"), old = label("old");
  return [
    findOwner(maps, head, none),
    mov(r9, r0),
    ldx(r1, at(r9, owner.skb)),
    jne(r1, 0, owned),
    call("bpf_ktime_get_ns"),
    ldx(r1, at(r9, owner.since)),
    sub(r0, r1),
    jgt(r0, LONGEST_FLIGHT, old),
    ja(take),
    owned,
    ldx(r2, at(fp, skb, u64)),
    jne(r1, r2, old),
    take,
    ldx(r1, at(fp, skb, u64)),
    stx(at(r9, owner.skb), r1),
    ldx(r1, at(r9, owner.stamp)),
    stx(at(fp, slot.stamp, u64), r1),
    ja(adopted),
    old,
    removeOwner(maps, head),
    none,
  ];
}

/** The memory at fp + head is new: what was there is over. Loses r0-r5. */
export function clearBuffer(maps: TraceMaps, head: number): Code {
  return removeOwner(maps, head);
}

/** What programs know of a frame: its buffer is at fp + slot.skb. */
export interface FrameHook {
  /** r7 = the device of its queue; to the label where it has none. Loses r0-r5 */
  readonly device: (none: Label) => Code;
}

/** r0 = what is known of the frame; to `stranger`, its stamp 0, where that is nothing. Loses r0-r5. */
function frameOwner(maps: TraceMaps, stranger: Label): Code {
  return [
    st(at(fp, slot.stamp, u64), 0),
    anyBuffers(maps),
    jeq(r1, 0, stranger),
    findOwner(maps, slot.skb, stranger),
  ];
}

/**
 * Where an XDP program begins: the frame's stamp to its slot, 0 if it is no packet that is followed. Loses r0-r5, r7, r9.
 */
export function frameEntered(options: TraceOptions, { device }: FrameHook): Code {
  const { maps, access, kernel } = options;
  const stranger = label("strange_frame"), owned = label("owned_frame"), fresh = label("fresh_frame");
  const stale = label("stale_frame");
  return [
    frameOwner(maps, stranger),
    mov(r9, r0),
    ldx(r1, at(r9, owner.skb)),
    jne(r1, 0, owned),
    device(stale),
    ldx(r1, at(r9, owner.device)),
    jeq(r1, r7, stale),
    call("bpf_ktime_get_ns"),
    ldx(r1, at(r9, owner.since)),
    stx(at(r9, owner.since), r0),
    sub(r0, r1),
    jgt(r0, LONGEST_FLIGHT, stale),
    stx(at(r9, owner.device), r7),
    ja(fresh),
    owned,
    stx(at(fp, slot.key, u64), r1),
    lookUp(maps, slot.key, OTHER_STAMP, stale),
    ldx(r1, at(fp, OTHER_STAMP, u64)),
    ldx(r2, at(r9, owner.stamp)),
    jne(r1, r2, stale),
    ldx(r7, at(fp, slot.key, u64)),
    access.read(r1, r7, kernel.field("sk_buff", "head"), slot.temp),
    ldx(r2, at(fp, slot.skb, u64)),
    jne(r1, r2, stale),
    fresh,
    ldx(r1, at(r9, owner.stamp)),
    stx(at(fp, slot.stamp, u64), r1),
    ja(stranger),
    stale,
    removeOwner(maps, slot.skb),
    stranger,
  ];
}

/** A frame that matched by itself, with a stamp in its slot, is followed from here on. Loses r0-r5, r7. */
export function enrolFrame(options: TraceOptions, { device }: FrameHook): Code {
  const none = label("no_queue"), store = label("store_frame");
  return [
    device(none),
    ja(store),
    none,
    mov(r7, 0),
    store,
    call("bpf_ktime_get_ns"),
    stx(put("since"), r0),
    stx(put("device"), r7),
    st(put("skb"), 0),
    ldx(r1, at(fp, slot.stamp, u64)),
    stx(put("stamp"), r1),
    storeOwner(options.maps, slot.skb),
  ];
}

/** Where an XDP program was left: the same as at its beginning, where it was settled which packet it is. */
export function frameLeft({ maps }: TraceOptions): Code {
  const stranger = label("strange_frame");
  return [
    frameOwner(maps, stranger),
    ldx(r1, at(r0, owner.stamp)),
    stx(at(fp, slot.stamp, u64), r1),
    stranger,
  ];
}

/** enum xdp_action (include/uapi/linux/bpf.h). */
const XDP_PASS = 2, XDP_TX = 3, XDP_REDIRECT = 4;

/**
 * What the program's verdict, the word at fp + slot.temp, means for the frame: passed on it stays what it is, sent
 * elsewhere it leaves its sk_buff, and otherwise a frame without one is over. Loses r0-r5, r7, r9.
 */
export function settleFrame({ maps }: TraceOptions, { device }: FrameHook): Code {
  const sent = label("frame_sent"), unknown = label("no_queue"), done = label("frame_settled");
  return [
    findOwner(maps, slot.skb, done),
    mov(r9, r0),
    ldx(r1, at(fp, slot.temp, u32)),
    jeq(r1, XDP_PASS, done),
    jeq(r1, XDP_TX, sent),
    jeq(r1, XDP_REDIRECT, sent),
    ldx(r1, at(r9, owner.skb)),
    jne(r1, 0, done),
    removeOwner(maps, slot.skb),
    ja(done),
    sent,
    st(at(r9, owner.skb), 0),
    device(unknown),
    stx(at(r9, owner.device), r7),
    unknown,
    call("bpf_ktime_get_ns"),
    stx(at(r9, owner.since), r0),
    done,
  ];
}
