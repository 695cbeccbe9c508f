/**
 * Attaches what tells the programs where packets come from and where they end, for those that follow packets
 * (bpf-programs/lineage.ts).
 *
 * For functions that return packets one kprobe-multi session where the kernel has them (Linux 6.10), else fexit, a
 * program for each (Linux 5.5); for what they do to their arguments always the latter. Where these are not to be had,
 * that is a remark: then children are strangers.
 */
import {
  BPF_TRACE_KPROBE_SESSION,
  bulkEndProgram,
  handOverProgram,
  hasSessions,
  headChangeProgram,
  headerCopyProgram,
  joinedProgram,
  lateEndProgram,
  lineageExitProgram,
  lineageSessionProgram,
  type TracedByName,
} from "../../bpf-programs/lineage.ts";
import type { ProgramSpec } from "../../asm/code.ts";
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
 * of NAPI. `lateEnds` are those that others see it in after they began.
 */
export const endingFunctions = ["kfree_skbmem", "napi_skb_cache_put", "napi_reuse_skb"] as const;

/** Functions that make a packet of memory that they are given, which may have been one before. */
export const beginningFunctions = ["build_skb_around"] as const;

/**
 * Functions that are given a packet in the making, and behind it the one that it is made after. At the return of a
 * function that makes children it is late: by then one may have matched by itself, and have a number of its own.
 */
export const heirFunctions = [
  ..."skb_zerocopy_clone skb_copy_header __copy_skb_header ip_copy_metadata ip6_copy_metadata".split(" "),
] as const;

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

/** The same, of memory that they are given: a frame's, perhaps. */
const builders = ["build_skb_around", "__xdp_build_skb_from_frame"];

/** A function, and the program that is told when it returns, or begins. */
interface Turn {
  readonly name: string;
  /** not where the kernel has this function, which sees to it */
  readonly unless?: string;
  readonly program: (options: TraceOptions, traced: TracedByName) => ProgramSpec;
}

/** Functions that make one of their arguments of another, and those that make one packet of many. */
const handOvers: readonly Turn[] = [
  handOver("skb_morph", { parent: 1, child: 0 }), // the last fragment to come takes over what the first one was
  handOver("skb_split", { parent: 0, child: 1 }), // TCP, of what it has not sent yet
  {
    name: "inet_frag_reasm_finish",
    program: (options, traced) => joinedProgram(options, { ...traced, parent: 1 }),
  },
];

/** Functions at which the buffer of a packet is another one, where frames are packets too. */
const headTurns: readonly Turn[] = [
  { name: "skb_copy_header", program: headerCopyProgram },
  { name: "pskb_expand_head", program: headChangeProgram },
];

/** Functions that free an sk_buff themselves. */
const lateEnds: readonly Turn[] = [
  lateEnd("kfree_skb_partial", 1), // what TCP has merged into another
  { ...lateEnd("napi_skb_free_stolen_head"), unless: "napi_skb_cache_put" }, // what GRO has
  { name: "kmem_cache_free_bulk", program: bulkEndProgram }, // lists, and the caches of NAPI
];

function handOver(name: string, positions: { parent: number; child: number }): Turn {
  return { name, program: (options, traced) => handOverProgram(options, { ...traced, ...positions }) };
}

/** @param when which argument says that it does; absent: it always does */
function lateEnd(name: string, when?: number): Turn {
  return { name, program: (options, traced) => lateEndProgram(options, { ...traced, when }) };
}

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
  using opened = new DisposableStack();
  const programs: Program[] = [], links: Disposable[] = [], remarks: string[] = [];
  const frames = options.tracking?.frames === true, makers = frames ? [...origins, ...builders] : origins;
  const session = attachSession(present(types, [...children, ...makers]), options, context, load);
  if (session !== undefined) {
    programs.push(opened.use(session.program));
    links.push(opened.use(session.link));
  }
  for (
    const { what, members } of turnsToAttach(types, makers, { inSession: session !== undefined, frames })
  ) {
    const refused = new Map<string, string>();
    for (const { name, unless, program: make } of members) {
      const btfId = types.functionId(name);
      if (btfId === undefined) continue; // this kernel does it in another way
      if (unless !== undefined && types.functionId(unless) !== undefined) continue;
      const attempt = tolerate(() => {
        const program = opened.use(load(make(options, { name, btfId })));
        programs.push(program);
        links.push(opened.use(attachTracing(program)));
      });
      if ("why" in attempt) refused.set(name, attempt.why);
    }
    remarks.push(...remark(refused, what));
  }
  opened.move();
  return new Lineage(programs, links, remarks);
}

/** Functions of one kind, and what it means that some of them cannot be traced. */
interface Turns {
  readonly what: string;
  readonly members: readonly Turn[];
}

/** @param inSession a session sees what functions return, for all of them at once */
function turnsToAttach(
  types: BtfTypes,
  makers: readonly string[],
  { inSession, frames }: { readonly inSession: boolean; readonly frames: boolean },
): Turns[] {
  const returning = (names: readonly string[]): Turn[] =>
    inSession ? [] : names.map((name) => ({
      name,
      program: (options, traced) =>
        lineageExitProgram(options, {
          ...traced,
          parameters: [...parameters(types.btf, traced.btfId)].length,
        }),
    }));
  return [
    {
      what: "The children that these make of a packet are not followed",
      members: [...returning(children), ...handOvers],
    },
    {
      what: "A packet from these may be taken for an earlier one at its address",
      members: returning(makers),
    },
    {
      what: "Packets that are turned into frames may be lost at these",
      members: frames ? headTurns : [],
    },
    { what: "What these free is followed until its address is used again", members: lateEnds },
  ];
}

const present = (types: BtfTypes, names: readonly string[]) =>
  names.filter((name) => types.functionId(name) !== undefined);

/** All or nothing: a function that cannot be traced makes the kernel refuse the list. */
function attachSession(
  names: readonly string[],
  options: TraceOptions,
  context: ProbeContext,
  load: Load,
): { readonly program: Program; readonly link: Disposable } | undefined {
  if (!hasSessions(options.kernel)) return undefined;
  const attempt = tolerate(() => load(lineageSessionProgram(options, context)));
  if ("why" in attempt) return undefined;
  const program = attempt.value;
  const link = tolerate(() =>
    new OwnedFd(bpfLinkCreate({
      prog_fd: program.fd,
      attach_type: BPF_TRACE_KPROBE_SESSION,
      kprobe_multi: { syms: names },
    }))
  );
  if ("value" in link) return { program, link: link.value };
  program[Symbol.dispose]();
  return undefined;
}

/** One sentence for all functions of a kind that were refused. */
function remark(refused: ReadonlyMap<string, string>, what: string): string[] {
  if (refused.size === 0) return [];
  return [`${what}: ${[...refused.keys()].join(", ")} (${[...new Set(refused.values())].join(", ")})`];
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
