/** Every instruction of the x86-64 emitter, straight to bytes, and read back by objdump. */
import { expect, test } from "bun:test";
import {
  add,
  and,
  at,
  cmp,
  div,
  je,
  jle,
  jmp,
  jne,
  js,
  lea,
  mov,
  movByte,
  movzx,
  r10,
  r11,
  r12,
  r13,
  r14,
  r15,
  r8,
  r9,
  rax,
  rbp,
  rbx,
  rcx,
  rdi,
  rdx,
  repMovsb,
  rsi,
  rsp,
  sub,
  syscall,
  test as testBits,
} from "../../build/x64.ts";
import { BuildError } from "../../build/error.ts";
import { assemble, bytes, type Code, type Label, label } from "../../build/machine_code.ts";
import { x64Disassembler as disassembler } from "./disassembler.ts";

const hex = (code: Code) => assemble(code, 0).toHex();

/** As the disassembler writes it, as we do, and the bytes as the manual has them. */
const instructions: readonly [text: string, code: Code, bytes: string][] = [
  ["mov rbx,rsp", mov(rbx, rsp), "48 89 e3"],
  ["mov r8,rax", mov(r8, rax), "49 89 c0"],
  ["mov rax,r14", mov(rax, r14), "4c 89 f0"],
  ["mov edi,0x0", mov(rdi, 0), "bf 00 00 00 00"],
  ["mov r15d,0x0", mov(r15, 0), "41 bf 00 00 00 00"],
  ["mov esi,0xffffffff", mov(rsi, 0xffffffff), "be ff ff ff ff"],
  ["mov rdi,0xffffffffffffff9c", mov(rdi, -100), "48 c7 c7 9c ff ff ff"],
  ["mov r9,0xffffffffffffffff", mov(r9, -1), "49 c7 c1 ff ff ff ff"],
  ["movabs rax,0x100000000", mov(rax, 0x100000000), "48 b8 00 00 00 00 01 00 00 00"],
  ["movabs r10,0x123456789a", mov(r10, 0x123456789a), "49 ba 9a 78 56 34 12 00 00 00"],
  ["mov rax,QWORD PTR [rsi+0x0]", mov(rax, at(rsi)), "48 8b 46 00"],
  ["mov rdi,QWORD PTR [r13+0x8]", mov(rdi, at(r13, 8)), "49 8b 7d 08"],
  ["mov rdi,QWORD PTR [r12+0x10]", mov(rdi, at(r12, 16)), "49 8b 7c 24 10"],
  ["mov rax,QWORD PTR [rsp+0x8]", mov(rax, at(rsp, 8)), "48 8b 44 24 08"],
  ["mov rax,QWORD PTR [rbx+0x80]", mov(rax, at(rbx, 128)), "48 8b 83 80 00 00 00"],
  ["mov r10,QWORD PTR [r13-0x80]", mov(r10, at(r13, -128)), "4d 8b 55 80"],
  ["mov QWORD PTR [rdi+0x0],rax", mov(at(rdi), rax), "48 89 47 00"],
  ["mov QWORD PTR [rdi+0x8],rbp", mov(at(rdi, 8), rbp), "48 89 6f 08"],
  ["mov QWORD PTR [r12+0x0],r13", mov(at(r12), r13), "4d 89 6c 24 00"],
  ["mov QWORD PTR [rsp+0x0],0x7", mov(at(rsp), 7), "48 c7 44 24 00 07 00 00 00"],
  ["mov QWORD PTR [r9+0x200],0xffffffffffffffff", mov(at(r9, 512), -1), "49 c7 81 00 02 00 00 ff ff ff ff"],
  ["mov BYTE PTR [rbp+0x0],0x0", movByte(at(rbp), 0), "c6 45 00 00"],
  ["mov BYTE PTR [rbp+0x0],dl", movByte(at(rbp), rdx), "88 55 00"],
  ["mov BYTE PTR [rbp+0x0],sil", movByte(at(rbp), rsi), "40 88 75 00"],
  ["mov BYTE PTR [r12+0x0],r9b", movByte(at(r12), r9), "45 88 4c 24 00"],
  ["mov BYTE PTR [r13+0x3],0x3d", movByte(at(r13, 3), 0x3d), "41 c6 45 03 3d"],
  ["movzx ecx,BYTE PTR [rdx+0x0]", movzx(rcx, at(rdx)), "0f b6 4a 00"],
  ["movzx r9d,BYTE PTR [r8+0x0]", movzx(r9, at(r8)), "45 0f b6 48 00"],
  ["movzx esi,BYTE PTR [r12+0x1]", movzx(rsi, at(r12, 1)), "41 0f b6 74 24 01"],
  ["lea rbp,[rbx-0x1]", lea(rbp, at(rbx, -1)), "48 8d 6b ff"],
  ["lea r8,[r13+0x3e8]", lea(r8, at(r13, 1000)), "4d 8d 85 e8 03 00 00"],
  ["add rax,rdx", add(rax, rdx), "48 01 d0"],
  ["add rsi,r15", add(rsi, r15), "4c 01 fe"],
  ["add r13,0x28", add(r13, 40), "49 83 c5 28"],
  ["add rdx,0x30", add(rdx, 0x30), "48 83 c2 30"],
  ["add r15,0x1000", add(r15, 4096), "49 81 c7 00 10 00 00"],
  ["sub rbp,0x1", sub(rbp, 1), "48 83 ed 01"],
  ["sub rsp,0x70", sub(rsp, 112), "48 83 ec 70"],
  ["sub rdi,rsi", sub(rdi, rsi), "48 29 f7"],
  ["sub rsp,0x80", sub(rsp, 128), "48 81 ec 80 00 00 00"],
  ["and rsp,0xfffffffffffffff0", and(rsp, -16), "48 83 e4 f0"],
  ["and r9,r8", and(r9, r8), "4d 21 c1"],
  ["cmp rax,0x17", cmp(rax, 23), "48 83 f8 17"],
  ["cmp rcx,r9", cmp(rcx, r9), "4c 39 c9"],
  ["cmp r12,0xffffffffffffff7f", cmp(r12, -129), "49 81 fc 7f ff ff ff"],
  ["test rax,rax", testBits(rax, rax), "48 85 c0"],
  ["test r15,rcx", testBits(r15, rcx), "49 85 cf"],
  ["div rcx", div(rcx), "48 f7 f1"],
  ["div r9", div(r9), "49 f7 f1"],
  ["jmp rax", jmp(rax), "ff e0"],
  ["jmp r11", jmp(r11), "41 ff e3"],
  ["syscall", syscall(), "0f 05"],
  ["rep movs BYTE PTR es:[rdi],BYTE PTR ds:[rsi]", repMovsb(), "f3 a4"],
];

test.each(instructions)("%s", (_, code, expected) => {
  expect(hex(code)).toBe(expected.replaceAll(" ", ""));
});

/** Over three bytes, and back over itself. */
const jumps: readonly [text: string, (target: Label) => Code, ahead: string, back: string][] = [
  ["jmp", jmp, "e9 03 00 00 00", "e9 fb ff ff ff"],
  ["je", je, "0f 84 03 00 00 00", "0f 84 fa ff ff ff"],
  ["jne", jne, "0f 85 03 00 00 00", "0f 85 fa ff ff ff"],
  ["js", js, "0f 88 03 00 00 00", "0f 88 fa ff ff ff"],
  ["jle", jle, "0f 8e 03 00 00 00", "0f 8e fa ff ff ff"],
  ["lea r12,", (target) => lea(r12, target), "4c 8d 25 03 00 00 00", "4c 8d 25 f9 ff ff ff"],
];

test.each(jumps)("%s to a label", (_, jump, ahead, back) => {
  const there = label("there"), here = label("here");
  expect(hex([jump(there), bytes(1, 2, 3), there])).toBe(ahead.replaceAll(" ", "") + "010203");
  expect(hex([here, jump(here)])).toBe(back.replaceAll(" ", ""));
});

test("What does not fit is refused", () => {
  expect(() => hex(add(rax, 2 ** 31))).toThrow(
    new BuildError("Cannot encode 2147483648: it does not fit 32 bits"),
  );
  expect(() => hex(mov(at(rax), -(2 ** 31) - 1))).toThrow(
    "Cannot encode -2147483649: it does not fit 32 bits",
  );
  expect(() => hex(movByte(at(rax), 128))).toThrow("Cannot encode 128: it does not fit 8 bits");
  expect(() => hex(mov(rax, 2 ** 53))).toThrow("Cannot encode 9007199254740992: it is not exact");
});

const disassemble = disassembler();
test.skipIf(disassemble === undefined)("objdump reads the same (needs binutils for x86-64)", () => {
  const lines = disassemble?.(assemble(instructions.map(([, code]) => code), 0));
  expect(lines).toEqual(instructions.map(([text]) => text));
});
