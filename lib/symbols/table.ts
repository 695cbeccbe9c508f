/**
 * A table of kernel symbols in typed arrays: 140,000 of them are 6 MB, their names offsets into one blob.
 *
 * Addresses are kept as their low 48 bits in a double, which is exact; the upper 16 repeat bit 47 on x86-64
 * and arm64. They become bigints only where they leave this table.
 */
import { NameIndex, textAt } from "../name_index.ts";

const TWO_32 = 2 ** 32;
const DOT = 0x2e;

/** The 48 bits that are kept, or undefined when the other 16 do not repeat bit 47. */
export function low48(address: bigint): number | undefined {
  return BigInt.asUintN(64, BigInt.asIntN(48, address)) === BigInt.asUintN(64, address)
    ? Number(BigInt.asUintN(48, address))
    : undefined;
}

/** The address whose low 48 bits these are. */
export function fromLow48(low: number): bigint {
  return BigInt.asUintN(64, BigInt.asIntN(48, BigInt(low)));
}

/** The same 48 bits of an address that lies in memory as two u32. */
export function low48Of(lowWord: number, highWord: number): number {
  return (highWord & 0xffff) * TWO_32 + lowWord;
}

/** A symbol as people see it. */
export interface KernelSymbol {
  readonly name: string;
  /** absent: part of the kernel itself; "bpf" for a compiled BPF program */
  readonly module?: string;
  readonly address: bigint;
}

/** `name[module]`, or just the name */
export function symbolText(symbol: { readonly name: string; readonly module?: string }): string {
  return symbol.module === undefined ? symbol.name : `${symbol.name}[${symbol.module}]`;
}

/** One entry per row, and the names. A reader of lines fills them in one loop and calls commit(). */
export interface Columns {
  readonly addresses: Float64Array;
  /** where the name starts in `blob`; it ends with NUL */
  readonly names: Uint32Array;
  /** hashText() of the name */
  readonly hashes: Uint32Array;
  /** moduleNumber() of the module, 0 for the kernel itself */
  readonly modules: Uint16Array;
  readonly blob: Uint8Array;
}

/** Enough for ftrace's list and for a small kernel: what a table grows out of is garbage at the peak of a start. */
const START_ROWS = 1 << 16, START_BYTES = 3 << 19, GROWTH = 1.5;

/** Rows in the order of the file. Fill it, then look up: an index is made at the first look. */
export class SymbolTable {
  #count = 0;
  #columns: Columns;
  #blobEnd = 0;
  readonly #modules: (string | undefined)[] = [undefined];
  readonly #moduleNumbers = new Map<string, number>();
  #byName: NameIndex | undefined;
  #byAddress: { readonly addresses: Float64Array; readonly rows: Uint32Array } | undefined;

  constructor() {
    this.#columns = columns(START_ROWS, START_BYTES);
  }

  get size(): number {
    return this.#count;
  }

  /** Where the next name goes. */
  get blobEnd(): number {
    return this.#blobEnd;
  }

  /** The columns, with room for so many more rows and bytes of names; valid until the next reserve(). */
  reserve(rows: number, nameBytes: number): Columns {
    const { names, blob } = this.#columns;
    const enoughRows = this.#count + rows <= names.length,
      enoughBytes = this.#blobEnd + nameBytes <= blob.length;
    if (!enoughRows || !enoughBytes) {
      const grown = columns(
        enoughRows ? names.length : Math.max(Math.ceil(GROWTH * names.length), this.#count + rows),
        enoughBytes ? blob.length : Math.max(Math.ceil(GROWTH * blob.length), this.#blobEnd + nameBytes),
      );
      for (const key of ["addresses", "names", "hashes", "modules", "blob"] as const) {
        grown[key].set(this.#columns[key]);
      }
      this.#columns = grown;
    }
    return this.#columns;
  }

  /** What was written to the columns of the last reserve(): how many rows there are now, where names end. */
  commit(count: number, blobEnd: number): void {
    this.#count = count;
    this.#blobEnd = blobEnd;
    this.#byName = this.#byAddress = undefined;
  }

  moduleNumber(name: string): number {
    let number = this.#moduleNumbers.get(name);
    if (number === undefined) {
      number = this.#modules.push(name) - 1;
      this.#moduleNumbers.set(name, number);
    }
    return number;
  }

  nameOf(row: number): string {
    return textAt(this.#columns.blob, this.#columns.names[row]!);
  }

  moduleOf(row: number): string | undefined {
    return this.#modules[this.#columns.modules[row]!];
  }

  addressOf(row: number): bigint {
    return fromLow48(this.#columns.addresses[row]!);
  }

  /** Its low 48 bits. */
  lowAddressOf(row: number): number {
    return this.#columns.addresses[row]!;
  }

  symbol(row: number): KernelSymbol {
    const module = this.moduleOf(row), name = this.nameOf(row), address = this.addressOf(row);
    return module === undefined ? { name, address } : { name, module, address };
  }

  /** Rows of exactly this name, in any module, in the order of the file. */
  rowsNamed(name: string): number[] {
    this.#byName ??= new NameIndex(this.#columns.hashes.subarray(0, this.#count));
    return this.#byName.candidates(name).filter((row) => this.nameOf(row) === name);
  }

  /** The same in one module; undefined is the kernel itself. */
  rowsIn(module: string | undefined, name: string): number[] {
    return this.rowsNamed(name).filter((row) => this.moduleOf(row) === module);
  }

  /** All addresses of a name: static functions of one name may be many. */
  addresses(name: string, module?: string): bigint[] {
    return this.rowsIn(module, name).map((row) => this.addressOf(row));
  }

  /** Rows whose name has a dot: what the compiler made of a function, `name.constprop.0`. */
  suffixedRows(): number[] {
    const { names, blob } = this.#columns, rows: number[] = [];
    let row = 0; // names lie in the blob in the order of their rows
    for (let dot = blob.indexOf(DOT); dot >= 0 && dot < this.#blobEnd; dot = blob.indexOf(DOT, dot)) {
      while (row + 1 < this.#count && names[row + 1]! <= dot) row++;
      rows.push(row);
      dot = row + 1 < this.#count ? names[row + 1]! : this.#blobEnd;
    }
    return rows;
  }

  /** The symbol that starts at `address`; of several the first of the file, which the kernel prints too. */
  at(address: bigint): KernelSymbol | undefined {
    const low = low48(address), position = low === undefined ? -1 : this.#positionOf(low);
    return position >= 0 && this.#byAddress!.addresses[position] === low
      ? this.symbol(this.#byAddress!.rows[position]!)
      : undefined;
  }

  /**
   * The symbol at or before `address`, as `at`, and how many bytes before; undefined below the first. Above the
   * last symbol it is the last, so a caller who knows where the text ends has to look at the offset.
   */
  nearest(address: bigint): { readonly symbol: KernelSymbol; readonly offset: number } | undefined {
    const low = low48(address), position = low === undefined ? -1 : this.#positionOf(low);
    if (position < 0) return undefined;
    const { addresses, rows } = this.#byAddress!;
    return { symbol: this.symbol(rows[position]!), offset: low! - addresses[position]! };
  }

  /** The position in address order of the symbol that is not above `low`, the first of its address; or -1. */
  #positionOf(low: number): number {
    const { addresses } = this.#byAddress ??= this.#sort();
    let from = 0, to = addresses.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (addresses[middle]! <= low) from = middle + 1;
      else to = middle;
    }
    let position = from - 1;
    while (position > 0 && addresses[position - 1] === addresses[position]) position--;
    return position;
  }

  /**
   * A merge sort of natural runs: the kernel's own symbols come in order, those of each module nearly so.
   * Stable, so that the first of equal addresses is the first of the file.
   */
  #sort(): { addresses: Float64Array; rows: Uint32Array } {
    const keys = this.#columns.addresses, count = this.#count;
    let rows = new Uint32Array(count), spare = new Uint32Array(count);
    for (let row = 0; row < count; row++) rows[row] = row;
    let runs = [0];
    for (let i = 1; i < count; i++) if (keys[i]! < keys[i - 1]!) runs.push(i);
    while (runs.length > 1) {
      // the first run is the kernel's, nine tenths of all: it is merged once, at the end
      const first = runs.length > 2 ? 1 : 0, merged = runs.slice(0, first);
      spare.set(rows.subarray(0, runs[first]));
      for (let i = first; i < runs.length; i += 2) {
        const start = runs[i]!, middle = runs[i + 1] ?? count, end = runs[i + 2] ?? count;
        merged.push(start);
        for (let left = start, right = middle, to = start; to < end; to++) {
          const takeLeft = left < middle && (right >= end || keys[rows[left]!]! <= keys[rows[right]!]!);
          spare[to] = takeLeft ? rows[left++]! : rows[right++]!;
        }
      }
      [rows, spare] = [spare, rows];
      runs = merged;
    }
    const addresses = new Float64Array(count);
    for (let i = 0; i < count; i++) addresses[i] = keys[rows[i]!]!;
    return { addresses, rows };
  }
}

function columns(rows: number, nameBytes: number): Columns {
  return {
    addresses: new Float64Array(rows),
    names: new Uint32Array(rows),
    hashes: new Uint32Array(rows),
    modules: new Uint16Array(rows),
    blob: new Uint8Array(nameBytes),
  };
}
