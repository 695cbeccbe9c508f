/** Every instruction of the arm64 emitter, straight to bytes, and read back by objdump where it knows arm64. */
import { expect, test } from "bun:test";
import {
  addImmediate,
  addRegister,
  adr,
  at,
  b,
  beq,
  ble,
  bne,
  br,
  cbnz,
  cbz,
  clearLow,
  cmpImmediate,
  cmpRegister,
  ifNegative,
  ldr,
  ldrb,
  ldrbIndexed,
  ldrbPost,
  ldrPost,
  movImmediate,
  movRegister,
  msub,
  sp,
  str,
  strb,
  strbIndexed,
  strbPre,
  strPost,
  subImmediate,
  subRegister,
  svc,
  udiv,
  x0,
  x1,
  x19,
  x2,
  x20,
  x21,
  x22,
  x23,
  x24,
  x3,
  x4,
  x5,
  x6,
  x8,
  xzr,
} from "../../build/arm64.ts";
import { BuildError } from "../../build/error.ts";
import { assemble, bytes, type Code, type Label, label } from "../../build/machine_code.ts";
import { arm64Disassembler as disassembler } from "./disassembler.ts";

const hex = (code: Code) => assemble(code, 0).toHex();

/** As the disassembler writes it, as we do, and the bytes as the manual has them. */
const instructions: readonly [text: string, code: Code, bytes: string][] = [
  ["mov x8, #0x0", movImmediate(x8, 0), "080080d2"],
  ["mov x24, #0x1000", movImmediate(x24, 4096), "180082d2"],
  ["mov x0, #0x8000000", movImmediate(x0, 0x8000000), "0000a1d2"],
  ["mov x1, #0x1abc; movk x1, #0x813, lsl #16", movImmediate(x1, 0x8131abc), "815783d2 6102a1f2"],
  ["mov x2, #0x5678; movk x2, #0x1234, lsl #32", movImmediate(x2, 0x123400005678), "02cf8ad2 8246c2f2"],
  ["mov x0, #0xffffffffffffff9c", movImmediate(x0, -100), "600c8092"],
  ["mov x3, #0xffffffffffffffff", movImmediate(x3, -1), "03008092"],
  ["mov x23, x0", movRegister(x23, x0), "f70300aa"],
  ["mov x4, x23", movRegister(x4, x23), "e40317aa"],
  ["mov x19, sp", addImmediate(x19, sp, 0), "f3030091"],
  ["mov sp, x0", addImmediate(sp, x0, 0), "1f000091"],
  ["add x22, x22, #0x28", addImmediate(x22, x22, 40), "d6a20091"],
  ["add x3, x3, #0xfff", addImmediate(x3, x3, 4095), "63fc3f91"],
  ["sub sp, sp, #0x70", subImmediate(sp, sp, 112), "ffc301d1"],
  ["sub x2, x2, #0x1", subImmediate(x2, x2, 1), "420400d1"],
  ["cmp x0, #0x17", cmpImmediate(x0, 23), "1f5c00f1"],
  ["add x1, x1, x24", addRegister(x1, x1, x24), "2100188b"],
  ["sub x2, x2, x24", subRegister(x2, x2, x24), "420018cb"],
  ["cmp x5, x6", cmpRegister(x5, x6), "bf0006eb"],
  ["udiv x2, x23, x1", udiv(x2, x23, x1), "e20ac19a"],
  ["msub x3, x2, x1, x23", msub(x3, x2, x1, x23), "43dc019b"],
  ["and x0, x0, #0xfffffffffffffff0", clearLow(x0, x0, 4), "00ec7c92"],
  ["and x20, x1, #0xfffffffffffff000", clearLow(x20, x1, 12), "34cc7492"],
  ["ldr x8, [x22]", ldr(x8, at(x22)), "c80240f9"],
  ["ldr x0, [x21, #16]", ldr(x0, at(x21, 16)), "a00a40f9"],
  ["ldr x24, [x1, #32760]", ldr(x24, at(x1, 32760)), "38fc7ff9"],
  ["str x3, [x2, #8]", str(x3, at(x2, 8)), "430400f9"],
  ["str xzr, [sp, #16]", str(xzr, at(sp, 16)), "ff0b00f9"],
  ["ldrb w5, [x3, #1]", ldrb(x5, at(x3, 1)), "65044039"],
  ["strb w0, [x20]", strb(x0, at(x20)), "80020039"],
  ["ldr x0, [x1], #8", ldrPost(x0, x1, 8), "208440f8"],
  ["str x20, [x2], #8", strPost(x20, x2, 8), "548400f8"],
  ["str xzr, [x2], #-8", strPost(xzr, x2, -8), "5f841ff8"],
  ["ldrb w5, [x3], #1", ldrbPost(x5, x3, 1), "65144038"],
  ["strb w3, [x20, #-1]!", strbPre(x3, x20, -1), "83fe1f38"],
  ["strb wzr, [x20, #-256]!", strbPre(xzr, x20, -256), "9f0e1038"],
  ["ldrb w3, [x1, x2]", ldrbIndexed(x3, x1, x2), "23686238"],
  ["ldrb w5, [x3, xzr]", ldrbIndexed(x5, x3, xzr), "65687f38"],
  ["strb w3, [x20, x2]", strbIndexed(x3, x20, x2), "836a2238"],
  ["br x1", br(x1), "20001fd6"],
  ["br x24", br(x24), "00031fd6"],
  ["svc #0x0", svc(), "010000d4"],
];

test.each(instructions)("%s", (_, code, expected) => {
  expect(hex(code)).toBe(expected.replaceAll(" ", ""));
});

/** Over one word, and back over itself and the one before. */
const jumps: readonly [text: string, (target: Label) => Code, ahead: string, back: string][] = [
  ["adr x1,", (target) => adr(x1, target), "41000010", "e1ffff10"],
  ["b", b, "02000014", "ffffff17"],
  ["b.eq", beq, "40000054", "e0ffff54"],
  ["b.ne", bne, "41000054", "e1ffff54"],
  ["b.le", ble, "4d000054", "edffff54"],
  ["cbz x8,", (target) => cbz(x8, target), "480000b4", "e8ffffb4"],
  ["cbnz x24,", (target) => cbnz(x24, target), "580000b5", "f8ffffb5"],
  ["tbnz x0, #63,", (target) => ifNegative(x0, target), "4000f8b7", "e0ffffb7"],
];

test.each(jumps)("%s to a label", (_, jump, ahead, back) => {
  const there = label("there"), here = label("here");
  expect(hex([jump(there), bytes(1, 2, 3, 4), there])).toBe(`${ahead}01020304`);
  expect(hex([here, bytes(1, 2, 3, 4), jump(here)])).toBe(`01020304${back}`);
});

test("An address may be at any byte", () => {
  const text = label("text");
  expect(hex([adr(x1, text), bytes(0, 0, 0), text])).toBe("21000070" + "000000");
});

test("What does not fit is refused", () => {
  expect(() => hex(addImmediate(x0, x1, 4096))).toThrow(
    new BuildError("Cannot encode 4096: it does not fit 12 bits"),
  );
  expect(() => hex(ldr(x0, at(x1, 4)))).toThrow("Cannot encode 0.5: it does not fit 12 bits");
  expect(() => hex(strbPre(x0, x1, -257))).toThrow("Cannot encode -257: it does not fit 9 bits");
  expect(() => hex(movImmediate(x0, -65537))).toThrow("Cannot encode 65536: it does not fit 16 bits");
  expect(() => hex(movImmediate(x0, 2 ** 53))).toThrow("Cannot encode 9007199254740992: it is not exact");
  const far = label("far");
  expect(() => hex([ifNegative(x0, far), bytes(...new Uint8Array(0x8000)), far]))
    .toThrow("Cannot encode 8193: it does not fit 14 bits");
});

const disassemble = disassembler();
test.skipIf(disassemble === undefined)("objdump reads the same (needs binutils for aarch64)", () => {
  const lines = disassemble?.(assemble(instructions.map(([, code]) => code), 0));
  expect(lines?.join("; ")).toBe(instructions.map(([text]) => text).join("; "));
});
