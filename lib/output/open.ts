/** From options to the printer of a trace. */
import { JsonPrinter } from "./json.ts";
import type { EventPrinter, InterfaceNames, Names, NetnsNames, PrintOptions } from "./printer.ts";
import { TextPrinter } from "./text.ts";
import type { LineSink } from "./writer.ts";

export interface FormatOptions extends PrintOptions {
  readonly outputJson: boolean;
}

/** Whom a printer asks for names. */
export interface NameSources {
  readonly names: Names;
  readonly interfaces: InterfaceNames;
  readonly netnsNames: NetnsNames;
}

export function makePrinter(sink: LineSink, options: FormatOptions, sources: NameSources): EventPrinter {
  const Printer = options.outputJson ? JsonPrinter : TextPrinter;
  return new Printer(sink, options, sources.names, sources.interfaces, sources.netnsNames);
}
