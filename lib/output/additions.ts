/** What options added to a record, behind its packetEvent: taken out of it here, spelled by each format. */
import { CONTROL_BLOCK_WORDS, HEADER_BYTES, MISSING } from "../../bpf-programs/events.ts";
import type { Dump } from "../btf/dump.ts";
import type { ShownValue } from "../trace/contents.ts";
import type { Cell } from "./bytes.ts";
import { type EventCells, NOTHING } from "./cells.ts";
import type { PrintOptions } from "./printer.ts";
import { mapOperationReader, type ShownMapOperation } from "./map_operation.ts";
import { decodeTuple, Tuple } from "./tuple.ts";

/** One per printer; each read forgets the one before. */
export class Additions {
  /** whether the records have any */
  readonly any: boolean;
  /** which of them the records have */
  readonly has: { readonly [K in "caller" | "stack" | "controlBlock" | "tunnel"]: boolean };
  caller: Cell = NOTHING;
  /** the innermost first; empty where the kernel could not tell */
  readonly frames: Cell[] = [];
  /** undefined: it could not be read */
  controlBlock: readonly number[] | undefined;
  /** of the inner packet, in the record; empty for one that is in no tunnel */
  readonly tunnel: Tuple = new Tuple();
  /** as `PrintOptions.dumps` has them; undefined: it could not be read */
  readonly dumps: (string | undefined)[] = [];
  /** the expressions that this record has values of: those about sk_buffs or those about xdp_buffs */
  shown: readonly ShownValue[] = [];
  /** whether that is those about xdp_buffs */
  ofFrame: boolean = false;
  /** as `shown` has them; undefined: there is none */
  readonly values: (bigint | undefined)[] = [];
  /** undefined: the function is about none */
  mapOperation: ShownMapOperation | undefined;
  readonly #readMapOperation: ReturnType<typeof mapOperationReader>;
  readonly #cells: EventCells;
  readonly #offsets: { readonly [K in keyof NonNullable<PrintOptions["record"]>["fields"]]?: number };
  readonly #dumps: readonly { readonly at: number; readonly dump: Dump; readonly bit: number }[];
  readonly #skbValues: readonly ShownValue[];
  readonly #xdpValues: readonly ShownValue[];

  constructor({ record, dumps = [], values = [], xdpValues = [] }: PrintOptions, cells: EventCells) {
    const fields = record?.fields ?? {};
    this.#cells = cells;
    this.#offsets = Object.fromEntries(Object.entries(fields).map(([name, { offset }]) => [name, offset]));
    this.#dumps = dumps.map(({ name, dump }) => {
      const field = fields[name];
      if (field === undefined) throw new RangeError(`The records have no ${name}`);
      return { at: field.offset, dump, bit: MISSING[name] };
    });
    this.#skbValues = values;
    this.#xdpValues = xdpValues;
    this.has = {
      caller: fields.caller !== undefined,
      stack: fields.stack !== undefined,
      controlBlock: fields.controlBlock !== undefined,
      tunnel: fields.tunnel !== undefined,
    };
    this.#readMapOperation = mapOperationReader(fields);
    this.any = Object.values(this.has).includes(true) || this.#readMapOperation !== undefined ||
      dumps.length + values.length + xdpValues.length > 0;
  }

  read(view: DataView, offset: number): void {
    const { caller, stack, stackBytes, controlBlock, tunnel, tunnelBytes, missing } = this.#offsets;
    const { values, valueless, ofFrame } = this.#offsets;
    if (caller !== undefined) this.caller = this.#cells.caller(view, offset + caller);
    if (stack !== undefined && stackBytes !== undefined) {
      const count = view.getInt32(offset + stackBytes, true) >> 3; // negative: an error
      this.#cells.stack(view, offset + stack, count, this.frames);
    }
    if (tunnel !== undefined && tunnelBytes !== undefined) {
      const bytes = Math.min(view.getUint16(offset + tunnelBytes, true), HEADER_BYTES);
      decodeTuple(view, offset + tunnel, bytes, 0, this.tunnel);
    }
    const failed = missing === undefined ? 0 : view.getUint32(offset + missing, true);
    if (controlBlock !== undefined) {
      this.controlBlock = (failed & MISSING.controlBlock) !== 0 ? undefined : Array.from(
        { length: CONTROL_BLOCK_WORDS },
        (_, i) => view.getUint32(offset + controlBlock + i * 4, true),
      );
    }
    this.#dumps.forEach(({ at, dump, bit }, i) => {
      this.dumps[i] = (failed & bit) === 0 ? dump(view, offset + at) : undefined;
    });
    this.mapOperation = this.#readMapOperation?.(view, offset);
    if (values === undefined || valueless === undefined || ofFrame === undefined) return;
    const none = view.getUint32(offset + valueless, true);
    this.ofFrame = view.getUint16(offset + ofFrame, true) === 1;
    this.shown = this.ofFrame ? this.#xdpValues : this.#skbValues;
    for (let i = 0; i < this.shown.length; i++) {
      this.values[i] = (none >>> i & 1) === 0 ? view.getBigUint64(offset + values + i * 8, true) : undefined;
    }
  }
}

/** Bytes of all these cells and of one more for each. */
export function lengthOf(cells: readonly Cell[]): number {
  let length = 0;
  for (const cell of cells) length += cell.length + 1;
  return length;
}
