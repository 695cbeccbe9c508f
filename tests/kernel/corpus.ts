/**
 * The reference compiler's programs and verdicts, where they are: in the directory PCAP_CORPUS, or beside this
 * repository in shared/pcap-corpus. Its README tells what the files hold.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { CbpfInsn } from "../../asm/cbpf.ts";
import type { LinkType } from "../../lib/pcap_filter/codegen/state.ts";
import type { LabPacket } from "./filter_lab.ts";

type Row = readonly [code: number, jt: number, jf: number, k: number];

export interface CorpusPacket extends LabPacket {
  readonly id: string;
  readonly linkType: LinkType;
}

export interface CorpusProgram {
  readonly id: string;
  readonly expression: string;
  readonly linkType: LinkType;
  readonly optimised: boolean;
  readonly insns: readonly CbpfInsn[];
  /** ids of the packets that it matches, of those with its link type */
  readonly matches: ReadonlySet<string>;
}

export interface Corpus {
  readonly packets: readonly CorpusPacket[];
  /** each expression optimised, and unoptimised where that differs */
  readonly programs: readonly CorpusProgram[];
}

export const corpusDirectory = process.env["PCAP_CORPUS"] ??
  join(import.meta.dir, "../../../shared/pcap-corpus");

export const hasCorpus = existsSync(join(corpusDirectory, "expressions.jsonl"));

/** For the tests that want it, where it is not. */
export function warnWithoutCorpus(instead: string): void {
  if (hasCorpus) return;
  console.warn(
    `\n*** NO FILTER CORPUS in ${corpusDirectory}; set PCAP_CORPUS to its directory: ${instead} ***\n`,
  );
}

/** Empty where there is none. */
export function readCorpus(): Corpus {
  if (!hasCorpus) return { packets: [], programs: [] };
  const packets = lines<{ id: string; dlt: LinkType; len: number; hex: string }>("packets.jsonl")
    .map(({ id, dlt, len, hex }) => ({
      id,
      linkType: dlt,
      bytes: Uint8Array.fromHex(hex),
      wireLength: len,
    }));
  const unoptimised = byId<{ id: string; cbpf: Row[] }>("unoptimised.jsonl");
  const verdicts = byId<{ id: string; match: string[]; either?: string[] }>("verdicts.jsonl");
  const programs = lines<{ id: string; dlt: LinkType; expr: string; cbpf: Row[] }>("expressions.jsonl")
    .flatMap(({ id, dlt, expr, cbpf }): CorpusProgram[] => {
      const { match = [], either = [] } = verdicts.get(id) ?? {}, before = unoptimised.get(id);
      const about = { id, expression: expr, linkType: dlt }, matches = new Set(match);
      const optimised = { ...about, optimised: true, insns: cbpf.map(insn), matches };
      if (before === undefined) return [optimised];
      // "either" lists the packets on which the unoptimised program says the opposite
      const opposite = matches.symmetricDifference(new Set(either));
      return [optimised, { ...about, optimised: false, insns: before.cbpf.map(insn), matches: opposite }];
    });
  return { packets, programs: [...programs, ...divergent()] };
}

/** Expressions that the reference optimises to something else: each of its programs with what that one matches. */
function divergent(): CorpusProgram[] {
  interface Divergent {
    readonly id: string;
    readonly dlt: LinkType;
    readonly expr: string;
    readonly cbpf: Row[];
    readonly cbpf_unopt: Row[];
    readonly match: string[];
    readonly match_unopt: string[];
  }
  return lines<Divergent>("divergent.jsonl").flatMap((row) => {
    const about = { id: row.id, expression: row.expr, linkType: row.dlt };
    return [
      { ...about, optimised: true, insns: row.cbpf.map(insn), matches: new Set(row.match) },
      { ...about, optimised: false, insns: row.cbpf_unopt.map(insn), matches: new Set(row.match_unopt) },
    ];
  });
}

/** What a sound compiler's programs match where the reference's do not agree with each other. */
export function soundAnswers(): readonly Omit<CorpusProgram, "insns" | "optimised">[] {
  return hasCorpus ? divergent().filter(({ optimised }) => !optimised) : [];
}

function insn([code, jt, jf, k]: Row): CbpfInsn {
  return { code, jt, jf, k: k >>> 0 };
}

function byId<T extends { readonly id: string }>(file: string): ReadonlyMap<string, T> {
  return new Map(lines<T>(file).map((row) => [row.id, row]));
}

function lines<T>(file: string): T[] {
  return readFileSync(join(corpusDirectory, file), "utf8").trimEnd().split("\n")
    .map((line) => JSON.parse(line) as T);
}
