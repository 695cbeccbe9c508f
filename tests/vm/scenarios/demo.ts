/** The demonstration on every kernel: the answer is delivered, then dropped, and nothing of it is left. */
import { expect } from "bun:test";
import type { Demonstration, Step } from "../../../lib/demo/paths.ts";
import { hasFprobe } from "../images.ts";
import { type Checks, type Run, type Scenario } from "../scenario.ts";

type Printed = Demonstration & { readonly recorded: boolean; readonly reason: string | null };

const printed = (run: Run, name: string) => JSON.parse(run.text(`${name}.out`)) as Printed;
const names = (steps: readonly Step[]) => steps.map(({ func }) => func);

const checks: Checks = {
  "live, by the best backend"(run) {
    const { recorded, backend, attached } = printed(run, "demo");
    expect(run.facts("demo").status).toBe(0);
    expect({ recorded, backend }).toEqual({
      recorded: false,
      backend: hasFprobe(run.kernel) ? "kprobe-multi" : "kprobe",
    });
    expect(attached).toBeGreaterThan(hasFprobe(run.kernel) ? 1000 : 30);
  },
  "MTU 9001: forwarded and delivered"(run) {
    const { mtu, arrived, steps } = printed(run, "demo").passages[0];
    expect({ mtu, arrived }).toEqual({ mtu: 9001, arrived: true });
    const way = ["ip_output", "ip_forward", "ip_output", "ip_local_deliver", "udp_rcv", "skb_consume_udp"];
    expect([...new Set(names(steps).filter((name) => way.includes(name)))]).toEqual([...new Set(way)]);
    expect(steps.find(({ func }) => func === "ip_forward")).toMatchObject({
      where: "node",
      iface: "dnsveth",
      len: 2379,
      mtu: 9001,
    });
    expect(steps.map(({ where }) => where)).toContain("pod");
  },
  "MTU 1500: answered by ICMP and freed, with the reason where the kernel has one"(run) {
    const { mtu, arrived, steps } = printed(run, "demo").passages[1];
    expect({ mtu, arrived }).toEqual({ mtu: 1500, arrived: false });
    expect(names(steps)).toContain("__icmp_send");
    expect(new Set(steps.map(({ where }) => where))).not.toContain("pod");
    expect([...new Set(steps.map(({ reason }) => reason))]).toEqual(
      run.kernel === "5.10" ? [null] : [null, "SKB_DROP_REASON_PKT_TOO_BIG"],
    );
  },
  "they part behind ip_forward"(run) {
    const text = run.text("text.out");
    expect(text).toMatch(/^-> node \S* +\S+ +\| node dnsveth __icmp_send$/m);
    expect(text).toMatch(
      /^They part behind ip_forward in node: one goes on to \S+, the other to __icmp_send\.$/m,
    );
    if (run.kernel !== "5.10") expect(text).toContain("SKB_DROP_REASON_PKT_TOO_BIG");
  },
  "by classic kprobes: the main path shows the same"(run) {
    const { recorded, backend, passages: [big, small] } = printed(run, "kprobe");
    expect({ recorded, backend }).toEqual({ recorded: false, backend: "kprobe" });
    expect([big.arrived, small.arrived]).toEqual([true, false]);
    const turn = (steps: readonly Step[]) =>
      names(steps).slice(names(steps).indexOf("ip_forward")).slice(0, 2);
    expect(turn(small.steps)).toEqual(["ip_forward", "__icmp_send"]);
    expect(turn(big.steps)[1]).toMatch(/^ip_forward_finish$|^ip_output$/);
  },
  "nothing is left, and nothing was touched"(run) {
    expect(run.text("after")).toBe(run.text("before"));
  },
  "an interrupt ends it at once, and nothing is left"(run) {
    expect(run.text("interrupted.status").trim()).toMatch(/^[01]$/);
    expect(run.text("after-interrupt")).toBe(run.text("before"));
  },
  "as nobody: a recording, and it says so"(run) {
    const { recorded, reason, passages } = printed(run, "nobody");
    expect(run.facts("nobody").status).toBe(0);
    expect(recorded).toBe(true);
    expect(reason).toContain("CAP_BPF");
    expect(passages.map(({ arrived }) => arrived)).toEqual([true, false]);
  },
};

export const demo: Scenario = {
  name: "demo",
  kernels: [],
  longKernels: ["6.12"], // tests/kernel/demo.test.ts has it by tracepoints
  limitSeconds: 300,
  script: `
    RUN_PATIENCE_MS=90000
    # What a demonstration could leave or change.
    state() {
      until_true 30 swept
      until_true 10 eval '! grep -qs "[i]nternal-helper" /proc/[0-9]*/cmdline'
      { ip -o link; ip -o addr; ip route; sysctl -n net.ipv4.ip_forward net.ipv4.conf.all.forwarding
        bpftool -j link show | grep -oE '"type":"[a-z_]+"'; cat /sys/kernel/tracing/kprobe_events
      } > "$OUT/$1" 2>> "$OUT/stderr"
    }
    modprobe -q veth
    state before
    run demo --demo --output-json
    run text --demo
    run kprobe --demo --output-json --backend kprobe
    state after

    set -m
    "$PWRU" --demo > "$OUT/interrupted.out" 2> "$OUT/interrupted.err" &
    pid=$!
    set +m
    until_true 90 grep -q Attaching "$OUT/interrupted.err"
    kill -INT $pid
    wait $pid
    echo $? > "$OUT/interrupted.status"
    state after-interrupt

    cat > /tmp/as_nobody <<'END'
#!/usr/bin/bash
exec su -s /usr/bin/bash nobody -c "exec $PWRU $*"
END
    chmod 755 /tmp/as_nobody
    TRACER=/tmp/as_nobody run nobody --demo --output-json
  `,
  checks: {},
  oursOnly: checks,
};
