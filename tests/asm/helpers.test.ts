/** Helper numbers, against a few known ones and against the running kernel's own list. */
import { describe, expect, test } from "bun:test";
import { helperId, helperName } from "../../asm/helpers.ts";
import { ENUM, findKernelType, hasKernelBtf } from "../kernel_btf.ts";

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

  test.skipIf(!hasKernelBtf)("is enum bpf_func_id of the running kernel (BTF, Linux 5.2)", () => {
    const list = findKernelType(ENUM, ({ enumerators }) => enumerators.has("BPF_FUNC_map_lookup_elem"));
    const kernel = new Map(list.enumerators);
    kernel.delete("BPF_FUNC_unspec");
    kernel.delete("__BPF_FUNC_MAX_ID");
    const ours = Object.entries(helperId).map(([name, id]) => [`BPF_FUNC_${name.slice("bpf_".length)}`, id]);
    expect(Object.fromEntries(ours.slice(0, kernel.size))).toEqual(Object.fromEntries(kernel));
  });
});
