/** Texts for stdout that are no events. */
import { STDOUT, writeAll } from "../sys/fd.ts";
import { isErrno } from "../sys/ffi.ts";

/** Writes all of it, or as much as the reader wants. */
export function printText(text: string | Uint8Array): void {
  try {
    writeAll(STDOUT, typeof text === "string" ? new TextEncoder().encode(text) : text);
  } catch (error) {
    if (!isErrno(error, "EPIPE")) throw error;
  }
}
