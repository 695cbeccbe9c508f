/**
 * Removes what no path reaches: the verifier refuses a program with dead code (kernel/bpf/verifier.c,
 * check_cfg). A filter that can never match, or never fail, leaves some behind.
 */
import { type Code, type Insn, items, Label } from "./code.ts";
import { BPF_EXIT, BPF_JA, BPF_JMP, BPF_JMP32 } from "./opcodes.ts";

/** `code` without unreachable instructions; labels stay, so that every reference still has its place. */
export function withoutDeadCode(code: Code): Code {
  const list = [...items(code)];
  const places = new Map(
    list.flatMap((item, index) => item instanceof Label ? [[item, index] as const] : []),
  );
  const reached = new Uint8Array(list.length), open = [0];
  for (let index = open.pop(); index !== undefined; index = open.pop()) {
    if (index >= list.length || reached[index] === 1) continue;
    reached[index] = 1;
    const item = list[index] as Insn | Label;
    if (item instanceof Label) {
      open.push(index + 1);
      continue;
    }
    const targets = [item.target, item.reference?.kind === "function" ? item.reference.target : undefined];
    for (const target of targets) {
      const place = target === undefined ? undefined : places.get(target);
      if (place !== undefined) open.push(place); // a label that is never placed is assemble()'s to refuse
    }
    if (!endsFlow(item)) open.push(index + 1);
  }
  return list.filter((item, index) => item instanceof Label || reached[index] === 1);
}

/** Whether the next instruction is not reached from this one. */
export function endsFlow({ opcode }: Insn): boolean {
  return opcode === (BPF_JMP | BPF_EXIT) || opcode === (BPF_JMP | BPF_JA) || opcode === (BPF_JMP32 | BPF_JA);
}
