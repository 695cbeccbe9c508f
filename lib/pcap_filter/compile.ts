/**
 * Filter expression -> classic BPF, the language of pcap-filter(7) for the link types EN10MB and RAW.
 *
 * text -> tokens -> syntax tree -> control flow graph -> optimiser -> instructions. Pure: what is not in the
 * expression comes in through the options, the databases of names included.
 */
import type { CbpfInsn } from "../../asm/cbpf.ts";
import { FilterSyntaxError } from "../errors.ts";
import { generate } from "./codegen.ts";
import { asksForHost } from "./codegen/address.ts";
import { initialState, type LinkType } from "./codegen/state.ts";
import { emit } from "./emit.ts";
import { type Block, program, returning } from "./graph.ts";
import type { Names } from "./names.ts";
import { optimize } from "./optimizer.ts";
import { FoldError } from "./optimizer/values.ts";
import { parseFilter } from "./parser.ts";

export type { LinkType };

export interface CompileOptions {
  /** what the packets start with: an Ethernet header, or IPv4 or IPv6 at once */
  readonly linkType: LinkType;
  /** what a match returns, 1 to 2^32 - 1; default 262144 as in tcpdump */
  readonly snaplen?: number;
  /** IPv4 netmask of the interface, for `ip broadcast` */
  readonly netmask?: number;
  readonly names: Names;
  readonly optimize?: boolean;
  /**
   * Let `inbound`, `outbound`, `ifindex N` and `vlan` ask Linux instead of the packet, by loads from
   * SKF_AD_OFF, as on a live socket
   */
  readonly ancillary?: boolean;
}

export interface CompiledFilter {
  readonly source: string;
  readonly linkType: LinkType;
  readonly snaplen: number;
  readonly insns: readonly CbpfInsn[];
}

/**
 * Compiles `source`. The empty expression matches everything.
 *
 * @throws {FilterSyntaxError} with the wording of libpcap and the place in `source`
 * @throws {RangeError} an option makes no sense
 */
export function compileFilter(source: string, options: CompileOptions): CompiledFilter {
  const { linkType, snaplen = 262144, netmask, names, optimize: wanted = true, ancillary = false } = options;
  if (!Number.isInteger(snaplen) || snaplen < 1 || snaplen > 0xffffffff) {
    throw new RangeError(`Cannot compile a filter: snaplen is ${snaplen}, it must be 1 to 4294967295`);
  }
  const { nodes, root, error } = parseFilter(source);
  const state = initialState({ source, names, linkType, netmask, ancillary });
  const test = generate(state, nodes, root);
  if (error !== undefined) throw error;
  if (test === undefined) return { source, linkType, snaplen, insns: emit(returning(snaplen)) };

  const graph = program(test, snaplen);
  graph.statements.unshift(...state.prologue);
  if (!wanted || !state.optimizable) return { source, linkType, snaplen, insns: emit(graph) };
  const insns = emit(optimized(source, graph));
  if (insns.length === 1 && insns[0]!.k === 0) {
    throw new FilterSyntaxError("expression rejects all packets", source, 0, source.length);
  }
  return { source, linkType, snaplen, insns };
}

/** The names that compiling `source` would ask `Names.host` for, so that they can be resolved beforehand. */
export function hostNames(source: string): string[] {
  const names = parseFilter(source).nodes.flatMap((node) =>
    node.kind === "name" && node.scope !== undefined && asksForHost(node.scope) ? [node.name] : []
  );
  return [...new Set(names)];
}

function optimized(source: string, graph: Block): Block {
  try {
    return optimize(graph);
  } catch (error) {
    if (!(error instanceof FoldError)) throw error;
    throw new FilterSyntaxError(error.message, source, 0, source.length);
  }
}
