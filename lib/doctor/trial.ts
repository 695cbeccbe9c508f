/**
 * One backend tried for real: the tracer's own programs are loaded and attached to one place that every kernel
 * has as a function and as a tracepoint, a datagram is passed through a socket pair, and the programs must
 * have counted it.
 */
import type { BackendName } from "../trace/backend.ts";
import { type KernelSources, openSession } from "../trace/open_session.ts";
import { passDatagrams, PLACE } from "./datagram.ts";
import { type Finding, refusal } from "./finding.ts";

const RING_BYTES = 64 * 1024;
export interface Trial {
  readonly backend: BackendName;
  /** it could be opened: without --backend the tracer takes the first of which this is true */
  readonly opens: boolean;
  /** it has seen the packet */
  readonly works: boolean;
  readonly finding: Finding;
}

/** Why probes may sit where they should and never be hit. */
const silence: Readonly<Record<BackendName, string>> = {
  "kprobe-multi": "sysctl -w kernel.ftrace_enabled=1",
  kprobe: "echo 1 > /sys/kernel/debug/kprobes/enabled; sysctl -w kernel.ftrace_enabled=1",
  tracepoint: "no remedy is known",
};

/**
 * Tries one backend and lets go of it.
 *
 * @param otherwise the remedy where the refusal names none
 */
export async function tryBackend(
  backend: BackendName,
  kernel: KernelSources,
  otherwise: string | undefined,
): Promise<Trial> {
  let opens = false;
  try {
    using session = await openSession({
      backend,
      functionPattern: PLACE,
      modules: [],
      ringBytes: RING_BYTES,
      meta: true,
      tuple: true,
    }, kernel);
    opens = true;
    const { backend: probes } = session, { signal } = new AbortController();
    try {
      await probes.attach({ signal, onLive: () => {}, onProgress: () => {} });
      const [failure] = probes.failures;
      if (probes.attached === 0) {
        return no(`the kernel refuses it at ${PLACE}: ${failure?.code ?? "no reason given"}`, otherwise);
      }
      passDatagrams(1);
      if (session.counted().matched === 0n) {
        return no(`it attaches to ${PLACE}, but the programs do not run`, silence[backend]);
      }
      const [remark] = probes.remarks;
      const found = `attached to ${PLACE} and saw a packet${remark === undefined ? "" : `; slow: ${remark}`}`;
      return { backend, opens, works: true, finding: { name: backend, state: "ok", found } };
    } finally {
      probes.close();
      await probes.release({ say: () => {}, signal });
    }
  } catch (error) {
    const finding = refusal(backend, error, otherwise), { remedy = "", ...rest } = finding;
    // The other backends are tried anyway.
    return { backend, opens, works: false, finding: remedy.startsWith("--backend ") ? rest : finding };
  }

  function no(found: string, remedy: string | undefined): Trial {
    const finding: Finding = {
      name: backend,
      state: "no",
      found,
      ...(remedy === undefined ? {} : { remedy }),
    };
    return { backend, opens, works: false, finding };
  }
}
