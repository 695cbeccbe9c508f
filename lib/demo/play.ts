/** The demonstration itself: the scene is built, traced by the best backend here, and taken down again. */
import { release } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { PacketFilter } from "../../bpf-programs/frame.ts";
import { UnsupportedError } from "../errors.ts";
import { JsonPrinter } from "../output/json.ts";
import type { Names } from "../output/printer.ts";
import { MemorySink } from "../output/writer.ts";
import { CLOCK_MONOTONIC, CLOCK_REALTIME, clockGettime } from "../sys/clock.ts";
import type { BackendName } from "../trace/backend.ts";
import { mainPath } from "../trace/main_path.ts";
import { preference } from "../trace/choose.ts";
import { openSession, readKernel } from "../trace/open_session.ts";
import type { Session } from "../trace/session.ts";
import { type Demonstration, type Passage, stepsOf } from "./paths.ts";
import { LARGE_MTU, Scene } from "./scene.ts";

/**
 * What the pod's link takes in turn, one that is large enough and one that is not; and how long an answer is
 * waited for: one that comes on a busy machine may take its time, one that does not shows as dropped.
 */
const ROUNDS = [{ mtu: LARGE_MTU, patienceMs: 3000 }, { mtu: 1500, patienceMs: 500 }] as const;
/** One answer on its way makes a hundred records of 300 bytes. */
const RING_BYTES = 1 << 20;
const BATCH_RECORDS = 8192;
/** After the answer has arrived, or has not, for what happens behind our back. */
const SETTLE_MS = 50;

export interface PlayOptions {
  /** absent: the best */
  readonly backend?: BackendName;
  /** selects the answer */
  readonly filter: PacketFilter;
  /** ends it early */
  readonly signal: AbortSignal;
  /** what a printer asks for names of functions and places */
  readonly names: (session: Session) => Names;
  readonly onBackend: (name: string) => void;
  readonly onProgress: (done: number, total: number) => void;
}

/**
 * Sends the answer twice. Namespaces, probes and definitions are gone when it resolves, and when it rejects.
 *
 * @returns undefined: `signal` ended it
 * @throws {KernelError} EPERM where we may not make namespaces
 * @throws {UnsupportedError} nothing can be traced here, or there is no scene to be had
 */
export async function play(options: PlayOptions): Promise<Demonstration | undefined> {
  const { signal, onBackend, onProgress } = options;
  using scene = new Scene();
  using session = await open(options);
  const { backend } = session;
  onBackend(backend.name);
  try {
    await backend.attach({ signal, onLive: () => {}, onProgress });
    const take = reader(session, scene, options);
    const passages: Passage[] = [];
    for (const { mtu, patienceMs } of ROUNDS) {
      if (signal.aborted) return undefined;
      scene.setPodMtu(mtu);
      take();
      const arrived = scene.answer(patienceMs);
      await sleep(SETTLE_MS);
      passages.push({ mtu, arrived, steps: stepsOf(take(), (inode) => scene.placeOf(inode)) });
    }
    return {
      kernel: release(),
      backend: backend.name,
      attached: backend.attached,
      passages: passages as [Passage, Passage],
    };
  } finally {
    backend.close();
    await backend.release({ say: () => {}, signal });
  }
}

/** The best backend. Where functions are attached one by one, the main path has to do: that takes no minutes. */
async function open({ filter, backend }: PlayOptions): Promise<Session> {
  const options = { modules: [], ringBytes: RING_BYTES, meta: true, tuple: true, filter };
  const kernel = readKernel(backend === undefined ? {} : { backend });
  let refusal: UnsupportedError | undefined;
  for (const name of backend === undefined ? preference : [backend]) {
    try {
      const functionPattern = name === "kprobe" ? mainPath.join("|") : "";
      return await openSession({ ...options, backend: name, functionPattern }, kernel);
    } catch (error) {
      if (!(error instanceof UnsupportedError)) throw error;
      refusal = error;
    }
  }
  throw refusal as UnsupportedError;
}

/** Two paths can be compared only when both are whole. */
function refuseGap(lost: bigint): never {
  throw new UnsupportedError(`Cannot keep up with the demonstration: ${lost} events were lost`);
}

/** Takes what has come into the ring since the last time, as lines of the JSON output. */
function reader(session: Session, scene: Scene, { names }: PlayOptions): () => string {
  const sink = new MemorySink();
  const printer = new JsonPrinter(
    sink,
    {
      outputMeta: true,
      outputTuple: true,
      outputTcpFlags: false,
      outputNetnsNames: false,
      netnsNamesMaxLength: 0,
      timestamp: "none",
      tracepoints: session.backend.name === "tracepoint",
      bootOffsetNs: clockGettime(CLOCK_REALTIME) - clockGettime(CLOCK_MONOTONIC),
    },
    names(session),
    { nameOf: (netns, ifindex) => scene.interfaceName(netns, ifindex), generation: 0 },
  );
  return () => {
    while (session.drain((view, offset) => printer.print(view, offset), BATCH_RECORDS, refuseGap) > 0);
    return sink.take();
  };
}
