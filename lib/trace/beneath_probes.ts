/**
 * How functions without a packet are probed: on entry by the backend for functions, or on return, where what they find
 * in a BPF map is to be shown.
 */
import { lookUpProgram } from "../../bpf-programs/stack_programs.ts";
import type { TraceOptions } from "../../bpf-programs/frame.ts";
import type { MapOperation } from "../../bpf-programs/map_operation.ts";
import type { BtfTypes } from "../btf/types.ts";
import { parameters } from "../btf/walk.ts";
import { KernelError, VerifierError } from "../errors.ts";
import { attachTracing } from "../link/tracing.ts";
import { symbolText } from "../symbols/table.ts";
import type { Program } from "../sys/program.ts";
import type { FunctionBackend, Load, ProbeFailure } from "./backend.ts";
import type { TracedFunction } from "./functions.ts";
import { mapOperationOf } from "./map_operations.ts";

/**
 * Whether the kernel leaves out a program of fexit that is at work on that CPU already: since Linux 5.12
 * (__bpf_prog_enter in kernel/bpf/trampoline.c), which counts how often. Before that, one that is called on return from
 * a look-up and looks something up itself is called without end, until the stack is used up and the kernel stops.
 */
const endsRecursion = (types: BtfTypes) => types.has("bpf_prog_info", "recursion_misses");

export class BeneathProbes implements Disposable {
  readonly #options: TraceOptions;
  readonly #types: BtfTypes;
  readonly #load: Load;
  readonly #names = new Map<bigint, string>();
  readonly #programs: Program[] = [];
  readonly #links: Disposable[] = [];

  constructor(options: TraceOptions, types: BtfTypes, load: Load) {
    this.#options = options;
    this.#types = types;
    this.#load = load;
  }

  /** @param fromPrograms only calls from the code of BPF programs are shown */
  async attach(
    backend: FunctionBackend,
    functions: readonly TracedFunction[],
    fromPrograms: boolean,
  ): Promise<{ readonly refused: readonly ProbeFailure[]; readonly remarks: readonly string[] }> {
    const refused: ProbeFailure[] = [], remarks: string[] = [], onEntry: TracedFunction[] = [];
    for (const function_ of functions) {
      const map = this.#operationOf(function_);
      const why = map?.result === undefined ? "" : this.#attachLookUp(function_, map, fromPrograms);
      if (why === undefined) continue;
      if (why !== "") remarks.push(`What ${function_.name} finds is not shown: ${why}`);
      onEntry.push(function_);
    }
    for (const [shape, group] of Map.groupBy(onEntry, (one) => JSON.stringify(this.#operationOf(one)))) {
      const map = shape === undefined ? undefined : JSON.parse(shape) as MapOperation;
      const probe = { fromPrograms, ...(map === undefined ? {} : { map }) };
      refused.push(...await backend.attachBeneath(group, probe));
    }
    return { refused, remarks };
  }

  /** What it does with a map, where that is asked for. */
  #operationOf({ name, module }: TracedFunction): MapOperation | undefined {
    if (this.#options.additions?.mapOperation !== true || module !== undefined) return undefined;
    return mapOperationOf(this.#types.btf, name);
  }

  /** Returns why not. */
  #attachLookUp(function_: TracedFunction, map: MapOperation, fromPrograms: boolean): string | undefined {
    const btfId = this.#types.functionId(function_.name);
    if (btfId === undefined) return "it is not in BTF";
    if (process.arch !== "x64") return "that is for x86-64 only";
    if (!endsRecursion(this.#types)) return "that takes Linux 5.12";
    // An odd address, that no function has: the same may be probed on entry as well.
    const address = function_.address | 1n, count = [...parameters(this.#types.btf, btfId)].length;
    try {
      const program = this.#load(
        lookUpProgram(this.#options, { fromPrograms, map, btfId, parameters: count, address }),
      );
      this.#programs.push(program);
      this.#links.push(attachTracing(program));
      this.#names.set(address, symbolText(function_));
      return undefined;
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      if (error instanceof VerifierError && error.code !== "ENOENT") throw error;
      return `${error.call}: ${error.code}`;
    }
  }

  nameOf(address: bigint): string | undefined {
    return this.#names.get(address);
  }

  close(): void {
    for (const link of this.#links.splice(0)) link[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
    for (const program of this.#programs.splice(0)) program[Symbol.dispose]();
  }
}
