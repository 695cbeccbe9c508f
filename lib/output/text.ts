/**
 * The text format: one line per packet and function, in pwru's columns.
 *
 * A line goes from the record in the ring straight into the output bytes. Columns with few values (process,
 * interface, function) are kept as ready-made cells; the rest are digit loops. No strings, no objects.
 */
import { packetEvent } from "../../bpf-programs/events.ts";
import { Additions, lengthOf } from "./additions.ts";
import {
  Addresses,
  cell,
  centre,
  printable,
  putCell,
  putDecimal,
  putHex,
  putHexFour,
  putSpace,
  putSpaces,
  putText,
  SLACK,
  tail,
} from "./bytes.ts";
import { type CellFormat, EventCells, NOTHING, offsetOf, placeText } from "./cells.ts";
import { EventClock } from "./clock.ts";
import {
  type EventPrinter,
  type InterfaceNames,
  type Names,
  type NetnsNames,
  noNetnsNames,
  type PrintOptions,
} from "./printer.ts";
import { mapOperationText } from "./map_operation.ts";
import { type PacketNumbers, packetNumbers } from "./packet_numbers.ts";
import { decodeTuple, Tuple } from "./tuple.ts";
import { putTuple, TUPLE_BYTES } from "./tuple_text.ts";
import { type LineSink, putLine } from "./writer.ts";

const SKB_WIDTH = 18,
  PACKET_WIDTH = 6,
  CPU_WIDTH = 3,
  PROCESS_WIDTH = 16,
  TIME_WIDTH = 23,
  TIMESTAMP_WIDTH = 16;
const NETNS_WIDTH = 10, MARK_WIDTH = 8, IFACE_WIDTH = 16, MTU_WIDTH = 5, LEN_WIDTH = 5, CB_WIDTH = 56;

/** All columns but netns name, tuple and those behind it, at their widest (a timestamp of 20 digits). */
const FIXED_BYTES = 192 + 1 + CB_WIDTH;
const NEWLINE = 0x0a, HEX_PREFIX = 0x7830; // "0x", little endian

const { timestamp: TIMESTAMP, skb: SKB, netns: NETNS, mark: MARK, ifindex: IFINDEX, mtu: MTU, len: LEN } =
  offsetOf;
const { cpu: CPU, protocol: PROTOCOL, headerBytes: HEADER_LENGTH, headers: HEADERS } = offsetOf;
const HEADER_ROOM = packetEvent.fields.headers.type.size;

/** Prints records as text. One object per trace: it remembers widths, times and names. */
export class TextPrinter implements EventPrinter {
  /** lines printed, without the header */
  printed = 0;
  readonly #sink: LineSink;
  readonly #options: PrintOptions;
  readonly #cells: EventCells;
  readonly #clock: EventClock;
  readonly #packets: PacketNumbers | undefined;
  readonly #addresses = new Addresses();
  readonly #tuple = new Tuple();
  readonly #additions: Additions;
  #longestTuple = 0;
  #longestFunc = 0;

  constructor(
    sink: LineSink,
    options: PrintOptions,
    names: Names,
    interfaces: InterfaceNames,
    netnsNames: NetnsNames = noNetnsNames,
  ) {
    const { tracepoints, netnsNamesMaxLength, bootOffsetNs } = options;
    this.#sink = sink;
    this.#options = options;
    this.#packets = packetNumbers(options.record);
    this.#cells = new EventCells(textCells(netnsNamesMaxLength), {
      names,
      interfaces,
      netnsNames,
      tracepoints,
    });
    this.#clock = new EventClock(bootOffsetNs);
    this.#additions = new Additions(options, this.#cells);
  }

  /** The line of column names. */
  header(): void {
    const { timestamp, outputMeta, outputTuple, outputNetnsNames, netnsNamesMaxLength } = this.#options;
    const packet = this.#packets !== undefined ? `${"PACKET".padEnd(PACKET_WIDTH)} ` : "";
    const columns = [
      timestamp === "absolute" ? `${"TIME".padEnd(TIME_WIDTH)} ` : "",
      `${"SKB".padEnd(SKB_WIDTH)} ${packet}${"CPU".padEnd(CPU_WIDTH)} ${"PROCESS".padEnd(PROCESS_WIDTH)}`,
      timestamp === "none" ? "" : ` ${"TIMESTAMP".padEnd(TIMESTAMP_WIDTH)}`,
      outputMeta
        ? ` ${"NETNS".padEnd(NETNS_WIDTH)} ${"MARK/x".padEnd(MARK_WIDTH)} ${centre("IFACE", IFACE_WIDTH)}` +
          ` PROTO  ${"MTU".padEnd(MTU_WIDTH)} ${"LEN".padEnd(LEN_WIDTH)}`
        : "",
      this.#additions.has.controlBlock ? ` ${"__sk_buff->cb[]".padEnd(CB_WIDTH)}` : "",
      // No space before it, neither here nor in the lines: pwru's columns.
      outputNetnsNames ? centre("NETNS NAME", netnsNamesMaxLength) : "",
      outputTuple ? " TUPLE" : "",
      " FUNC",
      this.#additions.has.caller ? " CALLER" : "",
      this.#additions.has.tunnel ? " TUNNEL" : "",
    ];
    putLine(this.#sink, columns.join(""));
  }

  /** A comment, as scripts that read columns or look for functions know one. */
  gap(lost: bigint): void {
    putLine(this.#sink, `# lost ${lost} event${lost === 1n ? "" : "s"} here: the ring buffer was full`);
  }

  /** Lines end without a word; stderr says how. */
  end(): void {}

  print(view: DataView, offset: number): void {
    const cells = this.#cells, sink = this.#sink, options = this.#options;
    const probe = cells.probe(view, offset);
    const func = cells.func(probe, view, offset), place = cells.place(probe, view, offset);
    const netns = cells.netns(view.getInt32(offset + NETNS, true));
    const netnsName = options.outputNetnsNames ? cells.netnsName(netns) : NOTHING;
    const additions = this.#additions;
    let values = "", below = "";
    if (additions.any) {
      additions.read(view, offset);
      values = this.#valuesText();
      below = this.#dumpsText();
    }
    if (func.length > this.#longestFunc) this.#longestFunc = func.length;
    const names = netnsName.length + this.#longestFunc + additions.caller.length + place.length;
    const added = values.length + lengthOf(additions.frames) + below.length;
    let to = sink.room(FIXED_BYTES + 2 * TUPLE_BYTES + names + added + SLACK);
    const out = sink.view;
    const times = options.timestamp !== "none";
    if (times) {
      this.#clock.read(
        view.getUint32(offset + TIMESTAMP + 4, true),
        view.getUint32(offset + TIMESTAMP, true),
      );
      if (options.timestamp === "absolute") {
        to = this.#clock.putLocalTime(out, to);
        to = putSpace(out, to);
      }
    }
    const skbLow = view.getInt32(offset + SKB, true), skbHigh = view.getInt32(offset + SKB + 4, true);
    let end = to + SKB_WIDTH;
    to = putSpaces(out, this.#addresses.put(out, to, skbHigh, skbLow), end);
    to = putSpace(out, to);
    if (this.#packets !== undefined) {
      end = to + PACKET_WIDTH;
      to = putSpaces(out, putDecimal(out, to, this.#packets.read(view, offset)), end);
      to = putSpace(out, to);
    }
    end = to + CPU_WIDTH;
    to = putSpaces(out, putDecimal(out, to, view.getUint32(offset + CPU, true)), end);
    to = putSpace(out, to);
    to = putCell(out, to, cells.process(view, offset));
    if (times) {
      to = putSpace(out, to);
      end = to + TIMESTAMP_WIDTH;
      to = options.timestamp === "relative"
        ? this.#clock.putSince(out, to, skbHigh, skbLow)
        : this.#clock.putNanoseconds(out, to);
      to = putSpaces(out, to, end);
    }
    // Network byte order, so big-endian here.
    const protocol = view.getUint16(offset + PROTOCOL);
    if (options.outputMeta) {
      to = putSpace(out, to);
      to = putCell(out, to, netns.text);
      to = putSpace(out, to);
      end = to + MARK_WIDTH;
      to = putSpaces(out, putHex(out, to, view.getUint32(offset + MARK, true)), end);
      to = putSpace(out, to);
      to = putCell(out, to, cells.iface(netns, view.getUint32(offset + IFINDEX, true)));
      to = putSpace(out, to);
      out.setUint16(to, HEX_PREFIX, true);
      to = putHexFour(out, to + 2, protocol);
      to = putSpace(out, to);
      end = to + MTU_WIDTH;
      to = putSpaces(out, putDecimal(out, to, view.getUint32(offset + MTU, true)), end);
      to = putSpace(out, to);
      end = to + LEN_WIDTH;
      to = putSpaces(out, putDecimal(out, to, view.getUint32(offset + LEN, true)), end);
    }
    if (additions.has.controlBlock) {
      to = putText(out, putSpace(out, to), controlBlockText(additions.controlBlock));
    }
    if (options.outputNetnsNames) to = putCell(out, to, netnsName);
    if (options.outputTuple) {
      const bytes = view.getUint16(offset + HEADER_LENGTH, true);
      decodeTuple(view, offset + HEADERS, bytes < HEADER_ROOM ? bytes : HEADER_ROOM, protocol, this.#tuple);
      to = putSpace(out, to);
      const from = to;
      to = putTuple(out, to, view, this.#tuple, options.outputTcpFlags);
      if (to - from > this.#longestTuple) this.#longestTuple = to - from;
      else to = putSpaces(out, to, from + this.#longestTuple);
    }
    to = putSpace(out, to);
    end = to + this.#longestFunc;
    to = putCell(out, to, func);
    if (additions.has.caller) {
      to = putSpace(out, putSpaces(out, to, end));
      to = putCell(out, to, additions.caller);
    }
    if (additions.has.tunnel) {
      to = putTuple(out, putSpace(out, to), view, additions.tunnel, options.outputTcpFlags);
    }
    if (place.length > 0) {
      to = putSpace(out, to);
      to = putCell(out, to, place);
    }
    if (additions.any) {
      to = putText(out, to, values);
      for (const frame of additions.frames) {
        out.setUint8(to, NEWLINE);
        to = putCell(out, to + 1, frame);
      }
      to = putText(out, to, below);
    }
    out.setUint8(to, NEWLINE);
    sink.commit(to + 1);
    this.printed++;
  }

  /** " mtu=1500 len=84" */
  #valuesText(): string {
    return this.#additions.shown.map(({ label, text }, i) => {
      const value = this.#additions.values[i];
      return ` ${label}=${value === undefined ? "-" : text(value)}`;
    }).join("");
  }

  /** A line end and the text, which ends its last line itself, as pwru has them. */
  #dumpsText(): string {
    const { dumps = [] } = this.#options, { mapOperation } = this.#additions;
    const map = mapOperation === undefined ? "" : mapOperationText(mapOperation);
    return map +
      dumps.map(({ struct }, i) => `\n${this.#additions.dumps[i] ?? `(struct ${struct})unreadable\n`}`)
        .join("");
  }
}

/** `[0x00000000,0x0000002A,...]`: five words in 56 columns. */
function controlBlockText(words: readonly number[] | undefined): string {
  const texts = words?.map((word) => `0x${word.toString(16).toUpperCase().padStart(8, "0")}`);
  return `[${texts?.join(",") ?? "unreadable"}]`.padEnd(CB_WIDTH);
}

/** How a column spells its value, with the padding that is always the same. */
function textCells(netnsNameWidth: number): CellFormat {
  const padded = (text: string, width: number) => cell(text.padEnd(width));
  return {
    func(name, drop) {
      if (drop === undefined) return cell(name);
      return cell(drop.name === undefined ? `${name} (${drop.code})` : `${name}(${drop.name})`);
    },
    place: (_, symbol) => symbol === undefined ? NOTHING : cell(placeText(symbol)),
    caller: (address, symbol) => cell(symbol?.name ?? `0x${address.toString(16)}`),
    frame: (address, symbol) => cell(symbol?.name ?? `0x${address.toString(16)}`),
    process: (comm, pid) => padded(tail(`${printable(comm)}:${pid}`, PROCESS_WIDTH), PROCESS_WIDTH),
    netns: (inode) => padded(`${inode}`, NETNS_WIDTH),
    netnsName: (name = "") => cell(centre(printable(name).slice(0, netnsNameWidth), netnsNameWidth)),
    iface(name, ifindex) {
      const text = name === undefined ? `${ifindex}` : tail(`${printable(name)}:${ifindex}`, IFACE_WIDTH);
      return cell(centre(text, IFACE_WIDTH));
    },
  };
}
