/** From options to where the events of a trace go, and to what prints them. */
import { isatty, STDOUT } from "../sys/fd.ts";
import { RotatingFile } from "./file.ts";
import { JsonPrinter } from "./json.ts";
import type { EventPrinter, InterfaceNames, Names, NetnsNames, PrintOptions } from "./printer.ts";
import { SilentPrinter } from "./silent.ts";
import { TextPrinter } from "./text.ts";
import { BatchWriter, type ByteTarget, descriptor, type LineSink } from "./writer.ts";

const MIB = 2 ** 20;

export interface OutputOptions {
  /** absent: stdout */
  readonly outputFile: string | undefined;
  /** MiB */
  readonly outputFileMaxSize: number;
  readonly outputFileMaxBackups: number;
  /** days */
  readonly outputFileMaxAge: number;
  readonly outputFileCompress: boolean;
}

/** Where events go. */
export interface Output extends AsyncDisposable {
  readonly writer: BatchWriter;
  /** Ends it in good order: what is rotated gets compressed, until `signal` says stop. */
  close(signal: AbortSignal): Promise<void>;
}

/** Who hears of what. */
export interface OutputListener {
  /** what does not end the trace */
  readonly warn: (message: string, cause: Error) => void;
  /** lines are about to go to a terminal: what stands there unfinished has to go */
  readonly beforeTerminal: () => void;
}

/**
 * Opens the file that the options name, or takes stdout.
 *
 * @throws {KernelError | OutputError} there can be no such file
 */
export function openOutput(options: OutputOptions, { warn, beforeTerminal }: OutputListener): Output {
  if (options.outputFile === undefined) {
    const nothing = () => Promise.resolve(), stdout = descriptor(STDOUT);
    const terminal: ByteTarget = {
      ...stdout,
      write(bytes, offset, length) {
        beforeTerminal();
        return stdout.write(bytes, offset, length);
      },
    };
    const writer = new BatchWriter(isatty(STDOUT) ? terminal : stdout);
    return { writer, close: nothing, [Symbol.asyncDispose]: nothing };
  }
  const file = new RotatingFile(options.outputFile, {
    maxBytes: options.outputFileMaxSize * MIB,
    maxBackups: options.outputFileMaxBackups,
    maxAgeDays: options.outputFileMaxAge,
    compress: options.outputFileCompress,
  }, { warn });
  return {
    writer: new BatchWriter(file),
    close: (signal) => file.close(signal),
    [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
  };
}

export interface FormatOptions extends PrintOptions {
  readonly outputJson: boolean;
  /** no lines for events */
  readonly silent: boolean;
}

/** Whom a printer asks for names. */
export interface NameSources {
  readonly names: Names;
  readonly interfaces: InterfaceNames;
  readonly netnsNames: NetnsNames;
}

export function makePrinter(sink: LineSink, options: FormatOptions, sources: NameSources): EventPrinter {
  const Printer = options.outputJson ? JsonPrinter : TextPrinter;
  const printer = new Printer(sink, options, sources.names, sources.interfaces, sources.netnsNames);
  return options.silent ? new SilentPrinter(printer) : printer;
}
