/** What the three ways of probing have in common, for the session that uses one. */
import type { ProgramSpec } from "../../asm/code.ts";
import type { BeneathProbe } from "../../bpf-programs/stack_programs.ts";
import type { Program } from "../sys/program.ts";
import type { TracedFunction } from "./functions.ts";

export type BackendName = "kprobe-multi" | "kprobe" | "tracepoint";

/** A probe that could not be set. */
export interface ProbeFailure {
  readonly name: string;
  /** errno's name */
  readonly code: string;
}

export interface AttachProgress {
  /** Stops at the next opportunity; what is attached stays so. */
  readonly signal: AbortSignal;
  /** The first events may flow: the reader can start. Called once, before `attach` resolves. */
  readonly onLive: () => void;
  readonly onProgress: (done: number, total: number) => void;
}

/** Probes of one kind, from the choice of functions to the end. */
export interface ProbeBackend extends Disposable {
  readonly name: BackendName;
  /** functions or tracepoints that carry a packet and were asked for */
  readonly found: number;
  readonly attached: number;
  readonly failures: readonly ProbeFailure[];
  /** why a better way was not taken, or what is slower than it could be */
  readonly remarks: readonly string[];
  attach(progress: AttachProgress): Promise<void>;
  /**
   * Probes what there is to be probed with the BPF programs that were loaded since, up to the one with the id `newest`;
   * returns what is to be said of them. Absent: they are none of its business.
   */
  followPrograms?(newest: number, signal: AbortSignal): Promise<readonly string[]>;
  /** The function or tracepoint that `packet_event.address` stands for. */
  nameOf(address: bigint): string | undefined;
  /** What `packet_event.argument2` means, by its number as u32, where a BPF program was left; else absent. */
  verdicts?(address: bigint): ReadonlyMap<number, string> | undefined;
  /** Hits that the kernel did not run our programs for, because one was already running on that CPU. */
  missed(): bigint;
  /** No event comes after this. */
  close(): void;
  /** Sees to what closed probes leave behind; `say` tells the user about work that holds up the exit. */
  release(options: { say: (sentence: string) => void; signal: AbortSignal }): Promise<void>;
}

/** A backend that probes functions, and can do so while it runs. */
export interface FunctionBackend extends ProbeBackend {
  /** Probes these, which have no packet; returns those that it could not probe. */
  attachBeneath(functions: readonly TracedFunction[], probe: BeneathProbe): Promise<ProbeFailure[]>;
}

/** Loads a program with the session's maps. */
export type Load = (spec: ProgramSpec) => Program;

/** How often the kernel left these programs out because one of them was running on that CPU. Linux 5.12. */
export function recursionMisses(programs: Iterable<Program>): bigint {
  let sum = 0n;
  for (const program of programs) sum += program.info().recursion_misses;
  return sum;
}
