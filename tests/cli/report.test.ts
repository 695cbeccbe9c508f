import { describe, expect, test } from "bun:test";
import { errorText, exitStatusFor, exitStatusOf, ledgerText } from "../../lib/cli/report.ts";
import {
  BtfError,
  FilterSyntaxError,
  KernelError,
  UnsupportedError,
  UsageError,
  VerifierError,
} from "../../lib/errors.ts";
import type { Ledger } from "../../lib/output/ledger.ts";

const LOG = `0: R1=ctx() R10=fp0
0: (b7) r6 = 0                        ; R6_w=0
1: (61) r0 = *(u32 *)(r6 +112)
R6 invalid mem access 'scalar'
processed 2 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
`;
const refused = new VerifierError(
  "drop",
  13,
  "EACCES",
  LOG,
  "1: ldx r0, [r6 + sk_buff.len]",
  "read it with probeRead()",
);

test.each<[name: string, error: unknown, lines: string[]]>([
  ["usage", new UsageError('Unknown option "--x"'), [
    'error: Unknown option "--x"',
    "  hint      pwru --help lists the options",
  ]],
  [
    "kernel",
    new KernelError("bpf(BPF_MAP_CREATE)", 1, "EPERM", {
      doing: 'Cannot make map "events"',
      hint: "run as root",
    }),
    [
      'error: Cannot make map "events": bpf(BPF_MAP_CREATE): EPERM',
      "  hint      run as root",
    ],
  ],
  ["verifier", refused, [
    'error: Cannot load program "drop": bpf(BPF_PROG_LOAD): EACCES',
    "  verifier  1: (61) r0 = *(u32 *)(r6 +112): R6 invalid mem access 'scalar'",
    "  item      1: ldx r0, [r6 + sk_buff.len]",
    "  hint      read it with probeRead()",
    "            (3 more log lines with --debug)",
  ]],
  ["verifier without a log", new VerifierError("drop", 7, "E2BIG", ""), [
    'error: Cannot load program "drop": bpf(BPF_PROG_LOAD): E2BIG',
  ]],
  ["filter", new FilterSyntaxError('Cannot parse filter: unexpected ")"', "tcp\tport )", 9, 1), [
    'error: Cannot parse filter: unexpected ")"',
    "  filter    tcp port )",
    "                     ^",
  ]],
  [
    "filter, more than one letter",
    new FilterSyntaxError("Cannot parse filter: no such word", "tcp prot 80", 4, 4),
    [
      "error: Cannot parse filter: no such word",
      "  filter    tcp prot 80",
      "                ^^^^",
    ],
  ],
  [
    "filter, wide letters before",
    new FilterSyntaxError("Cannot parse filter: no such host", "host 例 ]", 7, 1),
    [
      "error: Cannot parse filter: no such host",
      "  filter    host 例 ]",
      "                    ^",
    ],
  ],
  ["filter ends too early", new FilterSyntaxError("Cannot parse filter: it ends here", "tcp and", 7, 0), [
    "error: Cannot parse filter: it ends here",
    "  filter    tcp and",
    "                   ^",
  ]],
  [
    "causes",
    new UnsupportedError("Cannot read kernel types", {
      hint: "install a kernel with CONFIG_DEBUG_INFO_BTF",
      cause: new BtfError("Cannot parse BTF: bad magic", { cause: new Error("EIO") }),
    }),
    [
      "error: Cannot read kernel types",
      "  cause     Cannot parse BTF: bad magic",
      "  cause     EIO",
      "  hint      install a kernel with CONFIG_DEBUG_INFO_BTF",
    ],
  ],
  [
    "a cause that says the same",
    new KernelError("open", 2, "ENOENT", {
      cause: Object.assign(new Error("no such file"), { code: "ENOENT" }),
    }),
    ["error: open: ENOENT"],
  ],
  [
    "node:fs",
    Object.assign(new Error("ENOENT: no such file or directory, open '/x'"), {
      code: "ENOENT",
      syscall: "open",
    }),
    ["error: ENOENT: no such file or directory, open '/x'"],
  ],
  ["not even an error", "oops", ["error: internal: oops"]],
])("%s", (_, error, lines) => {
  expect(errorText(error)).toBe(`${lines.join("\n")}\n`);
});

describe("debugging", () => {
  test("the verifier's whole log", () => {
    const text = errorText(refused, { debug: true });
    expect(text).toContain("  verifier  0: R1=ctx() R10=fp0\n            0: (b7) r6 = 0");
    expect(text).not.toContain("more log line");
    expect(text).toMatch(/\n {2}stack {5}at .*\n/);
  });

  test("a bug shows its stack without being asked", () => {
    const text = errorText(new TypeError("x is undefined"));
    expect(text).toMatch(/^error: internal: TypeError: x is undefined\n {2}stack {5}at /);
    expect(text).toEndWith("  hint      this is a bug in pwru; please report it with these lines\n");
  });

  test("errors that cause each other end", () => {
    const one = new UnsupportedError("one"), two = new Error("two", { cause: one });
    one.cause = two;
    expect(errorText(one)).toBe("error: one\n  cause     two\n");
  });
});

test("exit status", () => {
  expect(exitStatusOf(new UsageError("x"))).toBe(2);
  expect(exitStatusOf(new KernelError("bpf", 1, "EPERM"))).toBe(1);
  expect(exitStatusOf(undefined)).toBe(1);
});

const whole: Ledger = {
  probes: "function",
  found: 1503,
  attached: 1503,
  refused: 0,
  looked: 5310n,
  matched: 120n,
  shown: 120,
  summedUp: undefined,
  summaryOnly: false,
  forgotten: 0,
  beyondLimit: 0,
  lost: 0n,
  unreadable: 0n,
  missed: 0n,
  untracked: 0n,
};
const ALL = "Attached to 1503 of 1503 functions, showed 120 events, lost none";

test.each<[changes: Partial<Ledger>, lines: string[], strict: number]>([
  [{}, [ALL], 0],
  [{ shown: 1 }, ["Attached to 1503 of 1503 functions, showed 1 event, lost none"], 0],
  [
    { probes: "tracepoint", attached: 1, found: 1 },
    ["Attached to 1 of 1 tracepoint, showed 120 events, lost none"],
    0,
  ],
  [
    { shown: 0, matched: 0n },
    [
      "Attached to 1503 of 1503 functions, showed 0 events, lost none",
      "  matched   nothing: looked at packets 5310 times, and none passed the filter",
    ],
    0,
  ],
  [
    { unreadable: 1n },
    [ALL, "  unread    1 time the filter could not read the packet and showed nothing"],
    3,
  ],
  [{ missed: 2n }, [ALL, "  missed    2 hits not looked at, in probes that interrupted probes"], 3],
  [
    { untracked: 3n },
    [ALL, "  untracked 3 times a packet was not followed, because too many were (--filter-track-limit)"],
    3,
  ],
  [
    { lost: 70n },
    [
      "Attached to 1503 of 1503 functions, showed 120 events, lost 70 in a full ring buffer",
      "  lost      70 events; a larger --ring-size rides out bursts",
    ],
    3,
  ],
  [
    { attached: 1462, refused: 41 },
    [
      "Attached to 1462 of 1503 functions, showed 120 events, lost none",
      "  refused   41 functions, which could not be probed: the warning above says why",
    ],
    3,
  ],
  [
    { attached: 1400, refused: 1 },
    [
      "Attached to 1400 of 1503 functions, showed 120 events, lost none",
      "  refused   1 function, which could not be probed: the warning above says why",
      "  untried   102 functions, because it was ended while attaching",
    ],
    3,
  ],
  [
    { shown: 0, summedUp: 1, summaryOnly: true },
    ["Attached to 1503 of 1503 functions, summed up 1 event, lost none"],
    0,
  ],
  [
    { summedUp: 125, lost: 1n, forgotten: 2 },
    [
      "Attached to 1503 of 1503 functions, showed 120 events, lost 1 in a full ring buffer",
      "  lost      1 event; a larger --ring-size rides out bursts. The summary knows nothing of them",
      "  forgotten 2 packets whose end is not in the summary: too many were on their way",
    ],
    3,
  ],
  [{ forgotten: 1, summedUp: 1 }, [
    ALL,
    "  forgotten 1 packet whose end is not in the summary: too many were on their way",
  ], 3],
  [{ beyondLimit: 7 }, [ALL, "  limit     7 events came after --output-limit-lines"], 0],
])("closing lines %#", (changes, lines, strict) => {
  const ledger = { ...whole, ...changes };
  expect(ledgerText(ledger)).toBe(`${lines.join("\n")}\n`);
  expect(exitStatusFor(ledger, { strict: true })).toBe(strict);
  expect(exitStatusFor(ledger, { strict: false })).toBe(0);
});
