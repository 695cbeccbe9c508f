/** Helper numbers, against a few known ones and against the running kernel's own list. */
import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { helperId, helperName } from "../../asm/helpers.ts";

const vmlinux = "/sys/kernel/btf/vmlinux";

// deno-fmt-ignore
test.each<[id: number, name: keyof typeof helperId]>([
  [1, "bpf_map_lookup_elem"], [5, "bpf_ktime_get_ns"], [14, "bpf_get_current_pid_tgid"], [113, "bpf_probe_read_kernel"],
  [131, "bpf_ringbuf_reserve"], [132, "bpf_ringbuf_submit"], [181, "bpf_loop"], [211, "bpf_cgrp_storage_delete"],
])("%i is %s", (id, name) => {
  expect(helperId[name]).toBe(id);
  expect(helperName(id)).toBe(name);
});

describe("the list", () => {
  test("names each helper once", () => {
    expect(new Set(Object.keys(helperId)).size).toBe(211);
    expect([...Object.values(helperId)]).toEqual(Array.from({ length: 211 }, (_, index) => index + 1));
    expect(Object.isFrozen(helperId)).toBe(true);
  });

  test.each([0, -1, 212, 0.5])("has no number %d", (id) => {
    expect(helperName(id)).toBeUndefined();
  });

  test.skipIf(!existsSync(vmlinux))("is enum bpf_func_id of the running kernel (BTF, Linux 5.2)", () => {
    const kernel = enumerators(readFileSync(vmlinux), "BPF_FUNC_map_lookup_elem");
    kernel.delete("BPF_FUNC_unspec");
    kernel.delete("__BPF_FUNC_MAX_ID");
    const ours = Object.entries(helperId).map(([name, id]) => [`BPF_FUNC_${name.slice("bpf_".length)}`, id]);
    expect(Object.fromEntries(ours.slice(0, kernel.size))).toEqual(Object.fromEntries(kernel));
  });
});

/** The enum of a BTF blob that has `member`: just enough of Documentation/bpf/btf.rst to walk past the rest. */
function enumerators(btf: Uint8Array, member: string): Map<string, number> {
  const view = new DataView(btf.buffer, btf.byteOffset, btf.length),
    u32 = (at: number) => view.getUint32(at, true);
  const header = u32(4), types = header + u32(8), end = types + u32(12), strings = header + u32(16);
  const text = (at: number) => {
    const start = strings + at;
    return new TextDecoder().decode(btf.subarray(start, btf.indexOf(0, start)));
  };
  const ENUM = 6;
  // bytes behind the 12 of struct btf_type: for INT, VAR, DECL_TAG, ARRAY, and per member of the other kinds
  const fixed: Record<number, number> = { 1: 4, 3: 12, 14: 4, 17: 4 };
  const perMember: Record<number, number> = { 4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12 };
  for (let at = types; at < end;) {
    const info = u32(at + 4), kind = info >>> 24 & 0x1f, members = info & 0xffff, body = at + 12;
    if (kind === ENUM) {
      const all = Array.from(
        { length: members },
        (_, i) => [text(u32(body + i * 8)), u32(body + i * 8 + 4)] as const,
      );
      if (all.some(([name]) => name === member)) return new Map(all);
    }
    at = body + (fixed[kind] ?? (perMember[kind] ?? 0) * members);
  }
  throw new Error(`No enum has ${member}`);
}
