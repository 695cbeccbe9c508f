/** Programs in the running kernel: refused with a reason, counted, found by id, attached. */
import { expect } from "bun:test";
import { type Code, label, type MapSpec, type ProgramSpec } from "../../asm/code.ts";
import {
  add,
  at,
  call,
  callLocal,
  exit,
  fp,
  ldFunction,
  ldMapValue,
  ldx,
  mov,
  r0,
  r1,
  r2,
  r3,
  r4,
  r6,
  ret,
  st,
  stx,
} from "../../asm/insn.ts";
import { u32, u64 } from "../../asm/layout.ts";
import {
  BPF_MAP_TYPE_ARRAY,
  BPF_PROG_TYPE_RAW_TRACEPOINT,
  BPF_PROG_TYPE_SOCKET_FILTER,
  BPF_PROG_TYPE_TRACING,
  BPF_TRACE_FENTRY,
  BPF_TRACE_RAW_TP,
} from "../../asm/uapi.ts";
import { errorText } from "../../lib/cli/report.ts";
import { VerifierError } from "../../lib/errors.ts";
import { attachRawTracepoint } from "../../lib/link/raw_tracepoint.ts";
import { attachTracing } from "../../lib/link/tracing.ts";
import { readCounters } from "../../lib/maps/bpf_map.ts";
import { Maps } from "../../lib/maps/maps.ts";
import * as bpf from "../../lib/sys/bpf.ts";
import { OwnedFd } from "../../lib/sys/fd.ts";
import { isErrno, syscall } from "../../lib/sys/ffi.ts";
import { loadProgram, type Program } from "../../lib/sys/program.ts";
import { readVerifierLog } from "../../lib/sys/verifier_log.ts";
import { findKernelType, FUNC, hasKernelBtf, TYPEDEF } from "../kernel_btf.ts";
import { openFds } from "../open_fds.ts";
import { kernelTest } from "./requires.ts";

function filter(code: Code): ProgramSpec {
  return { name: "drop", type: BPF_PROG_TYPE_SOCKET_FILTER, license: "GPL", code };
}

function refusal(spec: ProgramSpec): VerifierError {
  try {
    using _program = loadProgram(spec);
  } catch (error) {
    if (error instanceof VerifierError) return error;
    throw error;
  }
  throw new Error("It was loaded");
}

const refused: readonly [name: string, code: Code, reason: RegExp, item: string, hint: string | undefined][] =
  [
    [
      "memory behind a number",
      [ldx(r6, at(r1, u32)), ldx(r0, at(r6, 112, u32)), exit()],
      /^1: \(61\) r0 = \*\(u32 \*\)\(r6 ?\+112\): R6 invalid mem access '(scalar|inv)'$/,
      "1: ldx r0, [r6 + 112]",
      "r6 is a plain number to the verifier here; read through it with probeRead()",
    ],
    [
      "a register that a call has clobbered",
      [call("bpf_ktime_get_ns"), mov(r0, r1), exit()],
      /^1: \(bf\) r0 = r1: R1 !read_ok$/,
      "1: mov r0, r1",
      "r1 has no value here: nothing was put into it, or a call has clobbered it",
    ],
    ["code that nobody reaches", [ret(0), ret(1)], /^unreachable insn 2$/, "2: mov r0, 1", undefined],
  ];

for (const [name, code, reason, item, hint] of refused) {
  kernelTest([5, 17], `refused: ${name}`, () => {
    const before = openFds(), error = refusal(filter(code));
    expect(openFds()).toBe(before);
    expect(error.message).toMatch(/^Cannot load program "drop": bpf\(BPF_PROG_LOAD\): (EACCES|EINVAL)$/);
    expect(readVerifierLog(error.log)?.reason).toMatch(reason);
    expect(error.item).toBe(item);
    expect(error.hint).toBe(hint);
  });
}

kernelTest([5, 17], "what a user reads of a refusal", () => {
  const [, code = []] = refused[0] ?? [];
  const text = errorText(refusal(filter(code)));
  expect(text.replace(/'inv'/, "'scalar'").replace(/\d+ more log/, "N more log")).toBe(`\
error: Cannot load program "drop": bpf(BPF_PROG_LOAD): EACCES
  verifier  1: (61) r0 = *(u32 *)(r6 +112): R6 invalid mem access 'scalar'
  item      1: ldx r0, [r6 + 112]
  hint      r6 is a plain number to the verifier here; read through it with probeRead()
            (N more log lines with --debug)
`);
});

kernelTest([5, 17], "a log of more than 64 KiB comes whole", () => {
  const long = Array.from({ length: 4000 }, (_, index) => st(at(fp, -8, u64), index));
  const error = refusal(filter([long, mov(r6, 1), ldx(r0, at(r6, u64)), exit()]));
  expect(error.log.length).toBeGreaterThan(1 << 16);
  expect(error.log).toContain("\n10: (7a)");
  expect(error.item).toBe("4001: ldx r0, [r6]");
});

kernelTest([5, 13], "functions of a program bring their BTF along", () => {
  const callback = label("callback"), double = label("double");
  const code = [
    mov(r1, 10),
    ldFunction(r2, callback),
    mov(r3, 0),
    mov(r4, 0),
    call("bpf_loop"),
    mov(r1, r0),
    callLocal(double),
    exit(),
    callback,
    ret(0),
    double,
    mov(r0, r1),
    exit(),
  ];
  const functions = [
    { name: "main", parameters: 1 },
    { name: "callback", entry: callback, parameters: 2 },
    { name: "double", entry: double, parameters: 1 },
  ];
  const before = openFds();
  {
    using program = loadProgram({ ...filter(code), functions });
    expect(program.testRun({ data_in: new Uint8Array(14) }).retval).toBe(10);
    expect(program.info().nr_func_info).toBe(3);
  }
  expect(openFds()).toBe(before);
});

kernelTest([5, 8], "runs are counted, and programs are found by id", () => {
  using _stats = new OwnedFd(bpf.bpfEnableStats());
  using program = loadProgram(filter(ret(0)));
  program.testRun({ data_in: new Uint8Array(14) });
  const info = program.info();
  expect(bpf.infoName(info.name)).toBe("drop");
  expect([info.type, info.xlated_prog_len]).toEqual([1, 16]);
  using again = new OwnedFd(bpf.bpfProgGetFdById(info.id) as number);
  expect(bpf.bpfObjGetInfoByFd(again.fd, bpf.bpfProgInfo).tag).toEqual(info.tag);
  const ids: number[] = [];
  for (let id = bpf.bpfProgGetNextId(0); id !== undefined; id = bpf.bpfProgGetNextId(id)) ids.push(id);
  expect(ids).toContain(info.id);
  expect(bpf.bpfProgGetFdById(0x7fffffff)).toBeUndefined();
});

const tracepoint: ProgramSpec = { ...filter(ret(0)), name: "tp", type: BPF_PROG_TYPE_RAW_TRACEPOINT };

kernelTest([5, 8], "a raw tracepoint fires while its link is open", () => {
  using _stats = new OwnedFd(bpf.bpfEnableStats());
  using program = loadProgram(tracepoint);
  {
    using link = attachRawTracepoint(program, "sys_enter");
    expect(link.info().prog_id).toBe(program.info().id);
    for (let i = 0; i < 100; i++) syscall("getppid");
    expect(program.info().run_cnt).toBeGreaterThanOrEqual(100n);
  }
  const { run_cnt } = program.info();
  for (let i = 0; i < 100; i++) syscall("getppid");
  expect(program.info().run_cnt - run_cnt).toBeLessThan(100n);
  expect(() => attachRawTracepoint(program, "no_such_tracepoint")).toThrow(
    "bpf(BPF_RAW_TRACEPOINT_OPEN): ENOENT",
  );
});

const cookies: MapSpec = {
  name: "cookies",
  type: BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 8,
  maxEntries: 1,
};

/** Stores its cookie, plus 1. */
function tracing(expectedAttachType: number, attachBtfId: number): ProgramSpec {
  return {
    name: "tracing",
    type: BPF_PROG_TYPE_TRACING,
    expectedAttachType,
    attachBtfId,
    license: "GPL",
    code: [call("bpf_get_attach_cookie"), ldMapValue(r1, cookies), add(r0, 1), stx(at(r1, u64), r0), ret(0)],
  };
}

function attachTwice(spec: ProgramSpec, fire: (program: Program) => void): void {
  using maps = new Maps();
  using program = loadProgram(spec, { maps });
  const before = openFds();
  for (const [options, cookie] of [[{}, 0n], [{ cookie: 77n }, 77n]] as const) {
    using _link = attachTracing(program, options);
    fire(program);
    expect(readCounters(maps.get(cookies))).toEqual([cookie + 1n]);
  }
  expect(openFds()).toBe(before);
}

kernelTest([6, 12], "tp_btf fires, with a cookie and without", () => {
  const { id } = findKernelType(TYPEDEF, ({ name }) => name === "btf_trace_sys_enter");
  attachTwice(tracing(BPF_TRACE_RAW_TP, id), () => syscall("getppid"));
}, hasKernelBtf);

/** Made for this: test runs of tracing programs call it. */
const fentryTarget = () => findKernelType(FUNC, ({ name }) => name === "bpf_fentry_test1").id;

/** Some machines keep root from it: EPERM whatever the target. */
function fentryIsAllowed(): boolean {
  try {
    using _program = loadProgram({ ...tracing(BPF_TRACE_FENTRY, fentryTarget()), code: ret(0) });
    return true;
  } catch (error) {
    return !isErrno(error, "EPERM");
  }
}

kernelTest([6, 0], "fentry fires, with a cookie and without, where root may load it", () => {
  attachTwice(tracing(BPF_TRACE_FENTRY, fentryTarget()), (program) => program.testRun());
}, hasKernelBtf && fentryIsAllowed());
