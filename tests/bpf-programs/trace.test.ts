/** The programs as text: what changes in them is seen in a diff of tests/golden/programs. */
import { expect, test } from "bun:test";
import { assemble } from "../../asm/assemble.ts";
import type { CbpfInsn } from "../../asm/cbpf.ts";
import type { ProgramSpec } from "../../asm/code.ts";
import { disassemble, referenceNames } from "../../asm/disasm.ts";
import { traceMaps } from "../../bpf-programs/maps.ts";
import { bulkAccess, directAccess } from "../../bpf-programs/memory_access.ts";
import { probeContext } from "../../bpf-programs/registers.ts";
import { MAX_VALUES, packetEvent, recordLayout } from "../../bpf-programs/events.ts";
import type { PacketFilter, TraceOptions } from "../../bpf-programs/frame.ts";
import type { TunnelFilter } from "../../bpf-programs/tunnel.ts";
import {
  kprobeMultiPositionsProgram,
  kprobeMultiProgram,
  kprobePositionsProgram,
  kprobeProgram,
} from "../../bpf-programs/function_programs.ts";
import { tracepointProgram } from "../../bpf-programs/tracepoint_program.ts";
import { compileFilter, compileValue, skb } from "../../lib/expr/compile.ts";
import { exprBtf } from "../fixtures/expr_types.ts";
import { fixtureTypes } from "../fixtures/kernel_types.ts";
import { expectGolden } from "../golden.ts";

const insn = ([code, jt, jf, k]: readonly [number, number, number, number]): CbpfInsn => ({
  code,
  jt,
  jf,
  k,
});

/** `udp src port 9053`, from an Ethernet header without IPv6 and from an IP header. */
const filter: PacketFilter = {
  l2: ([
    [0x28, 0, 0, 12],
    [0x15, 0, 8, 0x800],
    [0x30, 0, 0, 23],
    [0x15, 0, 6, 17],
    [0x28, 0, 0, 20],
    [0x45, 4, 0, 0x1fff],
    [0xb1, 0, 0, 14],
    [0x48, 0, 0, 14],
    [0x15, 0, 1, 9053],
    [0x06, 0, 0, 262144],
    [0x06, 0, 0, 0],
  ] as const).map(insn),
  l3: ([
    [0x30, 0, 0, 9],
    [0x15, 0, 6, 17],
    [0x28, 0, 0, 6],
    [0x45, 4, 0, 0x1fff],
    [0xb1, 0, 0, 0],
    [0x48, 0, 0, 0],
    [0x15, 0, 1, 9053],
    [0x06, 0, 0, 262144],
    [0x06, 0, 0, 0],
  ] as const).map(insn),
};

const maps = traceMaps(1 << 24), context = probeContext("x64");

function options(
  casts: "none" | "struct" | "void",
  extra: Partial<TraceOptions> = {},
): TraceOptions {
  const kernel = fixtureTypes(casts);
  return { kernel, access: directAccess(kernel) ?? bulkAccess(), maps, meta: false, tuple: false, ...extra };
}

function listing(spec: ProgramSpec): string {
  const assembled = assemble(spec.code);
  return disassemble(assembled.bytes, { names: referenceNames(assembled) }).join("\n") + "\n";
}

const everything = {
  meta: true,
  tuple: true,
  filter,
  mark: { value: 0x10, mask: 0xf0 },
  netns: 4026531840,
  ifindex: 2,
};
/** A bitfield, a byte-swapped field, a chain of pointers, a signed division with values below it. */
const expression = compileFilter(
  "skb->pkt_type == 3 && skb->protocol == 0x0800 || skb->dev->ifindex == 2 && skb->len + skb->tstamp / skb->small > 5",
  exprBtf,
  skb,
);
const followed = { follow: true, ids: false }, numbered = { follow: false, ids: true };
const values = ["skb->len", "skb->dev->mtu / skb->small", "skb->pkt_type"].map((source) =>
  compileValue(source, exprBtf, skb)
);
const allAdditions = {
  caller: true,
  stack: true,
  controlBlock: true,
  skbBytes: 232,
  sharedInfoBytes: 320,
  tunnel: true,
  values,
};
const kfreeSkb = { name: "kfree_skb", index: 3, skb: 0, location: 1, reason: 2 };

test.each<[name: string, spec: ProgramSpec]>([
  ["kprobe_bulk", kprobeProgram(options("none", everything), context, 2)],
  ["kprobe_bulk_no_options", kprobeProgram(options("none"), context, 1)],
  ["kprobe_bulk_filter", kprobeProgram(options("none", { filter }), context, 1)],
  ["kprobe_positions", kprobePositionsProgram(options("none"), context)],
  ["multi_positions", kprobeMultiPositionsProgram(options("void"), context)],
  ["multi_struct_cast", kprobeMultiProgram(options("struct", everything), context, 1)],
  ["multi_void_cast_filter", kprobeMultiProgram(options("void", { filter }), context, 1)],
  ["kprobe_bulk_expression", kprobeProgram(options("none", { expression }), context, 1)],
  [
    "multi_struct_cast_expression",
    kprobeMultiProgram(options("struct", { expression }), context, 1),
  ],
  ["multi_void_cast_expression", kprobeMultiProgram(options("void", { expression }), context, 1)],
  [
    "kprobe_bulk_additions",
    kprobeProgram(options("none", { additions: allAdditions }), context, 1),
  ],
  [
    "kprobe_arm64_stack",
    kprobeProgram(
      options("none", { additions: { caller: true, stack: true } }),
      probeContext("arm64"),
      1,
    ),
  ],
  [
    "kprobe_arm64_stacks",
    kprobeProgram(
      options("none", { filter, tracking: { follow: false, ids: false, stacks: true } }),
      probeContext("arm64"),
      1,
    ),
  ],
  [
    "multi_void_cast_followed",
    kprobeMultiProgram(options("void", { filter, tracking: followed }), context, 1),
  ],
  [
    "kprobe_bulk_numbered_end",
    kprobeProgram(options("none", { filter, tracking: numbered }), context, 1, "ends"),
  ],
  [
    "kprobe_end_unseen",
    kprobeProgram(options("none", { filter, tracking: followed }), context, 1, "ends unseen"),
  ],
  [
    "kprobe_takes_after_unseen",
    kprobeProgram(options("none", { filter, tracking: followed }), context, 1, "takes after unseen"),
  ],
  [
    "multi_struct_cast_tunnel",
    kprobeMultiProgram(options("struct", { tunnel: filter as TunnelFilter }), context, 1),
  ],
  ["tracepoint", tracepointProgram(options("void", { meta: true, tuple: true }), kfreeSkb)],
])("%s", (name, spec) => {
  expectGolden(`programs/${name}.txt`, listing(spec));
});

test("The same options give the same bytes", () => {
  const build = () => assemble(kprobeMultiProgram(options("void", everything), context, 1).code).bytes;
  expect(build()).toEqual(build());
});

test("An option that is off leaves no code behind", () => {
  const size = (extra: Partial<TraceOptions>) =>
    assemble(kprobeProgram(options("void", extra), context, 1).code).bytes.length / 8;
  const bare = size({});
  for (
    const extra of [
      { filter },
      { mark: { value: 1, mask: 1 } },
      { netns: 1 },
      { ifindex: 1 },
      { expression },
      { meta: true },
      { tuple: true },
      { additions: { caller: true } },
      { additions: { stack: true } },
      { additions: { controlBlock: true } },
      { additions: { skbBytes: 232 } },
      { additions: { sharedInfoBytes: 320 } },
      { additions: { tunnel: true } },
      { additions: { values: [values[0]!] } },
      { tunnel: filter as TunnelFilter },
      { tracking: followed },
      { tracking: numbered },
    ]
  ) {
    expect(size(extra)).toBeGreaterThan(bare);
  }
});

test("While nothing is followed, a packet that does not match pays one load and one branch", () => {
  // to where the whole program is called, without how far jumps go
  const front = (extra: Partial<TraceOptions>) => {
    const lines = listing(kprobeMultiProgram(options("void", { filter, ...extra }), context, 1)).trim()
      .split("\n").map((line) => line.replace(/^\d+: \(..\) /, "").replace(/goto pc.*/, "goto"));
    return lines.slice(0, lines.indexOf("call pc+1"));
  };
  const plain = front({}), tracked = front({ tracking: followed });
  expect(plain.length).toBeGreaterThan(50);
  expect(tracked.splice(1, 3)).toEqual([
    "r2 = map[tracking][0]+0",
    "r2 = *(u64 *)(r2 +0)",
    "if r2 != 0x0 goto",
  ]);
  expect(tracked).toEqual(plain);
});

test("Members of the sk_buff that do not fit the copy are read on their own", () => {
  const far = compileFilter("skb->users == 1 && skb->words[3] == 1 && skb->len == 5", exprBtf, skb);
  const listed = listing(
    kprobeProgram(options("none", { expression: far, tuple: true }), context, 1),
  );
  // the copy, words[3] (from 8 to 224 would be too much), and the headers
  expect(listed.match(/call bpf_probe_read_kernel/g)?.length).toBe(3);
});

test("Every probe on a function can tell its caller, at no cost to those who do not ask", () => {
  const asked = options("void", { additions: { caller: true } }), plain = options("void");
  for (
    const build of [
      (options: TraceOptions) => kprobeProgram(options, context, 1),
      (options: TraceOptions) => kprobePositionsProgram(options, context),
      (options: TraceOptions) => kprobeMultiProgram(options, context, 1),
      (options: TraceOptions) => kprobeMultiPositionsProgram(options, context),
    ]
  ) {
    // the return address lies where the stack pointer of the probed function's registers (152) points to
    expect(listing(build(asked))).toContain("r3 = *(u64 *)(r1 +152)");
    expect(listing(build(plain))).not.toContain("(r1 +152)");
  }
});

test("A tracepoint knows no caller", () => {
  expect(() => tracepointProgram(options("void", { additions: { caller: true } }), kfreeSkb))
    .toThrow(
      "This hook does not know who called",
    );
});

test("A record has no byte that nobody asked for", () => {
  const sizes = [
    {},
    { caller: true },
    { stack: true },
    { controlBlock: true },
    { skbBytes: 232 },
    { sharedInfoBytes: 320 },
    { tunnel: true },
    { values },
    allAdditions,
  ].map((additions) => recordLayout(additions).size - packetEvent.size);
  expect(sizes).toEqual([
    0,
    8,
    400 + 8,
    20 + 4,
    232 + 8,
    320 + 8,
    104 + 8,
    3 * 8 + 8,
    8 + 24 + 400 + 232 + 320 + 104 + 4 + 20 + 4 + 4 + 8,
  ]);
  const most = Array.from({ length: MAX_VALUES }, () => values[0]!);
  expect(recordLayout({ values: most }).size).toBe(192 + 8 * 32 + 8);
  expect(() => recordLayout({ values: [...most, values[0]!] })).toThrow("A record holds 32 values, not 33");
});

test("Registers of an unknown architecture are refused", () => {
  expect(() => probeContext("mips")).toThrow("Registers of mips are not known");
});

test("A probe sees five arguments", () => {
  expect(() => kprobeProgram(options("void"), context, 6)).toThrow(
    "A probe sees arguments 1 to 5, not 6",
  );
});
