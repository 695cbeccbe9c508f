/** The programs as text: what changes in them is seen in a diff of tests/golden/programs. */
import { expect, test } from "bun:test";
import { assemble } from "../../asm/assemble.ts";
import type { CbpfInsn } from "../../asm/cbpf.ts";
import type { ProgramSpec } from "../../asm/code.ts";
import { disassemble, referenceNames } from "../../asm/disasm.ts";
import { traceMaps } from "../../bpf-programs/maps.ts";
import { bulkAccess, directAccess } from "../../bpf-programs/memory_access.ts";
import { probeContext } from "../../bpf-programs/registers.ts";
import type { PacketFilter, TraceOptions } from "../../bpf-programs/frame.ts";
import * as programs from "../../bpf-programs/trace.ts";
import { compileFilter, skb } from "../../lib/expr/compile.ts";
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
const kfreeSkb = { name: "kfree_skb", index: 3, skb: 0, location: 1, reason: 2 };

test.each<[name: string, spec: ProgramSpec]>([
  ["kprobe_bulk", programs.kprobeProgram(options("none", everything), context, 2)],
  ["kprobe_bulk_no_options", programs.kprobeProgram(options("none"), context, 1)],
  ["kprobe_bulk_filter", programs.kprobeProgram(options("none", { filter }), context, 1)],
  ["kprobe_positions", programs.kprobePositionsProgram(options("none"), context)],
  ["multi_positions", programs.kprobeMultiPositionsProgram(options("void"), context)],
  ["multi_struct_cast", programs.kprobeMultiProgram(options("struct", everything), context, 1)],
  ["multi_void_cast_filter", programs.kprobeMultiProgram(options("void", { filter }), context, 1)],
  ["kprobe_bulk_expression", programs.kprobeProgram(options("none", { expression }), context, 1)],
  [
    "multi_struct_cast_expression",
    programs.kprobeMultiProgram(options("struct", { expression }), context, 1),
  ],
  ["multi_void_cast_expression", programs.kprobeMultiProgram(options("void", { expression }), context, 1)],
  ["tracepoint", programs.tracepointProgram(options("void", { meta: true, tuple: true }), kfreeSkb)],
])("%s", (name, spec) => {
  expectGolden(`programs/${name}.txt`, listing(spec));
});

test("The same options give the same bytes", () => {
  const build = () =>
    assemble(programs.kprobeMultiProgram(options("void", everything), context, 1).code).bytes;
  expect(build()).toEqual(build());
});

test("An option that is off leaves no code behind", () => {
  const size = (extra: Partial<TraceOptions>) =>
    assemble(programs.kprobeProgram(options("void", extra), context, 1).code).bytes.length / 8;
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
    ]
  ) {
    expect(size(extra)).toBeGreaterThan(bare);
  }
});

test("Members of the sk_buff that do not fit the copy are read on their own", () => {
  const far = compileFilter("skb->users == 1 && skb->words[3] == 1 && skb->len == 5", exprBtf, skb);
  const listed = listing(
    programs.kprobeProgram(options("none", { expression: far, tuple: true }), context, 1),
  );
  // the copy, words[3] (from 8 to 224 would be too much), and the headers
  expect(listed.match(/call bpf_probe_read_kernel/g)?.length).toBe(3);
});

test("Registers of an unknown architecture are refused", () => {
  expect(() => probeContext("mips")).toThrow("Registers of mips are not known");
});

test("A probe sees five arguments", () => {
  expect(() => programs.kprobeProgram(options("void"), context, 6)).toThrow(
    "A probe sees arguments 1 to 5, not 6",
  );
});
