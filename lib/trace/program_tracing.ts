/**
 * Probes on BPF programs that work on packets: where they are entered and, from Linux 5.17 on, what they return. A
 * program that cannot be traced is named with the reason; those that are loaded later are traced from then on.
 */
import { type ProgramHook, tcProgram } from "../../bpf-programs/trace.ts";
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
  type ProgramKind,
  programsAfter,
  type Untraceable,
} from "./loaded_programs.ts";

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

export class ProgramTracing implements Disposable {
  readonly #parts: ProgramTracingParts;
  readonly #hasExits: boolean;
  readonly #xdpVerdicts: Verdicts;
  readonly #named = new Map<bigint, Named>();
  readonly #programs: Program[] = [];
  readonly #links: Disposable[] = [];
  #last = 0;
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

  /** Attaches to the programs that were loaded since the last call; returns why others cannot be traced. */
  attachNew(signal: AbortSignal): string[] {
    const refused: string[] = [];
    for (const id of programsAfter(this.#last)) {
      if (signal.aborted) break;
      this.#last = id;
      const found = examineProgram(id, this.#parts.kinds);
      if (found === undefined) continue;
      if (found instanceof LoadedProgram) {
        using target = found;
        const { id, symbol } = target;
        for (const where of this.#hasExits ? ["entry", "exit"] as const : ["entry"] as const) {
          const why = this.#attach(target, where);
          if (why === undefined) continue;
          refused.push(sentence({ id, name: symbol, why }));
          break;
        }
      } else refused.push(sentence(found));
    }
    return refused;
  }

  #attach(target: LoadedProgram, where: ProgramHook["at"]): string | undefined {
    const { options, load, xdpExpression } = this.#parts, { btfId, symbol, kind } = target;
    // Machine code begins at multiples of 4, so that no other program's does behind that.
    const address = where === "entry" ? target.address : target.address + 1n;
    const hook = { btfId, at: where, address };
    try {
      const program = load(
        kind === "tc" ? tcProgram(options, hook) : xdpProgram(options, hook, xdpExpression),
        target,
      );
      this.#programs.push(program);
      this.#named.set(address, {
        name: `${symbol}(${kind})`,
        ...(where === "entry" ? {} : { verdicts: kind === "tc" ? tcVerdicts : this.#xdpVerdicts }),
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
