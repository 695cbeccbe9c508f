/**
 * Another backend, and beside it the tracepoints at which the kernel says that a packet's last reference is gone,
 * why and where. Functions cannot tell: the same are called while others still hold the packet, and none is told
 * by which code.
 */
import type { AttachProgress, ProbeBackend, ProbeFailure } from "../backend.ts";

/** What counts is `main`; `ends` is only told apart when something goes wrong with it. */
export class BackendWithEnds implements ProbeBackend {
  readonly #main: ProbeBackend;
  readonly #ends: ProbeBackend;

  constructor(main: ProbeBackend, ends: ProbeBackend) {
    this.#main = main;
    this.#ends = ends;
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
    const failures = this.#ends.failures.map(({ name, code }) =>
      `The summary may not know every end: cannot attach to tracepoint ${name}: ${code}`
    );
    return [...this.#main.remarks, ...failures];
  }

  async attach(progress: AttachProgress): Promise<void> {
    // First, so that what the others show can end.
    await this.#ends.attach({ ...progress, onLive() {}, onProgress() {} });
    await this.#main.attach(progress);
  }

  followPrograms(newest: number, signal: AbortSignal): Promise<readonly string[]> {
    return this.#main.followPrograms?.(newest, signal) ?? Promise.resolve([]);
  }

  nameOf(address: bigint): string | undefined {
    return this.#ends.nameOf(address) ?? this.#main.nameOf(address);
  }

  missed(): bigint {
    return this.#main.missed() + this.#ends.missed();
  }

  close(): void {
    this.#main.close();
    this.#ends.close();
  }

  release(options: Parameters<ProbeBackend["release"]>[0]): Promise<void> {
    return this.#main.release(options);
  }

  [Symbol.dispose](): void {
    this.#main[Symbol.dispose]();
    this.#ends[Symbol.dispose]();
  }
}
