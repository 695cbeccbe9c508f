/**
 * What is said on stderr while a trace runs: log lines in the format of Go's default logger, which scripts around
 * pwru read, and one line of progress, for people only.
 *
 * Never through `process.stderr`: looking at it makes the shared open file non-blocking for everybody.
 */
import { isatty, STDERR, type Unblocked, unblocked } from "../sys/fd.ts";

export type Level = "DEBUG" | "INFO" | "WARN" | "ERROR";
export type Attributes = Readonly<Record<string, string | number | bigint | boolean>>;

/** Where the lines go. */
export interface LogSystem {
  write(text: string): void;
  readonly isTerminal: boolean;
  now(): Date;
}

let stderr: Unblocked | undefined;

/** Bytes that went. undefined: with nobody to read stderr, there is nobody to tell. */
function tryWrite(bytes: Uint8Array, from: number): number | undefined {
  stderr ??= unblocked(STDERR);
  try {
    if (!stderr.wait(PATIENCE_MS)) return undefined;
    return stderr.write(bytes, from, bytes.length - from);
  } catch (error) {
    return ["EAGAIN", "EINTR"].includes((error as { code?: string }).code ?? "") ? 0 : undefined;
  }
}

function realSystem(): LogSystem {
  return {
    write(text) {
      const bytes = new TextEncoder().encode(text);
      for (let from = 0; from < bytes.length;) {
        const count = tryWrite(bytes, from);
        if (count === undefined) return;
        from += count;
      }
    },
    isTerminal: isatty(STDERR),
    now: () => new Date(),
  };
}

/** So long stderr may take none of what is said; the rest of it is dropped then. */
const PATIENCE_MS = 200;
/** Time between two paints of the progress line. */
const PROGRESS_MS = 100;
/** To the line's start, then clear to its end (ECMA-48: CR, EL). */
const CLEAR_LINE = "\r\x1b[K";

export class Log {
  readonly #system: LogSystem;
  readonly #debug: boolean;
  #paintedAt = -Infinity;
  #painted = false;

  constructor({ debug }: { debug: boolean }, system: LogSystem = realSystem()) {
    this.#debug = debug;
    this.#system = system;
  }

  debug(message: string, attributes?: Attributes): void {
    if (this.#debug) this.#line("DEBUG", message, attributes);
  }

  info(message: string, attributes?: Attributes): void {
    this.#line("INFO", message, attributes);
  }

  warn(message: string, attributes?: Attributes): void {
    this.#line("WARN", message, attributes);
  }

  /** Whole lines, such as an error's, without time and level. */
  print(text: string): void {
    this.clearProgress();
    this.#system.write(text);
  }

  /** Paints over the last progress line; nothing where stderr is no terminal. */
  progress(done: number, total: number, what: string): void {
    if (!this.#system.isTerminal) return;
    const now = this.#system.now().getTime();
    if (now - this.#paintedAt < PROGRESS_MS) return;
    this.#paintedAt = now;
    this.#painted = true;
    this.#system.write(`${CLEAR_LINE}${what} ${done} of ${total}`);
  }

  /** Removes the progress line; whatever is said next does that too. */
  clearProgress(): void {
    if (this.#painted) this.#system.write(CLEAR_LINE);
    this.#painted = false;
    this.#paintedAt = -Infinity;
  }

  #line(level: Level, message: string, attributes: Attributes = {}): void {
    const pairs = Object.entries(attributes).map(([key, value]) => ` ${key}=${quoted(String(value))}`);
    this.print(`${stamp(this.#system.now())} ${level} ${message}${pairs.join("")}\n`);
  }
}

/** `2026/08/21 10:15:30`, local time. */
function stamp(date: Date): string {
  const two = (value: number) => String(value).padStart(2, "0");
  return `${date.getFullYear()}/${two(date.getMonth() + 1)}/${two(date.getDate())} ` +
    `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** In double quotes where a reader could not tell the value's end, or a terminal would act on it. */
function quoted(value: string): string {
  return /^[^\s"=\p{C}]+$/u.test(value) ? value : JSON.stringify(value).replace(/[\x7f-\x9f]/g, escaped);
}

function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
