/**
 * BPF programs that are loaded on this machine and work on packets, as far as tracing them needs: the functions of each
 * that have the packet, and the names that the kernel has for them.
 */
import { type Btf, BTF_KIND, parseBtf } from "../btf/parse.ts";
import { parameters, pointee, strip } from "../btf/walk.ts";
import { BtfError, KernelError } from "../errors.ts";
import {
  bpfBtfById,
  bpfObjGetInfoByFd,
  bpfProgCode,
  bpfProgGetFdById,
  bpfProgGetNextId,
  bpfProgInfo,
  infoName,
  type ProgramFunction,
} from "../sys/bpf.ts";
import { OwnedFd } from "../sys/fd.ts";

/** Which programs, as the user calls them. */
export type ProgramKind = "tc" | "xdp";

/** enum bpf_prog_type. Actions of tc have the same context as its classifiers. */
const kindOf: Readonly<Record<number, ProgramKind>> = { 3: "tc", 4: "tc", 6: "xdp" };

/** What a program's functions call the packet. */
const contexts: Readonly<Record<ProgramKind, string>> = { tc: "__sk_buff", xdp: "xdp_md" };
/** Arguments that a function of a program can have. */
const MAX_ARGUMENTS = 5;

/** A function of a program that has the packet. */
export interface PacketFunction {
  /** as /proc/kallsyms has it: bpf_prog_TAG_NAME[bpf] */
  readonly symbol: string;
  /** BTF id of it, in its program's own BTF */
  readonly btfId: number;
  /** of its machine code */
  readonly address: bigint;
  /** which argument is the packet, from 0 */
  readonly argument: number;
}

/** A program that can be traced; its owner closes it. */
export class LoadedProgram extends OwnedFd {
  readonly id: number;
  readonly kind: ProgramKind;
  /** the function that it begins with */
  readonly entry: PacketFunction;
  /** those that it calls with the packet */
  readonly parts: readonly PacketFunction[];

  constructor(fd: number, members: Pick<LoadedProgram, "id" | "kind" | "entry" | "parts">) {
    super(fd);
    this.id = members.id;
    this.kind = members.kind;
    this.entry = members.entry;
    this.parts = members.parts;
  }
}

/** A program that cannot be traced, and why. */
export interface Untraceable {
  readonly id: number;
  /** what its owner called it; "" when it has gone */
  readonly name: string;
  readonly why: string;
}

/** The ids of all loaded programs after `last`, rising. A program's id is larger than those of the programs before it. */
export function* programsAfter(last: number): Generator<number> {
  for (let id = bpfProgGetNextId(last); id !== undefined; id = bpfProgGetNextId(id)) yield id;
}

/**
 * Looks at one program. A program that has gone meanwhile is nothing to speak of, before anybody knew what it was.
 *
 * @returns undefined when it is of no kind that is wanted
 */
export function examineProgram(
  id: number,
  kinds: ReadonlySet<ProgramKind>,
): LoadedProgram | Untraceable | undefined {
  const fd = bpfProgGetFdById(id);
  if (fd === undefined) return undefined;
  let keep = false;
  try {
    const info = bpfObjGetInfoByFd(fd, bpfProgInfo), kind = kindOf[info.type], name = infoName(info.name);
    if (kind === undefined || !kinds.has(kind)) return undefined;
    if (info.btf_id === 0) return { id, name, why: "it was loaded without BTF" };
    const { functions, tag } = bpfProgCode(fd), [first, ...others] = functions;
    if (first === undefined || first.typeId === 0) {
      return { id, name, why: "its BTF does not say where its functions are" };
    }
    if (first.address === 0n) {
      return { id, name, why: "it was not compiled, or its address is hidden (kernel.kptr_restrict)" };
    }
    const btf = btfOf(info.btf_id);
    if (btf === undefined || nameOf(btf, first) === undefined) {
      return { id, name, why: "its BTF does not describe its entry function" };
    }
    keep = true;
    return new LoadedProgram(fd, {
      id,
      kind,
      entry: packetFunction(btf, { ...first, tag }, 0),
      parts: others.flatMap((part) => {
        const argument = contextArgument(btf, part, contexts[kind]);
        return argument === undefined ? [] : [packetFunction(btf, part, argument)];
      }),
    });
  } catch (error) {
    if (error instanceof BtfError) return { id, name: "", why: error.message };
    if (!(error instanceof KernelError)) throw error;
    return { id, name: "", why: `${error.call}: ${error.code}` };
  } finally {
    if (!keep) new OwnedFd(fd)[Symbol.dispose]();
  }
}

function btfOf(btfId: number): Btf | undefined {
  const blob = bpfBtfById(btfId);
  return blob === undefined ? undefined : parseBtf(blob, { name: "program" });
}

function nameOf(btf: Btf, { typeId }: ProgramFunction): string | undefined {
  return typeId > 0 && typeId < btf.endId && btf.kind(typeId) === BTF_KIND.FUNC
    ? btf.nameOf(typeId)
    : undefined;
}

function packetFunction(btf: Btf, traced: ProgramFunction, argument: number): PacketFunction {
  const symbol = `bpf_prog_${traced.tag}_${nameOf(btf, traced)}[bpf]`;
  return { symbol, btfId: traced.typeId, address: traced.address, argument };
}

/** Which argument of a function points to the context, from 0. */
function contextArgument(btf: Btf, traced: ProgramFunction, context: string): number | undefined {
  if (nameOf(btf, traced) === undefined || traced.address === 0n) return undefined;
  const index = [...parameters(btf, traced.typeId)].slice(0, MAX_ARGUMENTS).findIndex(({ type }) => {
    const target = pointee(btf, type), struct = target === undefined ? 0 : strip(btf, target);
    return struct !== 0 && btf.kind(struct) === BTF_KIND.STRUCT && btf.nameOf(struct) === context;
  });
  return index < 0 ? undefined : index;
}
