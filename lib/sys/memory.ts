/**
 * Gives memory back between the phases of a start. Reading types and choosing functions leaves garbage, and
 * pages of the executable that are not needed again; both would count for the whole run.
 */
import { readFileSync } from "node:fs";
import { syscall } from "./ffi.ts";

const MADV_DONTNEED = 4;

/** Collects garbage and releases code. Natively 5 to 15 ms. */
export function releaseMemory(): void {
  releaseCode(); // the collector's own comes on top
  Bun.gc(true);
  releaseCode();
}

/** Drops the executable's code from our memory; what is needed comes back from the page cache. */
export function releaseCode(): void {
  for (const { start, length } of codeMappings(readFileSync("/proc/self/maps", "latin1"), process.execPath)) {
    syscall("madvise", start, length, MADV_DONTNEED);
  }
}

/**
 * The mappings of `file` that hold code, of /proc/PID/maps. Data that is read-only now may have been written
 * before (relocations), and would be lost.
 */
export function codeMappings(maps: string, file: string): { start: number; length: number }[] {
  const found: { start: number; length: number }[] = [];
  for (const line of maps.split("\n")) {
    // 014a6000-03bd5000 r-xp 012a5000 fe:00 123  /usr/bin/pwru
    const match = /^([0-9a-f]+)-([0-9a-f]+) r-xp \S+ \S+ \d+ +(\S.*)$/.exec(line);
    if (match === null || match[3] !== file) continue;
    const start = parseInt(match[1] as string, 16);
    found.push({ start, length: parseInt(match[2] as string, 16) - start });
  }
  return found;
}
