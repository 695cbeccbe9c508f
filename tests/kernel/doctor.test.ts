/** The doctor on this very kernel: as root, as nobody, in namespaces; what it says against what is so. */
import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { type Report, validReport } from "../cli/doctor_schema.ts";
import { isAtLeast, isRoot } from "./requires.ts";
import { rawTraceWhile } from "./tracer.ts";

setDefaultTimeout(60_000);

const main = join(import.meta.dir, "../../main.ts");

/** Runs the doctor behind some words, such as setpriv and its options. */
function examine(...before: string[]): { report: Report; status: number; of: (name: string) => string } {
  const { stdout, exitCode } = Bun.spawnSync([
    ...before,
    process.execPath,
    main,
    "--doctor",
    "--output-json",
  ], { env: { ...process.env } });
  const report = validReport(stdout.toString());
  const of = (name: string) => {
    const finding = report.findings.find((row) => row.name === name);
    return `${finding?.state}: ${finding?.found}`;
  };
  return { report, status: exitCode, of };
}

const backends = ["kprobe-multi", "kprobe", "tracepoint"];

/** The tracer's own answer: whether it becomes ready with this backend. */
async function starts(backend: string): Promise<boolean> {
  const words = ["--backend", backend, "--filter-func", "consume_skb"];
  const { status } = await rawTraceWhile(words, () => {});
  return status === 0;
}

describe.skipIf(!isRoot || !isAtLeast(5, 8))("doctor (needs root, Linux 5.8)", () => {
  test("a backend works exactly where the tracer starts with it", async () => {
    const { report, status, of } = examine();
    const working = backends.filter((backend) => of(backend).startsWith("ok: attached to consume_skb"));
    const starting: string[] = [];
    for (const backend of backends) if (await starts(backend)) starting.push(backend);
    expect(working).toEqual(starting);
    expect({ status, backend: report.backend, is_default: report.is_default }).toEqual({
      status: working.length > 0 ? 0 : 1,
      backend: working[0] as string,
      is_default: true,
    });
    const { start_seconds, miss_ns, match_ns } = report;
    expect(start_seconds).toBeGreaterThan(0);
    // What else this machine does may be more than either costs.
    expect(miss_ns).toBeWithin(0, 100_000);
    expect(match_ns).toBeWithin(0, 100_000);
    expect(of("ring buffer")).toBe("ok: can be made");
    expect(of("capabilities")).toStartWith("ok");
  });

  test("as many probes as a trace sets", async () => {
    const { report } = examine();
    const { stderr } = await rawTraceWhile(["host 192.0.2.1"], () => {});
    expect(stderr).toContain(` of ${report.probes} `);
  });

  test("a user without rights", () => {
    const { report, status, of } = examine("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups");
    expect(status).toBe(1);
    expect(report).toMatchObject({ backend: null, is_default: false, probes: null });
    expect(of("capabilities")).toMatch(/^no: without CAP_BPF .*CAP_PERFMON .*CAP_SYSLOG/);
    expect(of("ring buffer")).toMatch(/^no: .*EPERM$/);
    expect(of("kernel types")).toStartWith("ok");
    for (const backend of backends) expect(of(backend)).toStartWith("no");
    expect(report.findings.find(({ name }) => name === "capabilities")?.remedy).toContain("root");
  });

  test("without CAP_PERFMON and CAP_SYS_ADMIN", () => {
    const { status, of } = examine("setpriv", "--bounding-set=-perfmon,-sys_admin");
    expect(status).toBe(1);
    expect(of("capabilities")).toMatch(/^no: without CAP_PERFMON \(attach them\), CAP_SYS_ADMIN/);
    expect(of("ring buffer")).toStartWith("ok");
    expect(of("tracepoint")).toMatch(/^no: .*EPERM$/);
  });

  test("in another user and pid namespace", () => {
    const { status, of } = examine("unshare", "-Upr", "--fork", "--mount-proc");
    expect(status).toBe(1);
    expect(of("user namespace")).toMatch(/^no: \d+, not that of the machine/);
    expect(of("pid namespace")).toMatch(/^note: \d+, a container's/);
  });

  test("tracefs and securityfs, mounted and not: the remedies help", () => {
    const inside = (commands: string) =>
      examine("unshare", "-m", "bash", "-ec", `${commands}; exec "$@"`, "bash");
    const unmount = "umount -q -R /sys/kernel/tracing /sys/kernel/debug /sys/kernel/security || true";
    expect(inside(unmount).of("function list")).not.toContain("not mounted"); // the tracer has its own
    const without = inside(`${unmount}; set -- setpriv --bounding-set=-sys_admin "$@"`);
    expect(without.of("function list")).toBe("no: tracefs is not mounted");
    expect(without.of("kprobe events")).toMatch(/: Cannot define kprobe events: tracefs is not mounted/);
    expect(without.of("lockdown")).toStartWith("unknown");
    const remedies = without.report.findings.map(({ remedy }) => remedy ?? "")
      .filter((remedy) => remedy.startsWith("mount -t"));
    expect(new Set(remedies).size).toBe(2);
    const { of } = inside(`${[...new Set(remedies)].join("\n")}\ntest -e /sys/kernel/tracing/trace`);
    expect(of("function list")).not.toContain("not mounted");
    expect(of("kprobe events")).not.toContain("not mounted");
    expect(of("lockdown")).toMatch(/^(ok|no): (none|integrity|confidentiality)/);
  });
});
