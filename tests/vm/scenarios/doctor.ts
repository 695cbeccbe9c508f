/** What the doctor says of each kernel, and of one that is made worse on purpose: every finding is true. */
import { expect } from "bun:test";
import { atLeast, type Checks, type Run, type Scenario } from "../scenario.ts";

interface Report {
  readonly backend: string | null;
  readonly probes: number | null;
  readonly of: (name: string) => string;
}

/** "state: finding" by name. */
function report(run: Run, name: string): Report {
  const { findings, ...rest } = JSON.parse(run.text(`${name}.out`)) as {
    findings: { name: string; state: string; found: string }[];
    backend: string | null;
    probes: number | null;
  };
  const of = (wanted: string) => {
    const row = findings.find((finding) => finding.name === wanted);
    return `${row?.state}: ${row?.found}`;
  };
  return { ...rest, of };
}

const works = "ok: attached to consume_skb and saw a packet";
/** Debian builds FPROBE from 6.12 on. */
const best = ({ kernel }: Run) => atLeast(kernel, "6.12") ? "kprobe-multi" : "kprobe";

const checks: Checks = {
  "as root: the best backend works, and so do the others that this kernel has"(run) {
    const { backend, probes, of } = report(run, "normal");
    expect(run.facts("normal").status).toBe(0);
    expect(backend).toBe(best(run));
    expect(of(best(run))).toBe(works);
    expect(of("kprobe")).toBe(works);
    expect(of("tracepoint")).toBe(works);
    if (best(run) === "kprobe") expect(of("kprobe-multi")).toStartWith("no: This kernel ");
    expect(probes).toBeGreaterThan(1000);
    for (const name of ["kernel types", "capabilities", "ring buffer", "kernel symbols", "function list"]) {
      expect(of(name)).toStartWith("ok: ");
    }
    expect(of("lockdown")).toBe("ok: none");
    expect(of("module types")).toMatch(
      run.kernel === "5.10"
        ? /^note: of 0 of [1-9]\d* loaded modules: --kmods/
        : /^ok: of ([1-9]\d*) of \1 loaded/,
    );
  },
  "the number of functions is that of a trace"(run) {
    const found = /Attached to \d+ of (\d+) functions/.exec(run.text("trace.err"))?.[1];
    expect(report(run, "normal").probes).toBe(Number(found));
  },
  "nothing of it is left"(run) {
    expect(run.text("left").trim()).toBe("");
  },
  "hidden addresses: no symbols, and kprobes only where ftrace tells the addresses"(run) {
    const { of } = report(run, "hidden");
    expect(of("kernel symbols")).toBe("no: Cannot see addresses in /proc/kallsyms: all are 0");
    expect(of("tracepoint")).toBe(works);
    if (atLeast(run.kernel, "6.12")) expect(of("kprobe-multi")).toBe(works);
    else expect(of("kprobe")).toStartWith("no: Cannot see addresses in /proc/kallsyms");
  },
  "kprobes switched off: what attaches and never fires is found out"(run) {
    if (!atLeast(run.kernel, "6.12")) return; // their addresses are hidden: told above
    expect(report(run, "hidden").of("kprobe")).toBe(
      "no: it attaches to consume_skb, but the programs do not run",
    );
  },
  "without tracefs: no list, the slow kprobes"(run) {
    const { backend, of } = report(run, "no-tracefs");
    expect(of("function list")).toBe("no: tracefs is not mounted");
    expect(of("kprobe events")).toBe(
      "note: Cannot define kprobe events: tracefs is not mounted; perf sets kprobes one by one, which is slow",
    );
    expect(of("kprobe")).toStartWith(`${works}; slow: `);
    expect(backend).toBe(best(run));
  },
  "as nobody: nothing works"(run) {
    const { backend, of } = report(run, "nobody");
    expect(run.facts("nobody").status).toBe(1);
    expect(backend).toBeNull();
    expect(of("capabilities")).toStartWith("no: without CAP_BPF");
    expect(of("function list")).toMatch(/^no: Cannot read .*EACCES$/);
    // newer kernels let everybody into the folder
    expect(of("kprobe events")).toMatch(/tracefs is not for this user|kprobe_events: EACCES/);
    for (const name of ["kprobe-multi", "kprobe", "tracepoint"]) expect(of(name)).toStartWith("no: ");
  },
};

export const doctor: Scenario = {
  name: "doctor",
  kernels: ["5.10", "6.12", "7.3"],
  limitSeconds: 300,
  script: `
    RUN_PATIENCE_MS=90000
    modprobe -q veth
    mount -t securityfs none /sys/kernel/security
    run normal --doctor --output-json
    # How many functions a trace chooses; it need not attach to all of them.
    set -m
    "$PWRU" 'host 192.0.2.1' > /dev/null 2> "$OUT/trace.err" &
    pid=$!
    set +m
    until_true 90 grep -q Attaching "$OUT/trace.err"
    kill -INT $pid
    wait $pid
    until_true 30 swept
    cat /sys/kernel/tracing/kprobe_events > "$OUT/left"

    sysctl -qw kernel.kptr_restrict=2
    echo 0 > /sys/kernel/debug/kprobes/enabled
    run hidden --doctor --output-json
    echo 1 > /sys/kernel/debug/kprobes/enabled
    sysctl -qw kernel.kptr_restrict=0

    cat > /tmp/as_nobody <<'END'
#!/usr/bin/bash
exec su -s /usr/bin/bash nobody -c "exec $PWRU $*"
END
    chmod 755 /tmp/as_nobody
    TRACER=/tmp/as_nobody run nobody --doctor --output-json

    umount -l /sys/kernel/tracing /sys/kernel/debug
    run no-tracefs --doctor --output-json
    mount -t debugfs none /sys/kernel/debug
    mount -t tracefs none /sys/kernel/tracing
    umount /sys/kernel/security
  `,
  checks: {},
  oursOnly: checks,
};
