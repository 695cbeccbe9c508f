/** Texts for stdout that are no events. */
import { STDOUT, writeAll } from "../sys/fd.ts";

/** Writes all of it. */
export function printText(text: string): void {
  writeAll(STDOUT, new TextEncoder().encode(text));
}
