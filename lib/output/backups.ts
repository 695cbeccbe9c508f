/**
 * Rotated output files: what they are called, which there are, which have had their time.
 *
 * `trace.txt` becomes `trace-2026-08-21T10-15-30.123.txt` beside it, and with compression `...123.txt.gz`, as
 * the lumberjack library of Go programs names them. The time is that of rotation, in local time both when it is
 * written and when it is read; where clocks are set back an hour, so are the names.
 */
import { readdirSync } from "node:fs";
import { basename, dirname, join } from "node:path";

export interface Backup {
  /** when it was rotated: what is in it is older */
  readonly time: Date;
  /** at least one: the file, its compressed copy, or both when compression was interrupted */
  readonly files: readonly string[];
  /** the path without a compressed copy beside it yet */
  readonly plain: string | undefined;
}

export interface Retention {
  /** how many to keep; 0 is all */
  readonly maxBackups: number;
  /** 0 is for ever */
  readonly maxAgeDays: number;
}

const DAY_MS = 24 * 60 * 60 * 1000;
export const COMPRESSED = ".gz";

/** The rotated files of one output file. */
export class Backups {
  readonly #directory: string;
  /** "trace-" */
  readonly #prefix: string;
  /** ".txt", from the name's last dot on */
  readonly #extension: string;

  constructor(path: string) {
    const name = basename(path), dot = name.lastIndexOf(".");
    this.#directory = dirname(path);
    this.#prefix = `${dot < 0 ? name : name.slice(0, dot)}-`;
    this.#extension = dot < 0 ? "" : name.slice(dot);
  }

  /** The path of a file rotated at `time`. */
  pathAt(time: Date): string {
    return join(this.#directory, `${this.#prefix}${stamp(time)}${this.#extension}`);
  }

  /** All there are, the newest first. */
  list(): Backup[] {
    const byTime = new Map<number, string[]>();
    for (const entry of readdirSync(this.#directory, { withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const { name } = entry, time = this.#timeOf(name)?.getTime();
      if (time !== undefined) byTime.set(time, [...byTime.get(time) ?? [], join(this.#directory, name)]);
    }
    return [...byTime].sort(([a], [b]) => b - a).map(([time, files]) => {
      const compressed = files.some((file) => file.endsWith(this.#extension + COMPRESSED));
      return { time: new Date(time), files, plain: compressed ? undefined : files[0] };
    });
  }

  #timeOf(name: string): Date | undefined {
    const whole = name.endsWith(this.#extension + COMPRESSED) ? name.slice(0, -COMPRESSED.length) : name;
    if (!whole.startsWith(this.#prefix) || !whole.endsWith(this.#extension)) return undefined;
    return parseStamp(whole.slice(this.#prefix.length, whole.length - this.#extension.length));
  }
}

/** Those to delete, of a list with the newest first. */
export function expired(
  backups: readonly Backup[],
  { maxBackups, maxAgeDays }: Retention,
  now: Date,
): Backup[] {
  const oldest = maxAgeDays === 0 ? -Infinity : now.getTime() - maxAgeDays * DAY_MS;
  return backups.filter(({ time }, index) =>
    (maxBackups !== 0 && index >= maxBackups) || time.getTime() < oldest
  );
}

/** `2026-08-21T10-15-30.123`, local time. */
function stamp(time: Date): string {
  const digits = (value: number, width = 2) => String(value).padStart(width, "0");
  const date = `${digits(time.getFullYear(), 4)}-${digits(time.getMonth() + 1)}-${digits(time.getDate())}`;
  const clock = `${digits(time.getHours())}-${digits(time.getMinutes())}-${digits(time.getSeconds())}`;
  return `${date}T${clock}.${digits(time.getMilliseconds(), 3)}`;
}

/** The time that `stamp` wrote; undefined for anything else. */
function parseStamp(text: string): Date | undefined {
  const match = /^(\d{4})-(\d\d)-(\d\d)T(\d\d)-(\d\d)-(\d\d)\.(\d{3})$/.exec(text);
  if (match === null) return undefined;
  const [year = 0, month = 0, ...rest] = match.slice(1).map(Number);
  const time = new Date(year, month - 1, ...rest);
  return stamp(time) === text ? time : undefined; // the thirteenth month is none of ours
}
