/** Text in columns, for whatever is no terminal. */

/**
 * One line per row: columns are as wide as their widest cell and two spaces apart, and no line ends with spaces.
 *
 * @param right the columns whose cells stand at the right
 */
export function columns(rows: readonly (readonly string[])[], right: readonly number[] = []): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => widths[i] = Math.max(widths[i] ?? 0, cell.length));
  const padded = (cell: string, i: number) =>
    right.includes(i) ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!);
  return rows.map((row) => `${row.map(padded).join("  ").trimEnd()}\n`).join("");
}
