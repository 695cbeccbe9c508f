/** Constructors straight to bytes, fragments, and everything that has no encoding. */
import { describe, expect, test } from "bun:test";
import { assemble } from "../../asm/assemble.ts";
import { type Code, type Insn, label } from "../../asm/code.ts";
import { AssemblyError } from "../../asm/errors.ts";
import * as constructors from "../../asm/insn.ts";
import {
  add,
  at,
  atomicAdd,
  atomicCmpxchg,
  be,
  call,
  callKfunc,
  copy,
  div,
  extract,
  fp,
  jeq,
  jset32,
  ldAbs,
  ldBtfVariable,
  lddw,
  ldMapValue,
  ldx,
  ldxsx,
  lea,
  lsh,
  lsh32,
  mov,
  mov32,
  movsx32,
  neg,
  probeRead,
  r0,
  r1,
  r2,
  r3,
  r6,
  r7,
  ret,
  st,
  stx,
} from "../../asm/insn.ts";
import { bytes, s16, s8, struct, u16, u32, u64, u8 } from "../../asm/layout.ts";
import { aluOps, atomicOps, jumpOps } from "../../asm/opcodes.ts";
import { slotsToHex } from "./hex.ts";
import { after, before, rows, stats } from "./insn_rows.ts";

const key = struct("key", { address: bytes(16), tag: bytes(4), port: s16, pad: u16 });

/** `insn` between two one-slot instructions, so that a jump can go to `before` and `after`. */
function encodeAlone(insn: Insn): string {
  const { bytes } = assemble([before, neg(r0), insn, neg(r0), after]);
  return slotsToHex(bytes.subarray(8, -8));
}

describe("one instruction", () => {
  test.each(rows.map(([insn, text, bytes]) => [text, bytes, insn] as const))("%s", (text, bytes, insn) => {
    expect(encodeAlone(insn)).toBe(bytes);
    expect(insn.text).toBe(text);
    expect(Object.isFrozen(insn)).toBe(true);
  });
});

describe("the table of rows", () => {
  const tested = new Set(rows.map(([{ text }]) => text.split(" ")[0]));
  for (const name of ["le", "be", "bswap"]) {
    if ([16, 32, 64].every((n) => tested.has(name + n))) tested.add(name);
  }

  test("has every constructor", () => {
    const elsewhere = new Set([
      "Register",
      "FramePointer",
      "at",
      "ret",
      "lea",
      "copy",
      "extract",
      "probeRead",
    ]);
    const missing = Object.entries(constructors)
      .filter(([name, value]) => typeof value === "function" && !tested.has(name) && !elsewhere.has(name))
      .map(([name]) => name);
    expect(missing).toEqual([]);
  });

  test.each([...Object.keys(aluOps), ...Object.keys(jumpOps)])("%s: 64 and 32 bits, K and X", (name) => {
    for (const mnemonic of [name, `${name}32`]) {
      const forms = rows.filter(([{ text }]) => text.startsWith(`${mnemonic} `));
      expect(new Set(forms.map(([{ opcode }]) => opcode & 0x08))).toEqual(new Set([0x00, 0x08]));
    }
  });

  test.each(Object.keys(atomicOps))("%s: 4 and 8 bytes", (name) => {
    const forms = rows.filter(([{ text }]) => text.startsWith(`${name} `));
    expect(new Set(forms.map(([{ opcode }]) => opcode & 0x18))).toEqual(new Set([0x00, 0x18]));
  });
});

describe("memory operands", () => {
  // deno-fmt-ignore
  test.each<[name: string, code: Code, bytes: string]>([
    ["stx [r1 + key.port], r2",  stx(at(r1, key.fields.port), r2),  "6b 21 1400 00000000"],
    ["ldx r2, [r1 + key.tag]",   ldx(r2, at(r1, key.fields.tag)),   "61 12 1000 00000000"],
    ["ldxsx r2, [fp - 2]",       ldxsx(r2, at(fp, -2, s16)),        "89 a2 feff 00000000"],
  ])("%s", (name, code, bytes) => {
    const assembled = assemble(code);
    expect(slotsToHex(assembled.bytes)).toBe(bytes);
    expect(assembled.insns[0]?.text).toBe(name);
  });

  test("width and sign come from the type; an array moves unsigned", () => {
    expect(at(r1, key.fields.port)).toMatchObject({ offset: 20, width: 2, signed: true });
    expect(at(r1, key.fields.tag)).toMatchObject({ offset: 16, width: 4, signed: false });
    expect(at(r1, s8)).toMatchObject({ offset: 0, width: 1, signed: true, text: "[r1]" });
    expect(at(r1, -8, u64)).toMatchObject({ offset: -8, width: 8, signed: false, text: "[r1 - 8]" });
  });
});

describe("fragments", () => {
  // deno-fmt-ignore
  test.each<[name: string, code: Code, bytes: string]>([
    ["ret(-1)", ret(-1), "b7 00 0000 ffffffff 95 00 0000 00000000"],
    ["copy", copy(r1, r6), "bf 61 0000 00000000"],
    ["copy onto itself", copy(r1, r1), ""],
    ["extract the lowest byte", extract(r1, r6, 0, 8), "bc 61 0000 00000000 54 01 0000 ff000000"],
    ["extract all of a byte", extract(r1, r6, 0, 8, 8), "bc 61 0000 00000000"],
    ["extract the upper byte of 16 bits", extract(r1, r6, 8, 8, 16), "bc 61 0000 00000000 74 01 0000 08000000"],
    ["extract bits 16 to 31", extract(r1, r6, 16, 16), "bc 61 0000 00000000 74 01 0000 10000000"],
    ["extract the upper half in place", extract(r6, r6, 32, 32), "77 06 0000 20000000"],
    [
      "extract bits 32 to 47",
      extract(r1, r6, 32, 16),
      "bf 61 0000 00000000 67 01 0000 10000000 77 01 0000 30000000",
    ],
    ["lea without offset", lea(r1, at(r6, u64)), "bf 61 0000 00000000"],
    ["lea with one", lea(r1, at(fp, -8, u64)), "bf a1 0000 00000000 07 01 0000 f8ffffff"],
    ["probeRead", probeRead(at(r7, 16, u32), at(r6, u32)),
      "bf 63 0000 00000000 bf 71 0000 00000000 07 01 0000 10000000 b7 02 0000 04000000 85 00 0000 71000000"],
  ])("%s", (_, code, bytes) => {
    expect(slotsToHex(assemble(code).bytes)).toBe(bytes);
  });
});

describe("refused", () => {
  // deno-fmt-ignore
  test.each<[message: string, build: () => unknown]>([
    ["Immediate 2147483648 would be sign-extended; use the 32-bit form or lddw: mov r0, 2147483648", () => mov(r0, 2 ** 31)],
    ["Immediate 4294967295 would be sign-extended; use the 32-bit form or lddw: add r1, 4294967295", () => add(r1, 0xffffffff)],
    ["Immediate 2147483648 would be sign-extended; use the 32-bit form or lddw: jeq r0, 2147483648, after", () => jeq(r0, 2 ** 31, after)],
    ["Immediate 2147483648 would be sign-extended; use the 32-bit form or lddw: st [fp - 8], 2147483648", () => st(at(fp, -8, u64), 2 ** 31)],
    ["Immediate -2147483649 does not fit 32 bits: mov r0, -2147483649", () => mov(r0, -(2 ** 31) - 1)],
    ["Immediate 4294967296 does not fit 32 bits: mov32 r0, 4294967296", () => mov32(r0, 2 ** 32)],
    ["Immediate 0.5 does not fit 32 bits: mov r0, 0.5", () => mov(r0, 0.5)],
    ["Immediate NaN does not fit 32 bits: mov32 r0, NaN", () => mov32(r0, NaN)],
    ["Immediate 4294967296 does not fit 32 bits: jset32 r0, 4294967296, after", () => jset32(r0, 2 ** 32, after)],
    ["Immediate 4294967296 does not fit 32 bits: st [fp - 4], 4294967296", () => st(at(fp, -4, u32), 2 ** 32)],
    ["Immediate 4294967296 does not fit 32 bits: ldAbs 1, 4294967296", () => ldAbs(1, 2 ** 32)],
    ["Immediate 4294967296 does not fit 32 bits: callKfunc bpf_new", () => callKfunc("bpf_new", 2 ** 32)],
    ["Immediate 4294967296 does not fit 32 bits: ldBtfVariable r1, 4294967296", () => ldBtfVariable(r1, 2 ** 32)],
    ["Immediate -1 does not fit 32 bits: ldBtfVariable r1, -1", () => ldBtfVariable(r1, -1)],
    ["Immediate 18446744073709551616 does not fit 64 bits: lddw r1, 18446744073709551616", () => lddw(r1, 2n ** 64n)],
    ["Immediate -9223372036854775809 does not fit 64 bits: lddw r1, -9223372036854775809", () => lddw(r1, -(2n ** 63n) - 1n)],
    ["Immediate 9007199254740992 is no exact integer; use a bigint: lddw r1, 9007199254740992", () => lddw(r1, 2 ** 53)],
    ["Immediate 1.5 is no exact integer; use a bigint: lddw r1, 1.5", () => lddw(r1, 1.5)],
    ["A shift by 64 is outside 0..63: lsh r1, 64", () => lsh(r1, 64)],
    ["A shift by -1 is outside 0..63: lsh r1, -1", () => lsh(r1, -1)],
    ["A shift by 32 is outside 0..31: lsh32 r1, 32", () => lsh32(r1, 32)],
    ["Offset 32768 does not fit 16 bits: ldx r1, [r6 + 32768]", () => ldx(r1, at(r6, 32768, u64))],
    ["Offset -32769 does not fit 16 bits: stx [r6 - 32769], r1", () => stx(at(r6, -32769, u64), r1)],
    ["Offset 0.5 does not fit 16 bits: stx [r6 + 0.5], r1", () => stx(at(r6, 0.5, u64), r1)],
    ["A sign-extending load is 1, 2 or 4 bytes wide: ldxsx r1, [r6]", () => ldxsx(r1, at(r6, u64))],
    ["256 does not fit 1 bytes: st [fp - 1], 256", () => st(at(fp, -1, u8), 256)],
    ["-129 does not fit 1 bytes: st [fp - 1], -129", () => st(at(fp, -1, u8), -129)],
    ["65536 does not fit 2 bytes: st [fp - 2], 65536", () => st(at(fp, -2, u16), 65536)],
    ["An atomic operation is 4 or 8 bytes wide: atomicAdd [r1], r2", () => atomicAdd(at(r1, u16), r2)],
    ["An atomic operation is 4 or 8 bytes wide: atomicCmpxchg [r1], r2", () => atomicCmpxchg(at(r1, u8), r2)],
    ["Offset 16 is outside the 16-byte value: ldMapValue r1, stats + 16", () => ldMapValue(r1, stats, 16)],
    ["Offset -1 is outside the 16-byte value: ldMapValue r1, stats - 1", () => ldMapValue(r1, stats, -1)],
    ["Offset 0.5 is outside the 16-byte value: ldMapValue r1, stats + 0.5", () => ldMapValue(r1, stats, 0.5)],
    ["key.address is 16 bytes, no register holds that", () => at(r1, key.fields.address)],
    ["[r1 + key.tag] is 4 bytes, [r6] is 8 on this kernel: probeRead", () => probeRead(at(r1, key.fields.tag), at(r6, u64))],
    ["r3 is overwritten before [r3] is: probeRead", () => probeRead(at(r3, u64), at(r6, u64))],
  ])("%s", (message, build) => {
    expect(build).toThrow(new AssemblyError(message));
  });

  test.each(["div", "mod", "sdiv", "smod", "div32", "mod32", "sdiv32", "smod32"] as const)(
    "%s by 0",
    (name) => {
      const build = () => constructors[name](r1, 0);
      expect(build).toThrow(new AssemblyError(`Division by the constant 0: ${name} r1, 0`));
    },
  );

  test("an AssemblyError carries the item", () => {
    try {
      lsh(r1, 64);
    } catch (error) {
      expect(error).toMatchObject({ name: "AssemblyError", item: "lsh r1, 64", label: undefined });
    }
    expect.assertions(1);
  });

  test("by the type checker already", () => {
    const refused = [
      // @ts-expect-error: the frame pointer is no destination
      () => mov(fp, 1),
      // @ts-expect-error: nor of a load
      () => ldx(fp, at(r1, u64)),
      // @ts-expect-error: nor may an atomic operation leave its old value there
      () => atomicAdd(at(r1, u64), fp),
      // @ts-expect-error: no such helper
      () => call("bpf_ringbuf_reserv"),
      // @ts-expect-error: a number offset needs a type
      () => at(r1, 8),
      // @ts-expect-error: bytes are swapped in 16, 32 or 64 bits
      () => be(r1, 24),
      // @ts-expect-error: nothing to extend
      () => movsx32(r1, r2, 32),
      // @ts-expect-error: a jump goes to a label, not over a distance
      () => jeq(r1, 0, 5),
      // @ts-expect-error: 64 bits are lddw's
      () => div(r1, 1n),
      // @ts-expect-error: legacy loads have at most 4 bytes
      () => ldAbs(8, 0),
      // @ts-expect-error: an instruction does not change
      () => (neg(r1).imm = 1),
      // @ts-expect-error: a string is no label
      () => assemble(["end"]),
    ];
    expect(refused).toHaveLength(12);
  });
});

test("registers print as the ISA writes them", () => {
  expect([r0, r1, fp].map(String)).toEqual(["r0", "r1", "fp"]);
  expect(label("full").name).toBe("full");
});
