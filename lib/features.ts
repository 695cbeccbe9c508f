/**
 * What the running kernel can do: a row per feature, with the kernel that brought it and a probe that does
 * the thing once. Versions are for messages only; distributions backport and leave out.
 */
import type { Code, KernelTypes } from "../asm/code.ts";
import { at, call, callKfunc, ldx, mov, r0, r2, ret } from "../asm/insn.ts";
import { u64 } from "../asm/layout.ts";
import {
  BPF_MAP_TYPE_RINGBUF,
  BPF_PERF_EVENT,
  BPF_PROG_TYPE_KPROBE,
  BPF_PROG_TYPE_PERF_EVENT,
  BPF_PROG_TYPE_SOCKET_FILTER,
  BPF_TRACE_KPROBE_MULTI,
} from "../asm/uapi.ts";
import { KernelError, UnsupportedError } from "./errors.ts";
import { trialProgram } from "./link/kprobe_multi.ts";
import { BpfMap } from "./maps/bpf_map.ts";
import { bpfLinkCreate } from "./sys/bpf.ts";
import { OwnedFd } from "./sys/fd.ts";
import { pageSize } from "./sys/ffi.ts";
import { PERF_COUNT_SW_DUMMY, PERF_TYPE_SOFTWARE, perfEventOpen } from "./sys/perf_event.ts";
import { loadProgram } from "./sys/program.ts";

/** What probes may need to know of the machine. */
export interface Machine {
  /** absent: the kernel has no BTF */
  readonly types?: KernelTypes | undefined;
  /** entry of a function that can be traced; absent: `ip_rcv` is asked for by name */
  readonly functionEntry?: bigint | undefined;
}

/** "unknown": the probe failed for a reason of its own, such as missing rights. */
export type Answer =
  | { readonly supported: true }
  | { readonly supported: false; readonly error: Error }
  | { readonly supported: "unknown"; readonly error: unknown };

export interface Feature {
  readonly name: string;
  /** the first kernel that has it */
  readonly since: string;
  /** the errno names that mean "no" */
  readonly no: readonly string[];
  /** Does it once; throws when it cannot be done. UnsupportedError means "no". */
  probe(machine: Machine): void;
}

function tryLoad(type: number, code: Code): void {
  using _program = loadProgram({ name: "probe", type, license: "GPL", code });
}

/** r0 = bpf_rdonly_cast(the context, id), then a load through it. */
function tryCast(types: KernelTypes | undefined, id: number | undefined): void {
  const kfunc = types?.functionId("bpf_rdonly_cast");
  if (kfunc === undefined || id === undefined) {
    throw new UnsupportedError("Kernel BTF has no bpf_rdonly_cast for this type");
  }
  const load = ldx(r0, at(r0, u64));
  tryLoad(BPF_PROG_TYPE_KPROBE, [mov(r2, id), callKfunc("bpf_rdonly_cast", kfunc), load, ret(0)]);
}

const rows = [
  {
    name: "ring buffer",
    since: "5.8",
    no: ["EINVAL"],
    probe() {
      const spec = {
        name: "probe",
        type: BPF_MAP_TYPE_RINGBUF,
        keySize: 0,
        valueSize: 0,
        maxEntries: pageSize,
      };
      using _map = BpfMap.create(spec);
    },
  },
  {
    name: "kprobe_multi link",
    since: "5.18, with CONFIG_FPROBE",
    no: ["EINVAL", "EOPNOTSUPP"],
    probe({ functionEntry }) {
      using program = loadProgram(trialProgram);
      using _link = new OwnedFd(bpfLinkCreate({
        prog_fd: program.fd,
        attach_type: BPF_TRACE_KPROBE_MULTI,
        kprobe_multi: functionEntry === undefined
          ? { syms: ["ip_rcv"] }
          : { addrs: BigUint64Array.of(functionEntry) },
      }));
    },
  },
  {
    name: "bpf_rdonly_cast to a struct",
    since: "6.2",
    no: ["EINVAL", "EACCES"],
    probe: ({ types }) => tryCast(types, types?.structId("sk_buff")),
  },
  {
    name: "bpf_rdonly_cast to void",
    since: "6.17",
    no: ["EINVAL", "EACCES"],
    probe: ({ types }) => tryCast(types, 0),
  },
  {
    name: "bpf_get_func_ip in a kprobe",
    since: "5.15",
    no: ["EINVAL"],
    probe: () => tryLoad(BPF_PROG_TYPE_KPROBE, [call("bpf_get_func_ip"), ret(0)]),
  },
  {
    name: "bpf_get_attach_cookie in a kprobe",
    since: "5.15",
    no: ["EINVAL"],
    probe: () => tryLoad(BPF_PROG_TYPE_KPROBE, [call("bpf_get_attach_cookie"), ret(0)]),
  },
  {
    name: "BPF link on a perf event",
    since: "5.15",
    no: ["EINVAL"],
    probe() {
      const type = BPF_PROG_TYPE_PERF_EVENT;
      using program = loadProgram({ name: "probe", type, license: "GPL", code: ret(0) });
      using event = new OwnedFd(
        perfEventOpen({ type: PERF_TYPE_SOFTWARE, config: BigInt(PERF_COUNT_SW_DUMMY), sample_period: 1n }),
      );
      using _link = new OwnedFd(
        bpfLinkCreate({ prog_fd: program.fd, target_fd: event.fd, attach_type: BPF_PERF_EVENT }),
      );
    },
  },
  {
    name: "BPF memory charged to the cgroup",
    since: "5.11, before which RLIMIT_MEMLOCK counts",
    no: ["EINVAL"],
    // the accounting itself does not show; this helper came with the same kernel
    probe: () => tryLoad(BPF_PROG_TYPE_SOCKET_FILTER, [call("bpf_ktime_get_coarse_ns"), ret(0)]),
  },
] as const satisfies readonly Feature[];

export type FeatureName = typeof rows[number]["name"];

export const features: readonly (Feature & { readonly name: FeatureName })[] = rows;

/** Asks the kernel for one feature. Only the expected errno means no. */
export function probe(name: FeatureName, machine: Machine = {}): Answer {
  const feature = features.find((row) => row.name === name) as Feature;
  try {
    feature.probe(machine);
    return { supported: true };
  } catch (error) {
    const no = error instanceof UnsupportedError ||
      (error instanceof KernelError && feature.no.includes(error.code));
    return no ? { supported: false, error } : { supported: "unknown", error };
  }
}
