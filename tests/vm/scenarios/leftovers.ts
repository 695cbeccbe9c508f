/**
 * What a tracer leaves on the kernel after it is gone, by whatever way it went: nothing that runs. Definitions
 * of kprobe events may stay behind for a minute; they are inert.
 */
import { expect } from "bun:test";
import type { Checks, Run, Scenario } from "../scenario.ts";

/** How it goes, and the exit status the shell then sees. */
const ways = [["INT", 0], ["TERM", 0], ["KILL", 137]] as const;

/** Files of a snapshot whose content must be as before; what bpftool, ftrace and kprobes know. */
const running = ["progs", "links", "kprobes", "enabled_functions"] as const;

const asBefore = (run: Run, snapshot: string) => {
  for (const what of running) {
    expect(`${what}: ${run.text(`${snapshot}.${what}`)}`).toBe(`${what}: ${run.text(`before.${what}`)}`);
  }
};

/** Few enough to be swept in seconds; "start" has all functions swept. */
const words = "--filter-func '(ip|udp)_.*' 'udp and port 9053'";

export const leftovers: Scenario = {
  name: "leftovers",
  kernels: ["5.10", "6.12"],
  longKernels: ["6.1", "6.18", "7.3", "6.12-arm64"],
  limitSeconds: 300,
  script: `
    snapshot before
    for signal in ${ways.map(([signal]) => signal).join(" ")}; do
      start $signal ${words}
      snapshot during-$signal
      stop $signal $signal
      # A helper may still be holding or deleting; what runs must be gone now.
      snapshot after-$signal
      [ $signal = KILL ] || { now; begin=$NOW; until_true 60 swept; now
        fact $signal swept_ms $(((NOW - begin) / 1000)); }
    done
    # The next start clears up after the one that was killed.
    start next ${words}
    stop next
    now; begin=$NOW; until_true 60 swept; now
    fact next swept_ms $(((NOW - begin) / 1000))
    snapshot finally
  `,
  checks: {
    ...Object.fromEntries(ways.flatMap(([signal, status]): [string, (run: Run) => void][] => [
      [`SIG${signal}: ends with status ${status}`, (run) => {
        expect(run.facts(signal)).toMatchObject({ ready: true, gone: true, status });
      }],
      [`SIG${signal}: something was attached before`, (run) => {
        expect(run.text(`during-${signal}.progs`)).not.toBe(run.text("before.progs"));
      }],
      [`SIG${signal}: nothing runs afterwards`, (run) => asBefore(run, `after-${signal}`)],
    ])) as Checks,
    "definitions are swept within a minute, those of a killed run after the next start"(run) {
      for (const name of ["INT", "TERM", "next"]) expect(run.facts(name).sweptMs).toBeLessThan(60_000);
    },
    "nothing at all is left in the end"(run) {
      expect(run.text("finally.kprobe_events")).toBe("");
      asBefore(run, "finally");
    },
  },
};
