/**
 * Loads BPF programs that are to be traced. Runs in a virtual machine, compiled, since that has no Bun:
 *
 *     bpf_programs pin FOLDER NAME:KIND:RETURNS[:ARGUMENT]...   loads and pins each; see target_programs.ts
 *     bpf_programs churn SECONDS                                loads and drops programs all the time
 *     bpf_programs switch DEVICE                                an Open vSwitch that drops what comes in there
 */
import { pin } from "../kernel/pin.ts";
import { loadTarget, type Target } from "../kernel/target_programs.ts";
import { dropEverythingFrom } from "./open_vswitch.ts";

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
} else if (command === "switch") dropEverythingFrom(words[0] ?? "");
else {
  for (const end = Date.now() + Number(words[0]) * 1000; Date.now() < end;) {
    using _program = loadTarget({ kind: "tc", name: "fleeting", returns: 0 });
    Bun.sleepSync(5);
  }
}
