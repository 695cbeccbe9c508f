/** Reads an error as a person does: the expression, the carets, the sentence. */
import { FilterSyntaxError } from "../../lib/errors.ts";

/** A wrong expression, the carets below it, the message. */
export type ErrorRow = [source: string, carets: string, message: string];

/** What `compile` complains about, as a row. */
export function complaint(source: string, compile: () => unknown): ErrorRow {
  try {
    compile();
  } catch (error) {
    if (!(error instanceof FilterSyntaxError)) throw error;
    if (error.source !== source) throw new Error(`The error is about "${error.source}"`);
    return [source, " ".repeat(error.offset) + "^".repeat(Math.max(1, error.length)), error.message];
  }
  throw new Error(`No complaint about ${source}`);
}
