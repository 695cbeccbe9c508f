/**
 * The verifier of every kernel takes the packet filters, in the very programs that they are for.
 *
 * Normally every FILTER_STEP-th of the corpus; PWRU_VM_FILTERS=1 loads all of them, which takes minutes a kernel.
 */
import { expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { CbpfInsn } from "../../../asm/cbpf.ts";
import { hasCorpus, readCorpus, warnWithoutCorpus } from "../../kernel/corpus.ts";
import { type Names, noNames } from "../../../lib/pcap_filter/names.ts";
import { compilePacketFilter } from "../../../lib/trace/filter.ts";
import { expressions } from "../../kernel/expressions.ts";
import { compiled } from "../compiled.ts";
import type { FilterLoadReport, FilterRow } from "../filter_load.ts";
import type { Machine } from "../machines.ts";
import type { Run, Scenario } from "../scenario.ts";

const FILTER_STEP = 100;
const step = Number(process.env["PWRU_VM_FILTERS"] ?? FILTER_STEP);

type Insns = readonly CbpfInsn[];
const rowsOf = (insns: Insns | undefined) => insns?.map(({ code, jt, jf, k }) => [code, jt, jf, k] as const);

function row(name: string, l2: Insns | undefined, l3: Insns | undefined): FilterRow {
  const first = rowsOf(l2), second = rowsOf(l3);
  return {
    name,
    ...(first === undefined ? {} : { l2: first }),
    ...(second === undefined ? {} : { l3: second }),
  };
}

/** An expression of the corpus is one filter, or two where it was optimised. */
function corpusRows(): FilterRow[] {
  const { programs } = readCorpus();
  const byName = Map.groupBy(
    programs,
    ({ expression, optimised }) => `${expression}${optimised ? "" : " (unoptimised)"}`,
  );
  const rows = [...byName].map(([name, found]) => {
    const of = (linkType: string) => found.find((program) => program.linkType === linkType)?.insns;
    return row(name, of("EN10MB"), of("RAW"));
  });
  // many expressions are the same program
  return [...new Map(rows.map((row) => [JSON.stringify([row.l2, row.l3]), row])).values()];
}

/** An expression as the tracer compiles it. */
export function filterRow(expression: string, names: Names = noNames): FilterRow {
  const { l2, l3 } = compilePacketFilter(expression, names);
  return row(expression, l2, l3);
}

function ownRows(): FilterRow[] {
  return [...expressions, "inbound", "outbound and tcp", "ifindex 2 or vlan 5"].map((expression) =>
    filterRow(expression)
  );
}

/** `rows` as a file, and the program that loads them, compiled. */
export function filterFiles(rows: readonly FilterRow[], machine: Machine, folder: string): string[] {
  const list = join(folder, "filters.jsonl");
  writeFileSync(list, rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  return [list, compiled("filter_load", machine, folder)];
}

function files(machine: Machine, folder: string): string[] {
  warnWithoutCorpus("only our own expressions are loaded");
  const corpus = (hasCorpus ? corpusRows() : []).filter((_, index) => index % step === 0);
  return filterFiles([...ownRows(), ...corpus], machine, folder);
}

function reports(run: Run): FilterLoadReport[] {
  return run.text("filters.out").trim().split("\n").map((line) => JSON.parse(line) as FilterLoadReport);
}

export const filters: Scenario = {
  name: "filters",
  kernels: ["5.10"], // bulk reads; tests/kernel has direct loads
  longKernels: ["6.1", "6.12", "7.3"],
  limitSeconds: step >= FILTER_STEP ? 300 : 3600,
  files,
  // Emulated, the optimising compilers cost four times what they save.
  script: `
    BUN_JSC_useDFGJIT=0 ./filter_load filters.jsonl > "$OUT/filters.out"
  `,
  checks: {
    "every filter passes the verifier"(run) {
      for (const report of reports(run)) {
        const { access, hook, loaded, seconds, slots, slotsOf, verified, verifiedOf } = report;
        console.log(
          `Linux ${run.kernel}, ${hook}, ${access}: ${loaded} filters loaded in ${seconds} s; ` +
            `longest ${slots} slots ("${slotsOf}"), hardest ${verified} verified ("${verifiedOf}")`,
        );
        expect({ access, count: report.refusedCount, refused: report.refused })
          .toEqual({ access, count: 0, refused: [] });
      }
      expect(reports(run).map(({ access }) => access)).toContain("bulk");
    },
  },
};
