/**
 * Another backend, and beside it probes on functions that have no packet: those that the user named, and those that BPF
 * programs call, which come and go.
 */
import type { AttachProgress, FunctionBackend, ProbeBackend, ProbeFailure } from "../backend.ts";
import type { BeneathProbes } from "../beneath_probes.ts";
import type { TracedFunction } from "../functions.ts";
import type { HelperCalls } from "../helper_calls.ts";
import type { HelperPlaces } from "../helper_places.ts";

/** What BPF programs call, and where that can be probed. */
export interface Helpers {
  readonly calls: HelperCalls;
  readonly places: HelperPlaces;
}

export class BackendWithBeneath implements ProbeBackend {
  readonly #main: FunctionBackend;
  readonly #probes: BeneathProbes;
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
    this.#main = main;
    this.#probes = probes;
    this.#named = named;
    this.#helpers = helpers;
    this.#names = names;
  }

  get name(): ProbeBackend["name"] {
    return this.#main.name;
  }

  get found(): number {
    return this.#main.found + this.#found;
  }

  get attached(): number {
    return this.#main.attached + this.#attached;
  }

  get failures(): readonly ProbeFailure[] {
    return [...this.#main.failures, ...this.#failures];
  }

  get remarks(): readonly string[] {
    return [...this.#main.remarks, ...this.#remarks];
  }

  async attach(progress: AttachProgress): Promise<void> {
    await this.#attach(this.#named, false);
    if (this.#helpers !== undefined) {
      this.#remarks.push(...await this.#look(this.#helpers));
      if (this.#found === this.#named.length) {
        this.#remarks.push("No BPF program that works on packets calls a function yet");
      }
    }
    await this.#main.attach(progress);
  }

  async followPrograms(): Promise<readonly string[]> {
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
    const { refused, remarks } = await this.#probes.attach(this.#main, fresh, fromPrograms);
    this.#attached += fresh.length - refused.length;
    this.#failures.push(...refused);
    return remarks;
  }

  nameOf(address: bigint): string | undefined {
    return this.#probes.nameOf(address) ?? this.#main.nameOf(address);
  }

  missed(): bigint {
    return this.#main.missed();
  }

  close(): void {
    this.#probes.close();
    this.#main.close();
  }

  release(options: Parameters<ProbeBackend["release"]>[0]): Promise<void> {
    return this.#main.release(options);
  }

  [Symbol.dispose](): void {
    this.#probes[Symbol.dispose]();
    this.#main[Symbol.dispose]();
  }
}
