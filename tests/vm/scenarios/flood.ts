/**
 * More packets than fit: what is printed and what is reported lost add up to what passed.
 *
 * The tracer stands still (SIGSTOP) while the flood runs, so that a small ring must overflow. The kernel's own
 * counter of the namespace says how many messages there were: one hit of ip_rcv each.
 *
 * The same for hits that are missed: a function that our own program calls, through a helper, is hit while that
 * program runs, once for each message.
 */
import { expect } from "bun:test";
import type { KernelName } from "../images.ts";
import { atLeast, type Run, type Scenario } from "../scenario.ts";

const echoes = 2000, fewEchoes = 50;
/** What the program calls for each record. */
const helper = "bpf_ringbuf_reserve";
/** kprobe-multi needs Linux 5.18. */
const backendsOf = (kernel: KernelName) =>
  atLeast(kernel, "6.12") ? ["kprobe-multi", "kprobe"] as const : ["kprobe"] as const;

/** Lines without the header. */
const printed = (run: Run, name: string) => run.lines(`${name}.out`).length;
/** What the closing line says of the ring. */
const lost = (run: Run, name: string) => Number(/ lost (\d+) /.exec(run.text(`${name}.err`))?.[1] ?? 0);
const passed = (run: Run, name: string) => Number(run.text(`${name}.passed`));

export const flood: Scenario = {
  name: "flood",
  kernels: ["6.12"],
  longKernels: ["5.10"],
  limitSeconds: 300,
  script: `
    topo 1500
    count=${echoes}
    received() { ip netns exec pod awk '$1 == "Icmp:" && $2 ~ /^[0-9]/ { print $2 }' /proc/net/snmp; }
    # flood NAME WORD...: $count echoes inside the pod while the tracer stands still
    flood() {
      local name=$1 before
      shift
      start $name --filter-func '^ip_rcv$' --filter-netns /run/netns/pod --output-meta --output-tuple "$@" icmp
      before=$(received)
      kill -STOP \${pid_of[$name]}
      ip netns exec pod ping -q -f -c $count 10.9.1.2 > /dev/null
      echo $(($(received) - before)) > "$OUT/$name.passed"
      kill -CONT \${pid_of[$name]}
      settle $name
      stop $name
    }
    flood ample
    if [ "$PWRU" != "$PEER" ]; then
      flood small --ring-size 64KiB --strict
      count=${fewEchoes}
      for backend in kprobe-multi kprobe; do
        [ $backend = kprobe ] || [ ! "$(uname -r | cut -d. -f1)" = 5 ] || continue
        flood $backend --backend $backend --filter-non-skb-funcs ${helper} --strict
      done
    fi
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
      const gaps = run.text("small.out").matchAll(/^# lost (\d+) events? here: the ring buffer was full$/gm);
      expect([...gaps].reduce((sum, [, events]) => sum + Number(events), 0)).toBe(lost(run, "small"));
      expect(run.facts("small")).toMatchObject({ gone: true, status: 3 });
    },
    "hits that a probe misses because another one is at work are counted, each"(run) {
      for (const backend of backendsOf(run.kernel)) {
        const missed = Number(
          /\n {2}missed +(\d+) hits? not looked at/.exec(run.text(`${backend}.err`))?.[1],
        );
        const hits = passed(run, backend);
        expect(hits).toBeGreaterThanOrEqual(2 * fewEchoes);
        // Of the helper each hit, one for each line; of ip_rcv those for which an interrupt came too soon.
        expect({ backend, missed, lost: lost(run, backend) }).toEqual({
          backend,
          missed: hits,
          lost: 0,
        });
        expect(printed(run, backend)).toBeGreaterThan(fewEchoes);
        expect(printed(run, backend)).toBeLessThanOrEqual(hits);
        expect(run.facts(backend)).toMatchObject({ gone: true, status: 3 });
      }
    },
  },
};
