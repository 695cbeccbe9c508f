// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * In front of a program: says no to packets as they usually are, and leaves everything else to the whole program, which
 * decides anew and is a function of its own. That keeps what nearly all packets pass so short: the context alone is noted on
 * the stack, r6 and r7 are saved only where the device is asked for, and a filter on headers at constant places needs few
 * loads. Functions that mean more to a packet than that it passes, and programs that follow stacks, have no front.
 *
 * Registers: r0 the sk_buff and then the packet's first byte, r1-r5 numbers; for the device r6 the sk_buff, r7 pointers.
 */
import type { CbpfInsn } from "../asm/cbpf.ts";
import { usualCbpfToEbpf, type UsualFilter } from "../asm/cbpf_usual.ts";
import { type Code, type Label, label } from "../asm/code.ts";
import { withoutDeadCode } from "../asm/dead_code.ts";
import { AssemblyError } from "../asm/errors.ts";
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

/** IPv4's header and that of UDP, which filters ask for, and an Ethernet header in front of them. */
const L3_BYTES = 28, L2_BYTES = 14 + L3_BYTES;

/**
 * `whole` with that in front of it, where memory is read directly and it is about what can be asked in front.
 *
 * @param packet r1 = the context -> dst = the sk_buff, touching nothing else
 */
export function behindTheUsual(options: TraceOptions, packet: (dst: Register) => Code, whole: Code): Code {
  const { access: { direct }, filter, mark, netns, ifindex, tracking } = options;
  if (direct === undefined || tracking?.stacks === true) return whole;
  const no = label("no"), nothing = label("nothing"), perhaps = label("perhaps"), entry = label("whole");
  const asksDevice = netns !== undefined || ifindex !== undefined;
  const usual = filter === undefined ? undefined : usualFilter(filter, direct, { no, perhaps });
  if (!asksDevice && (mark === undefined || mark.mask === 0) && usual === undefined) return whole;
  const view = skbView(options, perhaps, { address: r1, hold: asksDevice ? r6 : r0, reload });
  const { skb, load } = view;
  return [
    withoutDeadCode([
      stx(at(fp, CONTEXT, u64), r1),
      tracking?.follow !== true ? [] : [trackedCount(options.maps, r2), jne(r2, 0, perhaps)],
      packet(r1),
      jeq(r1, 0, nothing),
      skb.open,
      matchesMark(options, load, no),
      matchesDevice(options, load, no),
      usual === undefined ? ja(perhaps) : usual(view),
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

/** In front nothing is done twice. */
function reload(): never {
  throw new AssemblyError("The sk_buff's address is not kept in front of a program");
}

/** The filter for both places where a packet can begin, or undefined: it could say no in neither. */
function usualFilter(
  filter: PacketFilter,
  direct: DirectLoads,
  { no, perhaps }: { no: Label; perhaps: Label },
): ((view: SkbView) => Code) | undefined {
  const compile = (
    program: readonly CbpfInsn[] | undefined,
    bytes: number,
  ): UsualFilter | "never" | undefined =>
    program === undefined ? "never" : usualCbpfToEbpf(program, {
      bytes,
      holds: direct.reaches,
      load: direct.load,
      a: r1,
      x: r2,
      noMatch: no,
      perhaps,
    });
  const fromL2 = compile(filter.l2, L2_BYTES), fromL3 = compile(filter.l3, L3_BYTES);
  if (fromL2 === undefined && fromL3 === undefined) return undefined;
  const from = (usual: UsualFilter | "never" | undefined, offset: Register): Code => {
    if (usual === "never") return ja(no);
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
  const l2 = label("l2"), l3 = label("l3");
  return (view) => [
    headerOf(view, { head: r3, mac: r1, network: r2, tail: r4, temp: r5 }, l2, l3),
    l2,
    from(fromL2, r1),
    l3,
    from(fromL3, r2),
  ];
}
