/**
 * Code -> bytes: labels become jump distances, items become slots, maps become relocations.
 *
 * A slot is 8 bytes: opcode, dst | src << 4, s16 off, s32 imm (RFC 9669, section 3).
 */
import { type Code, type Insn, items, Label, type MapSpec } from "./code.ts";
import { AssemblyError } from "./errors.ts";
import { BPF_CALL, BPF_JA, BPF_JMP, BPF_JMP32 } from "./opcodes.ts";

/** A map's fd that the loader writes into `imm` of a slot; `offset` goes into the next one. */
export interface Relocation {
  readonly slot: number;
  readonly map: MapSpec;
  readonly offset: number | undefined;
}

/** Encoded code; map fds are still 0. */
export interface Assembled {
  /** 8 bytes a slot */
  readonly bytes: Uint8Array;
  readonly relocations: readonly Relocation[];
  /** the instruction that each slot belongs to, for messages */
  readonly insns: readonly Insn[];
  /** the slot at which each label lies */
  readonly labels: ReadonlyMap<Label, number>;
}

/**
 * Lays the items of `code` out and resolves what refers to other items.
 *
 * @throws {AssemblyError} a label that is never placed, placed twice, or out of a jump's reach
 */
export function assemble(code: Code): Assembled {
  const labels = new Map<Label, number>(), insns: Insn[] = [], places: number[] = [];
  let slot = 0;
  for (const item of items(code)) {
    if (item instanceof Label) {
      if (labels.has(item)) {
        throw new AssemblyError("Label is placed twice", { label: item.name, item: item.name });
      }
      labels.set(item, slot);
    } else {
      insns.push(item);
      places.push(slot);
      slot += item.slots;
    }
  }

  const bytes = new Uint8Array(new ArrayBuffer(slot * 8)), view = new DataView(bytes.buffer);
  const relocations: Relocation[] = [], bySlot: Insn[] = [];
  for (const [index, insn] of insns.entries()) {
    const at = places[index] as number, where = at * 8;
    let { off, imm } = insn;
    if (insn.target !== undefined) {
      const distance = distanceTo(insn, insn.target, at, labels);
      if (isWide(insn)) imm = distance;
      else off = distance;
    }
    if (insn.reference?.kind === "function") {
      imm = BigInt.asUintN(32, BigInt(distanceTo(insn, insn.reference.target, at, labels)));
    } else if (insn.reference !== undefined) {
      const { kind, map } = insn.reference;
      relocations.push({ slot: at, map, offset: kind === "map_value" ? insn.reference.offset : undefined });
    }
    view.setUint8(where, insn.opcode);
    view.setUint8(where + 1, insn.dst | (insn.src << 4));
    view.setInt16(where + 2, off, true);
    view.setUint32(where + 4, Number(BigInt.asUintN(32, BigInt(imm))), true);
    if (insn.slots === 2) view.setUint32(where + 12, Number(BigInt.asUintN(64, BigInt(imm)) >> 32n), true);
    for (let i = 0; i < insn.slots; i++) bySlot.push(insn);
  }
  return { bytes, relocations, insns: bySlot, labels };
}

/** Whether the distance of a jump or call lies in `imm`, not in `off`. */
export function isWide({ opcode }: Insn): boolean {
  return opcode === (BPF_JMP32 | BPF_JA) || opcode === (BPF_JMP | BPF_CALL);
}

function distanceTo(insn: Insn, target: Label, at: number, labels: ReadonlyMap<Label, number>): number {
  const place = labels.get(target);
  if (place === undefined) {
    throw new AssemblyError("Label is never placed", { label: target.name, item: insn.text });
  }
  const distance = place - at - 1;
  if (insn.target !== undefined && !isWide(insn) && (distance < -0x8000 || distance > 0x7fff)) {
    throw new AssemblyError(`Jump over ${distance} slots does not fit 16 bits`, {
      label: target.name,
      item: insn.text,
    });
  }
  return distance;
}
