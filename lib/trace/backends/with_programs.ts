/** Another backend, and beside it probes on BPF programs, which come and go. */
import type { AttachProgress, ProbeBackend, ProbeFailure } from "../backend.ts";
import type { ProgramTracing, Verdicts } from "../program_tracing.ts";

export class BackendWithPrograms implements ProbeBackend {
  readonly #main: ProbeBackend;
  readonly #programs: ProgramTracing;
  readonly #kinds: string;
  #remarks: readonly string[] = [];

  constructor(main: ProbeBackend, programs: ProgramTracing, kinds: readonly string[]) {
    this.#main = main;
    this.#programs = programs;
    this.#kinds = kinds.join(" or ");
  }

  get name(): ProbeBackend["name"] {
    return this.#main.name;
  }

  get found(): number {
    return this.#main.found;
  }

  get attached(): number {
    return this.#main.attached;
  }

  get failures(): readonly ProbeFailure[] {
    return this.#main.failures;
  }

  get remarks(): readonly string[] {
    return [...this.#main.remarks, ...this.#remarks];
  }

  async attach(progress: AttachProgress): Promise<void> {
    const programs = this.#programs, refused = programs.attachNew(Infinity, progress.signal);
    const none = programs.traced > 0
      ? []
      : [`No ${this.#kinds} program is traced yet; those that are loaded later are`];
    this.#remarks = [...programs.remarks, ...refused, ...none];
    await this.#main.attach(progress);
  }

  /** What a program calls is probed before the program is, so that who sees it sees that as well. */
  async followPrograms(newest: number, signal: AbortSignal): Promise<readonly string[]> {
    const remarks = await this.#main.followPrograms?.(newest, signal) ?? [];
    return [...remarks, ...this.#programs.attachNew(newest, signal)];
  }

  nameOf(address: bigint): string | undefined {
    return this.#programs.nameOf(address) ?? this.#main.nameOf(address);
  }

  verdicts(address: bigint): Verdicts | undefined {
    return this.#programs.verdicts(address);
  }

  missed(): bigint {
    return this.#main.missed() + this.#programs.missed();
  }

  close(): void {
    this.#main.close();
    this.#programs.close();
  }

  release(options: Parameters<ProbeBackend["release"]>[0]): Promise<void> {
    return this.#main.release(options);
  }

  [Symbol.dispose](): void {
    this.#main[Symbol.dispose]();
    this.#programs[Symbol.dispose]();
  }
}
