/**
 * Results of the reference compiler, when they are there: in the directory PCAP_CORPUS, or beside this repository
 * in shared/pcap-corpus. Its README tells what the files hold. Every number is printed.
 */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { CbpfInsn } from "../../asm/cbpf.ts";
import { runCbpf } from "../../asm/cbpf_run.ts";
import { compileFilter, type LinkType } from "../../lib/pcap_filter/compile.ts";
import { type Names, noNames, type Service } from "../../lib/pcap_filter/names.ts";

setDefaultTimeout(120_000); // busy machines

type Row = readonly [code: number, jt: number, jf: number, k: number];
interface Expression {
  readonly id: string;
  readonly dlt: LinkType;
  readonly expr: string;
  readonly cbpf: readonly Row[];
}
interface Packet {
  readonly id: string;
  readonly dlt: LinkType;
  readonly len: number;
  readonly bytes: Uint8Array;
}

const directory = process.env["PCAP_CORPUS"] ?? join(import.meta.dir, "../../../shared/pcap-corpus");
const found = existsSync(join(directory, "expressions.jsonl"));
if (!found) {
  console.warn(`\n*** NOT TESTED: no filter corpus in ${directory}; set PCAP_CORPUS to its directory ***\n`);
}

describe.skipIf(!found)("pcap-filter corpus", () => {
  const names = found ? corpusNames() : noNames;
  const expressions = lines<Expression>("expressions.jsonl");
  const unoptimised = new Map(
    lines<{ id: string; cbpf: Row[] }>("unoptimised.jsonl").map((u) => [u.id, u.cbpf]),
  );
  const packets = lines<Omit<Packet, "bytes"> & { hex: string }>("packets.jsonl")
    .map(({ hex, ...packet }) => ({ ...packet, bytes: Uint8Array.fromHex(hex) }));

  const compile = ({ expr, dlt }: Pick<Expression, "expr" | "dlt">, optimize: boolean) =>
    compileFilter(expr, { linkType: dlt, names, optimize }).insns;
  const matching = (insns: readonly CbpfInsn[], dlt: LinkType): string[] =>
    packets.filter((packet) =>
      packet.dlt === dlt && runCbpf(insns, packet.bytes, { wireLength: packet.len }) > 0
    )
      .map((packet) => packet.id);

  test("programs before optimisation", () => {
    report("unoptimised programs", expressions, (row) => {
      const wanted = unoptimised.get(row.id) ?? row.cbpf;
      return text(wanted) === text(rows(compile(row, false)));
    });
  });

  test("programs after optimisation", () => {
    report("optimised programs", expressions, (row) => text(row.cbpf) === text(rows(compile(row, true))));
  });

  test("verdicts", () => {
    const byId = new Map(expressions.map((row) => [row.id, row]));
    const verdicts = lines<{ id: string; match: string[]; either?: string[] }>("verdicts.jsonl");
    const both = verdicts.flatMap((row) => [{ ...row, optimize: true }, { ...row, optimize: false }]);
    report("verdict sets, optimised and not", both, ({ id, match, either = [], optimize }) => {
      const expression = byId.get(id)!;
      const undecided = new Set(either);
      const decided = (ids: string[]) => ids.filter((packet) => !undecided.has(packet)).join();
      return decided(matching(compile(expression, optimize), expression.dlt)) === decided(match);
    });
  });

  test("rejected expressions and error texts", () => {
    const invalid = lines<Omit<Expression, "cbpf"> & { error: string }>("invalid.jsonl");
    report("error texts", invalid, (row) => {
      try {
        compile(row, true);
        return false;
      } catch (error) {
        return error instanceof Error && error.name === "FilterSyntaxError" && error.message === row.error;
      }
    });
  });

  test("expressions that the reference optimises wrongly", () => {
    const divergent = lines<Expression & { cbpf_unopt: Row[]; match_unopt: string[] }>("divergent.jsonl");
    report(
      "divergent: unoptimised programs",
      divergent,
      (row) => text(row.cbpf_unopt) === text(rows(compile(row, false))),
    );
    report(
      "divergent: sound answers, optimised",
      divergent,
      (row) => matching(compile(row, true), row.dlt).join() === row.match_unopt.join(),
    );
  });
});

/** Prints how many rows pass, and fails with the first ones that do not. */
function report<T>(what: string, all: readonly T[], passes: (row: T) => boolean): void {
  const failures = all.filter((row) => !passes(row));
  console.log(`corpus: ${what}: ${all.length - failures.length}/${all.length}`);
  expect(all.length).toBeGreaterThan(0);
  expect(failures.slice(0, 5)).toEqual([]);
}

function lines<T>(file: string): T[] {
  if (!found) return [];
  return readFileSync(join(directory, file), "utf8").trimEnd().split("\n").map((line) =>
    JSON.parse(line) as T
  );
}

function corpusNames(): Names {
  const { services, protocols } = JSON.parse(readFileSync(join(directory, "names.json"), "utf8")) as {
    services: Record<string, Service>;
    protocols: Record<string, number>;
  };
  const serviceMap = new Map(Object.entries(services)), protocolMap = new Map(Object.entries(protocols));
  return { ...noNames, service: (name) => serviceMap.get(name), protocol: (name) => protocolMap.get(name) };
}

function rows(insns: readonly CbpfInsn[]): Row[] {
  return insns.map(({ code, jt, jf, k }) => [code, jt, jf, k]);
}

/** k is written with a sign for backward jumps. */
function text(program: readonly Row[]): string {
  return program.map(([code, jt, jf, k]) => `${code} ${jt} ${jf} ${k >>> 0}`).join("; ");
}
