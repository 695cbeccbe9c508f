/** The launcher for arm64; launcher.ts says what it does. */
import {
  addImmediate,
  addRegister,
  adr,
  at,
  b as jump,
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
} from "./arm64.ts";
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

/** scripts/syscall.tbl, arch/arm64/include/uapi/asm/fcntl.h */
const calls: SystemCalls = {
  faccessat: 48,
  openat: 56,
  memfd_create: 279,
  write: 64,
  close: 57,
  mmap: 222,
  munmap: 215,
  exit_group: 94,
  O_DIRECTORY: 0o40000,
};

/** x0 = the result; clobbers x8. The arguments are in x0 to x5. */
const call = (name: Exclude<keyof SystemCalls, "O_DIRECTORY">): Code => [
  movImmediate(x8, calls[name]),
  svc(),
];

/** Writes a text before what x20 points to; clobbers x1, x2, x3. */
function prepend(text: Text): Code {
  const letter = label("letter");
  return [
    subImmediate(x20, x20, text.length),
    adr(x1, text.label),
    movImmediate(x2, text.length),
    letter,
    subImmediate(x2, x2, 1),
    ldrbIndexed(x3, x1, x2),
    strbIndexed(x3, x20, x2),
    cbnz(x2, letter),
  ];
}

/** Says why, and ends the process. */
const fail = (message: Text): Code => [
  movImmediate(x0, STDERR),
  adr(x1, message.label),
  movImmediate(x2, message.length),
  call("write"),
  movImmediate(x0, FAILED),
  call("exit_group"),
];

export function launcherArm64(plan: LauncherPlan): Code {
  const data = launcherData(plan, calls);
  const { address, size, name } = libraryRow.fields, { number, a, b, c, d } = sourceRow.fields;
  const { a_type, a_val } = auxvRow.fields;
  const noProc = label("no proc"), noFile = label("no file");

  return [
    addImmediate(x19, sp, 0), //                    x19 = argc, argv, NULL, envp, NULL, auxv
    movImmediate(x0, AT_FDCWD),
    adr(x1, data.descriptors.label),
    movImmediate(x2, 0), //                         F_OK
    call("faccessat"),
    cbnz(x0, noProc),

    placeLibraries(),

    movImmediate(x0, plan.libraryPages.address),
    movImmediate(x1, plan.libraryPages.size),
    call("munmap"),

    newStack(),

    movImmediate(x1, plan.interpreter.entry),
    movImmediate(x0, 0),
    br(x1),

    noProc,
    fail(data.noProc),
    noFile,
    fail(data.noFile),
    data.code,
  ];

  /** Each library into a file of its own. Leaves x20 = "LD_PRELOAD=...", clobbers all but x19. */
  function placeLibraries(): Code {
    const nextLibrary = label("next library"), nextSource = label("next source"), named = label("named");
    const copy = label("copy"), copied = label("copied"), digit = label("digit");
    const drop = label("drop"), skip = label("skip"), placed = label("placed");
    return [
      addImmediate(x20, x19, 0),
      strbPre(xzr, x20, -1), //                     x20 = the variable, written from its end
      subImmediate(sp, sp, preloadBytes(plan.libraries.length)),
      adr(x21, data.libraries), //                  x21 = row of the library

      nextLibrary,
      adr(x22, data.sources), //                    x22 = row of the way to make a file

      nextSource,
      ldr(x8, at(x22, number)),
      cbz(x8, noFile),
      ldr(x0, at(x22, a)),
      cbnz(x0, named),
      ldr(x0, at(x21, name)),
      named,
      ldr(x1, at(x22, b)),
      ldr(x2, at(x22, c)),
      ldr(x3, at(x22, d)),
      svc(),
      ifNegative(x0, skip),
      movRegister(x23, x0), //                      x23 = fd

      movImmediate(x24, 0), //                      x24 = bytes copied
      copy,
      movRegister(x0, x23),
      ldr(x1, at(x21, address)),
      addRegister(x1, x1, x24),
      ldr(x2, at(x21, size)),
      subRegister(x2, x2, x24),
      cbz(x2, copied),
      call("write"),
      cmpImmediate(x0, 0),
      ble(drop), //                                 no space
      addRegister(x24, x24, x0),
      jump(copy),

      copied,
      // A mount with noexec gives files that cannot hold code.
      movImmediate(x0, 0),
      movImmediate(x1, PROBE_BYTES),
      movImmediate(x2, PROT_READ | PROT_EXEC),
      movImmediate(x3, MAP_PRIVATE),
      movRegister(x4, x23),
      movImmediate(x5, 0),
      call("mmap"),
      ifNegative(x0, drop),
      movImmediate(x1, PROBE_BYTES),
      call("munmap"),

      movImmediate(x1, 10),
      digit, //                                     the last one first
      udiv(x2, x23, x1), //                         x2 = the digits left
      msub(x3, x2, x1, x23), //                     x3 = this one
      addImmediate(x3, x3, 0x30),
      strbPre(x3, x20, -1),
      movRegister(x23, x2),
      cbnz(x23, digit),
      prepend(data.prefix),

      addImmediate(x21, x21, libraryRow.size),
      ldr(x0, at(x21, address)),
      cbnz(x0, nextLibrary),

      movImmediate(x0, 0x3d),
      strb(x0, at(x20)), //                         the first ":" becomes the "="
      prepend(data.name),
      jump(placed),

      drop,
      movRegister(x0, x23),
      call("close"),
      skip,
      addImmediate(x22, x22, sourceRow.size),
      jump(nextSource),
      placed,
    ];
  }

  /** Makes the stack ld.so is to see. Wants x19 = the kernel's, x20 = "LD_PRELOAD=..."; leaves sp. */
  function newStack(): Code {
    const pastArgs = label("past args"), pastEnv = label("past env"), pastAuxv = label("past auxv");
    const notSecure = label("not secure"),
      args = label("args"),
      env = label("env"),
      endEnv = label("end env");
    const prefix = label("prefix"), letter = label("letter"), rest = label("rest");
    const auxv = label("auxv"), patch = label("patch"), nextPatch = label("next patch"), put = label("put");
    return [
      // How long is it? And x24 = AT_SECURE: the file has capabilities or is set-uid.
      movImmediate(x24, 0),
      addImmediate(x1, x19, 8),
      pastArgs,
      ldrPost(x0, x1, 8),
      cbnz(x0, pastArgs),
      pastEnv,
      ldrPost(x0, x1, 8),
      cbnz(x0, pastEnv),
      pastAuxv,
      ldr(x0, at(x1, a_type)),
      cmpImmediate(x0, AT_SECURE),
      bne(notSecure),
      ldr(x24, at(x1, a_val)),
      notSecure,
      addImmediate(x1, x1, auxvRow.size),
      cbnz(x0, pastAuxv),

      // One variable more than now; what is dropped leaves a gap behind the end.
      subRegister(x1, x1, x19),
      addImmediate(x1, x1, 8),
      addImmediate(x0, sp, 0),
      subRegister(x0, x0, x1),
      clearLow(x0, x0, 4),
      addImmediate(sp, x0, 0),
      addImmediate(x2, x0, 0), //                   x2 = next word of the new one
      movRegister(x1, x19), //                      x1 = next word of the old one

      ldrPost(x0, x1, 8), //                        argc
      strPost(x0, x2, 8),
      args,
      ldrPost(x0, x1, 8),
      strPost(x0, x2, 8),
      cbnz(x0, args),

      strPost(x20, x2, 8),
      env,
      ldrPost(x0, x1, 8), //                        x0 = a variable
      cbz(x0, endEnv),
      cbnz(x24, env),
      adr(x3, data.settings), //                    x3 = letter of a prefix
      prefix,
      movRegister(x4, x0), //                       x4 = letter of the variable
      letter,
      ldrbPost(x5, x3, 1),
      cbz(x5, env), //                              the whole prefix is there: dropped
      ldrbPost(x6, x4, 1),
      cmpRegister(x5, x6),
      beq(letter),
      rest, //                                      skip what is left of this prefix
      ldrbPost(x5, x3, 1),
      cbnz(x5, rest),
      ldrbIndexed(x5, x3, xzr),
      cbnz(x5, prefix),
      strPost(x0, x2, 8), //                        kept
      jump(env),
      endEnv,
      strPost(xzr, x2, 8),

      auxv,
      ldr(x0, at(x1, a_type)),
      ldr(x3, at(x1, a_val)),
      addImmediate(x1, x1, auxvRow.size),
      adr(x4, data.patches),
      patch,
      ldr(x5, at(x4, a_type)),
      cbz(x5, put),
      ldr(x6, at(x4, a_val)),
      addImmediate(x4, x4, auxvRow.size),
      cmpRegister(x5, x0),
      bne(nextPatch),
      movRegister(x3, x6),
      nextPatch,
      jump(patch),
      put,
      str(x0, at(x2, a_type)),
      str(x3, at(x2, a_val)),
      addImmediate(x2, x2, auxvRow.size),
      cbnz(x0, auxv),
    ];
  }
}
