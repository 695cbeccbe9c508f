// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * Filters for the packet inside a tunnel: VXLAN, Geneve, GRE, IP in IP, whatever notes in the sk_buff where the inner
 * headers are (skb_reset_inner_headers in include/linux/skbuff.h).
 *
 *     | outer headers | tunnel header | inner Ethernet | inner IP ...
 *     mac_header      transport       inner_mac_header inner_network_header
 */
import type { CbpfInsn } from "../asm/cbpf.ts";
import { type Code, type Label, label } from "../asm/code.ts";
import { jge, jslt, mov, r1, r2, r3, r4, sub } from "../asm/insn.ts";
import type { SkbView, TraceOptions } from "./frame.ts";
import { matchesFrom } from "./match.ts";

const ETH_HLEN = 14, IP_HLEN = 20;

/** Compiled filters for what a tunnel carries; both have to match. */
export interface TunnelFilter {
  /** from the inner Ethernet header on */
  readonly l2?: readonly CbpfInsn[];
  /** from the inner IP header on */
  readonly l3?: readonly CbpfInsn[];
}

/**
 * Goes to `miss` where a tunnel carries a packet that does not match. What is in no tunnel passes.
 *
 * A tunnel is where the inner IP header lies behind the outer one. That the inner offsets are not 0 does not say so:
 * making room in front of a packet moves all offsets, set or not, and they stay when the tunnel's headers are gone.
 * sk_buff.encapsulation does not either: it is cleared where no checksum is left to compute.
 */
export function matchesTunnel(options: TraceOptions, view: SkbView, miss: Label, unreadable: Label): Code {
  const { tunnel } = options, { load } = view;
  if (tunnel === undefined) return [];
  const plain = label("no_tunnel");
  return [
    load(r1, "network_header"),
    load(r2, "inner_network_header"),
    jge(r1, r2, plain),
    tunnel.l2 === undefined ? [] : [
      load(r3, "inner_mac_header"),
      mov(r4, r3),
      sub(r4, r1),
      jslt(r4, IP_HLEN, miss), // left from where the packet came in: the outer header lies there now
      sub(r2, r3),
      jslt(r2, ETH_HLEN, miss),
      matchesFrom(options, tunnel.l2, view, "inner_mac_header", miss, unreadable),
    ],
    tunnel.l3 === undefined
      ? []
      : matchesFrom(options, tunnel.l3, view, "inner_network_header", miss, unreadable),
    plain,
  ];
}
