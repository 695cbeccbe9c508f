/** A tracer with exactly the capabilities that docs/security.md names, and without each of them. */
import { expect } from "bun:test";
import type { Run, Scenario } from "../scenario.ts";

const enough = { status: 0 }, refused = { status: 1 };

/** Functions or tracepoints of the lines that were printed. */
const functions = (run: Run, name: string) => [
  ...new Set(run.lines(`${name}.out`).map(({ func }) => func.replace(/\(.*/, ""))),
];

export const rights: Scenario = {
  name: "rights",
  kernels: ["6.12"],
  limitSeconds: 240,
  script: `
    RUN_PATIENCE_MS=40000
    sysctl -n kernel.perf_event_paranoid > "$OUT/paranoid"
    # with NAME CAPABILITIES USER WORD...: a trace of one datagram through lo by somebody who has these capabilities.
    with() {
      local name=$1 caps=$2 user=$3 ambient=
      shift 3
      [ "$user" = root ] || ambient="--reuid=65534 --regid=65534 --clear-groups --ambient-caps=-all$caps"
      printf '#!/usr/bin/bash\\nexec setpriv --bounding-set=-all%s --inh-caps=-all%s %s "%s" "$@"\\n' \\
        "$caps" "$caps" "$ambient" "$PWRU" > /tmp/some; chmod 755 /tmp/some
      TRACER=/tmp/some start $name "$@" 'udp and dst port 4097'
      alive \${pid_of[$name]} && echo hello | socat -u - UDP4:127.0.0.1:4097
      settle $name
      stop $name
    }
    both=,+bpf,+perfmon
    with multi $both root --backend kprobe-multi --filter-func 'ip_rcv|udp_rcv'
    with tracepoint $both root --backend tracepoint --filter-func netif_rx
    with no-perfmon ,+bpf,+syslog root --backend tracepoint
    with no-bpf ,+perfmon,+syslog root --backend tracepoint
    with paranoid $both,+syslog root --backend kprobe --filter-func 'ip_rcv|udp_rcv'
    sysctl -qw kernel.perf_event_paranoid=2
    with user-classic $both,+syslog,+dac_read_search,+dac_override nobody --backend kprobe --filter-func 'ip_rcv|udp_rcv'
    with user $both,+dac_read_search nobody --backend kprobe-multi --filter-func 'ip_rcv|udp_rcv'
    sysctl -qw kernel.perf_event_paranoid=$(cat "$OUT/paranoid")
    true
  `,
  checks: {},
  oursOnly: {
    "kprobe-multi: CAP_BPF and CAP_PERFMON; for a user CAP_DAC_READ_SEARCH too"(run) {
      for (const name of ["multi", "user"]) {
        expect(run.facts(name)).toMatchObject(enough);
        expect(functions(run, name)).toEqual(["ip_rcv", "udp_rcv"]);
      }
    },
    "tracepoint: CAP_BPF and CAP_PERFMON"(run) {
      expect(run.facts("tracepoint")).toMatchObject(enough);
      expect(functions(run, "tracepoint")).toEqual(["netif_rx"]);
    },
    "kprobe: also no restriction of Debian's, and for a user CAP_DAC_OVERRIDE"(run) {
      expect(run.facts("user-classic")).toMatchObject(enough);
      expect(functions(run, "user-classic")).toEqual(["ip_rcv", "udp_rcv"]);
      expect(run.text("user-classic.err")).not.toContain("WARN");
      expect(run.text("paranoid").trim()).toBe("3");
      expect(run.facts("paranoid")).toMatchObject(refused);
      expect(run.text("paranoid.err")).toContain(
        "sysctl -w kernel.perf_event_paranoid=2 # or CAP_SYS_ADMIN",
      );
    },
    "without CAP_BPF or CAP_PERFMON it refuses, and names what is missing"(run) {
      expect(run.facts("no-bpf")).toMatchObject(refused);
      expect(run.text("no-bpf.err")).toContain("this process lacks CAP_BPF to load programs");
      expect(run.facts("no-perfmon")).toMatchObject(refused);
      expect(run.text("no-perfmon.err")).toContain("this process lacks CAP_PERFMON to attach");
    },
  },
};
