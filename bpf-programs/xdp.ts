// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * Probes on XDP programs, which see a frame before there is an sk_buff: it lies in one piece from `data` to `data_end`
 * (what a driver keeps in further buffers is not looked at), and its device is that of the queue.
 *
 * Registers: r6 the xdp_buff's view (while the packet filter runs: the frame's length), r7 and r8 the filter's A and
 * X, r9 the frame. While collecting: r6 the view, r7 a pointer being followed, r8 the record.
 */
import { cbpfToEbpf } from "../asm/cbpf_to_ebpf.ts";
import { type Code, type Label, label, type ProgramSpec } from "../asm/code.ts";
import { withoutDeadCode } from "../asm/dead_code.ts";
import { withinReach } from "../asm/far_jumps.ts";
import {
  add,
  at,
  call,
  fp,
  ja,
  jeq,
  jeq32,
  jle,
  jlt,
  jne,
  jne32,
  jsgt,
  ldx,
  lea,
  mov,
  mov32,
  r0,
  r1,
  r2,
  r3,
  r6,
  r7,
  r8,
  r9,
  type Register,
  ret,
  st,
  stx,
  sub,
} from "../asm/insn.ts";
import { type Field, u16, u64 } from "../asm/layout.ts";
import { collectStack, collectValues } from "./additions.ts";
import { collectParts, countLook, countUnreadable, type HookStores, type RecordParts } from "./collect.ts";
import { HEADER_BYTES, MISSING, packetEvent } from "./events.ts";
import type { ExpressionFrame, FilterExpression } from "./expression.ts";
import { namespaceOf, recordOf, slot, type TraceOptions } from "./frame.ts";
import type { View } from "./memory_access.ts";
import { enrolFrame, frameEntered, type FrameHook, frameLeft, settleFrame } from "./buffers.ts";
import { beneathPacket, FRAME_SLOT, linkStack, takeStamp, watchStack } from "./stacks.ts";
import {
  identifyProgram,
  programArgument,
  type ProgramHook,
  programResult,
  tracingProgram,
} from "./program_hook.ts";
import { keepsSet, newStamp } from "./tracking.ts";

/** Bytes of an Ethernet header, and of a tag in it. */
const ETH_HLEN = 14, VLAN_HLEN = 4;
/** ETH_P_8021Q and ETH_P_8021AD as a little-endian load finds them. */
const TAGGED = [0x0081, 0xa888];
/** Where in the stack the xdp_buff's address is kept. */
const XDP = FRAME_SLOT;

/** `options.expression` is about sk_buffs; this one is about the xdp_buff. */
export function xdpProgram(
  options: TraceOptions,
  hook: ProgramHook,
  expression?: FilterExpression,
): ProgramSpec {
  const miss = label("miss"), unreadable = label("unreadable");
  const asked = [...expression === undefined ? [] : [expression], ...options.additions?.xdpValues ?? []];
  const { view, load } = xdpView(options, asked.flatMap(({ fields }) => fields), miss);
  const { tracking, maps } = options, set = tracking?.frames === true && keepsSet(tracking);
  const stacks = tracking?.stacks === true, enters = hook.at === "entry";
  const matched = label("matched"),
    shown = label("shown"),
    strange = label("strange"),
    fresh = label("fresh");
  const queue: FrameHook = { device: (none) => device(options, load, none) };
  const stores = { identify: identifyProgram(hook) };
  const settled = () => hook.at !== "exit" ? [] : [programResult, settleFrame(options, queue)];
  return {
    name: `xdp_${hook.at}`,
    ...tracingProgram(hook),
    code: withinReach(withoutDeadCode([
      stx(at(fp, slot.context, u64), r1),
      stacks && hook.at === "exit" ? [watchStack(maps, "program"), ldx(r1, at(fp, slot.context, u64))] : [],
      programArgument(r6, hook.argument),
      jeq(r6, 0, miss),
      stx(at(fp, XDP, u64), r6),
      countLook(options),
      view.open,
      load(r1, "data_hard_start"), // what the sk_buff's head will be, if there comes to be one
      stx(at(fp, slot.skb, u64), r1),
      !set ? [] : [
        enters ? frameEntered(options, queue) : frameLeft(options),
        ldx(r1, at(fp, slot.stamp, u64)),
        jeq(r1, 0, strange),
        settled(),
        tracking.follow ? ja(matched) : [],
        strange,
      ],
      stacks ? beneathPacket(maps, "program", [takeStamp, ja(shown)]) : [],
      unanswerable(options) ? ja(miss) : [
        matchesFrame(options, view, load, miss, unreadable),
        matchesQueue(options, load, miss),
        expression?.code(expressionFrame(options, view, [r7, r8, r9], miss), miss) ?? [],
      ],
      !set ? [] : [
        ldx(r1, at(fp, slot.stamp, u64)),
        jne(r1, 0, fresh),
        newStamp(slot.stamp),
        enrolFrame(options, queue),
        settled(),
        fresh,
      ],
      matched,
      stacks && enters
        ? [
          // a function that has the packet as an sk_buff is the better one to know, and further out
          beneathPacket(maps, "program", ja(shown)),
          linkStack(maps, "program", { stamped: tracking.ids, frame: true }),
        ]
        : [],
      shown,
      collectParts(options, stores, partsOf(options, view, load, stores), miss),
      miss,
      ret(0),
      unreadable,
      countUnreadable(options),
    ])),
  };
}

/**
 * A record about the frame whose xdp_buff is in r6 and in FRAME_SLOT, and which fp + slot.skb stands for. Ends the
 * program.
 */
export function collectFrame(options: TraceOptions, stores: HookStores, miss: Label): Code {
  const fields = (options.additions?.xdpValues ?? []).flatMap((value) => value.fields);
  const { view, load } = xdpView(options, fields, miss);
  return [view.open, collectParts(options, stores, partsOf(options, view, load, stores), miss)];
}

type LoadXdp = (dst: Register, field: string) => Code;
type XdpView = View & { readonly fields: readonly Field[] };

function xdpView(
  { kernel, access }: TraceOptions,
  extras: readonly Field[],
  gone: Label,
): { view: XdpView; load: LoadXdp } {
  const stackBytes = slot.scratch - slot.skbCopy;
  const fields = ["data", "data_end", "data_hard_start", "rxq"].map((name) => kernel.field("xdp_buff", name));
  for (const extra of extras) {
    if (access.fits([...fields, extra], stackBytes)) fields.push(extra);
  }
  const view = access.view({
    address: r6,
    hold: r6,
    stack: slot.skbCopy,
    stackBytes,
    fields,
    reload: (dst) => ldx(dst, at(fp, XDP, u64)),
    unreadable: gone,
  });
  return {
    view: { ...view, fields },
    load: (dst, name) => view.load(dst, kernel.field("xdp_buff", name)),
  };
}

/** Whether what was asked for is about what a frame does not have yet: a mark other than 0, an inner packet. */
function unanswerable({ mark, tunnel }: TraceOptions): boolean {
  return tunnel !== undefined || (mark !== undefined && (mark.value & mark.mask) !== 0);
}

function matchesFrame(
  options: TraceOptions,
  view: View,
  load: LoadXdp,
  miss: Label,
  unreadable: Label,
): Code {
  const { filter, access } = options;
  if (filter === undefined) return [];
  if (filter.l2 === undefined) return ja(miss);
  const match = label("matched");
  return [
    load(r9, "data"),
    load(r1, "data_end"),
    mov(r6, r1),
    sub(r6, r9),
    cbpfToEbpf(filter.l2, {
      access: access.packet({
        base: r9,
        spill: slot.packet,
        stack: slot.packetCopy,
        stackBytes: slot.skbCopy - slot.packetCopy,
        unreadable,
      }),
      a: r7,
      x: r8,
      length: r6,
      wireLength: (dst) => mov(dst, r6),
      ancillary: (dst) => mov(dst, 0), // no tag beside the frame, no direction, no mark
      scratch: slot.scratch,
      match,
      noMatch: miss,
      tooShort: miss,
    }),
    match,
    view.again(r6),
  ];
}

/** r7 = the device of the queue that the frame came from; to `none` where it has none. Loses r0-r5. */
function device({ kernel, access }: TraceOptions, load: LoadXdp, none: Label): Code {
  return [
    load(r7, "rxq"),
    jeq(r7, 0, none),
    access.read(r7, r7, kernel.field("xdp_rxq_info", "dev"), slot.temp),
    jeq(r7, 0, none),
  ];
}

function matchesQueue(options: TraceOptions, load: LoadXdp, miss: Label): Code {
  const { netns, ifindex, kernel, access } = options;
  if (netns === undefined && ifindex === undefined) return [];
  return [
    device(options, load, miss),
    ifindex === undefined ? [] : [
      access.read(r1, r7, kernel.field("net_device", "ifindex"), slot.temp),
      jne32(r1, ifindex, miss),
    ],
    netns === undefined ? [] : [
      namespaceOf(options, r1, kernel.field("net_device", "nd_net.net")),
      jne32(r1, netns, miss),
    ],
  ];
}

function expressionFrame(
  { access }: TraceOptions,
  view: XdpView,
  registers: readonly Register[],
  failed: Label,
): ExpressionFrame {
  return {
    access,
    root: (dst) => ldx(dst, at(fp, XDP, u64)),
    rootField: (dst, field) => view.fields.includes(field) ? view.load(dst, field) : undefined,
    registers,
    temp: slot.temp,
    spill: slot.scratch,
    spillBytes: 64,
    failed,
  };
}

function partsOf(
  options: TraceOptions,
  view: XdpView,
  load: LoadXdp,
  stores: HookStores,
): RecordParts {
  const event = packetEvent.fields, { kernel, access } = options;
  const noDevice = label("no_device"), done = label("device_known");
  return {
    protocol: () => etherType(options, load),
    meta: () => [
      st(at(r8, event.mark), 0),
      load(r1, "data"),
      load(r2, "data_end"),
      sub(r2, r1),
      stx(at(r8, event.len), r2),
      device(options, load, noDevice),
      access.read(r1, r7, kernel.field("net_device", "ifindex"), slot.temp),
      stx(at(r8, event.ifindex), r1),
      access.read(r1, r7, kernel.field("net_device", "mtu"), slot.temp),
      stx(at(r8, event.mtu), r1),
      namespaceOf(options, r1, kernel.field("net_device", "nd_net.net")),
      stx(at(r8, event.netns), r1),
      ja(done),
      noDevice,
      ...[event.ifindex, event.mtu, event.netns].map((field) => st(at(r8, field), 0)),
      done,
    ],
    headers: () => frameHeaders(load),
    additions: () => [
      collectValues(
        recordOf(options),
        { ofFrame: 1, values: options.additions?.xdpValues ?? [] },
        (none) => expressionFrame(options, view, [r7, r9], none),
      ),
      nothingMore(options, stores),
    ],
  };
}

/** The protocol behind the Ethernet header, or behind its tag; slot.length = where that protocol's header begins. */
function etherType({ access }: TraceOptions, load: LoadXdp): Code {
  const tagged = label("tagged"), known = label("protocol_known");
  const word = (offset: number): Field<number> => ({ struct: "ethhdr", name: "h_proto", offset, type: u16 });
  return [
    st(at(fp, slot.length, u64), ETH_HLEN),
    mov(r7, 0),
    load(r9, "data"),
    load(r1, "data_end"),
    sub(r1, r9),
    jlt(r1, ETH_HLEN, known),
    access.read(r7, r9, word(ETH_HLEN - 2), slot.temp),
    TAGGED.map((tag) => jeq32(r7, tag, tagged)),
    ja(known),
    tagged,
    st(at(fp, slot.length, u64), ETH_HLEN + VLAN_HLEN),
    access.read(r7, r9, word(ETH_HLEN + VLAN_HLEN - 2), slot.temp),
    known,
    stx(at(r8, packetEvent.fields.protocol), r7),
  ];
}

/** Copies the frame from its network header on; behind `data_end` there is room for skb_shared_info. */
function frameHeaders(load: LoadXdp): Code {
  const { headers, headerBytes } = packetEvent.fields;
  const some = label("some"), fits = label("fits"), done = label("headers_done");
  return [
    load(r3, "data"),
    ldx(r1, at(fp, slot.length, u64)),
    add(r3, r1),
    load(r2, "data_end"),
    sub(r2, r3),
    jsgt(r2, 0, some),
    mov(r2, 0),
    some,
    jle(r2, HEADER_BYTES, fits),
    mov(r2, HEADER_BYTES),
    fits,
    stx(at(r8, headerBytes), r2),
    lea(r1, at(r8, headers.offset, u64)),
    mov32(r2, HEADER_BYTES),
    call("bpf_probe_read_kernel"),
    jeq(r0, 0, done),
    st(at(r8, headerBytes), 0),
    done,
  ];
}

/** Of what else can be asked for, only what the hook knows is there before the sk_buff is. */
function nothingMore(options: TraceOptions, hook: HookStores): Code {
  const layout = recordOf(options), { stamp, caller, missing, tunnelBytes, stack } = layout.fields;
  const all = Object.values(MISSING).reduce((sum, bit) => sum | bit, 0);
  return [
    stamp === undefined ? [] : [ldx(r1, at(fp, slot.stamp, u64)), stx(at(r8, stamp), r1)],
    caller === undefined
      ? []
      : hook.caller === undefined
      ? st(at(r8, caller), 0)
      : [ldx(r1, at(fp, slot.context, u64)), hook.caller(caller)],
    missing === undefined ? [] : st(at(r8, missing), all),
    tunnelBytes === undefined ? [] : st(at(r8, tunnelBytes), 0),
    stack === undefined ? [] : collectStack(layout, hook),
  ];
}
