/** Names for BPF objects, in a BPF file system. */
import { struct, u32, u64 } from "../../asm/layout.ts";
import { scope } from "../../lib/sys/arena.ts";
import { syscall } from "../../lib/sys/ffi.ts";

const BPF_OBJ_PIN = 6;
const objAttr = struct("bpf_attr", { pathname: u64, bpf_fd: u32, file_flags: u32 });

/** @throws {KernelError} */
export function pin(fd: number, path: string): void {
  using memory = scope();
  const pathname = BigInt(memory.string(path).address);
  const attr = memory.struct(objAttr, { pathname, bpf_fd: fd });
  syscall("bpf", BPF_OBJ_PIN, attr.address, attr.bytes.length);
}
