/** The perf events behind kprobes: one on a tracepoint for many probes, or one of the kprobe PMU for each. */
import { OwnedFd } from "../sys/fd.ts";
import { isErrno } from "../sys/ffi.ts";
import { PERF_TYPE_TRACEPOINT, perfEventEnable, perfEventOpen, perfEventSetBpf } from "../sys/perf_event.ts";
import type { TracepointEvents } from "./kprobe_events.ts";
import type { PmuEvents } from "./kprobe_pmu.ts";

type PerfAttr = Parameters<typeof perfEventOpen>[0];

/** Any online CPU would do: the program runs wherever a probe is hit. */
function openWithProgram(attr: PerfAttr, program: number): OwnedFd {
  const event = new OwnedFd(perfEventOpen({ sample_period: 1n, ...attr }, { pid: -1, cpu: 0 }));
  try {
    perfEventSetBpf(event.fd, program);
    perfEventEnable(event.fd);
    return event;
  } catch (error) {
    event[Symbol.dispose]();
    throw error;
  }
}

export const tracepointEvents: TracepointEvents = {
  open: (eventId, program) =>
    openWithProgram({ type: PERF_TYPE_TRACEPOINT, config: BigInt(eventId) }, program),
};

/** Refusals that concern one address; any other failure concerns us. */
const ofThisAddress = ["EINVAL", "EILSEQ", "ENOENT", "EADDRNOTAVAIL", "EMFILE", "ENFILE", "ENOMEM"] as const;

export const pmuEvents: PmuEvents = {
  open(pmuType, address, program) {
    try {
      return openWithProgram({ type: pmuType, config2: address }, program);
    } catch (error) {
      if (isErrno(error, ...ofThisAddress)) return error.code;
      throw error;
    }
  },
};
