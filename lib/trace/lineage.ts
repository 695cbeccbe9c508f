/**
 * Attaches what tells the programs where packets come from and where they end, for those that follow packets
 * (bpf-programs/lineage.ts).
 *
 * One kprobe-multi session for all functions where the kernel has them (Linux 6.10); else fexit, a program for each
 * (Linux 5.5). Where neither is to be had, that is a remark: then children are strangers.
 */
import {
  BPF_TRACE_KPROBE_SESSION,
  hasSessions,
  lineageExitProgram,
  lineageSessionProgram,
} from "../../bpf-programs/lineage.ts";
import type { TraceOptions } from "../../bpf-programs/frame.ts";
import type { ProbeContext } from "../../bpf-programs/registers.ts";
import type { BtfTypes } from "../btf/types.ts";
import { parameters } from "../btf/walk.ts";
import { KernelError, VerifierError } from "../errors.ts";
import { attachTracing } from "../link/tracing.ts";
import { bpfLinkCreate } from "../sys/bpf.ts";
import { OwnedFd } from "../sys/fd.ts";
import type { Program } from "../sys/program.ts";
import { type Load, recursionMisses } from "./backend.ts";

/**
 * Functions that see a packet for the last time: the memory of the sk_buff goes back to the slab or to the cache
 * of NAPI. What frees packets in another way leaves their addresses in the set until they are used again.
 */
export const endingFunctions = ["kfree_skbmem", "napi_skb_cache_put", "napi_reuse_skb"] as const;

/** Functions that make a packet of memory that they are given, which may have been one before. */
export const beginningFunctions = ["build_skb_around"] as const;

/** Ends among tracepoints: the last reference is gone. */
export const endingTracepoints: readonly string[] = ["kfree_skb", "consume_skb"];

/** Functions whose first argument is a packet and whose result is its child, or a list of children. */
const children = [
  ..."skb_clone skb_copy __pskb_copy_fclone skb_copy_expand alloc_skb_for_msg".split(" "),
  ..."skb_segment skb_segment_list ip_frag_next ip6_frag_next".split(" "),
];
/** Functions that return a packet from nowhere. Those that only call another of them would add nothing. */
const origins = [
  ..."__alloc_skb __build_skb build_skb napi_build_skb slab_build_skb".split(" "),
  ..."__netdev_alloc_skb __napi_alloc_skb napi_alloc_skb sk_stream_alloc_skb".split(" "),
];

/** What a kernel says to a way of attaching that it does not have. */
interface Refused {
  readonly why: string;
}

/** Hooks at the birth of packets, as long as it is open. */
export class Lineage implements Disposable {
  /** what cannot be followed here, and why */
  readonly remarks: readonly string[];
  readonly #programs: readonly Program[];
  readonly #links: readonly Disposable[];

  constructor(programs: readonly Program[], links: readonly Disposable[], remarks: readonly string[]) {
    this.#programs = programs;
    this.#links = links;
    this.remarks = remarks;
  }

  /** Packets whose origin was not seen, because another program of ours was running on that CPU. */
  missed(): bigint {
    return recursionMisses(this.#programs);
  }

  [Symbol.dispose](): void {
    for (const link of this.#links) link[Symbol.dispose]();
    for (const program of this.#programs) program[Symbol.dispose]();
  }
}

/** @throws {VerifierError} a program of ours is refused, which is a bug */
export function attachLineage(
  options: TraceOptions,
  types: BtfTypes,
  context: ProbeContext,
  load: Load,
): Lineage {
  const present = (names: readonly string[]) => names.filter((name) => types.functionId(name) !== undefined);
  const known = { children: present(children), origins: present(origins) };
  const names = [...known.children, ...known.origins];
  const session = attachSession(names, options, context, load);
  if (session instanceof Lineage) return session;
  return attachExits(known, options, types, load);
}

/** All or nothing: a function that cannot be traced makes the kernel refuse the list. */
function attachSession(
  names: readonly string[],
  options: TraceOptions,
  context: ProbeContext,
  load: Load,
): Lineage | Refused {
  if (!hasSessions(options.kernel)) return { why: "no sessions" };
  const attempt = tolerate(() => load(lineageSessionProgram(options, context)));
  if ("why" in attempt) return attempt;
  const program = attempt.value;
  const link = tolerate(() =>
    new OwnedFd(bpfLinkCreate({
      prog_fd: program.fd,
      attach_type: BPF_TRACE_KPROBE_SESSION,
      kprobe_multi: { syms: names },
    }))
  );
  if ("why" in link) {
    program[Symbol.dispose]();
    return link;
  }
  return new Lineage([program], [link.value], []);
}

function attachExits(
  known: { readonly children: readonly string[]; readonly origins: readonly string[] },
  options: TraceOptions,
  types: BtfTypes,
  load: Load,
): Lineage {
  using opened = new DisposableStack();
  const programs: Program[] = [], links: Disposable[] = [], refused = new Map<string, string>();
  for (const name of [...known.children, ...known.origins]) {
    const attempt = tolerate(() => {
      const btfId = types.functionId(name)!;
      const count = [...parameters(types.btf, btfId)].length;
      const program = opened.use(load(lineageExitProgram(options, { name, btfId, parameters: count })));
      programs.push(program);
      links.push(opened.use(attachTracing(program)));
    });
    if ("why" in attempt) refused.set(name, attempt.why);
  }
  opened.move();
  return new Lineage(programs, links, [
    ...remark(known.children, refused, "The children that these make of a packet are not followed"),
    ...remark(known.origins, refused, "A packet from these may be taken for an earlier one at its address"),
  ]);
}

/** One sentence for all functions of a kind that were refused. */
function remark(names: readonly string[], refused: ReadonlyMap<string, string>, what: string): string[] {
  const lost = names.filter((name) => refused.has(name));
  if (lost.length === 0) return [];
  const reasons = [...new Set(lost.map((name) => refused.get(name)))].join(", ");
  return [`${what}: ${lost.join(", ")} (${reasons})`];
}

/**
 * What `act` gives, or why this kernel does not let us. A program that the verifier refuses is our fault, unless it
 * is that the function is nowhere (ENOENT): inlined, and still in BTF.
 */
function tolerate<T>(act: () => T): { readonly value: T } | Refused {
  try {
    return { value: act() };
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    if (error instanceof VerifierError && error.code !== "ENOENT") throw error;
    return { why: `${error.call}: ${error.code}` };
  }
}
