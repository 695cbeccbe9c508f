/** What options make of a JSON line: which fields an event has, for every pair of options. */
import { expect } from "bun:test";
import { pairwise, type Row } from "../pairwise.ts";

const onOff = ["off", "on"] as const;
/** In the order of the command line; what cannot be asked of tracepoints is last. */
export const jsonFactors = {
  "output-meta": onOff,
  "output-tuple": onOff,
  "output-tcp-flags": onOff,
  "output-tunnel": onOff,
  "output-netns-names": onOff,
  "output-packet-id": onOff,
  "timestamp": ["none", "current", "relative", "absolute"],
  "output-stack": onOff,
  "output-skb": onOff,
  "output-skb-shared-info": onOff,
  "output-skb-cb": onOff,
  "output-skb-metadata": onOff,
  "summary": onOff,
  "output-caller": onOff,
  "output-bpfmap": onOff,
  "output-xdp-metadata": onOff,
} as const;
export type JsonRow = Row<typeof jsonFactors>;

const ofFunctions = ["output-caller", "output-bpfmap", "output-xdp-metadata"] as const;
const { "output-caller": _caller, "output-bpfmap": _maps, "output-xdp-metadata": _frames, ...others } =
  jsonFactors;
export const rowsOfFunctions: readonly JsonRow[] = pairwise(jsonFactors);
export const rowsOfTracepoints: readonly JsonRow[] = pairwise(others).map((row) => ({
  ...row,
  ...Object.fromEntries(ofFunctions.map((name) => [name, "off"])) as Record<
    typeof ofFunctions[number],
    "off"
  >,
}));

/** The expressions of --output-skb-metadata: a number, a pointer, one that has no value. */
const expressions = ["skb->len", "skb->head", "skb->len / (skb->len - skb->len)"];
const xdpExpression = "xdp->data_end - xdp->data";

/** Whether an event is about a frame in an XDP program, and about what is done with a map. */
export const isOfFrame = ({ func }: Json): boolean => /\(xdp\)/.test(String(func));
export const isOfMap = (event: Json): boolean => "bpf_map" in event;

export function wordsOf(row: JsonRow): string[] {
  return [
    "--output-json",
    ...Object.entries(row).flatMap(([name, value]) => {
      if (name === "timestamp") return ["--timestamp", value];
      if (name === "summary") return value === "on" ? ["--summary=lines"] : [];
      if (name === "output-skb-metadata") {
        return value === "on" ? ["--output-skb-metadata", expressions.join()] : [];
      }
      if (name === "output-bpfmap") {
        return value === "on" ? ["--filter-track-bpf-helpers", "--output-bpfmap"] : [];
      }
      if (name === "output-xdp-metadata") {
        return value === "on" ? ["--filter-trace-xdp", "--output-xdp-metadata", xdpExpression] : [];
      }
      return [`--${name}=${value === "on"}`];
    }),
  ];
}

type Json = Record<string, unknown>;
const meta = ["netns", "mark", "iface", "proto", "mtu", "len"];

/** Asserts that a frame's event has the value that was asked for, of the frame. */
export function expectFrame(row: JsonRow, event: Json): void {
  const values = event["xdp_metadata"] as Json | undefined;
  expect({ row, values }).toEqual({ row, values: { [xdpExpression]: expect.any(Number) } });
  expect({ row, ofPacket: "skb_metadata" in event }).toEqual({ row, ofPacket: false });
}

/** Asserts that an event has the fields that were asked for and no others, none left out because it is zero. */
export function expectFields(row: JsonRow, event: Json): void {
  const on = (name: keyof JsonRow, ...fields: string[]) => row[name] === "on" ? fields : [];
  // Drops have a reason, at tracepoints a place too.
  const dropped = ["reason", "reason_code", "location"].filter((name) => name in event);
  const wanted = [
    ...["schema", "type", "skb", "cpu", "process", "func"],
    ...dropped,
    ...isOfMap(event) ? ["bpf_map"] : [],
    ...on("output-meta", ...meta),
    ...on("output-tuple", "tuple"),
    ...on("output-tunnel", "tunnel_tuple"),
    ...on("output-netns-names", "netns_name"),
    ...on("output-packet-id", "packet"),
    ...on("output-stack", "stack"),
    ...on("output-skb", "sk_buff"),
    ...on("output-skb-shared-info", "skb_shared_info"),
    ...on("output-skb-cb", "cb"),
    ...on("output-skb-metadata", "skb_metadata"),
    ...on("output-caller", "caller_func"),
    ...row.timestamp === "none" ? [] : ["time"],
  ];
  expect({ row, fields: Object.keys(event).sort() }).toEqual({ row, fields: wanted.sort() });
  const types = { none: "undefined", current: "number", relative: "number", absolute: "string" } as const;
  expect({ row, time: typeof event["time"] }).toEqual({ row, time: types[row.timestamp] });
  const tcp = (tuple: unknown) => (tuple as Json | undefined)?.["proto"] === 6;
  for (const tuple of [event["tuple"], event["tunnel_tuple"]]) {
    const wants = tcp(tuple) && row["output-tcp-flags"] === "on";
    expect({ row, flags: tuple !== undefined && "flags" in (tuple as Json) }).toEqual({ row, flags: wants });
  }
  if (row["output-skb-metadata"] === "on") {
    const values = event["skb_metadata"] as Json,
      [length, head, none] = expressions.map((name) => values[name]);
    expect({ row, length: typeof length, none }).toEqual({ row, length: "number", none: null });
    expect(head).toMatch(/^0xff[0-9a-f]{14}$/);
    if ("len" in event) expect(length).toBe(event["len"] as number);
  }
}
