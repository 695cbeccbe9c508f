/**
 * When it cannot work: a message on stderr that names the cause, nothing on stdout, an honest exit status.
 */
import { expect } from "bun:test";
import { peerStandsIn } from "../lab.ts";
import type { Checks, Run, Scenario } from "../scenario.ts";

/** A command line that must be refused. `says` is what stderr must name, in whatever sentence. */
interface Refusal {
  readonly name: string;
  readonly words: string;
  readonly status: number;
  readonly says: RegExp;
}

const refusals: readonly Refusal[] = [
  { name: "unknown-option", words: "--no-such-option", status: 2, says: /no-such-option/ },
  { name: "missing-value", words: "--filter-func", status: 2, says: /filter-func/ },
  { name: "wrong-filter", words: "'host and and'", status: 1, says: /host and and|syntax error/ },
  { name: "unknown-function", words: "--filter-func '^no_such_function$'", status: 2, says: /function/ },
  { name: "wrong-expression", words: "--filter-func '('", status: 2, says: /\(/ },
  { name: "unknown-backend", words: "--backend telepathy", status: 2, says: /backend/ },
  { name: "unknown-module", words: "--kmods no_such_module", status: 2, says: /no_such_module/ },
  { name: "unknown-netns", words: "--filter-netns /run/netns/no_such", status: 2, says: /no_such/ },
  { name: "unknown-interface", words: "--filter-ifname no_such0", status: 2, says: /no_such0/ },
  { name: "unknown-btf", words: "--kernel-btf /no/such/btf", status: 2, says: /\/no\/such\/btf/ },
];

const checkRefusal = ({ name, status, says }: Refusal) => (run: Run) => {
  // Debian's pwru ends with 1 whatever was wrong, but for its option parser's own complaints.
  expect(run.facts(name)).toMatchObject({ gone: true, ...(peerStandsIn() ? {} : { status }) });
  expect(run.text(`${name}.out`)).toBe("");
  if (!peerStandsIn()) expect(run.text(`${name}.err`)).toMatch(says);
};

export const refusing: Scenario = {
  name: "refusals",
  kernels: ["6.12"],
  longKernels: ["5.10"],
  limitSeconds: 400,
  script: `
    ${refusals.map(({ name, words }) => `run ${name} ${words}`).join("\n    ")}

    # A user without rights.
    cat > /tmp/as_nobody <<'END'
#!/usr/bin/bash
exec su -s /usr/bin/bash nobody -c "exec $PWRU udp"
END
    chmod 755 /tmp/as_nobody
    TRACER=/tmp/as_nobody run not-root

    # Addresses hidden from everybody.
    sysctl -qw kernel.kptr_restrict=2
    start kptr --filter-func '^ip_rcv$' icmp
    ping -q -c1 127.0.0.1 > /dev/null
    pause 1
    stop kptr
    sysctl -qw kernel.kptr_restrict=0

    # Few descriptors.
    (ulimit -n 64; start few-fds --filter-func '^(ip_rcv|ip_output|icmp_.*)$' icmp
      ping -q -c1 127.0.0.1 > /dev/null; pause 1; stop few-fds)

    # A reader that goes away: the tracer must end by itself when it can write no more.
    now; begin=$NOW
    ("$PWRU" --filter-func '^ip_rcv$' --ready-file /tmp/head.ready icmp 2> "$OUT/head.err" &
      echo $! > /tmp/head.pid; wait $!; echo $? > "$OUT/head.status") | head -n 3 > "$OUT/head.out" &
    until_true 60 test -e /tmp/head.ready
    until_true 30 sh -c "ping -q -c1 127.0.0.1 > /dev/null; test -s $OUT/head.status"
    now
    fact head stop_ms $(((NOW - begin) / 1000))
    [ -s "$OUT/head.status" ] || kill "$(cat /tmp/head.pid)"
    wait
  `,
  checks: {
    ...Object.fromEntries(
      refusals.map((refusal) => [`refuses ${refusal.name}`, checkRefusal(refusal)]),
    ) as Checks,
    "refuses a user without rights"(run) {
      expect(run.facts("not-root")).toMatchObject({ gone: true, status: 1 });
      expect(run.text("not-root.out")).toBe("");
    },
    "works with 64 file descriptors"(run) {
      expect(run.facts("few-fds")).toMatchObject({ ready: true, gone: true, status: 0 });
      expect(run.lines("few-fds.out").map((line) => line.func)).toContain("ip_rcv");
    },
    "ends when its reader is gone"(run) {
      expect(run.text("head.out").trimEnd().split("\n").length).toBe(3);
      expect(run.text("head.status").trim()).toMatch(/^(0|141)$/);
    },
  },
  oursOnly: {
    "hidden addresses: traces all the same, or says that they are hidden"(run) {
      const { ready, status } = run.facts("kptr");
      if (ready) expect(run.lines("kptr.out").map((line) => line.func)).toContain("ip_rcv");
      else {
        expect(status).toBe(1);
        expect(run.text("kptr.err")).toMatch(/kptr_restrict/);
      }
    },
    "says what a user without rights needs"(run) {
      expect(run.text("not-root.err")).toMatch(/root|CAP_|EPERM|sudo/);
    },
  },
};
