/**
 * Loads BPF programs that are to be traced. Runs in a virtual machine, compiled, since that has no Bun:
 *
 *     bpf_programs pin FOLDER NAME:KIND:RETURNS[:ARGUMENT]...   loads and pins each; see target_programs.ts
 *     bpf_programs churn SECONDS                                loads and drops programs all the time
 */
import { scope } from "../../lib/sys/arena.ts";
import { struct, u32, u64 } from "../../asm/layout.ts";
import { syscall } from "../../lib/sys/ffi.ts";
import { loadTarget, type Target } from "../kernel/target_programs.ts";

const BPF_OBJ_PIN = 6;
const objAttr = struct("bpf_attr", { pathname: u64, bpf_fd: u32, file_flags: u32 });

function pin(fd: number, path: string): void {
  using memory = scope();
  const pathname = BigInt(memory.string(path).address);
  const attr = memory.struct(objAttr, { pathname, bpf_fd: fd });
  syscall("bpf", BPF_OBJ_PIN, attr.address, attr.bytes.length);
}

function targetOf(word: string): Target {
  const [name, kind, returns, argument = "context"] = word.split(":");
  return { name, kind, returns: Number(returns), argument } as Target;
}

const [command, ...words] = process.argv.slice(2);
if (command === "pin") {
  const [folder, ...targets] = words;
  for (const target of targets.map(targetOf)) {
    using program = loadTarget(target);
    pin(program.fd, `${folder}/${target.name}`);
  }
} else {
  for (const end = Date.now() + Number(words[0]) * 1000; Date.now() < end;) {
    using _program = loadTarget({ kind: "tc", name: "fleeting", returns: 0 });
    Bun.sleepSync(5);
  }
}
