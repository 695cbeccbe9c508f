/** The optimised program gives the answer of the unoptimised one, except where that one fails on a load. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { validateCbpf } from "../../asm/cbpf.ts";
import { executeCbpf } from "../../asm/cbpf_run.ts";
import { FilterSyntaxError } from "../../lib/errors.ts";
import { type CompiledFilter, compileFilter, type CompileOptions } from "../../lib/pcap_filter/compile.ts";
import { noNames } from "../../lib/pcap_filter/names.ts";
import { Random, randomExpression, randomPacket, redundantExpression } from "./generate.ts";

setDefaultTimeout(120_000); // busy machines

const rejectsAll = { insns: [{ code: 6, jt: 0, jf: 0, k: 0 }] };

/** Undefined for what means nothing. */
function compile(source: string, options: CompileOptions): Pick<CompiledFilter, "insns"> | undefined {
  try {
    return compileFilter(source, options);
  } catch (error) {
    if (!(error instanceof FilterSyntaxError)) throw new Error(`"${source}"`, { cause: error });
    return error.message === "expression rejects all packets" ? rejectsAll : undefined;
  }
}

/** How many runs said yes, so that a test that compares nothing shows. */
function compareVerdicts(
  seed: number,
  expressions: number,
  { ancillary = false, redundant = false }: { ancillary?: boolean; redundant?: boolean } = {},
): number {
  let matches = 0;
  for (let index = 0; index < expressions; index++) {
    const random = new Random(seed + index);
    const linkType = random.chance(70) ? "EN10MB" : "RAW";
    const depth = 2 + random.below(4);
    const source = redundant ? redundantExpression(random, depth) : randomExpression(random, depth);
    const options = { linkType, names: noNames, ancillary } as const;
    const plain = compile(source, { ...options, optimize: false });
    const optimised = compile(source, options);
    if (plain === undefined || optimised === undefined) continue;
    validateCbpf(optimised.insns, { backwardJumps: true, initializedScratch: false });
    for (let count = 0; count < 40; count++) {
      const { bytes, wireLength } = randomPacket(random, linkType);
      const beside = random.chance(50) ? { vlanTag: random.pick([1, 5, 100]) } : {};
      const run = ancillary
        ? { wireLength, ancillary: { packetType: random.below(5), ifindex: random.below(4), ...beside } }
        : { wireLength };
      const wanted = executeCbpf(plain.insns, bytes, run), got = executeCbpf(optimised.insns, bytes, run);
      if (wanted.end !== "return") continue;
      if (got.end !== "return" || got.result !== wanted.result) {
        expect({ seed: seed + index, source, packet: bytes.toHex(), ...got }).toEqual({ ...wanted } as never);
      }
      if (got.result > 0) matches++;
    }
  }
  return matches;
}

test("random expressions on random packets", () => {
  expect(compareVerdicts(1, 1500)).toBeGreaterThan(5000);
});

test("expressions that repeat themselves", () => {
  expect(compareVerdicts(70_000, 1500, { redundant: true })).toBeGreaterThan(5000);
});

test("the same with ancillary loads", () => {
  expect(compareVerdicts(50_000, 500, { ancillary: true })).toBeGreaterThan(2000);
});

describe("what the reference gets wrong", () => {
  const insns = (source: string, linkType: "EN10MB" | "RAW" = "EN10MB") =>
    compileFilter(source, { linkType, names: noNames }).insns;

  test("offsets of a tunnel are computed before they are used", () => {
    for (
      const source of [
        "vxlan and ip",
        "vxlan 5 and arp",
        "vxlan and ether[0] = 2",
        "vlan and vxlan and not ip",
      ]
    ) {
      const program = insns(source);
      expect(() => validateCbpf(program)).not.toThrow(); // no scratch word is read before it is set
    }
  });

  test("a test whose exits were swapped in a pass is not taken for its opposite in that pass", () => {
    const source = "not (src net 2001:db8::/63) or (net 2001:db8::/63)"; // true, whatever the packet
    expect(insns(source)).toEqual([{ code: 6, jt: 0, jf: 0, k: 262144 }]);
  });

  test("an index before the header stays an index", () => {
    const packet = Uint8Array.fromHex(
      "4500002812340000400600000a00000101020304000050000003e8000007d05000200069d80000".padEnd(80, "0"),
    );
    const last = packet[19]!;
    expect(executeCbpf(insns(`tcp[-1] = ${last}`, "RAW"), packet).result).toBeGreaterThan(0);
    expect(insns("ip[0xfffff000] = 1").every(({ code, k }) => code !== 0x30 || k < 0x80000000)).toBe(true);
  });
});

test("huge programs are finished in bounded time", () => {
  const source = Array.from({ length: 3000 }, (_, index) => `host 10.0.${index >> 8}.${index & 255}`).join(
    " or ",
  );
  const { insns } = compileFilter(source, { linkType: "EN10MB", names: noNames });
  validateCbpf(insns, { maxInsns: 1_000_000 });
});
