// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * What Linux knows about a packet beside its bytes, for filters that ask: direction, interface, the VLAN tag
 * that a device took off.
 */
import { ancillary, isAncillaryLoad, SKF_AD_OFF } from "../asm/cbpf.ts";
import { type Code, type KernelTypes, label } from "../asm/code.ts";
import { and32, jeq, jeq32, jne32, mov32, r1, r2, type Register, rsh } from "../asm/insn.ts";
import { type Field, u8 } from "../asm/layout.ts";
import { type PacketFilter, type SkbView, slot, type TraceOptions } from "./frame.ts";

/** Which Linux words the filter's programs load, as offsets from SKF_AD_OFF. */
export function ancillaryWords(filter: PacketFilter | undefined): ReadonlySet<number> {
  const insns = [...filter?.l2 ?? [], ...filter?.l3 ?? []];
  return new Set(insns.filter(isAncillaryLoad).map(({ k }) => k - SKF_AD_OFF));
}

/** Bits of the sk_buff, read as the bytes around them: dst = (byte >> shift) & mask. */
interface SkbBits {
  readonly byte: Field;
  readonly shift: number;
  readonly mask: number;
}

export function bitsOf(kernel: KernelTypes, name: string): SkbBits {
  const { struct, offset, shift, bits } = kernel.bitField("sk_buff", name);
  return { byte: { struct, name, offset, type: u8 }, shift, mask: (1 << bits) - 1 };
}

/** Whether the device took a VLAN tag off: a bit of its own until Linux 6.2, then any bit of protocol and tag. */
export function tagPresence(kernel: KernelTypes): SkbBits {
  if (kernel.has("sk_buff", "vlan_present")) return bitsOf(kernel, "vlan_present");
  return { byte: kernel.field("sk_buff", "vlan_all"), shift: 0, mask: 0xffffffff };
}

/** include/uapi/linux/if_packet.h */
const PACKET_OUTGOING = 4;

/**
 * dst = what Linux knows about the packet, as a socket's filter would see it, or undefined.
 *
 * The kernel calls a packet outgoing only in the copies that it gives to sockets. Here it is one that was
 * never received and still belongs to the socket that sent it.
 */
export function ancillaryWord(
  { kernel, access }: TraceOptions,
  { load, skb }: SkbView,
  dst: Register,
  word: number,
): Code | undefined {
  const done = label("known");
  const bits = ({ byte, shift, mask }: SkbBits): Code => [
    skb.again(dst),
    load(dst, byte, dst),
    shift === 0 ? [] : rsh(dst, shift),
    mask === 0xffffffff ? [] : and32(dst, mask),
  ];
  switch (word) {
    case ancillary.packetType.offset:
      return [
        bits(bitsOf(kernel, "pkt_type")),
        jne32(dst, 0, done),
        skb.again(r1),
        load(r2, "skb_iif", r1),
        jne32(r2, 0, done),
        load(r2, "sk", r1),
        jeq(r2, 0, done),
        mov32(dst, PACKET_OUTGOING),
        done,
      ];
    case ancillary.ifindex.offset:
      return [
        skb.again(dst),
        load(dst, "dev", dst),
        jeq(dst, 0, done),
        access.read(dst, dst, kernel.field("net_device", "ifindex"), slot.temp),
        done,
      ];
    case ancillary.vlanTag.offset:
      return [skb.again(dst), load(dst, "vlan_tci", dst)];
    case ancillary.vlanTagPresent.offset: {
      const absent = label("no_tag");
      return [bits(tagPresence(kernel)), jeq32(dst, 0, absent), mov32(dst, 1), absent];
    }
    default:
      return undefined;
  }
}
