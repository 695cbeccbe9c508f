/** Programs that know their target since they were loaded: fentry, fexit, tp_btf. Linux 5.5. */
import { bpfLinkCreate, bpfRawTracepointOpen } from "../sys/bpf.ts";
import type { Program } from "../sys/program.ts";
import { Link } from "./link.ts";

/**
 * Attaches to `spec.attachBtfId`.
 *
 * @param cookie what bpf_get_attach_cookie() gives this program here. Linux 6.0
 */
export function attachTracing(program: Program, { cookie }: { cookie?: bigint } = {}): Link {
  if (cookie === undefined) return new Link(bpfRawTracepointOpen({ prog_fd: program.fd }));
  return new Link(bpfLinkCreate({
    prog_fd: program.fd,
    attach_type: program.spec.expectedAttachType ?? 0,
    tracing: { cookie },
  }));
}
