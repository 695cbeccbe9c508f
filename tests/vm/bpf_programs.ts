/**
 * Loads BPF programs that are to be traced. Runs in a virtual machine, compiled, since that has no Bun:
 *
 *     bpf_programs pin FOLDER NAME:KIND:RETURNS[:ARGUMENT][:DEED[=VALUE]]...   loads and pins each, and maps; see
 *                                                                             target_programs.ts
 *     bpf_programs churn SECONDS                                              loads and drops programs all the time
 *     bpf_programs switch DEVICE                                              an Open vSwitch that drops what comes in there
 *
 * `jump=NAME` goes on in a program that was named before.
 */
import { Maps } from "../../lib/maps/maps.ts";
import { pin } from "../kernel/pin.ts";
import { type Deed, loadTarget, type Target, targetMaps } from "../kernel/target_programs.ts";
import { dropEverythingFrom } from "./open_vswitch.ts";

function deedOf(what: string, value: string): Deed {
  return what === "redirect" ? { what, ifindex: Number(value) } : { what } as Deed;
}

const [command, ...words] = process.argv.slice(2);
if (command === "pin") {
  const [folder, ...targets] = words, loaded = new Map<string, number>();
  for (const word of targets) {
    const [name = "", kind, returns, argument = "context", deed] = word.split(":");
    const [what, value = ""] = deed?.split("=") ?? [];
    const target = { name, kind, returns: Number(returns), argument } as Target;
    const maps = new Maps(); // kept open: who jumps finds nothing once the last one has closed its map
    const program = loadTarget(what === undefined ? target : { ...target, does: deedOf(what, value) }, maps);
    if (what === "jump") {
      const key = new Uint8Array(4), fd = new Uint8Array(Uint32Array.of(loaded.get(value)!).buffer);
      maps.get(targetMaps.jumps).update(key, fd);
      pin(maps.get(targetMaps.jumps).fd, `${folder}/${name}_jumps`);
    }
    loaded.set(name, program.fd);
    pin(program.fd, `${folder}/${name}`);
  }
} else if (command === "switch") dropEverythingFrom(words[0] ?? "");
else {
  for (const end = Date.now() + Number(words[0]) * 1000; Date.now() < end;) {
    using _program = loadTarget({ kind: "tc", name: "fleeting", returns: 0 });
    Bun.sleepSync(5);
  }
}
