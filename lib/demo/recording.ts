/** A demonstration that took place: for machines where none can. `--demo --output-json` wrote it on Linux 6.12. */
import type { Demonstration } from "./paths.ts";

/** Read when it is asked for. */
export async function recording(): Promise<Demonstration> {
  const { default: recorded } = await import("./recording.json", { with: { type: "json" } });
  return recorded as unknown as Demonstration;
}
