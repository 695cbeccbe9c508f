/** Our text of kernel structs, against what the kernel itself makes of the same bytes. */
import { describe, expect, setDefaultTimeout } from "bun:test";
import { compileDump } from "../../lib/btf/dump.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { type Btf, BTF_KIND } from "../../lib/btf/parse.ts";
import { arrayOf, members, pointee, sizeOf, strip, typeText } from "../../lib/btf/walk.ts";
import { BtfError } from "../../lib/errors.ts";
import { type Random, randomFrom } from "../asm/random_insn.ts";
import { hasKernelBtf } from "../kernel_btf.ts";
import { DumpLab, MAX_VALUE_BYTES } from "./dump_lab.ts";
import { kernelTest } from "./requires.ts";

setDefaultTimeout(120_000); // on a busy machine

/** From all zero to all noise. */
function randomValue(size: number, random: Random): Uint8Array {
  const every = [1, 2, 8, 64, 100_000][random(5)]!, most = [256, 128, 4][random(3)]!;
  return Uint8Array.from({ length: size }, () => random(every) === 0 ? random(most) : 0);
}

/** The kernel's text, but for letters beyond ASCII: those we show as numbers. */
function kernelText(lab: DumpLab, id: number, value: Uint8Array): string {
  return lab.text(id, value).replace(/'([\xa0-\xff])'/g, (_, letter: string) => String(letter.charCodeAt(0)));
}

const qualifiers: readonly number[] = [
  BTF_KIND.CONST,
  BTF_KIND.VOLATILE,
  BTF_KIND.RESTRICT,
  BTF_KIND.TYPE_TAG,
];

/**
 * Whether the kernel shows values of this type wrongly: it forgets the name behind a qualifier, repeats the first of
 * several pointers, reads 4 bytes of smaller enums, and begins labels anew behind an array in an array.
 */
function isWrongInKernel(btf: Btf, id: number, inArray = false): boolean {
  if (qualifiers.includes(btf.kind(id))) return true;
  const at = strip(btf, id), kind = btf.kind(at);
  if (kind === BTF_KIND.ENUM || kind === BTF_KIND.ENUM64) return btf.sizeOrType(at) < 4;
  if (kind === BTF_KIND.STRUCT || kind === BTF_KIND.UNION) {
    return [...members(btf, at)].some(({ type }) => isWrongInKernel(btf, type, inArray));
  }
  const array = arrayOf(btf, at);
  if (array === undefined || array.count === 0) return false;
  return inArray || pointee(btf, array.element) !== undefined || isWrongInKernel(btf, array.element, true);
}

describe.skipIf(!hasKernelBtf)("dumps (needs kernel BTF)", () => {
  const btf = hasKernelBtf ? loadKernelBtf() : undefined;

  kernelTest([5, 10], "the structs of packets, from empty to full", () => {
    using lab = new DumpLab();
    const random = randomFrom(1);
    for (const name of ["sk_buff", "skb_shared_info"]) {
      const id = btf!.find(name, BTF_KIND.STRUCT)!, size = sizeOf(btf!, id), dump = compileDump(btf!, id);
      expect(isWrongInKernel(btf!, id)).toBe(false);
      for (let round = 0; round < 200; round++) {
        const value = randomValue(size, random);
        expect(dump(new DataView(value.buffer), 0)).toBe(kernelText(lab, id, value));
      }
    }
  });

  kernelTest(
    [6, 1],
    "every struct and union of the kernel, and its integers, enums, pointers and arrays",
    () => {
      using lab = new DumpLab();
      const random = randomFrom(2),
        wanted: readonly number[] = [
          BTF_KIND.INT,
          BTF_KIND.PTR,
          BTF_KIND.ARRAY,
          BTF_KIND.STRUCT,
          BTF_KIND.UNION,
          BTF_KIND.ENUM,
          BTF_KIND.ENUM64,
          BTF_KIND.TYPEDEF,
        ];
      let compared = 0;
      for (let id = 1; id < btf!.endId; id++) {
        const size = wanted.includes(btf!.kind(id)) ? sizeOrNothing(btf!, id) : 0;
        if (size === 0 || size > MAX_VALUE_BYTES || isWrongInKernel(btf!, id)) continue;
        const value = randomValue(size, random);
        const ours = compileDump(btf!, id)(new DataView(value.buffer), 0);
        if (ours.length > 30_000 || hasLongLabel(ours)) continue; // more than there is room for in the test
        const type = typeText(btf!, id);
        expect({ type, text: ours }).toEqual({ type, text: kernelText(lab, id, value) });
        compared++;
      }
      expect(compared).toBeGreaterThan(10_000);
    },
  );
});

/** The kernel cuts a label, `.name = (type){`, at 79 characters. */
function hasLongLabel(text: string): boolean {
  return /^ *[^)\n]{76}/m.test(text);
}

/** 0 for what has no size: void, a struct that is only declared. */
function sizeOrNothing(btf: Btf, id: number): number {
  try {
    return sizeOf(btf, id);
  } catch (error) {
    if (error instanceof BtfError) return 0;
    throw error;
  }
}
