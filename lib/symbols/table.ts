/**
 * A table of kernel symbols in typed arrays: 140,000 of them are 6 MB, their names offsets into one blob.
 *
 * Addresses are kept as their low 48 bits in a double, which is exact; the upper 16 repeat bit 47 on x86-64
 * and arm64. They become bigints only where they leave this table.
 */
import { hashBytes, NameIndex, textAt } from "../name_index.ts";

const TWO_32 = 2 ** 32;

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

/** Rows in the order of the file; add() them all, then look up. */
export class SymbolTable {
  #count = 0;
  #addresses = new Float64Array(1 << 16);
  #names = new Uint32Array(1 << 16); // offsets into #blob
  #moduleOf = new Uint16Array(1 << 16);
  #blob = new Uint8Array(1 << 20);
  #blobEnd = 0;
  readonly #modules: (string | undefined)[] = [undefined];
  readonly #moduleNumbers = new Map<string, number>();
  readonly #suffixed: number[] = [];
  #byName: NameIndex | undefined;
  #byAddress: { readonly addresses: Float64Array; readonly rows: Uint32Array } | undefined;

  get size(): number {
    return this.#count;
  }

  /**
   * Appends a row; `line` from `start` to `end` is its name.
   *
   * @param low low 48 bits of its address
   * @param module a number from moduleNumber(); 0 is the kernel itself
   */
  add(line: Uint8Array, start: number, end: number, low: number, module: number): void {
    const row = this.#count++;
    if (row === this.#names.length) this.#growRows();
    if (this.#blobEnd + end - start + 1 > this.#blob.length) this.#growBlob(end - start + 1);
    this.#addresses[row] = low;
    this.#names[row] = this.#blobEnd;
    this.#moduleOf[row] = module;
    const blob = this.#blob;
    let at = this.#blobEnd, dot = false;
    for (let i = start; i < end; i++) {
      const byte = line[i]!;
      if (byte === DOT) dot = true;
      blob[at++] = byte;
    }
    this.#blobEnd = at + 1; // the NUL is there already
    if (dot) this.#suffixed.push(row);
  }

  moduleNumber(name: string): number {
    let number = this.#moduleNumbers.get(name);
    if (number === undefined) {
      number = this.#modules.push(name) - 1;
      this.#moduleNumbers.set(name, number);
    }
    return number;
  }

  #growRows(): void {
    const size = 2 * this.#names.length;
    const addresses = new Float64Array(size), names = new Uint32Array(size), modules = new Uint16Array(size);
    addresses.set(this.#addresses);
    names.set(this.#names);
    modules.set(this.#moduleOf);
    this.#addresses = addresses;
    this.#names = names;
    this.#moduleOf = modules;
  }

  #growBlob(needed: number): void {
    const blob = new Uint8Array(2 * this.#blob.length + needed);
    blob.set(this.#blob);
    this.#blob = blob;
  }

  nameOf(row: number): string {
    return textAt(this.#blob, this.#names[row]!);
  }

  moduleOf(row: number): string | undefined {
    return this.#modules[this.#moduleOf[row]!];
  }

  addressOf(row: number): bigint {
    return fromLow48(this.#addresses[row]!);
  }

  symbol(row: number): KernelSymbol {
    const module = this.moduleOf(row), name = this.nameOf(row), address = this.addressOf(row);
    return module === undefined ? { name, address } : { name, module, address };
  }

  /** Rows of exactly this name, in any module, in the order of the file. */
  *rowsNamed(name: string): Generator<number> {
    this.#byName ??= this.#indexNames();
    for (const row of this.#byName.candidates(name)) if (this.nameOf(row) === name) yield row;
  }

  /** All addresses of a name: static functions of one name may be many. `module` undefined is the kernel itself. */
  addresses(name: string, module?: string): bigint[] {
    const found: bigint[] = [];
    for (const row of this.rowsNamed(name)) {
      if (this.moduleOf(row) === module) found.push(this.addressOf(row));
    }
    return found;
  }

  /** Rows whose name has a dot: what the compiler made of a function, `name.constprop.0`. */
  suffixedRows(): readonly number[] {
    return this.#suffixed;
  }

  /** The symbol that starts at `address`; of several the last of the file. */
  at(address: bigint): KernelSymbol | undefined {
    const low = low48(address), position = low === undefined ? -1 : this.#positionOf(low);
    return position >= 0 && this.#byAddress!.addresses[position] === low
      ? this.symbol(this.#byAddress!.rows[position]!)
      : undefined;
  }

  /**
   * The symbol at or before `address` and how many bytes before; undefined below the first. Above the last
   * symbol it is the last, so a caller who knows where the text ends has to look at the offset.
   */
  nearest(address: bigint): { readonly symbol: KernelSymbol; readonly offset: number } | undefined {
    const low = low48(address), position = low === undefined ? -1 : this.#positionOf(low);
    if (position < 0) return undefined;
    const { addresses, rows } = this.#byAddress!;
    return { symbol: this.symbol(rows[position]!), offset: low! - addresses[position]! };
  }

  /** The last position in address order that is not above `low`, or -1. */
  #positionOf(low: number): number {
    const { addresses } = this.#byAddress ??= this.#sort();
    let from = 0, to = addresses.length;
    while (from < to) {
      const middle = (from + to) >>> 1;
      if (addresses[middle]! <= low) from = middle + 1;
      else to = middle;
    }
    return from - 1;
  }

  #indexNames(): NameIndex {
    const hashes = new Uint32Array(this.#count);
    for (let row = 0; row < hashes.length; row++) hashes[row] = hashBytes(this.#blob, this.#names[row]!);
    return new NameIndex(hashes);
  }

  /**
   * A merge sort of natural runs: the kernel's own symbols come in order, those of each module nearly so.
   * Stable, so that the last of equal addresses is the last of the file.
   */
  #sort(): { addresses: Float64Array; rows: Uint32Array } {
    const keys = this.#addresses, count = this.#count;
    let rows = Uint32Array.from({ length: count }, (_, row) => row), spare = new Uint32Array(count);
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

const DOT = 0x2e;
