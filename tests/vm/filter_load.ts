/**
 * Loads packet filters into the real programs, attaches nothing, and says what the verifier thought of them. Runs
 * in a virtual machine, compiled, since that has no Bun:
 *
 *     filter_load FILTERS.jsonl      one JSON object a line on stdout, one line per way to read memory
 *     filter_load FILTERS.jsonl each      and one per filter before it
 *
 * A line of the input is a `FilterRow`, one of the output a `FilterLoadReport` or a `FilterLoad`. Programs are those of kprobe-multi where the kernel's types know it.
 */
import { readFileSync, writeSync } from "node:fs";
import type { CbpfInsn } from "../../asm/cbpf.ts";
import { traceMaps } from "../../bpf-programs/maps.ts";
import { type MemoryAccess } from "../../bpf-programs/memory_access.ts";
import { probeContext } from "../../bpf-programs/registers.ts";
import { kprobeMultiProgram, kprobeProgram } from "../../bpf-programs/function_programs.ts";
import type { TraceOptions } from "../../bpf-programs/frame.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { VerifierError } from "../../lib/errors.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { readMemoryMap } from "../../lib/sys/memory_map.ts";
import { raiseLockedMemory } from "../../lib/sys/process.ts";
import { loadProgram } from "../../lib/sys/program.ts";
import { memoryAccesses } from "../kernel/filter_lab.ts";

/** A filter for both places where a packet can begin; `code jt jf k` per instruction. */
export interface FilterRow {
  readonly name: string;
  readonly l2?: readonly (readonly [number, number, number, number])[];
  readonly l3?: readonly (readonly [number, number, number, number])[];
}

/** What the kernel says of one program. */
export interface FilterLoad {
  readonly filter: string;
  readonly access: string;
  readonly slots: number;
  readonly verified: number;
}

/** What came of one way to read memory. */
export interface FilterLoadReport {
  readonly access: string;
  readonly hook: string;
  readonly loaded: number;
  readonly seconds: number;
  /** slots of the longest program, as the verifier leaves it */
  readonly slots: number;
  readonly slotsOf: string;
  /** instructions that the verifier walked for the hardest program; 0 before Linux 5.16, which does not tell */
  readonly verified: number;
  readonly verifiedOf: string;
  /** the first few that it refused */
  readonly refused: readonly string[];
  readonly refusedCount: number;
}

const insns = (rows: FilterRow["l2"]): CbpfInsn[] | undefined =>
  rows?.map(([code, jt, jf, k]) => ({ code, jt, jf, k }));

function load(
  rows: readonly FilterRow[],
  name: string,
  access: MemoryAccess,
  types: BtfTypes,
  each: (load: FilterLoad) => void,
): FilterLoadReport {
  using maps = new Maps();
  const multi = types.enumerator("bpf_attach_type", "BPF_TRACE_KPROBE_MULTI") !== undefined;
  const build = multi ? kprobeMultiProgram : kprobeProgram, context = probeContext(process.arch);
  const memory = readMemoryMap(types.sizeOf("page"));
  const options: TraceOptions = {
    kernel: types,
    access,
    maps: traceMaps(1 << 20),
    ...(memory === undefined ? {} : { memory }),
    meta: true,
    tuple: true,
  };
  const refused: string[] = [], begin = performance.now();
  let loaded = 0, slots = 0, slotsOf = "", verified = 0, verifiedOf = "";
  for (const row of rows) {
    const spec = build({ ...options, filter: { l2: insns(row.l2), l3: insns(row.l3) } }, context, 1);
    try {
      using program = loadProgram(spec, { maps });
      loaded++;
      const info = program.info(), size = info.xlated_prog_len / 8;
      each({ filter: row.name, access: name, slots: size, verified: info.verified_insns });
      if (size > slots) [slots, slotsOf] = [size, row.name];
      if (info.verified_insns > verified) [verified, verifiedOf] = [info.verified_insns, row.name];
    } catch (error) {
      const log = error instanceof VerifierError ? error.log.trimEnd().split("\n").slice(-4).join("; ") : "";
      refused.push(`${row.name}: ${error instanceof Error ? error.message : error} ${log}`);
    }
  }
  return {
    access: name,
    hook: multi ? "kprobe-multi" : "kprobe",
    loaded,
    seconds: Math.round((performance.now() - begin) / 100) / 10,
    slots,
    slotsOf,
    verified,
    verifiedOf,
    refused: refused.slice(0, 10),
    refusedCount: refused.length,
  };
}

if (import.meta.main) {
  raiseLockedMemory();
  const types = new BtfTypes(loadKernelBtf());
  const rows = readFileSync(process.argv[2] as string, "utf8").trimEnd().split("\n")
    .map((line) => JSON.parse(line) as FilterRow);
  const say = (what: unknown) => void writeSync(1, `${JSON.stringify(what)}\n`);
  const each = process.argv[3] === "each" ? say : () => {};
  for (const [name, access] of memoryAccesses(types)) say(load(rows, name, access, types, each));
}
