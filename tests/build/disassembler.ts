/** Foreign disassemblers, to check our emitters against: GNU objdump, or llvm-mc where that knows more. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type Disassembler = (code: Uint8Array) => string[];

/** objdump's lines, one per instruction, blanks squeezed and comments cut. */
function objdump(program: string, flags: readonly string[]): Disassembler {
  return (code) => {
    const folder = mkdtempSync(join(tmpdir(), "pwru-code-")), file = join(folder, "code");
    try {
      writeFileSync(file, code);
      const argv = [program, "-D", "-z", "-b", "binary", ...flags, "--no-show-raw-insn", file];
      const done = Bun.spawnSync(argv, { env: { ...process.env, LC_ALL: "C" } });
      if (!done.success) throw new Error(done.stderr.toString());
      return [...done.stdout.toString().matchAll(/^ *[0-9a-f]+:\t(.*)$/gm)]
        .map((match) => (match[1] ?? "").replace(/ *(# |\/\/).*/, "").replace(/\s+/g, " ").trim());
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  };
}

/** The one for x86-64 that is installed, if any. */
export function x64Disassembler(): Disassembler | undefined {
  const program = ["objdump", "x86_64-linux-gnu-objdump"].find((name) =>
    Bun.which(name) !== null &&
    Bun.spawnSync([name, "--info"]).stdout.toString().includes("elf64-x86-64")
  );
  return program === undefined ? undefined : objdump(program, ["-m", "i386:x86-64", "-M", "intel"]);
}

/** The one for arm64 that is installed, if any. */
export function arm64Disassembler(): Disassembler | undefined {
  const program = ["objdump", "aarch64-linux-gnu-objdump"].find((name) =>
    Bun.which(name) !== null && Bun.spawnSync([name, "--info"]).stdout.toString().includes("aarch64")
  );
  return program === undefined ? undefined : objdump(program, ["-m", "aarch64"]);
}
