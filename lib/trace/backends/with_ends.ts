/**
 * Another backend, and beside it the tracepoints at which the kernel says that a packet's last reference is gone,
 * why and where. Functions cannot tell: the same are called while others still hold the packet, and none is told
 * by which code.
 */
import type { AttachProgress, ProbeBackend } from "../backend.ts";
import { BackendAround } from "./around.ts";

/** What goes wrong with the tracepoints is only remarked. */
export class BackendWithEnds extends BackendAround<ProbeBackend, ProbeBackend> {
  override get remarks(): readonly string[] {
    const failures = this.beside.failures.map(({ name, code }) =>
      `The summary may not know every end: cannot attach to tracepoint ${name}: ${code}`
    );
    return [...super.remarks, ...failures];
  }

  override async attach(progress: AttachProgress): Promise<void> {
    // First, so that what the others show can end.
    await this.beside.attach({ ...progress, onLive() {}, onProgress() {} });
    await super.attach(progress);
  }
}
