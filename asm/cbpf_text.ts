/** Classic BPF as people and tools read it: the three listings of `tcpdump -d`, `-dd` and `-ddd`. */
import { ancillary, type CbpfInsn, type Instruction, instructions, isBranch, SKF_AD_OFF } from "./cbpf.ts";

/** One line per instruction: `(001) jeq      #0x800           jt 2	jf 5`. */
export function formatCbpf(insns: readonly CbpfInsn[]): string {
  return insns.map((insn, pc) => `${formatCbpfInsn(insn, pc)}\n`).join("");
}

/** One line of formatCbpf, without the newline. */
export function formatCbpfInsn(insn: CbpfInsn, pc: number): string {
  const row = instructions.get(insn.code) ?? { mnemonic: "unimp", operand: "hex" };
  const head = `(${String(pc).padStart(3, "0")}) ${row.mnemonic.padEnd(8)} `;
  const operand = formatOperand(row, insn.k, pc);
  if (!isBranch(insn.code)) return head + operand;
  return `${head}${operand.padEnd(16)} jt ${pc + 1 + insn.jt}\tjf ${pc + 1 + insn.jf}`;
}

/** An initialiser for an array of `struct bpf_insn` in C. */
export function formatCbpfC(insns: readonly CbpfInsn[]): string {
  return insns.map(({ code, jt, jf, k }) =>
    `{ 0x${code.toString(16)}, ${jt}, ${jf}, 0x${k.toString(16).padStart(8, "0")} },\n`
  ).join("");
}

/** The count, then `code jt jf k` in decimal; what `iptables -m bpf` and `tc` take after joining lines. */
export function formatCbpfNumbers(insns: readonly CbpfInsn[]): string {
  return `${insns.length}\n` + insns.map(({ code, jt, jf, k }) => `${code} ${jt} ${jf} ${k}\n`).join("");
}

/**
 * Reads what formatCbpfNumbers writes.
 *
 * @throws {SyntaxError} a line is no instruction, or the count is wrong
 */
export function parseCbpfNumbers(text: string): CbpfInsn[] {
  const [count, ...lines] = text.trimEnd().split("\n");
  const insns = lines.map((line) => {
    const fields = line.trim().split(/ +/).map(Number);
    if (fields.length !== 4 || !fields.every(Number.isInteger)) {
      throw new SyntaxError(`Cannot read classic BPF: "${line}" is not "code jt jf k"`);
    }
    const [code, jt, jf, k] = fields as [number, number, number, number];
    return { code, jt, jf, k: k >>> 0 };
  });
  if (Number(count) !== insns.length) {
    throw new SyntaxError(
      `Cannot read classic BPF: "${count}" announced, ${insns.length} instructions follow`,
    );
  }
  return insns;
}

const ancillaryTexts: ReadonlyMap<number, string> = new Map(
  Object.values(ancillary).map((row) => [SKF_AD_OFF + row.offset, row.text]),
);

function formatOperand({ operand }: Instruction, k: number, pc: number): string {
  switch (operand) {
    case "none":
      return "";
    case "decimal":
      return `#${k | 0}`;
    case "hex":
      return `#0x${k.toString(16)}`;
    case "packet":
      return `[${ancillaryTexts.get(k) ?? k | 0}]`;
    case "indexed":
      return `[x + ${k | 0}]`;
    case "scratch":
      return `M[${k}]`;
    case "length":
      return "#pktlen";
    case "nibble":
      return `4*([${k | 0}]&0xf)`;
    case "x":
      return "x";
    case "jump":
      return `${pc + 1 + (k | 0)}`;
  }
}
