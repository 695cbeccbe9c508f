/** The NOTICE file that goes with a static file: what is in it, under which licence, and where its source is. */
import type { Component } from "./components.ts";

export function notice(components: readonly Component[]): string {
  const [ours] = components;
  return [
    `${ours?.name} ${ours?.version}`,
    "",
    "The executables beside this file contain the following. docs/packaging.md in the source of this program",
    "says how they are put together, and how to build them with other versions.",
    ...components.map(section),
  ].join("\n") + "\n";
}

function section({ name, version, license, source, remark, text }: Component): string {
  const rule = "=".repeat(100);
  return [
    "",
    rule,
    `${name} ${version}`,
    `Licence  ${license}`,
    ...source === "NOASSERTION" ? [] : [`Source   ${source}`],
    "",
    wrapped(remark),
    "",
    text.trimEnd(),
  ].join("\n");
}

function wrapped(text: string, width = 100): string {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + word.length <= width) {
      lines[lines.length - 1] = `${last} ${word}`;
    } else lines.push(word);
  }
  return lines.join("\n");
}
