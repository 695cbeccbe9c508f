/**
 * The JSON format: one object per line, described by docs/event.schema.json.
 *
 * Fields have pwru's names and types, but none is left out because it is zero. Strings are ASCII: whatever else
 * a name holds is escaped, so that a line is valid JSON and valid UTF-8 whoever chose the name, and a terminal
 * shows it as it is. Bytes of a name that are no UTF-8 become U+FFFD.
 *
 * As in the text format a line goes from the record straight into the output bytes, with ready-made cells that
 * hold their field's name, and the quotes and commas around it, too.
 */
import { packetEvent } from "../../bpf-programs/events.ts";
import { Additions, lengthOf } from "./additions.ts";
import { Addresses, type Cell, cell, putCell, putDecimal, putText, SLACK } from "./bytes.ts";
import { type CellFormat, codeText, EventCells, NOTHING, offsetOf } from "./cells.ts";
import { EventClock } from "./clock.ts";
import type { Ledger } from "./ledger.ts";
import { mapOperationJson } from "./map_operation.ts";
import { type PacketNumbers, packetNumbers } from "./packet_numbers.ts";
import {
  type EventPrinter,
  type InterfaceNames,
  type Names,
  type NetnsNames,
  noNetnsNames,
  type PrintOptions,
} from "./printer.ts";
import { decodeTuple, ETH_P_IP, IPPROTO_GRE, IPPROTO_TCP, Tuple } from "./tuple.ts";
import { putIpv4, putIpv6, tcpFlagNames } from "./tuple_text.ts";
import { type LineSink, putLine } from "./writer.ts";

/** Grows when a field changes its meaning or its type; a new field is no such change. */
export const JSON_SCHEMA_VERSION = 1;

/** All that is not in a cell of its own length, at its widest. */
const FIXED_BYTES = 1024;

const { timestamp: TIMESTAMP, skb: SKB, netns: NETNS, mark: MARK, ifindex: IFINDEX, mtu: MTU, len: LEN } =
  offsetOf;
const { cpu: CPU, protocol: PROTOCOL, headerBytes: HEADER_LENGTH, headers: HEADERS } = offsetOf;
const HEADER_ROOM = packetEvent.fields.headers.type.size;

const OPENING = (type: string) => cell(`{"schema":${JSON_SCHEMA_VERSION},"type":"${type}","skb":"`);
const AFTER_SKB = cell('","cpu":'), PACKET_KEY = cell('","packet":'), CPU_KEY = cell(',"cpu":');
const UNKNOWN = cell("null");
const TIME = cell(',"time":'), QUOTE = cell('"');
const MARK_KEY = cell(',"mark":'), PROTO_KEY = cell(',"proto":'), MTU_KEY = cell(',"mtu":');
const LEN_KEY = cell(',"len":');
const TUPLE_KEY = cell(',"tuple":{'), TUNNEL_KEY = cell(',"tunnel_tuple":{');
const SADDR_KEY = cell('"saddr":"'),
  DADDR_KEY = cell('","daddr":"'),
  SPORT_KEY = cell('","sport":');
const DPORT_KEY = cell(',"dport":'), CLOSE = cell("}");
const FRAGMENT_KEY = cell(',"fragment_offset":'), GRE_KEY = cell(',"gre_key":'), SPI_KEY = cell(',"spi":');
const ICMP_TYPE_KEY = cell(',"icmp_type":'), ICMP_CODE_KEY = cell(',"icmp_code":');
const ICMP_ID_KEY = cell(',"icmp_id":'), ICMP_SEQUENCE_KEY = cell(',"icmp_seq":');
const STACK_KEY = cell(',"stack":['), CLOSE_LIST = cell("]"), COMMA = 0x2c;
const END = 0x0a7d; // "}\n", little endian
/** By the flags byte. */
const FLAGS: readonly Cell[] = Array.from(
  { length: 256 },
  (_, flags) => cell(`,"flags":"${tcpFlagNames(flags)}"`),
);

/** Prints records as JSON lines. One object per trace: it remembers times and names. */
export class JsonPrinter implements EventPrinter {
  printed = 0;
  readonly #sink: LineSink;
  readonly #options: PrintOptions;
  readonly #opening: Cell;
  readonly #cells: EventCells;
  readonly #clock: EventClock;
  readonly #packets: PacketNumbers | undefined;
  readonly #addresses = new Addresses();
  readonly #tuple = new Tuple();
  readonly #additions: Additions;

  constructor(
    sink: LineSink,
    options: PrintOptions,
    names: Names,
    interfaces: InterfaceNames,
    netnsNames: NetnsNames = noNetnsNames,
  ) {
    const { tracepoints, bootOffsetNs } = options;
    this.#sink = sink;
    this.#options = options;
    this.#packets = packetNumbers(options.record);
    this.#opening = OPENING(tracepoints ? "tracepoint" : "kprobe");
    this.#cells = new EventCells(jsonCells, { names, interfaces, netnsNames, tracepoints });
    this.#clock = new EventClock(bootOffsetNs);
    this.#additions = new Additions(options, this.#cells);
  }

  /** JSON lines have none. */
  header(): void {}

  gap(lost: bigint): void {
    putLine(this.#sink, jsonObject("lost", { events: Number(lost) }));
  }

  end(ledger: Ledger): void {
    const { probes, found, attached, refused, looked, matched, shown, beyondLimit, lost } = ledger;
    const { unreadable, missed, summedUp, forgotten, untracked } = ledger;
    putLine(
      this.#sink,
      jsonObject("end", {
        probes,
        found,
        attached,
        refused,
        looked: Number(looked),
        matched: Number(matched),
        shown,
        beyond_limit: beyondLimit,
        lost: Number(lost),
        unreadable: Number(unreadable),
        missed: Number(missed),
        untracked: Number(untracked),
        ...(summedUp === undefined ? {} : { summed_up: summedUp, forgotten }),
      }),
    );
  }

  print(view: DataView, offset: number): void {
    const cells = this.#cells, sink = this.#sink, options = this.#options;
    const probe = cells.probe(view, offset), process = cells.process(view, offset);
    const func = cells.func(probe, view, offset), place = cells.place(probe, view, offset);
    const netns = cells.netns(view.getInt32(offset + NETNS, true));
    const netnsName = options.outputNetnsNames ? cells.netnsName(netns) : NOTHING;
    const iface = options.outputMeta ? cells.iface(netns, view.getUint32(offset + IFINDEX, true)) : NOTHING;
    const additions = this.#additions;
    let added = "";
    if (additions.any) {
      additions.read(view, offset);
      added = this.#addedText();
    }
    const names = func.length + additions.caller.length + place.length + process.length + netnsName.length +
      iface.length;

    let to = sink.room(FIXED_BYTES + names + lengthOf(additions.frames) + added.length + SLACK);
    const out = sink.view;
    const skbLow = view.getInt32(offset + SKB, true), skbHigh = view.getInt32(offset + SKB + 4, true);
    to = putCell(out, to, this.#opening);
    to = this.#addresses.put(out, to, skbHigh, skbLow);
    if (this.#packets !== undefined) {
      const packet = this.#packets.read(view, offset);
      to = putCell(out, to, PACKET_KEY);
      to = packet === 0 ? putCell(out, to, UNKNOWN) : putDecimal(out, to, packet);
      to = putCell(out, to, CPU_KEY);
    } else to = putCell(out, to, AFTER_SKB);
    to = putDecimal(out, to, view.getUint32(offset + CPU, true));
    to = putCell(out, to, process);
    to = putCell(out, to, func);
    to = putCell(out, to, additions.caller);
    to = putCell(out, to, place);
    if (options.timestamp !== "none") {
      this.#clock.read(
        view.getUint32(offset + TIMESTAMP + 4, true),
        view.getUint32(offset + TIMESTAMP, true),
      );
      to = this.#putTime(out, putCell(out, to, TIME), skbHigh, skbLow);
    }
    // Network byte order, so big-endian here.
    const protocol = view.getUint16(offset + PROTOCOL);
    if (options.outputMeta) to = putCell(out, to, netns.text);
    to = putCell(out, to, netnsName);
    if (options.outputMeta) {
      to = putDecimal(out, putCell(out, to, MARK_KEY), view.getUint32(offset + MARK, true));
      to = putCell(out, to, iface);
      to = putDecimal(out, putCell(out, to, PROTO_KEY), protocol);
      to = putDecimal(out, putCell(out, to, MTU_KEY), view.getUint32(offset + MTU, true));
      to = putDecimal(out, putCell(out, to, LEN_KEY), view.getUint32(offset + LEN, true));
    }
    if (options.outputTuple) {
      const bytes = view.getUint16(offset + HEADER_LENGTH, true);
      decodeTuple(view, offset + HEADERS, bytes < HEADER_ROOM ? bytes : HEADER_ROOM, protocol, this.#tuple);
      to = putTupleObject(out, putCell(out, to, TUPLE_KEY), view, this.#tuple, options.outputTcpFlags);
    }
    if (additions.has.tunnel) {
      to = putCell(out, to, TUNNEL_KEY);
      to = putTupleObject(out, to, view, additions.tunnel, options.outputTcpFlags);
    }
    if (additions.has.stack) {
      to = putCell(out, to, STACK_KEY);
      for (let i = 0; i < additions.frames.length; i++) {
        if (i > 0) out.setUint8(to++, COMMA);
        to = putCell(out, to, additions.frames[i]!);
      }
      to = putCell(out, to, CLOSE_LIST);
    }
    to = putText(out, to, added);
    out.setUint16(to, END, true);
    sink.commit(to + 2);
    this.printed++;
  }

  /** Fields that few ask for. */
  #addedText(): string {
    const additions = this.#additions;
    const { dumps = [] } = this.#options, fields: [name: string, value: unknown][] = [];
    if (additions.has.controlBlock) fields.push(["cb", additions.controlBlock ?? null]);
    dumps.forEach(({ struct }, i) => fields.push([struct, additions.dumps[i] ?? null]));
    if (additions.mapOperation !== undefined) {
      fields.push(["bpf_map", mapOperationJson(additions.mapOperation)]);
    }
    if (additions.shown.length > 0) {
      const plain = additions.shown.map(({ source, plain }, i) => {
        const value = additions.values[i];
        return [source, value === undefined ? null : plain(value)] as const;
      });
      fields.push([additions.ofFrame ? "xdp_metadata" : "skb_metadata", Object.fromEntries(plain)]);
    }
    return fields.map(([name, value]) => `,"${name}":${quoted(value)}`).join("");
  }

  #putTime(out: DataView, to: number, skbHigh: number, skbLow: number): number {
    const clock = this.#clock;
    switch (this.#options.timestamp) {
      case "relative":
        return clock.putSince(out, to, skbHigh, skbLow);
      case "absolute":
        return putCell(out, clock.putUtc(out, putCell(out, to, QUOTE)), QUOTE);
      default:
        // Most JSON parsers read numbers as doubles, which would round what is beyond 2^53.
        if (clock.isSafe) return clock.putNanoseconds(out, to);
        return putCell(out, clock.putNanoseconds(out, putCell(out, to, QUOTE)), QUOTE);
    }
  }
}

/** What stands in the braces, all fields or none when there is no IP header, and the closing one. */
function putTupleObject(out: DataView, to: number, view: DataView, tuple: Tuple, flags: boolean): number {
  const { etherType, protocol } = tuple;
  if (etherType === 0) return putCell(out, to, CLOSE);
  const putIp = etherType === ETH_P_IP ? putIpv4 : putIpv6;
  to = putIp(out, putCell(out, to, SADDR_KEY), view, tuple.source);
  to = putIp(out, putCell(out, to, DADDR_KEY), view, tuple.destination);
  to = putDecimal(out, putCell(out, to, SPORT_KEY), tuple.sourcePort);
  to = putDecimal(out, putCell(out, to, DPORT_KEY), tuple.destinationPort);
  to = putDecimal(out, putCell(out, to, PROTO_KEY), protocol);
  if (flags && protocol === IPPROTO_TCP) to = putCell(out, to, FLAGS[tuple.tcpFlags]!);
  if (tuple.icmpType >= 0) {
    to = putDecimal(out, putCell(out, to, ICMP_TYPE_KEY), tuple.icmpType);
    to = putDecimal(out, putCell(out, to, ICMP_CODE_KEY), tuple.icmpCode);
    if (tuple.icmpId >= 0) {
      to = putDecimal(out, putCell(out, to, ICMP_ID_KEY), tuple.icmpId);
      to = putDecimal(out, putCell(out, to, ICMP_SEQUENCE_KEY), tuple.icmpSequence);
    }
  } else if (tuple.key >= 0) {
    to = putDecimal(out, putCell(out, to, protocol === IPPROTO_GRE ? GRE_KEY : SPI_KEY), tuple.key);
  } else if (tuple.fragmentOffset > 0) {
    to = putDecimal(out, putCell(out, to, FRAGMENT_KEY), tuple.fragmentOffset);
  }
  return putCell(out, to, CLOSE);
}

/** Each cell is a field or several, with a comma in front. */
const jsonCells: CellFormat = {
  func(name, drop) {
    if (drop === undefined) return cell(`,"func":${quoted(name)}`);
    // In `func` as pwru has it, and for programs in fields of their own.
    const func = drop.name === undefined ? `${name} (${drop.code})` : `${name}(${drop.name})`;
    const why = drop.verdict === true ? "verdict" : "reason";
    const text = drop.name === undefined ? "null" : quoted(drop.name);
    return cell(`,"func":${quoted(func)},"${why}":${text},"${why}_code":${drop.code}`);
  },
  place: (address, symbol) =>
    cell(`,"location":${address === 0n ? "null" : quoted(codeText(address, symbol))}`),
  caller(address, symbol) {
    const name = symbol?.name ?? (address === 0n ? null : `0x${address.toString(16)}`);
    return cell(`,"caller_func":${quoted(name)}`);
  },
  frame: (address, symbol) => cell(quoted(codeText(address, symbol))),
  process: (comm, pid) => cell(`,"process":${quoted(`${comm}:${pid}`)}`),
  netns: (inode) => cell(`,"netns":${inode}`),
  netnsName: (name) => cell(`,"netns_name":${name === undefined ? "null" : quoted(name)}`),
  iface: (name, ifindex) =>
    cell(`,"iface":${quoted(name === undefined ? `${ifindex}` : `${name}:${ifindex}`)}`),
};

/** A line that is no event. */
export function jsonObject(type: string, fields: Readonly<Record<string, unknown>>): string {
  return quoted({ schema: JSON_SCHEMA_VERSION, type, ...fields });
}

/** A value as JSON, in ASCII: only strings have other characters, and there they can be escaped. */
function quoted(value: unknown): string {
  return JSON.stringify(value).replace(
    /[\x7f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
