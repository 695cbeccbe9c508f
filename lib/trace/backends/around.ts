/** A backend, and beside it probes of another kind: what those who are wrapped around one have in common. */
import type { AttachProgress, ProbeBackend, ProbeFailure } from "../backend.ts";

/** The probes beside a backend. */
export interface BesideProbes extends Disposable {
  nameOf(address: bigint): string | undefined;
  /** absent: its misses are not to be told from those of our own making */
  missed?(): bigint;
  /** No event comes after this. */
  close(): void;
}

/** What counts is `main`, unless a subclass says otherwise. */
export class BackendAround<Main extends ProbeBackend, Beside extends BesideProbes> implements ProbeBackend {
  protected readonly main: Main;
  protected readonly beside: Beside;

  constructor(main: Main, beside: Beside) {
    this.main = main;
    this.beside = beside;
  }

  get name(): ProbeBackend["name"] {
    return this.main.name;
  }

  get found(): number {
    return this.main.found;
  }

  get attached(): number {
    return this.main.attached;
  }

  get failures(): readonly ProbeFailure[] {
    return this.main.failures;
  }

  get remarks(): readonly string[] {
    return this.main.remarks;
  }

  attach(progress: AttachProgress): Promise<void> {
    return this.main.attach(progress);
  }

  followPrograms(newest: number, signal: AbortSignal): Promise<readonly string[]> {
    return this.main.followPrograms?.(newest, signal) ?? Promise.resolve([]);
  }

  nameOf(address: bigint): string | undefined {
    return this.beside.nameOf(address) ?? this.main.nameOf(address);
  }

  missed(): bigint {
    return this.main.missed() + (this.beside.missed?.() ?? 0n);
  }

  close(): void {
    this.main.close();
    this.beside.close();
  }

  release(options: Parameters<ProbeBackend["release"]>[0]): Promise<void> {
    return this.main.release(options);
  }

  [Symbol.dispose](): void {
    this.main[Symbol.dispose]();
    this.beside[Symbol.dispose]();
  }
}
