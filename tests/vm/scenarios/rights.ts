/** A tracer with exactly the capabilities that docs/security.md names, and without each of them. */
import { expect } from "bun:test";
import { atLeast, type Run, type Scenario } from "../scenario.ts";

const enough = { status: 0 }, refused = { status: 1 };

/** Functions or tracepoints of the lines that were printed. */
const functions = (run: Run, name: string) => [
  ...new Set(run.lines(`${name}.out`).map(({ func }) => func.replace(/\(.*/, ""))),
];

export const rights: Scenario = {
  name: "rights",
  kernels: [],
  longKernels: ["5.10", "6.1", "6.12"],
  limitSeconds: 300,
  script: `
    RUN_PATIENCE_MS=40000
    sysctl -n kernel.perf_event_paranoid > "$OUT/paranoid"
    # with NAME CAPABILITIES USER WORD...: a trace of one datagram through lo by somebody who has these capabilities.
    # Memory of maps counts as locked before Linux 5.11.
    locked=unlimited
    with() {
      local name=$1 caps=$2 user=$3 ambient=
      shift 3
      [ "$user" = root ] || ambient="--reuid=65534 --regid=65534 --clear-groups --ambient-caps=-all$caps"
      printf '#!/usr/bin/bash\\nulimit -l %s; exec setpriv --bounding-set=-all%s --inh-caps=-all%s %s "%s" "$@"\\n' \\
        "$locked" "$caps" "$caps" "$ambient" "$PWRU" > /tmp/some; chmod 755 /tmp/some
      TRACER=/tmp/some start $name "$@" 'udp and dst port 4097'
      grep -h ^Seccomp: /proc/\${pid_of[$name]}/task/*/status | sort -u > "$OUT/$name.seccomp"
      alive \${pid_of[$name]} && echo hello | socat -u - UDP4:127.0.0.1:4097
      settle $name
      stop $name
    }
    both=,+bpf,+perfmon
    case "$(uname -r)" in 5.10.*|6.1.*) ;; *)
      with multi $both root --backend kprobe-multi --filter-func 'ip_rcv|udp_rcv'
      with user $both,+dac_read_search nobody --backend kprobe-multi --filter-func 'ip_rcv|udp_rcv'
    esac
    case "$(uname -r)" in 5.10.*)
      locked=64
      with locked $both root --backend tracepoint --filter-func netif_rx
      with resource $both,+sys_resource root --backend tracepoint --filter-func netif_rx
      locked=unlimited
    esac
    with tracepoint $both root --backend tracepoint --filter-func netif_rx
    with no-perfmon ,+bpf,+syslog root --backend tracepoint
    with no-bpf ,+perfmon,+syslog root --backend tracepoint
    with admin $both,+syslog,+sys_admin root --backend kprobe --filter-func 'ip_rcv|udp_rcv'
    with paranoid $both,+syslog root --backend kprobe --filter-func 'ip_rcv|udp_rcv'
    sysctl -qw kernel.perf_event_paranoid=2
    with user-classic $both,+syslog,+dac_read_search,+dac_override nobody --backend kprobe --filter-func 'ip_rcv|udp_rcv'
    sysctl -qw kernel.perf_event_paranoid=$(cat "$OUT/paranoid")
    true
  `,
  checks: {},
  oursOnly: {
    "kprobe-multi: CAP_BPF and CAP_PERFMON; for a user CAP_DAC_READ_SEARCH too"(run) {
      if (!atLeast(run.kernel, "6.12")) return; // Debian's have none
      for (const name of ["multi", "user"]) {
        expect(run.text(`${name}.seccomp`)).toBe("Seccomp:\t2\n");
        expect(run.facts(name)).toMatchObject(enough);
        expect(functions(run, name)).toEqual(["ip_rcv", "udp_rcv"]);
      }
    },
    "tracepoint: CAP_BPF and CAP_PERFMON"(run) {
      expect(run.facts("tracepoint")).toMatchObject(enough);
      expect(functions(run, "tracepoint")).toEqual(["netif_rx"]);
    },
    "kprobe: also no restriction of Debian's, and for a user CAP_DAC_OVERRIDE"(run) {
      for (const name of ["user-classic", "admin"]) {
        expect(run.facts(name)).toMatchObject(enough);
        expect(functions(run, name)).toEqual(["ip_rcv", "udp_rcv"]);
        expect(run.text(`${name}.seccomp`)).toBe("Seccomp:\t2\n");
      }
      expect(run.text("user-classic.err")).not.toContain("WARN");
      expect(run.text("paranoid").trim()).toBe("3");
      expect(run.facts("paranoid")).toMatchObject(refused);
      expect(run.text("paranoid.err")).toContain(
        "sysctl -w kernel.perf_event_paranoid=2 # or CAP_SYS_ADMIN",
      );
    },
    "Linux 5.10: also CAP_SYS_RESOURCE, or no limit on locked memory"(run) {
      if (run.kernel !== "5.10") return;
      expect(run.facts("locked")).toMatchObject(refused);
      expect(run.text("locked.err")).toContain("ulimit -l");
      expect(run.facts("resource")).toMatchObject(enough);
      expect(functions(run, "resource")).toEqual(["netif_rx"]);
    },
    "without CAP_BPF or CAP_PERFMON it refuses, and names what is missing"(run) {
      expect(run.facts("no-bpf")).toMatchObject(refused);
      expect(run.text("no-bpf.err")).toContain("this process lacks CAP_BPF to load programs");
      expect(run.facts("no-perfmon")).toMatchObject(refused);
      expect(run.text("no-perfmon.err")).toContain("this process lacks CAP_PERFMON to attach");
    },
  },
};
