/**
 * kprobe_multi: one program on many functions through one link (kernel/trace/bpf_trace.c). Linux 5.18, with
 * CONFIG_FPROBE.
 *
 * The kernel takes all addresses or none and does not say which one it dislikes. A refusal costs a few
 * milliseconds; a link costs about 130 to close on 6.12. So bad addresses are found by halving, with a
 * program that does nothing, and the good ones then get one link.
 */
import { isErrno } from "../sys/ffi.ts";
import {
  BPF_F_KPROBE_MULTI_RETURN,
  bpfLinkCreate,
  bpfLinkInfoKprobeMulti,
  bpfObjGetInfoByFd,
} from "../sys/bpf.ts";
import { exit, mov, r0 } from "../../asm/insn.ts";
import { BPF_PROG_TYPE_KPROBE, BPF_TRACE_KPROBE_MULTI } from "../../asm/uapi.ts";
import { loadProgram, type Program } from "../sys/program.ts";
import type { ProgramSpec } from "../../asm/code.ts";
import { Link } from "./link.ts";

export interface KprobeMultiTargets {
  /**
   * Entries of functions, as in kallsyms. The place of the fentry nop (available_filter_functions_addrs)
   * is taken too, but bpf_get_attach_cookie() looks up the entry and gives 0 where the two differ: x86
   * functions that begin with endbr64 have the nop 4 bytes in.
   */
  readonly addresses: BigUint64Array;
  /** what bpf_get_attach_cookie() gives at each of them */
  readonly cookies?: BigUint64Array;
  /** on return instead of on entry */
  readonly onReturn?: boolean;
}

/** A program that does nothing, for trying addresses. */
export const trialProgram: ProgramSpec = {
  name: "trial",
  type: BPF_PROG_TYPE_KPROBE,
  expectedAttachType: BPF_TRACE_KPROBE_MULTI,
  license: "GPL",
  code: [mov(r0, 0), exit()],
};

/**
 * Attaches to all addresses, or to none.
 *
 * @throws {KernelError} EOPNOTSUPP: kernel without FPROBE; EINVAL, ENOENT, ESRCH: some address is no
 *   function entry that can be traced
 */
export function attachKprobeMulti(
  program: Program,
  { addresses, cookies, onReturn = false }: KprobeMultiTargets,
): Link {
  return new Link(bpfLinkCreate({
    prog_fd: program.fd,
    attach_type: program.spec.expectedAttachType ?? BPF_TRACE_KPROBE_MULTI,
    kprobe_multi: {
      flags: onReturn ? BPF_F_KPROBE_MULTI_RETURN : 0,
      addrs: addresses,
      ...(cookies === undefined ? {} : { cookies }),
    },
  }));
}

/** Hits that the link's probes left out because another probe was at work on that CPU; 0 before Linux 6.6. */
export function missedHits(link: Link): bigint {
  return bpfObjGetInfoByFd(link.fd, bpfLinkInfoKprobeMulti).missed;
}

/** A link to what could be attached. */
export interface Attached {
  /** absent when every address was refused */
  readonly link: Link | undefined;
  /** indices into `addresses` */
  readonly refused: readonly number[];
  /** links of the trial program: harmless, slow to close, so close them when there is time */
  readonly trials: readonly Link[];
}

/** Each attempt costs 1 to 130 ms; beyond this many, whole parts are left out. */
const maxAttempts = 512;

/**
 * Attaches to all addresses that the kernel takes; where there are too many bad ones to find, to those that were
 * found good. On a list filtered by available_filter_functions the first attempt succeeds.
 *
 * @throws {KernelError} as attachKprobeMulti
 */
export function attachKprobeMultiWherePossible(
  program: Program,
  targets: KprobeMultiTargets,
  attempts: number = maxAttempts,
): Attached {
  try {
    return { link: attachKprobeMulti(program, targets), refused: [], trials: [] };
  } catch (error) {
    if (!isErrno(error, "EINVAL", "ENOENT", "ESRCH")) throw error;
    using trials = new DisposableStack();
    const links: Link[] = [];
    using trial = loadProgram(trialProgram);
    const refused = findRefused(targets.addresses, (addresses) => {
      if (attempts-- <= 0) return undefined;
      const link = tryAttach(trial, addresses);
      if (link !== undefined) links.push(trials.use(link));
      return link !== undefined;
    });
    const link = refused.length === targets.addresses.length
      ? undefined
      : attachKprobeMulti(program, without(targets, new Set(refused)));
    trials.move();
    return { link, refused, trials: links };
  }
}

function tryAttach(trial: Program, addresses: BigUint64Array): Link | undefined {
  try {
    return attachKprobeMulti(trial, { addresses });
  } catch (error) {
    if (isErrno(error, "EINVAL", "ENOENT", "ESRCH")) return undefined;
    throw error;
  }
}

/**
 * The indices of bad addresses, given that there is at least one. `isGood` says whether all of a part are
 * good, or that it cannot be asked: then none of it is taken. Where the left half is good, the right one must hold the
 * culprit and is not asked as a whole.
 */
export function findRefused(
  addresses: BigUint64Array,
  isGood: (part: BigUint64Array) => boolean | undefined,
): readonly number[] {
  const refused: number[] = [];
  const refuse = (from: number, to: number): void => {
    for (let index = from; index < to; index++) refused.push(index);
  };
  /** @param from,to a part known to have a bad one */
  const split = (from: number, to: number): void => {
    if (to - from === 1) return refuse(from, to);
    const middle = (from + to) >>> 1;
    const left = isGood(addresses.subarray(from, middle));
    if (left === undefined) return refuse(from, to);
    if (!left) split(from, middle);
    const right = left ? false : isGood(addresses.subarray(middle, to));
    if (right === undefined) refuse(middle, to);
    else if (!right) split(middle, to);
  };
  if (addresses.length > 0) split(0, addresses.length);
  return refused;
}

function without(targets: KprobeMultiTargets, refused: ReadonlySet<number>): KprobeMultiTargets {
  const keep = (_: bigint, index: number) => !refused.has(index);
  return {
    ...targets,
    addresses: targets.addresses.filter(keep),
    ...(targets.cookies === undefined ? {} : { cookies: targets.cookies.filter(keep) }),
  };
}
