/** What the doctor says of each kernel, and of ones that are made worse on purpose: every finding is true. */
import { expect } from "bun:test";
import { hasFprobe } from "../images.ts";
import { expectFacts, isOnPage } from "../kernel_facts.ts";
import { type Checks, type Run, type Scenario } from "../scenario.ts";

interface Finding {
  readonly name: string;
  readonly state: string;
  readonly found: string;
  readonly remedy: string | null;
}

interface Report {
  readonly findings: readonly Finding[];
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
  const { findings, ...rest } = JSON.parse(run.text(`${name}.out`)) as Omit<Report, "of">;
  const of = (wanted: string) => {
    const row = findings.find((finding) => finding.name === wanted);
    return `${row?.state}: ${row?.found}`;
  };
  return { findings, ...rest, of };
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
    // Beside another guest they may be lost in the noise: "start" asks for more, where instructions are counted.
    expect(miss_ns).toBeWithin(0, 1_000_000);
    expect(match_ns).toBeWithin(0, 1_000_000);
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

/** Remedy -> how the scenario applies it: a command it ran, or what the last report has that this one lacked. */
const applied: Readonly<
  Record<string, "typed" | "run as root, outside, with all rights" | "another kernel">
> = {
  "sysctl -w kernel.kptr_restrict=1 # and CAP_SYSLOG, which root has": "typed",
  "echo 1 > /sys/kernel/debug/kprobes/enabled; sysctl -w kernel.ftrace_enabled=1": "typed",
  "sysctl -w kernel.ftrace_enabled=1": "typed",
  "mount -t securityfs securityfs /sys/kernel/security": "typed",
  "mount -t tracefs tracefs /sys/kernel/tracing # in a container: that directory of the host": "typed",
  "sysctl -w kernel.perf_event_paranoid=2 # or CAP_SYS_ADMIN": "typed",
  "run it as root, for example with sudo; Linux before 5.8 wants CAP_SYS_ADMIN":
    "run as root, outside, with all rights",
  "run it as root where a row below says no": "run as root, outside, with all rights",
  "run it as root": "run as root, outside, with all rights",
  "root is needed, or the capability CAP_BPF; before Linux 5.11 also CAP_SYS_RESOURCE or ulimit -l unlimited":
    "run as root, outside, with all rights",
  "root is needed, or the capabilities CAP_BPF and CAP_PERFMON": "run as root, outside, with all rights",
  "root is needed": "run as root, outside, with all rights",
  "CAP_SYS_ADMIN lets us look into the others": "run as root, outside, with all rights",
  "share the machine's (docker --pid=host, Kubernetes hostPID) to see all interface names":
    "run as root, outside, with all rights",
  "it takes Linux 5.11 built with CONFIG_DEBUG_INFO_BTF_MODULES=y": "another kernel",
};

const reports = [
  "hidden",
  "silent",
  "nobody",
  "no-perfmon",
  "contained",
  "unmounted",
  "no-tracefs",
  "mounted",
  "healed",
] as const;
/** What takes long for what it finds, on one kernel. */
const only612 = ["no-perfmon", "contained", "no-tracefs", "mounted"];
const made = (run: Run) => reports.filter((name) => run.kernel === "6.12" || !only612.includes(name));

const ill: Checks = {
  "hidden addresses: no symbols, and kprobes only where ftrace tells the addresses"(run) {
    const { of } = report(run, "hidden");
    expect(of("kernel symbols")).toBe("no: Cannot see addresses in /proc/kallsyms: all are 0");
    expect(of("tracepoint")).toBe(works);
    if (hasFprobe(run.kernel)) expect(of("kprobe-multi")).toBe(works);
    else expect(of("kprobe")).toStartWith("no: Cannot see addresses in /proc/kallsyms");
  },
  "kprobes and ftrace switched off: what attaches and never fires is found out"(run) {
    const { of } = report(run, "silent"),
      silent = "no: it attaches to consume_skb, but the programs do not run";
    expect(of("kernel symbols")).toStartWith("ok: ");
    expect(of("kprobe")).toBe(silent);
    expect(of("tracepoint")).toBe(works);
    if (best(run) === "kprobe-multi") {
      expect(of("kprobe-multi")).toBe("no: Cannot see functions by kprobe-multi: ftrace is switched off");
    }
  },
  "without tracefs: as with it, which is mounted where nobody sees it"(run) {
    const { backend, of } = report(run, "unmounted");
    expect(backend).toBe(best(run));
    expect(of("function list")).toMatch(/^ok: \d+ functions/);
    expect(of("kprobe events")).toBe("ok: can be defined in tracefs");
    expect(of("kprobe")).toBe(works);
    expect(run.text("mounts").trim()).toBe("");
  },
  "without tracefs and CAP_SYS_ADMIN: no list, the slow kprobes, which Debian forbids"(run) {
    if (!made(run).includes("no-tracefs")) return;
    const { backend, of } = report(run, "no-tracefs");
    expect(of("function list")).toBe("no: tracefs is not mounted");
    expect(of("kprobe events")).toBe(
      "note: Cannot define kprobe events: tracefs is not mounted; perf sets kprobes one by one, which is slow",
    );
    expect(of("kprobe")).toBe("no: perf_event_open: EACCES");
    expect(backend).toBe(best(run));
  },
  "...and with tracefs mounted and less paranoia: all of that works for the same process"(run) {
    if (!made(run).includes("mounted")) return;
    const { of } = report(run, "mounted");
    expect(of("function list")).toMatch(/^ok: \d+ functions/);
    expect(of("kprobe events")).toBe("ok: can be defined in tracefs");
    expect(of("kprobe")).toBe(works);
  },
  "without CAP_PERFMON nothing can be attached"(run) {
    if (!made(run).includes("no-perfmon")) return;
    const { backend, of } = report(run, "no-perfmon");
    expect(run.facts("no-perfmon").status).toBe(1);
    expect(backend).toBeNull();
    expect(of("capabilities")).toStartWith("no: without CAP_PERFMON (attach them), CAP_SYS_ADMIN");
    expect(of("network namespace")).toMatch(/^note: \d+; interfaces have names in 1 of 2 that are in reach$/);
    for (const name of ["kprobe-multi", "kprobe", "tracepoint"]) expect(of(name)).toStartWith("no: ");
  },
  "in a pid namespace of its own everything works, and it says so"(run) {
    if (!made(run).includes("contained")) return;
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
    expect(of("lockdown")).toBe("unknown: /sys/kernel/security/lockdown cannot be read");
    expect(of("function list")).toMatch(/^no: Cannot read .*EACCES$/);
    // newer kernels let everybody into the folder
    expect(of("kprobe events")).toMatch(/tracefs is not for this user|kprobe_events: EACCES/);
    for (const name of ["kprobe-multi", "kprobe", "tracepoint"]) expect(of(name)).toStartWith("no: ");
  },
  "every remedy that was named is one that this scenario applies"(run) {
    const named = made(run).flatMap((name) => report(run, name).findings.map(({ remedy }) => remedy ?? ""));
    expect([...new Set(named)].filter((remedy) => remedy !== "" && applied[remedy] === undefined)).toEqual(
      [],
    );
  },
  "the remedies that are commands were typed as they stand there, and succeeded"(run) {
    const typed = run.text("cures").trim().split("\n");
    expect(typed.filter((line) => !line.startsWith("0 "))).toEqual([]);
    const wanted = Object.keys(applied).filter((remedy) => applied[remedy] === "typed");
    const here = wanted.filter((remedy) =>
      (best(run) === "kprobe-multi" || remedy !== "sysctl -w kernel.ftrace_enabled=1") &&
      (run.kernel === "6.12" || !/tracefs|paranoid/.test(remedy))
    );
    expect(typed.map((line) => line.slice(2)).sort()).toEqual(here.sort());
  },
  "the kernel has not complained of any of it"(run) {
    expect(run.text("warnings")).toBe("");
  },
  "after all remedies nothing is left to find"(run) {
    const left = report(run, "healed").findings.filter(({ state }) => state !== "ok").map(({ name }) => name);
    const lacks = [
      ...(run.kernel === "5.10" ? ["module types"] : []),
      ...(best(run) === "kprobe" ? ["kprobe-multi"] : []),
    ];
    expect(left).toEqual(lacks);
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
  kernels: [], // "start" asks it too, and tests/kernel
  longKernels: ["5.10", "6.1", "6.12", "6.18", "7.3"],
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
  kernels: [],
  longKernels: ["5.10", "6.12", "7.3"],
  limitSeconds: 400,
  script: `
    RUN_PATIENCE_MS=90000
    # What all functions would cost is told elsewhere.
    examine() { run "$1" --doctor --output-json --filter-func consume_skb; }
    # cure NAME FINDING: types what the report said would help there.
    cure() {
      local remedy=$(grep -oE '"name":"'"$2"'",[^}]*' "$OUT/$1.out" | sed -n 's/.*"remedy":"\\(.*\\)"$/\\1/p')
      bash -ec "$remedy" >> "$OUT/stdout" 2>> "$OUT/stderr"
      echo "$? $remedy" >> "$OUT/cures"
    }
    # wrapped NAME WORD...: the tracer behind these words, as a program of that name.
    wrapped() { local name=$1; shift; printf '#!/usr/bin/bash\nexec %s "%s" "$@"\n' "$*" "$PWRU" > /tmp/$name; chmod 755 /tmp/$name; }
    one_kernel() { grep -q ' 6\.12\.' /proc/version; }
    modprobe -q veth

    sysctl -qw kernel.kptr_restrict=2
    echo 0 > /sys/kernel/debug/kprobes/enabled
    examine hidden
    cure hidden "kernel symbols"
    sysctl -qw kernel.ftrace_enabled=0
    examine silent
    cure silent kprobe
    # The same, by the other remedy.
    sysctl -qw kernel.ftrace_enabled=0
    if grep -q 'ftrace is switched off' "$OUT/silent.out"; then cure silent kprobe-multi
    else sysctl -qw kernel.ftrace_enabled=1; fi

    wrapped nobody setpriv --reuid=65534 --regid=65534 --clear-groups
    TRACER=/tmp/nobody examine nobody
    ip netns add other
    if one_kernel; then
      wrapped unprivileged setpriv --bounding-set=-perfmon,-sys_admin
      TRACER=/tmp/unprivileged examine no-perfmon
      wrapped contained unshare -p --fork --mount-proc
      TRACER=/tmp/contained examine contained
    fi

    umount -l /sys/kernel/tracing /sys/kernel/debug
    examine unmounted
    grep tracefs /proc/mounts > "$OUT/mounts"
    paranoid=$(sysctl -n kernel.perf_event_paranoid)
    if one_kernel; then
      wrapped no-admin setpriv --bounding-set=-sys_admin
      TRACER=/tmp/no-admin examine no-tracefs
      cure no-tracefs "function list"
      cure no-tracefs kprobe
      TRACER=/tmp/no-admin examine mounted
    else mount -t tracefs none /sys/kernel/tracing
    fi
    cure nobody lockdown
    examine healed
    ip netns del other
    umount /sys/kernel/security
    sysctl -qw kernel.kptr_restrict=0 kernel.perf_event_paranoid=$paranoid
    mount -t debugfs none /sys/kernel/debug
    dmesg | grep -A20 -e WARNING -e BUG: > "$OUT/warnings" || true
  `,
  checks: {},
  oursOnly: ill,
};

export const lockdown: Scenario = {
  name: "lockdown",
  kernels: [],
  longKernels: ["6.12"],
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
