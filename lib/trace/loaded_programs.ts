/**
 * BPF programs that are loaded on this machine and work on packets, as far as tracing them needs: each one's entry
 * function and the name that the kernel has for it.
 */
import { BTF_KIND, parseBtf } from "../btf/parse.ts";
import { BtfError, KernelError } from "../errors.ts";
import {
  bpfBtfById,
  bpfObjGetInfoByFd,
  bpfProgEntry,
  bpfProgGetFdById,
  bpfProgGetNextId,
  bpfProgInfo,
  infoName,
} from "../sys/bpf.ts";
import { OwnedFd } from "../sys/fd.ts";

/** Which programs, as the user calls them. */
export type ProgramKind = "tc" | "xdp";

/** enum bpf_prog_type. Actions of tc have the same context as its classifiers. */
const kindOf: Readonly<Record<number, ProgramKind>> = { 3: "tc", 4: "tc", 6: "xdp" };

/** A program that can be traced; its owner closes it. */
export class LoadedProgram extends OwnedFd {
  readonly id: number;
  readonly kind: ProgramKind;
  /** as /proc/kallsyms has it: bpf_prog_TAG_NAME[bpf] */
  readonly symbol: string;
  /** BTF id of its entry function, in its own BTF */
  readonly btfId: number;
  /** of its machine code */
  readonly address: bigint;

  constructor(fd: number, members: Pick<LoadedProgram, "id" | "kind" | "symbol" | "btfId" | "address">) {
    super(fd);
    this.id = members.id;
    this.kind = members.kind;
    this.symbol = members.symbol;
    this.btfId = members.btfId;
    this.address = members.address;
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
    const { typeId, address } = bpfProgEntry(fd);
    if (typeId === 0) return { id, name, why: "its BTF does not say where its functions are" };
    if (address === 0n) {
      return { id, name, why: "it was not compiled, or its address is hidden (kernel.kptr_restrict)" };
    }
    const entry = entryName(info.btf_id, typeId);
    if (entry === undefined) return { id, name, why: "its BTF does not describe its entry function" };
    keep = true;
    const symbol = `bpf_prog_${Buffer.from(info.tag).toString("hex")}_${entry}[bpf]`;
    return new LoadedProgram(fd, { id, kind, symbol, btfId: typeId, address });
  } catch (error) {
    if (error instanceof BtfError) return { id, name: "", why: error.message };
    if (!(error instanceof KernelError)) throw error;
    return { id, name: "", why: `${error.call}: ${error.code}` };
  } finally {
    if (!keep) new OwnedFd(fd)[Symbol.dispose]();
  }
}

function entryName(btfId: number, typeId: number): string | undefined {
  const blob = bpfBtfById(btfId);
  if (blob === undefined) return undefined;
  const btf = parseBtf(blob, { name: "program" });
  return typeId < btf.endId && btf.kind(typeId) === BTF_KIND.FUNC ? btf.nameOf(typeId) : undefined;
}
