/**
 * Probes on BPF programs that work on packets: where they are entered and, from Linux 5.17 on, what they return. A
 * program that cannot be traced is named with the reason; those that are loaded later are traced from then on.
 */
import type { ProgramHook } from "../../bpf-programs/program_hook.ts";
import { tcProgram } from "../../bpf-programs/tc.ts";
import type { TraceOptions } from "../../bpf-programs/frame.ts";
import type { FilterExpression } from "../../bpf-programs/expression.ts";
import type { ProgramSpec } from "../../asm/code.ts";
import { xdpProgram } from "../../bpf-programs/xdp.ts";
import { KernelError } from "../errors.ts";
import { attachTracing } from "../link/tracing.ts";
import type { Program } from "../sys/program.ts";
import { recursionMisses } from "./backend.ts";
import {
  examineProgram,
  LoadedProgram,
  type PacketFunction,
  type ProgramKind,
  programsAfter,
  type Untraceable,
} from "./loaded_programs.ts";
import { tailCallees } from "./tail_calls.ts";

/** Loads a program that traces another one. */
export type LoadFor = (spec: ProgramSpec, target: LoadedProgram) => Program;

/** What an exit returned, by its number as u32. */
export type Verdicts = ReadonlyMap<number, string>;

/** TC_ACT_* (include/uapi/linux/pkt_cls.h), which are no enum. */
const tcVerdicts: Verdicts = new Map([
  [0xffffffff, "TC_ACT_UNSPEC"],
  ..."OK RECLASSIFY SHOT PIPE STOLEN QUEUED REPEAT REDIRECT TRAP".split(" ")
    .map((name, code) => [code, `TC_ACT_${name}`] as const),
]);

export interface ProgramTracingParts {
  readonly kinds: ReadonlySet<ProgramKind>;
  readonly options: TraceOptions;
  /** a question about the xdp_buff */
  readonly xdpExpression?: FilterExpression;
  readonly load: LoadFor;
}

/** What is known of one probe. */
interface Named {
  readonly name: string;
  readonly verdicts?: Verdicts;
}

/** A program is in its maps so long after it was loaded, at the latest. */
const FILLING_MS = 1000;

export class ProgramTracing implements Disposable {
  readonly #parts: ProgramTracingParts;
  readonly #hasExits: boolean;
  readonly #xdpVerdicts: Verdicts;
  readonly #named = new Map<bigint, Named>();
  readonly #programs: Program[] = [];
  readonly #links: Disposable[] = [];
  #last = 0;
  /** programs that are traced, by id, until it is known whether tail calls lead there */
  readonly #symbols = new Map<number, string>();
  /** when those that were loaded last are in their maps, if that has not been looked at since; ms of the monotonic clock */
  #filled: number | undefined;
  #traced = 0;

  constructor(parts: ProgramTracingParts, xdpVerdicts: Verdicts) {
    this.#parts = parts;
    this.#xdpVerdicts = xdpVerdicts;
    this.#hasExits = parts.options.kernel.enumerator("bpf_func_id", "BPF_FUNC_get_func_ret") !== undefined;
  }

  /** programs with a probe */
  get traced(): number {
    return this.#traced;
  }

  /** What holds for all of them. */
  get remarks(): readonly string[] {
    if (this.#hasExits) return [];
    return ["What BPF programs return is not shown: that takes Linux 5.17"];
  }

  /**
   * Attaches to the programs that were loaded since the last call, up to the one with the id `newest`; returns why others
   * cannot be traced.
   */
  attachNew(newest: number, signal: AbortSignal): string[] {
    const refused: string[] = [];
    for (const id of programsAfter(this.#last)) {
      if (id > newest || signal.aborted) break;
      this.#last = id;
      const found = examineProgram(id, this.#parts.kinds);
      if (found === undefined) continue;
      if (found instanceof LoadedProgram) {
        using target = found;
        const { id, entry, parts } = target;
        const hooks = [
          [entry, "entry"],
          ...(this.#hasExits ? [[entry, "exit"] as const] : []),
          ...parts.map((part) => [part, "part"] as const),
        ] as const;
        for (const [where, at] of hooks) {
          const why = this.#attach(target, where, at);
          if (why === undefined) continue;
          refused.push(sentence({ id, name: where.symbol, why }));
          if (where === entry) break;
        }
        this.#symbols.set(id, entry.symbol);
        this.#filled = performance.now() + FILLING_MS;
      } else refused.push(sentence(found));
    }
    if (this.#filled !== undefined) {
      if (performance.now() >= this.#filled) this.#filled = undefined;
      refused.push(...this.#tailCalled());
    }
    return refused;
  }

  /** What is said of programs that tail calls lead to, once of each. */
  #tailCalled(): string[] {
    const told: string[] = [];
    for (const { program, map } of tailCallees()) {
      const symbol = this.#symbols.get(program);
      if (symbol === undefined) continue;
      this.#symbols.delete(program);
      told.push(
        `Tail calls to BPF program ${program} (${symbol}) by map ${map} are not shown: they jump past the place where ` +
          "it can be traced; the exit of who jumped has its verdict",
      );
    }
    return told;
  }

  #attach(target: LoadedProgram, traced: PacketFunction, where: ProgramHook["at"]): string | undefined {
    const { options, load, xdpExpression } = this.#parts, { kind } = target, { btfId, symbol } = traced;
    // Machine code begins at multiples of 4, so that no other program's does behind that.
    const address = where === "exit" ? traced.address + 1n : traced.address;
    const hook = { btfId, at: where, address, argument: traced.argument };
    try {
      const program = load(
        kind === "tc" ? tcProgram(options, hook) : xdpProgram(options, hook, xdpExpression),
        target,
      );
      this.#programs.push(program);
      this.#named.set(address, {
        name: `${symbol}(${kind})`,
        ...(where !== "exit" ? {} : { verdicts: kind === "tc" ? tcVerdicts : this.#xdpVerdicts }),
      });
      this.#links.push(attachTracing(program));
      if (where === "entry") this.#traced++;
      return undefined;
    } catch (error) {
      if (error instanceof KernelError) return `${error.call}: ${error.code}`;
      throw error;
    }
  }

  nameOf(address: bigint): string | undefined {
    return this.#named.get(address)?.name;
  }

  /** absent: what was seen at `address` is no exit */
  verdicts(address: bigint): Verdicts | undefined {
    return this.#named.get(address)?.verdicts;
  }

  missed(): bigint {
    return recursionMisses(this.#programs);
  }

  close(): void {
    for (const link of this.#links.splice(0)) link[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
    for (const program of this.#programs.splice(0)) program[Symbol.dispose]();
  }
}

function sentence({ id, name, why }: Untraceable): string {
  return `Cannot trace BPF program ${id}${name === "" ? "" : ` (${name})`}: ${why}`;
}
