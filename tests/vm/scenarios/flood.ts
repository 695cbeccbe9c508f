/**
 * More packets than fit: what is printed and what is reported lost add up to what passed.
 *
 * The tracer stands still (SIGSTOP) while the flood runs, so that a small ring must overflow. The kernel's own
 * counter of the namespace says how many messages there were: one hit of ip_rcv each.
 */
import { expect } from "bun:test";
import type { Run, Scenario } from "../scenario.ts";

const echoes = 2000;

/** Lines without the header. */
const printed = (run: Run, name: string) => run.lines(`${name}.out`).length;
/** What the closing line says of the ring. */
const lost = (run: Run, name: string) => Number(/ lost (\d+) /.exec(run.text(`${name}.err`))?.[1] ?? 0);
const passed = (run: Run, name: string) => Number(run.text(`${name}.passed`));

export const flood: Scenario = {
  name: "flood",
  kernels: ["5.10", "6.12"],
  limitSeconds: 300,
  script: `
    topo 1500
    received() { ip netns exec pod awk '$1 == "Icmp:" && $2 ~ /^[0-9]/ { print $2 }' /proc/net/snmp; }
    # flood NAME WORD...: ${echoes} echoes inside the pod while the tracer stands still
    flood() {
      local name=$1 before
      shift
      start $name --filter-func '^ip_rcv$' --filter-netns /run/netns/pod --output-meta --output-tuple "$@" icmp
      before=$(received)
      kill -STOP \${pid_of[$name]}
      ip netns exec pod ping -q -f -c ${echoes} 10.9.1.2 > /dev/null
      echo $(($(received) - before)) > "$OUT/$name.passed"
      kill -CONT \${pid_of[$name]}
      settle $name
      stop $name
    }
    flood ample
    [ "$PWRU" = "$PEER" ] || flood small --ring-size 64KiB
    untopo
  `,
  checks: {
    "both requests and replies passed"(run) {
      expect(passed(run, "ample")).toBeGreaterThanOrEqual(2 * echoes);
    },
  },
  oursOnly: {
    "an ample ring loses nothing"(run) {
      expect({ printed: printed(run, "ample"), lost: lost(run, "ample") })
        .toEqual({ printed: passed(run, "ample"), lost: 0 });
    },
    "a small ring loses some, and counts them"(run) {
      expect(lost(run, "small")).toBeGreaterThan(0);
      expect(printed(run, "small") + lost(run, "small")).toBe(passed(run, "small"));
    },
  },
};
