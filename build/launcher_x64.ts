/** The launcher for x86-64; launcher.ts says what it does. */
import {
  AT_FDCWD,
  AT_SECURE,
  auxvRow,
  FAILED,
  launcherData,
  type LauncherPlan,
  libraryRow,
  MAP_PRIVATE,
  preloadBytes,
  PROBE_BYTES,
  PROT_EXEC,
  PROT_READ,
  sourceRow,
  STDERR,
  type SystemCalls,
  type Text,
} from "./launcher.ts";
import { type Code, label } from "./machine_code.ts";
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
  test,
} from "./x64.ts";

/** arch/x86/entry/syscalls/syscall_64.tbl */
const calls: SystemCalls = {
  faccessat: 269,
  openat: 257,
  memfd_create: 319,
  write: 1,
  close: 3,
  mmap: 9,
  munmap: 11,
  exit_group: 231,
  O_DIRECTORY: 0o200000,
};

/** rax = the result; clobbers rcx and r11. The arguments are in rdi, rsi, rdx, r10, r8, r9. */
const call = (name: Exclude<keyof SystemCalls, "O_DIRECTORY">): Code => [mov(rax, calls[name]), syscall()];

/** Writes a text before what rbp points to; clobbers rcx, rsi, rdi. */
const prepend = (text: Text): Code => [
  sub(rbp, text.length),
  mov(rdi, rbp),
  lea(rsi, text.label),
  mov(rcx, text.length),
  repMovsb(),
];

/** Says why, and ends the process. */
const fail = (message: Text): Code => [
  mov(rdi, STDERR),
  lea(rsi, message.label),
  mov(rdx, message.length),
  call("write"),
  mov(rdi, FAILED),
  call("exit_group"),
];

export function launcherX64(plan: LauncherPlan): Code {
  const data = launcherData(plan, calls);
  const { address, size, name } = libraryRow.fields, { number, a, b, c, d } = sourceRow.fields;
  const { a_type, a_val } = auxvRow.fields;
  const noProc = label("no proc"), noFile = label("no file");

  return [
    mov(rbx, rsp), //                               rbx = argc, argv, NULL, envp, NULL, auxv
    mov(rdi, AT_FDCWD),
    lea(rsi, data.descriptors.label),
    mov(rdx, 0), //                                 F_OK
    call("faccessat"),
    test(rax, rax),
    jne(noProc),

    placeLibraries(),

    mov(rdi, plan.libraryPages.address),
    mov(rsi, plan.libraryPages.size),
    call("munmap"),

    newStack(),

    mov(rax, plan.interpreter.entry),
    jmp(rax),

    noProc,
    fail(data.noProc),
    noFile,
    fail(data.noFile),
    data.code,
  ];

  /** Each library into a file of its own. Leaves rbp = "LD_PRELOAD=...", clobbers all but rbx. */
  function placeLibraries(): Code {
    const nextLibrary = label("next library"), nextSource = label("next source"), named = label("named");
    const copy = label("copy"), copied = label("copied"), digit = label("digit");
    const drop = label("drop"), skip = label("skip"), placed = label("placed");
    return [
      lea(rbp, at(rbx, -1)),
      movByte(at(rbp), 0), //                       rbp = the variable, written from its end
      sub(rsp, preloadBytes(plan.libraries.length)),
      lea(r12, data.libraries), //                  r12 = row of the library

      nextLibrary,
      lea(r13, data.sources), //                    r13 = row of the way to make a file

      nextSource,
      mov(rax, at(r13, number)),
      test(rax, rax),
      je(noFile),
      mov(rdi, at(r13, a)),
      test(rdi, rdi),
      jne(named),
      mov(rdi, at(r12, name)),
      named,
      mov(rsi, at(r13, b)),
      mov(rdx, at(r13, c)),
      mov(r10, at(r13, d)),
      syscall(),
      test(rax, rax),
      js(skip),
      mov(r14, rax), //                             r14 = fd

      mov(r15, 0), //                               r15 = bytes copied
      copy,
      mov(rdi, r14),
      mov(rsi, at(r12, address)),
      add(rsi, r15),
      mov(rdx, at(r12, size)),
      sub(rdx, r15),
      je(copied),
      call("write"),
      test(rax, rax),
      jle(drop), //                                 no space
      add(r15, rax),
      jmp(copy),

      copied,
      // A mount with noexec gives files that cannot hold code.
      mov(rdi, 0),
      mov(rsi, PROBE_BYTES),
      mov(rdx, PROT_READ | PROT_EXEC),
      mov(r10, MAP_PRIVATE),
      mov(r8, r14),
      mov(r9, 0),
      call("mmap"),
      test(rax, rax),
      js(drop),
      mov(rdi, rax),
      mov(rsi, PROBE_BYTES),
      call("munmap"),

      mov(rax, r14),
      mov(rcx, 10),
      digit, //                                     the last one first
      mov(rdx, 0),
      div(rcx), //                                  rax = the digits left, rdx = this one
      add(rdx, 0x30),
      sub(rbp, 1),
      movByte(at(rbp), rdx),
      test(rax, rax),
      jne(digit),
      prepend(data.prefix),

      add(r12, libraryRow.size),
      mov(rax, at(r12, address)),
      test(rax, rax),
      jne(nextLibrary),

      movByte(at(rbp), 0x3d), //                    the first ":" becomes the "="
      prepend(data.name),
      jmp(placed),

      drop,
      mov(rdi, r14),
      call("close"),
      skip,
      add(r13, sourceRow.size),
      jmp(nextSource),
      placed,
    ];
  }

  /** Makes the stack ld.so is to see. Wants rbx = the kernel's, rbp = "LD_PRELOAD=..."; leaves rsp. */
  function newStack(): Code {
    const pastArgs = label("past args"), pastEnv = label("past env"), pastAuxv = label("past auxv");
    const notSecure = label("not secure"),
      args = label("args"),
      env = label("env"),
      endEnv = label("end env");
    const prefix = label("prefix"), letter = label("letter"), rest = label("rest");
    const auxv = label("auxv"), patch = label("patch"), nextPatch = label("next patch"), put = label("put");
    return [
      // How long is it? And r15 = AT_SECURE: the file has capabilities or is set-uid.
      mov(r15, 0),
      lea(rsi, at(rbx, 8)),
      pastArgs,
      mov(rax, at(rsi)),
      add(rsi, 8),
      test(rax, rax),
      jne(pastArgs),
      pastEnv,
      mov(rax, at(rsi)),
      add(rsi, 8),
      test(rax, rax),
      jne(pastEnv),
      pastAuxv,
      mov(rax, at(rsi, a_type)),
      cmp(rax, AT_SECURE),
      jne(notSecure),
      mov(r15, at(rsi, a_val)),
      notSecure,
      add(rsi, auxvRow.size),
      test(rax, rax),
      jne(pastAuxv),

      // One variable more than now; what is dropped leaves a gap behind the end.
      sub(rsi, rbx),
      add(rsi, 8),
      sub(rsp, rsi),
      and(rsp, -16),
      mov(rdi, rsp), //                             rdi = next word of the new one
      mov(rsi, rbx), //                             rsi = next word of the old one

      mov(rax, at(rsi)), //                         argc
      mov(at(rdi), rax),
      add(rsi, 8),
      add(rdi, 8),
      args,
      mov(rax, at(rsi)),
      mov(at(rdi), rax),
      add(rsi, 8),
      add(rdi, 8),
      test(rax, rax),
      jne(args),

      mov(at(rdi), rbp),
      add(rdi, 8),
      env,
      mov(rax, at(rsi)), //                         rax = a variable
      add(rsi, 8),
      test(rax, rax),
      je(endEnv),
      test(r15, r15),
      jne(env),
      lea(rdx, data.settings), //                   rdx = letter of a prefix
      prefix,
      mov(r8, rax), //                              r8 = letter of the variable
      letter,
      movzx(rcx, at(rdx)),
      add(rdx, 1),
      test(rcx, rcx),
      je(env), //                                   the whole prefix is there: dropped
      movzx(r9, at(r8)),
      add(r8, 1),
      cmp(rcx, r9),
      je(letter),
      rest, //                                      skip what is left of this prefix
      movzx(rcx, at(rdx)),
      add(rdx, 1),
      test(rcx, rcx),
      jne(rest),
      movzx(rcx, at(rdx)),
      test(rcx, rcx),
      jne(prefix),
      mov(at(rdi), rax), //                         kept
      add(rdi, 8),
      jmp(env),
      endEnv,
      mov(at(rdi), rax), //                         NULL
      add(rdi, 8),

      auxv,
      mov(rax, at(rsi, a_type)),
      mov(rdx, at(rsi, a_val)),
      add(rsi, auxvRow.size),
      lea(r8, data.patches),
      patch,
      mov(rcx, at(r8, a_type)),
      test(rcx, rcx),
      je(put),
      cmp(rcx, rax),
      jne(nextPatch),
      mov(rdx, at(r8, a_val)),
      nextPatch,
      add(r8, auxvRow.size),
      jmp(patch),
      put,
      mov(at(rdi, a_type), rax),
      mov(at(rdi, a_val), rdx),
      add(rdi, auxvRow.size),
      test(rax, rax),
      jne(auxv),
    ];
  }
}
