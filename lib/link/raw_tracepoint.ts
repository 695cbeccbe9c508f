/** Raw tracepoints: the program sees the arguments of the trace call, one u64 each. Linux 4.17. */
import { bpfRawTracepointOpen } from "../sys/bpf.ts";
import type { Program } from "../sys/program.ts";
import { Link } from "./link.ts";

/**
 * Attaches to the tracepoint `name`, without its subsystem: "kfree_skb".
 *
 * @throws {KernelError} ENOENT: no such tracepoint; EINVAL: the program reads more arguments than it has
 */
export function attachRawTracepoint(program: Program, name: string): Link {
  return new Link(bpfRawTracepointOpen({ name, prog_fd: program.fd }));
}
