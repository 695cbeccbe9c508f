// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * In front of a program: says no to packets as they usually are, and leaves everything else to the whole program, which
 * decides anew and is a function of its own. That keeps what nearly all packets pass so short: r6 to r9 need not be saved,
 * nor anything be noted on the stack, and a filter on headers at constant places needs few loads.
 *
 * Registers: r0 the sk_buff and then the packet's first byte, r1-r5 numbers; where the device is asked for, r6 the sk_buff.
 */
import type { CbpfInsn } from "../asm/cbpf.ts";
import { usualCbpfToEbpf } from "../asm/cbpf_usual.ts";
import { type Code, type Label, label } from "../asm/code.ts";
import { withoutDeadCode } from "../asm/dead_code.ts";
import {
  add,
  at,
  callLocal,
  copy,
  exit,
  fp,
  ja,
  jeq,
  jne,
  jslt32,
  ldx,
  r0,
  r1,
  r2,
  r3,
  r4,
  r5,
  r6,
  type Register,
  ret,
  stx,
  sub,
} from "../asm/insn.ts";
import { u64 } from "../asm/layout.ts";
import { countLook } from "./collect.ts";
import { type PacketFilter, type SkbView, skbView, type TraceOptions } from "./frame.ts";
import { headerOf, matchesDevice, matchesMark } from "./match.ts";
import type { DirectLoads } from "./memory_access.ts";
import { trackedCount } from "./tracking.ts";

/** Where its stack keeps the context: it is all of it, so that the whole program has nearly as much as alone. */
const CONTEXT = -8;

/**
 * `whole` with that in front of it, where memory is read directly and it is about what can be asked in front.
 *
 * @param packet r1 = the context -> dst = the sk_buff, touching nothing else
 */
export function behindTheUsual(options: TraceOptions, packet: (dst: Register) => Code, whole: Code): Code {
  const { access: { direct }, filter, mark, netns, ifindex, tracking } = options;
  const asksDevice = netns !== undefined || ifindex !== undefined;
  const asks = asksDevice || filter !== undefined || mark !== undefined;
  if (direct === undefined || !asks || tracking?.stacks === true) return whole;
  const no = label("no"), nothing = label("nothing"), perhaps = label("perhaps"), entry = label("whole");
  const view = skbView(options, perhaps, { address: r1, hold: asksDevice ? r6 : r0 }), { skb, load } = view;
  return [
    withoutDeadCode([
      stx(at(fp, CONTEXT, u64), r1),
      tracking?.follow !== true ? [] : [trackedCount(options.maps, r2), jne(r2, 0, perhaps)],
      packet(r1),
      jeq(r1, 0, nothing),
      skb.open,
      matchesMark(options, load, no),
      matchesDevice(options, load, no),
      filter === undefined ? ja(perhaps) : usualFilter(filter, direct, view, { no, perhaps }),
      no,
      countLook(options),
      nothing,
      ret(0),
      perhaps,
      ldx(r1, at(fp, CONTEXT, u64)),
      callLocal(entry),
      exit(),
    ]),
    entry,
    whole,
  ];
}

function usualFilter(
  filter: PacketFilter,
  direct: DirectLoads,
  view: SkbView,
  { no, perhaps }: { no: Label; perhaps: Label },
): Code {
  const l2 = label("l2"), l3 = label("l3");
  const from = (program: readonly CbpfInsn[] | undefined, offset: Register): Code => {
    if (program === undefined) return ja(no);
    const usual = usualCbpfToEbpf(program, {
      holds: direct.reaches,
      load: direct.load,
      a: r1,
      x: r2,
      noMatch: no,
      perhaps,
    });
    if (usual === undefined) return ja(perhaps);
    return [
      sub(r4, offset), // r4 = linear bytes from there on, perhaps negative
      jslt32(r4, usual.bytes, perhaps),
      copy(r1, offset),
      add(r1, r3),
      direct.open,
      usual.code,
    ];
  };
  return [
    headerOf(view, { head: r3, mac: r1, network: r2, tail: r4, temp: r5 }, l2, l3),
    l2,
    from(filter.l2, r1),
    l3,
    from(filter.l3, r2),
  ];
}
