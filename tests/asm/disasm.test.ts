/** Bytes -> the verifier log's text. tests/kernel/disasm.test.ts asks the kernel whether it agrees. */
import { describe, expect, test } from "bun:test";
import { assemble } from "../../asm/assemble.ts";
import { disassemble, referenceNames } from "../../asm/disasm.ts";
import { helperId } from "../../asm/helpers.ts";
import {
  call,
  callKfunc,
  exit,
  lddw,
  ldFunction,
  ldMap,
  ldMapValue,
  neg,
  r0,
  r1,
  r2,
  ret,
} from "../../asm/insn.ts";
import { label } from "../../asm/code.ts";
import { hexToBytes, slotsToHex } from "./hex.ts";
import { after, before, events, rows, stats } from "./insn_rows.ts";
import { anywhere, randomFrom, randomInsn } from "./random_insn.ts";

describe("one instruction", () => {
  test.each(rows.map(([insn, text, _, log]) => [text, log, insn] as const))("%s reads %s", (_, log, insn) => {
    const assembled = assemble([before, neg(r0), insn, neg(r0), after]);
    const lines = disassemble(assembled.bytes, { names: referenceNames(assembled) });
    expect(lines).toEqual([
      "0: (87) r0 = -r0",
      `1: (${insn.opcode.toString(16).padStart(2, "0")}) ${log}`,
      `${1 + insn.slots}: (87) r0 = -r0`,
    ]);
  });
});

describe("references", () => {
  const each = label("each");
  const assembled = assemble([
    ldMap(r1, events),
    ldMapValue(r1, stats, 8),
    ldFunction(r2, each),
    callKfunc("bpf_kfunc", 7),
    exit(),
    each,
    ret(0),
  ]);

  test("have names if the caller knows them", () => {
    expect(disassemble(assembled.bytes, { names: referenceNames(assembled) })).toEqual([
      "0: (18) r1 = map[events]",
      "2: (18) r1 = map[stats][0]+8",
      "4: (18) r2 = subprog[each]",
      "6: (85) call bpf_kfunc#7",
      "7: (95) exit",
      "8: (b7) r0 = 0",
      "9: (95) exit",
    ]);
  });

  test("else they are what the bytes hold", () => {
    expect(disassemble(assembled.bytes).slice(0, 4)).toEqual([
      "0: (18) r1 = 0x0",
      "2: (18) r1 = 0x0",
      "4: (18) r2 = 0x3",
      "6: (85) call kernel-function#7",
    ]);
  });

  test("names lie at the first slot only, also when one instruction stands there twice", () => {
    const load = ldMap(r1, events), twice = assemble([load, load, ldFunction(r2, each), each, exit()]);
    expect([...referenceNames(twice).keys()].sort()).toEqual([0, 2, 4]);
  });
});

test.each(Object.entries(helperId))("call %s#%i", (name, id) => {
  const { bytes } = assemble(call(name as keyof typeof helperId));
  expect(disassemble(bytes)).toEqual([`0: (85) call ${name}#${id}`]);
});

describe("bytes that no constructor gives", () => {
  // deno-fmt-ignore
  test.each<[what: string, bytes: string, text: string]>([
    ["a map by index", "18 51 0000 02000000 00 00 0000 00000000", "(18) r1 = 0x2"],
    ["a map value by index", "18 61 0000 02000000 00 00 0000 08000000", "(18) r1 = 0x800000002"],
    ["a helper that does not exist", "85 00 0000 ff0f0000", "(85) call unknown#4095"],
    ["a negative one", "85 00 0000 ffffffff", "(85) call unknown#-1"],
    ["registers that do not exist", "bf fe 0000 00000000", "(bf) r14 = r15"],
    ["a division variant", "37 01 0200 01000000", "(37) unknown 3701020001000000"],
    ["an addition variant", "07 01 0100 01000000", "(07) unknown 0701010001000000"],
    ["a sign extension from 64 bits", "bf 21 4000 00000000", "(bf) unknown bf21400000000000"],
    ["a 32-bit one from 32", "bc 21 2000 00000000", "(bc) unknown bc21200000000000"],
    ["a sign extension of a constant", "b7 01 0800 01000000", "(b7) unknown b701080001000000"],
    ["an atomic subtraction", "db 21 0000 10000000", "(db) unknown db21000010000000"],
    ["an atomic exchange without fetch", "db 21 0000 e0000000", "(db) unknown db210000e0000000"],
    ["a two-byte atomic", "cb 21 0000 00000000", "(cb) unknown cb21000000000000"],
    ["an eight-byte sign extension", "99 21 0000 00000000", "(99) unknown 9921000000000000"],
    ["an eight-byte packet load", "38 00 0000 00000000", "(38) unknown 3800000000000000"],
    ["a call of a fourth kind", "85 30 0000 00000000", "(85) unknown 8530000000000000"],
    ["a 32-bit call", "86 00 0000 05000000", "(86) unknown 8600000005000000"],
    ["a 32-bit exit", "96 00 0000 00000000", "(96) unknown 9600000000000000"],
    ["a jump to a register", "0d 01 0000 00000000", "(0d) unknown 0d01000000000000"],
  ])("%s", (_, bytes, text) => {
    expect(disassemble(hexToBytes(bytes))).toEqual([`0: ${text}`]);
  });

  test("known opcodes are those of the constructors, and no more", () => {
    const built = new Set(rows.map(([insn]) => insn.opcode));
    const read = Array.from({ length: 256 }, (_, opcode) => opcode).filter((opcode) => {
      const bytes = new Uint8Array(16);
      bytes[0] = opcode;
      return !disassemble(bytes)[0]?.includes("unknown") || opcode === 0x85; // helper 0 is unknown, the call is not
    });
    expect(read).toEqual([...built].sort((a, b) => a - b));
    // RFC 9669: 13 + 12 arithmetic operations by K and X, 3 byte swaps, 11 conditions by class and K or X,
    // 4 jumps, 4 + 3 + 4 + 4 moves, 1 wide load, 6 packet loads, 2 atomic widths
    expect(read).toHaveLength(2 * (12 * 2 + 1) + 3 + 11 * 4 + 4 + 15 + 1 + 6 + 2);
  });

  test("half an instruction", () => {
    expect(() => disassemble(new Uint8Array(12))).toThrow(
      new RangeError("12 bytes are no whole number of slots"),
    );
    const { bytes } = assemble([exit(), lddw(r1, 1)]);
    expect(() => disassemble(bytes.subarray(0, 16))).toThrow(
      new RangeError("The two-slot load in slot 1 has no second slot"),
    );
  });

  test("nothing, and a view into something larger", () => {
    expect(disassemble(new Uint8Array())).toEqual([]);
    const { bytes } = assemble([ret(1), lddw(r1, -1), exit()]);
    expect(disassemble(bytes.subarray(16))).toEqual(["0: (18) r1 = 0xffffffffffffffff", "2: (95) exit"]);
  });
});

test("no two instructions read the same", () => {
  const random = randomFrom(1), seen = new Map<string, string>();
  for (let i = 0; i < 20_000; i++) {
    const insn = randomInsn(random);
    const { bytes } = assemble([anywhere, insn]), [line = ""] = disassemble(bytes), hex = slotsToHex(bytes);
    if (line.includes("unknown")) throw new Error(`${insn.text} reads ${line}`);
    if ((seen.get(line) ?? hex) !== hex) throw new Error(`${line} is ${hex} and ${seen.get(line)}`);
    seen.set(line, hex);
  }
  expect(seen.size).toBeGreaterThan(5000);
});
