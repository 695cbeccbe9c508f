/** What the assembler refuses. It never truncates a value and never guesses a width. */

/**
 * A piece of code that has no encoding: a value out of range, a label placed twice, unequal widths.
 * `item` is the text of the offending item, `label` the label concerned.
 */
export class AssemblyError extends Error {
  override readonly name = "AssemblyError";
  readonly item: string | undefined;
  readonly label: string | undefined;
  constructor(message: string, facts: { item?: string; label?: string } = {}) {
    super(facts.item === undefined ? message : `${message}: ${facts.item}`);
    this.item = facts.item;
    this.label = facts.label;
  }
}
