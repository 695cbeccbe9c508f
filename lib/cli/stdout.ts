/** Texts for stdout that are no events. */
import { writeAll } from "../sys/fd.ts";

export const STDOUT = 1;

/** Writes all of it. */
export function printText(text: string): void {
  writeAll(STDOUT, new TextEncoder().encode(text));
}
