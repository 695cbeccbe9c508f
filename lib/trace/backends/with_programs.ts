/** Another backend, and beside it probes on BPF programs, which come and go. */
import type { AttachProgress, ProbeBackend } from "../backend.ts";
import type { ProgramTracing, Verdicts } from "../program_tracing.ts";
import { BackendAround } from "./around.ts";

export class BackendWithPrograms extends BackendAround<ProbeBackend, ProgramTracing> {
  readonly #kinds: string;
  #remarks: readonly string[] = [];

  constructor(main: ProbeBackend, programs: ProgramTracing, kinds: readonly string[]) {
    super(main, programs);
    this.#kinds = kinds.join(" or ");
  }

  override get remarks(): readonly string[] {
    return [...super.remarks, ...this.#remarks];
  }

  override async attach(progress: AttachProgress): Promise<void> {
    const programs = this.beside, refused = programs.attachNew(Infinity, progress.signal);
    const none = programs.traced > 0
      ? []
      : [`No ${this.#kinds} program is traced yet; those that are loaded later are`];
    this.#remarks = [...programs.remarks, ...refused, ...none];
    await super.attach(progress);
  }

  /** What a program calls is probed before the program is, so that who sees it sees that as well. */
  override async followPrograms(newest: number, signal: AbortSignal): Promise<readonly string[]> {
    return [...await super.followPrograms(newest, signal), ...this.beside.attachNew(newest, signal)];
  }

  verdicts(address: bigint): Verdicts | undefined {
    return this.beside.verdicts(address);
  }
}
