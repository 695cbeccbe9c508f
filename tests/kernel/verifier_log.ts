/** Our disassembly against the level-2 log of the verifier, which prints each instruction it walks over. */
import { expect } from "bun:test";
import type { Code, FunctionInfo, Insn } from "../../asm/code.ts";
import { disassemble, referenceNames } from "../../asm/disasm.ts";
import { load } from "./load.ts";

/** slot -> `(opcode) text`, without what the verifier knows about registers after it */
export function parseLog(log: string): Map<number, string> {
  const lines = log.matchAll(/^(\d+): (\([0-9a-f]{2}\) .*?)(?:\s+;.*)?$/gm);
  return new Map([...lines].map(([, slot, text]) => [Number(slot), text as string]));
}

/** Whether the kernel puts an address into this load: a map, a map value or a kernel variable. */
function isAddress(insn: Insn | undefined): boolean {
  return insn !== undefined && insn.slots === 2 && insn.src >= 1 && insn.src <= 3;
}

/**
 * Loads `code` and expects the log to have our text for each instruction, addresses aside.
 *
 * @param everyLine false: instructions that the verifier did not reach are not compared
 * @returns how many instructions were compared
 */
export function compareWithLog(
  code: Code,
  { everyLine = true, functions = [] }: { everyLine?: boolean; functions?: readonly FunctionInfo[] } = {},
): number {
  using program = load(code, functions);
  const { bytes, insns } = program.assembled, kernel = parseLog(program.log);
  const names = new Map(
    [...referenceNames(program.assembled)].filter(([slot]) => insns[slot]?.kfunc !== undefined),
  );
  const ours = new Map(
    disassemble(bytes, { names }).map((line) => {
      const colon = line.indexOf(": ");
      return [Number(line.slice(0, colon)), line.slice(colon + 2)];
    }),
  );
  const walked = [...ours.keys()].filter((slot) => everyLine || kernel.has(slot));
  const shown = (lines: Map<number, string>) =>
    walked.map((slot) => {
      const text = lines.get(slot);
      return `${slot}: ${isAddress(insns[slot]) ? text?.replace(/0x[0-9a-f]+$/, "ADDRESS") : text}`;
    });
  expect(shown(kernel)).toEqual(shown(ours));
  return walked.length;
}
