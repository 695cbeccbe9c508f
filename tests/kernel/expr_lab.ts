/**
 * Runs expressions in the kernel on structs of our making, and compares with what evaluate() says.
 *
 * The structs are a map's value full of words that are pointers into it, small numbers, noise or NULL, so that
 * a chain of members leads somewhere. Programs are raw tracepoints called by BPF_PROG_TEST_RUN with the struct's
 * address in the context: memory is read exactly as in a tracing program. What evaluate() works on is that memory,
 * read back by a program. Needs root, Linux 5.10.
 */
import { type Code, label, type MapSpec, type ProgramSpec } from "../../asm/code.ts";
import { withoutDeadCode } from "../../asm/dead_code.ts";
import {
  at,
  call,
  fp,
  ja,
  jeq,
  ldMapValue,
  ldx,
  mov,
  r1,
  r2,
  r3,
  r6,
  r7,
  r8,
  r9,
  ret,
  st,
  stx,
} from "../../asm/insn.ts";
import { struct, u32, u64 } from "../../asm/layout.ts";
import type { ExpressionFrame } from "../../bpf-programs/expression.ts";
import { BPF_MAP_TYPE_ARRAY } from "../../bpf-programs/maps.ts";
import { bulkAccess, directAccess, type MemoryAccess } from "../../bpf-programs/memory_access.ts";
import { BPF_PROG_TYPE_RAW_TRACEPOINT } from "../../asm/uapi.ts";
import type { Btf } from "../../lib/btf/parse.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { FilterSyntaxError } from "../../lib/errors.ts";
import {
  compileFilter,
  compileValue,
  type Filter,
  type Root,
  skb,
  type Value,
} from "../../lib/expr/compile.ts";
import { evaluate, matches, type Memory } from "../../lib/expr/evaluate.ts";
import type { BpfMap } from "../../lib/maps/bpf_map.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { bpfProgTestRun } from "../../lib/sys/bpf.ts";
import { addressOf } from "./kernel_region.ts";
import { loadProgram } from "../../lib/sys/program.ts";
import { type Random, randomFrom } from "../asm/random_insn.ts";
import { planted } from "../expr/cases.ts";

const REGION_BYTES = 1 << 17, ROOT_BYTES = 1024, ROOTS = 6;
/** No pointer leads closer to the end than the largest struct that is read. */
const TAIL_BYTES = 1 << 13;

const result = struct("expression_result", { value: u64, hasValue: u32, matches: u32 });
const results: MapSpec = {
  name: "results",
  type: BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: result.size,
  maxEntries: 1,
};

/** A way of reading memory; with a view, the root's own members come from there. */
interface Mode {
  readonly name: string;
  readonly access: MemoryAccess;
  readonly view: boolean;
}

/** The casts of a kernel before 6.17. */
class StructCasts extends BtfTypes {
  override enumerator(enumName: string, name: string): bigint | undefined {
    return enumName === "bpf_features" ? undefined : super.enumerator(enumName, name);
  }
}

/** The ways this kernel has. */
function modes(btf: Btf): Mode[] {
  const types = new BtfTypes(btf), toVoid = types.enumerator("bpf_features", "BPF_FEAT_RDONLY_CAST_TO_VOID");
  const both = (name: string, access: MemoryAccess | undefined): Mode[] =>
    access === undefined
      ? []
      : [{ name: `${name}, view`, access, view: true }, { name, access, view: false }];
  return [
    ...both("bulk", bulkAccess()),
    ...(toVoid === undefined ? [] : both("cast to void", directAccess(types))),
    ...both("cast to a struct", directAccess(new StructCasts(btf))),
  ];
}

/** What one expression did. */
export interface Outcome {
  /** "" when everything agreed */
  readonly trouble: string;
  readonly runs: number;
  readonly trueRuns: number;
  readonly failedRuns: number;
}

export class ExpressionLab implements Disposable {
  readonly modes: readonly Mode[];
  readonly #btf: Btf;
  readonly #maps = new Maps();
  readonly #results: BpfMap;
  readonly #bytes = new Uint8Array(REGION_BYTES);
  readonly #address: bigint;

  constructor(btf: Btf, seed: number) {
    this.#btf = btf;
    this.modes = modes(btf);
    this.#results = this.#maps.get(results);
    const region: MapSpec = { ...results, name: "region", valueSize: REGION_BYTES };
    const map = this.#maps.get(region);
    this.#address = addressOf(region, this.#maps);
    const random = randomFrom(seed);
    this.#fill(random);
    for (let root = 0; root < ROOTS - 2; root++) this.#plant(root, random);
    map.update(0, this.#bytes);
    this.#bytes.set(this.#readBack());
  }

  /** The region as a program finds it in the kernel's memory. */
  #readBack(): Uint8Array {
    const copy: MapSpec = { ...results, name: "copy", valueSize: REGION_BYTES };
    const map = this.#maps.get(copy);
    using reader = loadProgram({
      name: "read_back",
      type: BPF_PROG_TYPE_RAW_TRACEPOINT,
      license: "GPL",
      code: [
        ldx(r3, at(r1, 0, u64)),
        ldMapValue(r1, copy),
        mov(r2, REGION_BYTES),
        call("bpf_probe_read_kernel"),
        ret(0),
      ],
    }, { maps: this.#maps });
    bpfProgTestRun(reader.fd, { ctx_in: new Uint8Array(BigUint64Array.of(this.#address).buffer) });
    const { buffer, byteOffset } = map.lookup(0) as DataView;
    return new Uint8Array(buffer, byteOffset, REGION_BYTES);
  }

  /** Pointers into the region, NULL, small numbers, and noise that is no kernel address. */
  #fill(random: Random): void {
    const view = new DataView(this.#bytes.buffer);
    for (let at = 0; at < REGION_BYTES; at += 8) {
      const kind = random(10);
      const value = kind < 5
        ? this.#address +
          BigInt(ROOT_BYTES * ROOTS + 8 * random((REGION_BYTES - TAIL_BYTES - ROOT_BYTES * ROOTS) / 8))
        : kind < 6
        ? 0n
        : kind < 7
        ? BigInt(random(256))
        : BigInt(random(2 ** 32)) | BigInt(random(2 ** 14)) << 32n;
      view.setBigUint64(at, value, true);
    }
  }

  /** Writes known values behind one root; its pointers on the way are pointed at memory first. */
  #plant(root: number, random: Random): void {
    const memory = this.#memory(root);
    for (const [place, value] of planted) {
      for (const [, prefix] of place.matchAll(/(?=->)/g).map(({ index }) => ["", place.slice(0, index)])) {
        if (prefix === "skb" || prefix === undefined) continue;
        const target = this.#address + BigInt(1 << 14) + BigInt(random(1 << 10) * 64);
        const seen = evaluate(compileValue(prefix, this.#btf, skb).tree, memory);
        if (seen === undefined || !this.#holds(seen)) this.#poke(prefix, target, memory);
      }
      this.#poke(place, value, memory);
    }
  }

  #holds(address: bigint): boolean {
    return address >= this.#address && address <= this.#address + BigInt(REGION_BYTES - TAIL_BYTES);
  }

  #poke(place: string, value: bigint, memory: Memory): void {
    const { tree } = compileValue(place, this.#btf, skb);
    if (tree.kind !== "load") throw new Error(`${place} is no place`);
    const base = evaluate(tree.pointer, memory)!,
      { field: { offset, type: { size } }, bitField, swap } = tree;
    const at = Number(base - this.#address) + offset;
    let bits = BigInt.asUintN(size * 8, value);
    if (bitField !== undefined) {
      const mask = (1n << BigInt(bitField.bits)) - 1n;
      let old = 0n;
      for (let i = size - 1; i >= 0; i--) old = old << 8n | BigInt(this.#bytes[at + i]!);
      bits = old & ~(mask << BigInt(bitField.shift)) | (value & mask) << BigInt(bitField.shift);
    }
    for (let i = 0; i < size; i++) {
      this.#bytes[at + (swap ? size - 1 - i : i)] = Number(bits >> BigInt(8 * i) & 0xffn);
    }
  }

  #memory(root: number): Memory {
    return {
      root: this.#address + BigInt(root * ROOT_BYTES),
      read: (address, size) => {
        const from = Number(address - this.#address);
        const inside = address >= this.#address && from + size <= REGION_BYTES;
        return inside ? this.#bytes.slice(from, from + size) : new Uint8Array(size);
      },
    };
  }

  /** Runs `source` in every mode on every root. */
  check(source: string, root: Root): Outcome {
    const filter = attempt(() => compileFilter(source, this.#btf, root));
    const value = compileValue(source, this.#btf, root);
    const trouble: string[] = [];
    let runs = 0, trueRuns = 0, failedRuns = 0;
    for (const mode of this.modes) {
      try {
        using program = loadProgram(this.#program(mode, filter, value, root), { maps: this.#maps });
        for (let index = 0; index < ROOTS; index++) {
          const memory = this.#memory(index), words = new BigUint64Array([memory.root]);
          bpfProgTestRun(program.fd, { ctx_in: new Uint8Array(words.buffer) });
          const got = result.decode(this.#results.lookup(0)!);
          const wanted = evaluate(value.tree, memory),
            match = filter === undefined || matches(filter.tree, memory);
          runs++;
          if (match) trueRuns++;
          if (wanted === undefined) failedRuns++;
          const same = got.hasValue === Number(wanted !== undefined) && got.matches === Number(match) &&
            got.value === BigInt.asUintN(64, wanted ?? 0n);
          if (!same) {
            trouble.push(
              `${mode.name}, root ${index}: value ${got.hasValue ? got.value : "none"}, wanted ${
                wanted === undefined ? "none" : BigInt.asUintN(64, wanted)
              }; matches ${got.matches}, wanted ${Number(match)}`,
            );
          }
        }
      } catch (error) {
        trouble.push(`${mode.name}: ${(error as Error).message}\n${(error as { log?: string }).log ?? ""}`);
      }
    }
    return {
      trouble: trouble.length === 0 ? "" : `${source}\n  ${trouble.join("\n  ")}`,
      runs,
      trueRuns,
      failedRuns,
    };
  }

  #program(mode: Mode, filter: Filter | undefined, value: Value, root: Root): ProgramSpec {
    const miss = label("miss"), asked = label("asked"), none = label("none"), gone = label("gone");
    const fields = [...filter?.fields ?? [], ...value.fields].filter((_, index, all) =>
      mode.view && mode.access.fits(all.slice(0, index + 1), 208)
    );
    const view = mode.access.view({
      address: r6,
      hold: r6,
      stack: -320,
      stackBytes: 208,
      fields,
      reload: (dst) => ldx(dst, at(fp, -8, u64)),
      unreadable: gone,
    });
    const frame = (failed: typeof miss): ExpressionFrame => ({
      access: mode.access,
      root: (dst) => ldx(dst, at(fp, -8, u64)),
      ...(mode.view
        ? { rootField: (dst, field) => fields.includes(field) ? view.load(dst, field) : undefined }
        : {}),
      registers: [r7, r8, r9],
      temp: -16,
      spill: -112,
      spillBytes: 64,
      failed,
    });
    const { fields: to } = result;
    const code: Code = [
      ldx(r6, at(r1, 0, u64)),
      jeq(r6, 0, gone),
      stx(at(fp, -8, u64), r6),
      view.open,
      st(at(fp, -24, u64), 1),
      filter === undefined ? [] : [
        filter.code(frame(miss), miss),
        ja(asked),
        miss,
        st(at(fp, -24, u64), 0),
        asked,
      ],
      value.code(frame(none), r7),
      ldMapValue(r1, results),
      stx(at(r1, to.value), r7),
      st(at(r1, to.hasValue), 1),
      ldx(r2, at(fp, -24, u64)),
      stx(at(r1, to.matches), r2),
      ret(0),
      none,
      ldMapValue(r1, results),
      mov(r2, 0),
      stx(at(r1, to.value), r2),
      stx(at(r1, to.hasValue), r2),
      ldx(r2, at(fp, -24, u64)),
      stx(at(r1, to.matches), r2),
      ret(0),
      gone,
      ret(3),
    ];
    return {
      name: `expr_${root.name}`,
      type: BPF_PROG_TYPE_RAW_TRACEPOINT,
      license: "GPL",
      code: withoutDeadCode(code),
    };
  }

  [Symbol.dispose](): void {
    this.#maps[Symbol.dispose]();
  }
}

/** Undefined: the language says no. */
function attempt<T>(compile: () => T): T | undefined {
  try {
    return compile();
  } catch (error) {
    if (error instanceof FilterSyntaxError) return undefined;
    throw error;
  }
}
