/** The examination as it is printed. */
import { expect, test } from "bun:test";
import { jsonText, plainText, tableText, verdictText } from "../../lib/cli/doctor.ts";
import type { Examination } from "../../lib/doctor/examine.ts";
import { validReport } from "./doctor_schema.ts";

const examination: Examination = {
  findings: [
    { name: "lockdown", state: "ok", found: "none" },
    {
      name: "function list",
      state: "unknown",
      found: "tracefs is not mounted",
      remedy: "mount -t tracefs tracefs /sys/kernel/tracing",
    },
    { name: "tracepoint", state: "ok", found: "attached to consume_skb and saw a packet" },
  ],
  backend: "tracepoint",
  isDefault: true,
  costs: { probes: 29, startSeconds: 0.186, missNanoseconds: 85, matchNanoseconds: 240 },
  features: { "ring buffer": true, "bpf_rdonly_cast to void": false },
};
const costs =
  "It starts in about 0.2 s. A packet is held up by about 85 ns at each of them, by about 240 ns where it matches";

test("columns", () => {
  expect(plainText(examination)).toBe(`\
lockdown       ok       none
function list  unknown  tracefs is not mounted
                        -> mount -t tracefs tracefs /sys/kernel/tracing
tracepoint     ok       attached to consume_skb and saw a packet

pwru traces here by tracepoint, at 29 tracepoints
${costs}
`);
});

test("a table wraps to the terminal, without colours", async () => {
  expect(await tableText(examination, 62)).toBe(`\
┌───────────────┬─────────┬──────────────────────────────────┐
│ asked         │ state   │ found, and -> what would help    │
│ lockdown      │ ok      │ none                             │
│ function list │ unknown │ tracefs is not mounted           │
│               │         │ -> mount -t tracefs tracefs      │
│               │         │ /sys/kernel/tracing              │
│ tracepoint    │ ok      │ attached to consume_skb and saw  │
│               │         │ a packet                         │
└───────────────┴─────────┴──────────────────────────────────┘

pwru traces here by tracepoint, at 29 tracepoints
${costs}
`);
});

test("a cost that was lost in the noise is not called nothing", () => {
  const costs = { probes: 29, startSeconds: 0.2, missNanoseconds: 0, matchNanoseconds: 12 };
  expect(verdictText({ ...examination, costs })).toEndWith(
    "A packet is held up by less than could be measured at each of them, by about 12 ns where it matches",
  );
});

test("a remedy is said once to people, and always to programs", () => {
  const [, list] = examination.findings;
  const twice = { ...examination, findings: [list, { ...list, name: "kprobe events" }] } as Examination;
  expect(plainText(twice).match(/->/g)?.length).toBe(1);
  expect(jsonText(twice).match(/mount -t/g)?.length).toBe(2);
});

test("JSON: one line, every field there", () => {
  const { findings, ...rest } = validReport(jsonText(examination));
  expect(rest).toEqual({
    kernel: expect.any(String),
    arch: process.arch,
    backend: "tracepoint",
    is_default: true,
    probes: 29,
    start_seconds: 0.186,
    miss_ns: 85,
    match_ns: 240,
    features: { "ring buffer": true, "bpf_rdonly_cast to void": false },
  });
  expect(findings[0] as unknown).toEqual({ name: "lockdown", state: "ok", found: "none", remedy: null });
  expect(findings[1]?.remedy).toBe("mount -t tracefs tracefs /sys/kernel/tracing");
});

test("JSON where nothing works", () => {
  const nothing = { ...examination, backend: undefined, costs: undefined, isDefault: false };
  expect(validReport(jsonText(nothing))).toMatchObject({
    backend: null,
    probes: null,
    start_seconds: null,
    is_default: false,
  });
});

test.each<[Partial<Examination>, string]>([
  [{ backend: "kprobe-multi" }, `pwru traces here by kprobe-multi, at 29 functions\n${costs}`],
  [
    { isDefault: false },
    `pwru traces here by --backend tracepoint, at 29 tracepoints: what it takes by itself does not work\n${costs}`,
  ],
  [{ backend: undefined, costs: undefined, isDefault: false }, "Nothing can be traced here as it is"],
])("the verdict of %j", (change, verdict) => {
  expect(verdictText({ ...examination, ...change })).toBe(verdict);
});
