/**
 * Another backend, and beside it probes on functions that have no packet: those that the user named, and those that BPF
 * programs call, which come and go.
 */
import type { AttachProgress, FunctionBackend, ProbeFailure } from "../backend.ts";
import type { BeneathProbes } from "../beneath_probes.ts";
import type { TracedFunction } from "../functions.ts";
import type { HelperCalls } from "../helper_calls.ts";
import type { HelperPlaces } from "../helper_places.ts";
import { BackendAround } from "./around.ts";

/** What BPF programs call, and where that can be probed. */
export interface Helpers {
  readonly calls: HelperCalls;
  readonly places: HelperPlaces;
}

export class BackendWithBeneath extends BackendAround<FunctionBackend, BeneathProbes> {
  readonly #named: readonly TracedFunction[];
  readonly #helpers: Helpers | undefined;
  readonly #names: Set<string>;
  readonly #taken = new Set<bigint>();
  readonly #failures: ProbeFailure[] = [];
  readonly #remarks: string[] = [];
  #found = 0;
  #attached = 0;

  /** @param names of functions without a packet: those that are found are added */
  constructor(
    main: FunctionBackend,
    probes: BeneathProbes,
    { named, helpers }: { readonly named: readonly TracedFunction[]; readonly helpers?: Helpers | undefined },
    names: Set<string>,
  ) {
    super(main, probes);
    this.#named = named;
    this.#helpers = helpers;
    this.#names = names;
  }

  override get found(): number {
    return super.found + this.#found;
  }

  override get attached(): number {
    return super.attached + this.#attached;
  }

  override get failures(): readonly ProbeFailure[] {
    return [...super.failures, ...this.#failures];
  }

  override get remarks(): readonly string[] {
    return [...super.remarks, ...this.#remarks];
  }

  override async attach(progress: AttachProgress): Promise<void> {
    await this.#attach(this.#named, false);
    if (this.#helpers !== undefined) {
      this.#remarks.push(...await this.#look(this.#helpers));
      if (this.#found === this.#named.length) {
        this.#remarks.push("No BPF program that works on packets calls a function yet");
      }
    }
    await super.attach(progress);
  }

  override async followPrograms(): Promise<readonly string[]> {
    if (this.#helpers === undefined) return [];
    const before = this.#failures.length, remarks = await this.#look(this.#helpers);
    const refused = this.#failures.slice(before).map(({ name, code }) => `Cannot probe ${name}: ${code}`);
    return [...remarks, ...refused];
  }

  /** Probes what programs call that came since the last look. */
  async #look({ calls, places }: Helpers): Promise<readonly string[]> {
    const { callees, remarks } = calls.look(), functions: TracedFunction[] = [];
    for (const callee of callees) {
      const place = places.find(callee);
      if (typeof place !== "string") functions.push(place);
      else {
        this.#found++;
        this.#failures.push({ name: place, code: "not traceable" });
      }
    }
    return [...remarks, ...await this.#attach(functions, true)];
  }

  async #attach(functions: readonly TracedFunction[], fromPrograms: boolean): Promise<readonly string[]> {
    const fresh = functions.filter(({ address }) => !this.#taken.has(address));
    for (const { address, name } of fresh) {
      this.#taken.add(address);
      this.#names.add(name);
    }
    this.#found += fresh.length;
    const { refused, remarks } = await this.beside.attach(this.main, fresh, fromPrograms);
    this.#attached += fresh.length - refused.length;
    this.#failures.push(...refused);
    return remarks;
  }
}
