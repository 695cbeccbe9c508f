/** Writes small BTF blobs for tests; each method returns the id of the type it adds. */
import { type Btf, BTF_KIND, type KindName } from "../../lib/btf/parse.ts";

export type MemberSpec = [name: string, type: number, bitOffset: number, bitSize?: number];

export class BtfBuilder {
  readonly #words: number[] = [];
  readonly #strings: number[];
  readonly #stringsStart: number;
  #nextId: number;

  constructor(base?: Btf) {
    this.#nextId = base?.endId ?? 1;
    this.#stringsStart = base?.stringsEnd ?? 0;
    this.#strings = base === undefined ? [0] : [];
  }

  /** A number is the offset of a string that is there. */
  string(text: string | number): number {
    if (typeof text === "number") return text;
    if (text === "") return 0;
    const offset = this.#stringsStart + this.#strings.length;
    this.#strings.push(...Buffer.from(text, "latin1"), 0);
    return offset;
  }

  /** Any record: `sizeOrType` is the third word, `rest` what follows. */
  add(kind: KindName | number, name: string | number, sizeOrType: number, rest: number[] = [], {
    vlen = 0,
    flag = false,
  } = {}): number {
    const number = typeof kind === "number" ? kind : BTF_KIND[kind];
    this.#words.push(
      this.string(name),
      (flag ? 0x80000000 : 0) + number * 2 ** 24 + vlen,
      sizeOrType,
      ...rest,
    );
    return this.#nextId++;
  }

  /** `encoding`: 1 signed, 2 char, 4 bool */
  int(name: string, size: number, { encoding = 0, bits = size * 8, bitOffset = 0 } = {}): number {
    return this.add("INT", name, size, [encoding * 2 ** 24 + bitOffset * 2 ** 16 + bits]);
  }
  ptr(to: number): number {
    return this.add("PTR", "", to);
  }
  array(element: number, count: number): number {
    return this.add("ARRAY", "", 0, [element, 0, count]);
  }
  /** The third item of a member is its bit offset, the fourth a bitfield's width (new style). */
  struct(name: string, size: number, members: MemberSpec[], kind: "STRUCT" | "UNION" = "STRUCT"): number {
    const flag = members.some(([, , , bits]) => bits !== undefined);
    const rest = members.flatMap(([member, type, at, bits = 0]) => [
      this.string(member),
      type,
      flag ? bits * 2 ** 24 + at : at,
    ]);
    return this.add(kind, name, size, rest, { vlen: members.length, flag });
  }
  union(name: string, size: number, members: MemberSpec[]): number {
    return this.struct(name, size, members, "UNION");
  }
  typedef(name: string, to: number): number {
    return this.add("TYPEDEF", name, to);
  }
  const(to: number): number {
    return this.add("CONST", "", to);
  }
  enum(name: string, values: [string, number][], { signed = false } = {}): number {
    const rest = values.flatMap(([value, number]) => [this.string(value), number >>> 0]);
    return this.add("ENUM", name, 4, rest, { vlen: values.length, flag: signed });
  }
  enum64(name: string, values: [string, bigint][], { signed = false } = {}): number {
    const rest = values.flatMap(([value, number]) => {
      const bits = BigInt.asUintN(64, number);
      return [this.string(value), Number(bits & 0xffffffffn), Number(bits >> 32n)];
    });
    return this.add("ENUM64", name, 8, rest, { vlen: values.length, flag: signed });
  }
  proto(result: number, parameters: [name: string, type: number][]): number {
    const rest = parameters.flatMap(([name, type]) => [this.string(name), type]);
    return this.add("FUNC_PROTO", "", result, rest, { vlen: parameters.length });
  }
  func(name: string, parameters: [name: string, type: number][], result = 0): number {
    return this.add("FUNC", name, this.proto(result, parameters));
  }

  /** @param layout one [once, each] in bytes per kind: the blob gets the long header of Linux 7.1 */
  build(
    { layout, header = {} }: { layout?: [number, number][]; header?: Record<number, number> } = {},
  ): Uint8Array {
    const types = this.#words.length * 4, headerLength = layout === undefined ? 24 : 32;
    const layoutLength = (layout?.length ?? 0) * 4;
    const out = new Uint8Array(headerLength + types + layoutLength + this.#strings.length);
    const view = new DataView(out.buffer);
    view.setUint16(0, 0xeb9f, true);
    view.setUint8(2, 1);
    [headerLength, 0, types, types + layoutLength, this.#strings.length].forEach((word, i) => {
      view.setUint32(4 + 4 * i, word, true);
    });
    if (layout !== undefined) {
      view.setUint32(24, types, true);
      view.setUint32(28, layoutLength, true);
      layout.forEach(([once, each], kind) => {
        view.setUint8(headerLength + types + 4 * kind, once);
        view.setUint8(headerLength + types + 4 * kind + 1, each);
      });
    }
    this.#words.forEach((word, i) => view.setUint32(headerLength + 4 * i, word, true));
    out.set(this.#strings, headerLength + types + layoutLength);
    for (const [at, word] of Object.entries(header)) view.setUint32(Number(at), word, true);
    return out;
  }
}
