/** `--dump-filter`: what an expression compiles to, as tcpdump prints it, or as the programs run it on this kernel. */
import { assemble } from "../../asm/assemble.ts";
import type { CbpfInsn } from "../../asm/cbpf.ts";
import { formatCbpf, formatCbpfC, formatCbpfNumbers } from "../../asm/cbpf_text.ts";
import type { KernelTypes } from "../../asm/code.ts";
import { disassemble, referenceNames } from "../../asm/disasm.ts";
import { traceMaps } from "../../bpf-programs/maps.ts";
import { bulkAccess, directAccess } from "../../bpf-programs/memory_access.ts";
import { filterFragment } from "../../bpf-programs/match.ts";
import type { DumpForm } from "./options.ts";

/**
 * @param kernel is asked for only where the listing depends on it
 * @returns lines, the last one ended too
 */
export function dumpText(
  form: DumpForm,
  insns: readonly CbpfInsn[],
  kernel: () => KernelTypes,
): string {
  switch (form) {
    case "text":
      return formatCbpf(insns);
    case "c":
      return formatCbpfC(insns);
    case "numbers":
      return formatCbpfNumbers(insns);
    case "ebpf":
      return ebpfText(insns, kernel());
    case "":
      return "";
  }
}

/** The fragment in the verifier's notation, then where its ways out lie. */
function ebpfText(insns: readonly CbpfInsn[], kernel: KernelTypes): string {
  const access = directAccess(kernel) ?? bulkAccess(), maps = traceMaps(1 << 20);
  const { code, ends } = filterFragment({ kernel, access, maps, meta: false, tuple: false }, insns);
  const assembled = assemble(code);
  const nameOf = new Map(ends.map((end) => [assembled.labels.get(end), end.name]));
  return disassemble(assembled.bytes, { names: referenceNames(assembled) }).map((line) => {
    const name = nameOf.get(parseInt(line));
    return `${name === undefined ? line : `${parseInt(line)}: ${name}`}\n`;
  }).join("");
}
