// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0
/**
 * Which code calls a helper function: of BPF programs that work on packets, or of anybody else. Kernel functions call
 * helpers too, other tracers do, and so do our own programs.
 *
 * The code of those programs is in a map, as prefixes of addresses: lib/trace/helper_calls.ts fills it.
 */
import type { Code, Label } from "../asm/code.ts";
import { at, be, call, fp, jeq, ldMap, ldx, lea, mov, r0, r1, r2, r3, st, stx } from "../asm/insn.ts";
import { bytes, type Struct, struct, u32, u64 } from "../asm/layout.ts";
import { slot } from "./frame.ts";
import type { TraceMaps } from "./maps.ts";
import type { ProbeContext } from "./registers.ts";

/** struct bpf_lpm_trie_key: `prefixlen` bits of `data`, the highest first. */
export const callerKey: Struct<{ prefixlen: typeof u32; data: ReturnType<typeof bytes> }> = struct(
  "bpf_lpm_trie_key",
  { prefixlen: u32, data: bytes(8) },
);
const ADDRESS_BITS = 64;
/** Of the key, so that `data` can be stored at once. The packet filter's words are free by then. */
const DATA = slot.scratch + 8, PREFIX = DATA - callerKey.fields.data.offset;

/** To `miss` unless the function was called from that code. On entry of it; keeps r6-r9. */
export function requireProgramCaller(
  maps: TraceMaps,
  { returnAddress: { in: where, register } }: ProbeContext,
  miss: Label,
): Code {
  return requireCodeOfPrograms(maps, [
    ldx(r1, at(fp, slot.context, u64)),
    ldx(r1, at(r1, register, u64)),
    where === "register" ? [] : [
      mov(r3, r1),
      lea(r1, at(fp, DATA, u64)),
      mov(r2, 8),
      call("bpf_probe_read_kernel"),
      ldx(r1, at(fp, DATA, u64)),
    ],
  ], miss);
}

/** The same for an address that `load` puts into r1. */
export function requireCodeOfPrograms({ callers }: TraceMaps, load: Code, miss: Label): Code {
  return [
    load,
    be(r1, 64),
    stx(at(fp, DATA, u64), r1),
    st(at(fp, PREFIX, u32), ADDRESS_BITS),
    ldMap(r1, callers),
    lea(r2, at(fp, PREFIX, u32)),
    call("bpf_map_lookup_elem"),
    jeq(r0, 0, miss),
  ];
}
