/** What the doctor says of each kernel, and of ones that are made worse on purpose: every finding is true. */
import { expect } from "bun:test";
import { hasFprobe } from "../images.ts";
import { expectFacts, isOnPage } from "../kernel_facts.ts";
import { type Checks, type Run, type Scenario } from "../scenario.ts";

interface Report {
  readonly features: Readonly<Record<string, boolean>>;
  readonly backend: string | null;
  readonly probes: number | null;
  /** s */
  readonly start_seconds: number | null;
  readonly miss_ns: number | null;
  readonly match_ns: number | null;
  readonly of: (name: string) => string;
}

/** "state: finding" by name. */
function report(run: Run, name: string): Report {
  const { findings, ...rest } = JSON.parse(run.text(`${name}.out`)) as Omit<Report, "of"> & {
    findings: { name: string; state: string; found: string }[];
  };
  const of = (wanted: string) => {
    const row = findings.find((finding) => finding.name === wanted);
    return `${row?.state}: ${row?.found}`;
  };
  return { ...rest, of };
}

const works = "ok: attached to consume_skb and saw a packet";
const best = ({ kernel }: Run) => hasFprobe(kernel) ? "kprobe-multi" : "kprobe";

const healthy: Checks = {
  "as root: the best backend works, and so do the others that this kernel has"(run) {
    const { backend, probes, miss_ns, match_ns, of } = report(run, "normal");
    expect(run.facts("normal").status).toBe(0);
    expect(backend).toBe(best(run));
    expect(of(best(run))).toBe(works);
    expect(of("kprobe")).toBe(works);
    expect(of("tracepoint")).toBe(works);
    if (best(run) === "kprobe") expect(of("kprobe-multi")).toStartWith("no: This kernel ");
    expect(probes).toBeGreaterThan(1000);
    expect(miss_ns).toBeGreaterThan(0);
    expect(match_ns).toBeGreaterThan(0); // more than a miss; but that is lost in the noise of a busy host
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
  "docs/kernels.md says the same"(run) {
    if (!isOnPage(run.kernel)) return;
    const { backend, features, probes, of } = report(run, "normal");
    const can = (name: string) => of(name).startsWith("ok: ");
    expectFacts(run.kernel, {
      backend: String(backend),
      backends: Object.fromEntries(["kprobe-multi", "kprobe", "tracepoint"].map((name) => [name, can(name)])),
      moduleTypes: can("module types"),
      features,
      functions: Number(probes),
    });
  },
  "nothing of it is left"(run) {
    expect(run.text("left").trim()).toBe("");
  },
};

const ill: Checks = {
  "hidden addresses: no symbols, and kprobes only where ftrace tells the addresses"(run) {
    const { of } = report(run, "hidden");
    expect(of("kernel symbols")).toBe("no: Cannot see addresses in /proc/kallsyms: all are 0");
    expect(of("tracepoint")).toBe(works);
    if (hasFprobe(run.kernel)) expect(of("kprobe-multi")).toBe(works);
    else expect(of("kprobe")).toStartWith("no: Cannot see addresses in /proc/kallsyms");
  },
  "kprobes switched off: what attaches and never fires is found out"(run) {
    if (!hasFprobe(run.kernel)) return; // their addresses are hidden: told above
    expect(report(run, "hidden").of("kprobe")).toBe(
      "no: it attaches to consume_skb, but the programs do not run",
    );
  },
  "without tracefs: as with it, which is mounted where nobody sees it"(run) {
    const { backend, of } = report(run, "unmounted");
    expect(backend).toBe(best(run));
    expect(of("function list")).toMatch(/^ok: \d+ functions/);
    expect(of("kprobe events")).toBe("ok: can be defined in tracefs");
    // and what was wrong before has been put right, by the remedies that were named
    expect(of("kernel symbols")).toStartWith("ok: ");
    expect(of("kprobe")).toBe(works);
    expect(run.text("mounts").trim()).toBe("");
  },
  "without tracefs and CAP_SYS_ADMIN: no list, the slow kprobes"(run) {
    if (run.text("no-tracefs.out") === "") return expect(run.kernel).not.toBe("6.12");
    const { backend, of } = report(run, "no-tracefs");
    expect(of("function list")).toBe("no: tracefs is not mounted");
    expect(of("kprobe events")).toBe(
      "note: Cannot define kprobe events: tracefs is not mounted; perf sets kprobes one by one, which is slow",
    );
    expect(of("kprobe")).toBe("no: perf_event_open: EACCES");
    expect(backend).toBe(best(run));
  },
  "without CAP_PERFMON nothing can be attached"(run) {
    if (run.text("no-perfmon.out") === "") return expect(run.kernel).not.toBe("6.12");
    const { backend, of } = report(run, "no-perfmon");
    expect(run.facts("no-perfmon").status).toBe(1);
    expect(backend).toBeNull();
    expect(of("capabilities")).toStartWith("no: without CAP_PERFMON (attach them), CAP_SYS_ADMIN");
    for (const name of ["kprobe-multi", "kprobe", "tracepoint"]) expect(of(name)).toStartWith("no: ");
  },
  "in a pid namespace of its own everything works, and it says so"(run) {
    if (run.text("contained.out") === "") return expect(run.kernel).not.toBe("6.12");
    const { backend, of } = report(run, "contained");
    expect(backend).toBe(best(run));
    expect(of("pid namespace")).toMatch(/^note: \d+, a container's/);
    expect(of("user namespace")).toBe("ok: that of the machine");
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

/** Raises what can be raised, one level after the other; there is no way back, so it comes last. */
const locked: Checks = {
  "integrity: everything works"(run) {
    const { backend, of } = report(run, "integrity");
    expect(backend).toBe(best(run));
    expect(of("lockdown")).toBe("ok: integrity");
    for (const name of [best(run), "kprobe", "tracepoint"]) expect(of(name)).toStartWith(works);
  },
  "confidentiality: nothing works, and it says why"(run) {
    const { backend, of } = report(run, "confidentiality");
    expect(run.facts("confidentiality").status).toBe(1);
    expect(backend).toBeNull();
    expect(of("lockdown")).toBe("no: confidentiality: programs may not read the kernel's memory");
    for (const name of ["kprobe-multi", "kprobe", "tracepoint"]) expect(of(name)).toStartWith("no: ");
  },
  "confidentiality: a trace refuses, too"(run) {
    expect(run.facts("refused").status).toBe(1);
    expect(run.text("refused.out")).toBe("");
    expect(run.text("refused.err")).toContain("the kernel is locked down to confidentiality");
  },
};

export const doctor: Scenario = {
  name: "doctor",
  limitSeconds: 180,
  script: `
    RUN_PATIENCE_MS=90000
    modprobe -q veth
    mount -t securityfs none /sys/kernel/security
    run normal --doctor --output-json
    umount /sys/kernel/security
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
  `,
  checks: {},
  oursOnly: healthy,
};

export const illness: Scenario = {
  name: "illness",
  kernels: ["5.10", "6.12", "7.3"],
  limitSeconds: 300,
  script: `
    RUN_PATIENCE_MS=90000
    sysctl -qw kernel.kptr_restrict=2
    echo 0 > /sys/kernel/debug/kprobes/enabled
    run hidden --doctor --output-json
    echo 1 > /sys/kernel/debug/kprobes/enabled
    sysctl -qw kernel.kptr_restrict=0

    # wrapped NAME WORD...: the tracer behind these words, as a program of that name.
    wrapped() { local name=$1; shift; printf '#!/usr/bin/bash\nexec %s "%s" "$@"\n' "$*" "$PWRU" > /tmp/$name; chmod 755 /tmp/$name; }
    wrapped nobody setpriv --reuid=65534 --regid=65534 --clear-groups
    TRACER=/tmp/nobody run nobody --doctor --output-json
    if grep -q ' 6\.12\.' /proc/version; then
      wrapped unprivileged setpriv --bounding-set=-perfmon,-sys_admin
      TRACER=/tmp/unprivileged run no-perfmon --doctor --output-json
      wrapped contained unshare -p --fork --mount-proc
      TRACER=/tmp/contained run contained --doctor --output-json
    fi

    umount -l /sys/kernel/tracing /sys/kernel/debug
    run unmounted --doctor --output-json
    grep tracefs /proc/mounts > "$OUT/mounts"
    wrapped no-admin setpriv --bounding-set=-sys_admin
    grep -q ' 6\.12\.' /proc/version && TRACER=/tmp/no-admin run no-tracefs --doctor --output-json
    mount -t debugfs none /sys/kernel/debug
    mount -t tracefs none /sys/kernel/tracing
  `,
  checks: {},
  oursOnly: ill,
};

export const lockdown: Scenario = {
  name: "lockdown",
  kernels: ["6.12"],
  limitSeconds: 120,
  script: `
    RUN_PATIENCE_MS=60000
    mount -t securityfs none /sys/kernel/security
    echo integrity > /sys/kernel/security/lockdown
    run integrity --doctor --output-json
    echo confidentiality > /sys/kernel/security/lockdown
    run confidentiality --doctor --output-json
    run refused icmp
    umount /sys/kernel/security
  `,
  checks: {},
  oursOnly: locked,
};
