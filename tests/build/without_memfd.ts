/**
 * A program that runs another one where memfd_create(2) is refused, as some sandboxes have it:
 * `without_memfd PROGRAM [ARGUMENT...]`. For x86-64; a seccomp filter in four instructions of classic BPF.
 */
import { EM_X86_64, encodeHeaders, ET_EXEC, headersSize, PF_R, PF_X, PT_LOAD } from "../../build/elf.ts";
import { align, assemble, bytes, type Code, label, littleEndian, quad } from "../../build/machine_code.ts";
import { add, at, jne, lea, mov, r10, r8, rax, rdi, rdx, rsi, rsp, syscall, test } from "../../build/x64.ts";

const calls = { execve: 59, exit_group: 231, memfd_create: 319, prctl: 157 };
const PR_SET_SECCOMP = 22, PR_SET_NO_NEW_PRIVS = 38, SECCOMP_MODE_FILTER = 2;
const SECCOMP_RET_ERRNO = 0x50000, SECCOMP_RET_ALLOW = 0x7fff0000, EPERM = 1;

/** struct sock_filter: { u16 code; u8 jt; u8 jf; u32 k; } */
const filter = (code: number, jt: number, jf: number, k: number) =>
  bytes(...littleEndian(code, 2), jt, jf, ...littleEndian(k, 4));

export function withoutMemfd(): Uint8Array {
  const address = 0x400000, entry = address + headersSize(1);
  const fprog = label("fprog"), instructions = label("instructions"), argument = label("argument");
  const code: Code = [
    mov(rdi, PR_SET_NO_NEW_PRIVS),
    mov(rsi, 1),
    mov(rdx, 0),
    mov(r10, 0),
    mov(r8, 0),
    mov(rax, calls.prctl),
    syscall(),
    mov(rdi, PR_SET_SECCOMP),
    mov(rsi, SECCOMP_MODE_FILTER),
    lea(rdx, fprog),
    mov(rax, calls.prctl),
    syscall(),

    lea(rdx, at(rsp, 8)),
    argument, //                        rdx = behind argv's NULL: envp
    mov(rax, at(rdx)),
    add(rdx, 8),
    test(rax, rax),
    jne(argument),
    mov(rdi, at(rsp, 16)), //           argv[1]
    lea(rsi, at(rsp, 16)),
    mov(rax, calls.execve),
    syscall(),
    mov(rdi, 126),
    mov(rax, calls.exit_group),
    syscall(),

    align(8),
    fprog, //                           struct sock_fprog
    quad(4),
    quad(instructions),
    instructions,
    filter(0x20, 0, 0, 0), //           ld [0]: seccomp_data.nr
    filter(0x15, 0, 1, calls.memfd_create), // jeq
    filter(0x06, 0, 0, SECCOMP_RET_ERRNO | EPERM), // ret
    filter(0x06, 0, 0, SECCOMP_RET_ALLOW),
  ];
  const text = assemble(code, entry), size = headersSize(1) + text.length;
  const segment = { type: PT_LOAD, flags: PF_R | PF_X, offset: 0, address, align: 0x1000 };
  const segments = [{ ...segment, fileSize: size, memorySize: size }];
  const headers = encodeHeaders({ type: ET_EXEC, machine: EM_X86_64, entry, segments });
  return Buffer.concat([headers, text]);
}
