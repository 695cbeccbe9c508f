/** Records as the kernel would write them, for tests of what is printed. */
import {
  HEADER_BYTES,
  type PacketEvent,
  packetEvent,
  type RecordLayout,
  recordLayout,
} from "../../bpf-programs/events.ts";
import type { ValueExpression } from "../../bpf-programs/expression.ts";

/** "45 00 003c" -> bytes; spaces are free. */
export function fromHex(hex: string): Uint8Array {
  return Uint8Array.from(hex.replace(/\s/g, "").match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** 10.0.2.15:40718 -> 1.0.0.1:8080, TCP. */
export const TCP_IPV4 =
  "45 00 003c 0000 4000 40 06 0000 0a00020f 01000001 9f0e 1f90 00000000 00000000 50 02 ffff";

/** As in Linux 6.12 and those before, in one. */
export const reasonArgument = (func: string): number | undefined =>
  new Map([["kfree_skb_reason", 2], ["kfree_skb_list_reason", 2], ["sk_skb_reason_drop", 3]]).get(func);

export interface RecordValues extends Partial<Omit<PacketEvent, "comm" | "headers">> {
  comm?: string;
  headers?: string;
  /** the additions; only those that the layout has are written */
  stamp?: bigint;
  caller?: bigint;
  stack?: bigint[];
  /** as many as `stack` has, unless given */
  stackBytes?: number;
  controlBlock?: readonly number[];
  /** bytes */
  copies?: { readonly skb?: string; readonly sharedInfo?: string };
  /** the inner packet from its network header on */
  tunnel?: string;
  /** bits of MISSING */
  missing?: number;
  /** undefined: it has none */
  expressions?: readonly (bigint | undefined)[];
  /** bits of MAP_HAS, then id, name, sizes, and bytes of key and value */
  map?: {
    readonly has: number;
    readonly id: number;
    readonly name: string;
    readonly sizes: readonly [key: number, value: number];
    readonly key?: string;
    readonly value?: string;
  };
  /** whether the expressions are about a frame in an XDP program */
  ofFrame?: boolean;
}

/** Layouts only count them. */
export const someValue: ValueExpression = { fields: [], code: () => [] };

/** One record; what is not given is that of the first example line, on eth0 in the first namespace. */
export function record(
  {
    comm = "/usr/bin/curl",
    headers = TCP_IPV4,
    stamp = 0n,
    caller = 0n,
    stack = [],
    stackBytes = stack.length * 8,
    controlBlock = [],
    copies = {},
    tunnel = "",
    missing = 0,
    expressions = [],
    ofFrame = false,
    map,
    ...values
  }: RecordValues = {},
  { size, fields }: RecordLayout = recordLayout(),
): DataView {
  const view = new DataView(new ArrayBuffer(size));
  fields.stamp?.type.encode(view, fields.stamp.offset, stamp);
  fields.caller?.type.encode(view, fields.caller.offset, caller);
  fields.stackBytes?.type.encode(view, fields.stackBytes.offset, stackBytes);
  const frames = fields.stack?.offset;
  if (frames !== undefined) stack.forEach((address, i) => view.setBigUint64(frames + i * 8, address, true));
  const words = fields.controlBlock?.offset, numbers = fields.values?.offset;
  if (words !== undefined) controlBlock.forEach((word, i) => view.setUint32(words + i * 4, word, true));
  if (numbers !== undefined) {
    expressions.forEach((value, i) => view.setBigUint64(numbers + i * 8, value ?? 0xbadn, true));
  }
  const valueless = expressions.reduce<number>(
    (bits, value, i) => value === undefined ? bits | 1 << i : bits,
    0,
  );
  fields.valueless?.type.encode(view, fields.valueless.offset, valueless >>> 0);
  fields.ofFrame?.type.encode(view, fields.ofFrame.offset, Number(ofFrame));
  fields.missing?.type.encode(view, fields.missing.offset, missing);
  const inner = fromHex(tunnel);
  if (fields.tunnel !== undefined) new Uint8Array(view.buffer).set(inner, fields.tunnel.offset);
  fields.tunnelBytes?.type.encode(view, fields.tunnelBytes.offset, inner.length);
  for (const name of ["skb", "sharedInfo"] as const) {
    const field = fields[name], copy = fromHex(copies[name] ?? "");
    if (field !== undefined) new Uint8Array(view.buffer).set(copy, field.offset);
  }
  if (map !== undefined && fields.mapHas !== undefined) {
    const { has, id, sizes } = map, out = new Uint8Array(view.buffer);
    fields.mapHas.type.encode(view, fields.mapHas.offset, has);
    fields.mapId!.type.encode(view, fields.mapId!.offset, id);
    fields.mapKeySize!.type.encode(view, fields.mapKeySize!.offset, sizes[0]);
    fields.mapValueSize!.type.encode(view, fields.mapValueSize!.offset, sizes[1]);
    out.set(new TextEncoder().encode(map.name), fields.mapName!.offset);
    out.set(fromHex(map.key ?? ""), fields.mapKey!.offset);
    out.set(fromHex(map.value ?? ""), fields.mapValue!.offset);
  }
  const bytes = fromHex(headers), name = new TextEncoder().encode(comm);
  const padded = new Uint8Array(HEADER_BYTES), commBytes = new Uint8Array(16);
  padded.set(bytes);
  commBytes.set(name.subarray(0, 16));
  packetEvent.encode(view, 0, {
    timestamp: 45557282884169n,
    skb: 0xffff8880052a4e00n,
    address: 0xffffffff81000000n,
    netns: 4026531840,
    ifindex: 2,
    mtu: 1500,
    len: 60,
    pid: 12345,
    cpu: 1,
    protocol: 0x0008,
    headerBytes: bytes.length,
    comm: commBytes,
    headers: padded,
    ...values,
  });
  return view;
}
