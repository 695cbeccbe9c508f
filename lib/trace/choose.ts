/** Which way of probing a session takes. */
import { UnsupportedError, UsageError } from "../errors.ts";
import type { BackendName, ProbeBackend } from "./backend.ts";

export interface Chosen {
  readonly backend: ProbeBackend;
  readonly remarks: readonly string[];
}

/** The order in which backends are tried. */
export const preference: readonly BackendName[] = ["kprobe-multi", "kprobe", "tracepoint"];

/**
 * The backend that was asked for, or the first that works.
 *
 * @throws {UnsupportedError} this one, or all of them, do not work here: the last one says why
 */
export async function choose(
  wanted: BackendName | undefined,
  create: Readonly<Record<BackendName, () => Promise<ProbeBackend>>>,
): Promise<Chosen> {
  if (wanted !== undefined) return { backend: await create[wanted](), remarks: [] };
  const remarks: string[] = [];
  let refusal: UnsupportedError | undefined;
  for (const name of preference) {
    try {
      return { backend: await create[name](), remarks };
    } catch (error) {
      // A function is no tracepoint: then the answer is why functions cannot be traced.
      if (error instanceof UsageError && name === "tracepoint" && refusal !== undefined) break;
      if (!(error instanceof UnsupportedError)) throw error;
      refusal = error;
      remarks.push(`${name}: ${error.message}`);
    }
  }
  throw refusal as UnsupportedError;
}
