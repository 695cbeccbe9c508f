/** ProgramSpec -> Program: a spec becomes an fd, or an error that names the item the verifier refused. */
import { assemble, type Assembled } from "../../asm/assemble.ts";
import type { MapSpec, ProgramSpec } from "../../asm/code.ts";
import { programBtf } from "../../asm/program_btf.ts";
import { VerifierError } from "../errors.ts";
import {
  bpfBtfLoad,
  bpfObjGetInfoByFd,
  bpfProgInfo,
  bpfProgTestRun,
  type ProgLoad,
  type ProgLoaded,
  type TestRun,
  tryBpfProgLoad,
} from "./bpf.ts";
import { errno, errnoName } from "./errno.ts";
import { OwnedFd } from "./fd.ts";
import { kernelError } from "./ffi.ts";
import { readVerifierLog } from "./verifier_log.ts";

/** Live maps by their spec; lib/maps implements it. */
export interface MapFds {
  fd(map: MapSpec): number;
}

/** A loaded program. */
export class Program extends OwnedFd {
  readonly spec: ProgramSpec;

  constructor(spec: ProgramSpec, fd: number) {
    super(fd);
    this.spec = spec;
  }

  /** What the kernel says of it: run counters, sizes, load time. */
  info(): ReturnType<typeof bpfProgInfo.decode> {
    return bpfObjGetInfoByFd(this.fd, bpfProgInfo);
  }

  /** Runs it on demand. */
  testRun(input?: TestRun): { retval: number; duration: number } {
    return bpfProgTestRun(this.fd, input);
  }
}

export interface LoadOptions {
  /** needed when the code refers to maps */
  readonly maps?: MapFds;
  /** fd of a module's BTF that `attachBtfId` counts in */
  readonly attachBtfObjFd?: number;
}

/** The first log; each further one is four times that, up to the kernel's limit on older versions. */
const firstLogBytes = 1 << 16, lastLogBytes = (1 << 24) - 1;
/** The verifier gives EAGAIN when a signal interrupts it. */
const attempts = 5;

/**
 * Assembles and loads `spec`. The first try asks for no log, which is fast; a refused one is repeated with
 * a log that grows until all of it fits.
 *
 * @throws {AssemblyError} the code cannot be encoded
 * @throws {VerifierError} the verifier refused it
 * @throws {KernelError} the kernel did not get as far as verifying it
 */
export function loadProgram(spec: ProgramSpec, { maps, attachBtfObjFd }: LoadOptions = {}): Program {
  const assembled = assemble(spec.code);
  using btf = spec.functions === undefined ? undefined : loadFunctions(spec, assembled);
  const request: ProgLoad = {
    prog_type: spec.type,
    insns: relocate(assembled, maps),
    license: spec.license,
    prog_name: spec.name,
    ...(spec.expectedAttachType === undefined ? {} : { expected_attach_type: spec.expectedAttachType }),
    ...(spec.attachBtfId === undefined ? {} : { attach_btf_id: spec.attachBtfId }),
    ...(attachBtfObjFd === undefined ? {} : { attach_btf_obj_fd: attachBtfObjFd }),
    ...(btf === undefined ? {} : {
      prog_btf_fd: btf.fd,
      func_info: btf.funcInfo,
      func_info_rec_size: btf.funcInfoRecSize,
    }),
  };

  let loaded = patiently(request), refused = loaded;
  for (let log_size = firstLogBytes; loaded.result < 0; log_size = Math.min(log_size * 4, lastLogBytes)) {
    loaded = patiently({ ...request, log_level: 1, log_size });
    // ENOSPC says that the log was cut off, in place of what is wrong with the program
    if (loaded.result >= 0 || -loaded.result !== errno.ENOSPC) {
      refused = loaded;
      break;
    }
    refused = { result: refused.result, log: loaded.log };
    if (log_size === lastLogBytes) break;
  }
  if (loaded.result >= 0) return new Program(spec, loaded.result);
  throw refusal(spec, assembled, refused);
}

function patiently(request: ProgLoad): ProgLoaded {
  for (let left = attempts;; left--) {
    const loaded = tryBpfProgLoad(request);
    if (-loaded.result !== errno.EAGAIN || left === 1) return loaded;
  }
}

/** The instructions with the fds of their maps. */
function relocate({ bytes, relocations }: Assembled, maps: MapFds | undefined): Uint8Array {
  const insns = bytes.slice(), view = new DataView(insns.buffer);
  for (const { slot, map, offset } of relocations) {
    if (maps === undefined) {
      throw new TypeError(`The program refers to map "${map.name}", but no maps are given`);
    }
    view.setInt32(slot * 8 + 4, maps.fd(map), true);
    view.setUint32(slot * 8 + 12, offset ?? 0, true);
  }
  return insns;
}

/** BTF of the program's own functions; the kernel keeps it once the program is loaded. */
class FunctionBtf extends OwnedFd {
  readonly funcInfo: Uint8Array;
  readonly funcInfoRecSize: number;
  constructor(btf: Uint8Array, funcInfo: Uint8Array, funcInfoRecSize: number) {
    super(bpfBtfLoad(btf));
    this.funcInfo = funcInfo;
    this.funcInfoRecSize = funcInfoRecSize;
  }
}

function loadFunctions({ functions = [] }: ProgramSpec, { labels }: Assembled): FunctionBtf {
  const { btf, funcInfo, funcInfoRecSize } = programBtf(functions, labels);
  return new FunctionBtf(btf, funcInfo, funcInfoRecSize);
}

function refusal(spec: ProgramSpec, { insns }: Assembled, { result, log }: ProgLoaded): Error {
  const verdict = readVerifierLog(log);
  if (verdict === undefined) {
    return kernelError("bpf(BPF_PROG_LOAD)", -result, {
      doing: `Cannot load program "${spec.name}"`,
      ...(-result === errno.EPERM
        ? { hint: "root is needed, or the capabilities CAP_BPF and CAP_PERFMON" }
        : {}),
    });
  }
  const item = verdict.slot === undefined ? undefined : insns[verdict.slot]?.text;
  return new VerifierError(
    spec.name,
    -result,
    errnoName(-result),
    log,
    item === undefined ? undefined : `${verdict.slot}: ${item}`,
    hintFor(verdict.reason),
  );
}

/** What to do about a reason; only those that are unmistakable. */
const hints: readonly (readonly [reason: RegExp, hint: string])[] = [
  [
    /R(\d+) invalid mem access 'scalar'/,
    "r$1 is a plain number to the verifier here; read through it with probeRead()",
  ],
  [/R(\d+) invalid mem access '\w*_or_null'/, "r$1 may be NULL here; compare it with 0 first"],
  [/R(\d+) !read_ok/, "r$1 has no value here: nothing was put into it, or a call has clobbered it"],
  [/Unreleased reference/, "a path leaves without bpf_ringbuf_submit or bpf_ringbuf_discard"],
  [
    /cannot use helper bpf_probe_read_kernel/,
    "the kernel is locked down to confidentiality: programs may not read its memory. Boot with lockdown=integrity, " +
    "or without it",
  ],
  [/non-GPL compatible program/, 'the license of the spec has to be GPL-compatible, e.g. "GPL"'],
];

function hintFor(reason: string): string | undefined {
  for (const [pattern, hint] of hints) {
    const match = pattern.exec(reason);
    if (match !== null) return hint.replace("$1", match[1] ?? "");
  }
  return undefined;
}
