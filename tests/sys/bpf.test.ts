/** Each command: its number, and the members of its bpf_attr at the kernel's offsets (uapi/linux/bpf.h). */
import { describe, expect, test } from "bun:test";
import * as bpf from "../../lib/sys/bpf.ts";
import { perfEventOpen, perfEventSetBpf } from "../../lib/sys/perf_event.ts";
import { fakeKernel, memory, text } from "./fake_kernel.ts";

/** offset -> what lies there: 4 bytes as a number, 8 as a bigint, a pointer as the text or bytes behind it. */
type Attr = Readonly<Record<number, number | bigint | string | Uint8Array>>;

const insns = Uint8Array.of(0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
const key = Uint8Array.of(1, 2, 3, 4), value = Uint8Array.of(9, 8, 7, 6, 5, 4, 3, 2);
const addrs = BigUint64Array.of(0xffffffff81000000n, 0xffffffff81000010n),
  cookies = BigUint64Array.of(1n, 2n);
const raw = (words: BigUint64Array) => new Uint8Array(words.buffer);

const rows: readonly [name: string, call: () => unknown, command: number, attr: Attr][] = [
  [
    "MAP_CREATE",
    () =>
      bpf.bpfMapCreate({
        map_type: 2,
        key_size: 4,
        value_size: 8,
        max_entries: 16,
        map_flags: 0x80,
        map_name: "a-much.too long name",
      }),
    0,
    { 0: 2, 4: 4, 8: 8, 12: 16, 16: 0x80, 28: 0x756d5f61, 40: 0x00676e6f },
  ],
  ["MAP_LOOKUP_ELEM", () => bpf.bpfMapLookupElem(7, key, 8), 1, { 0: 7, 8: key, 24: 0n }],
  ["MAP_UPDATE_ELEM", () => bpf.bpfMapUpdateElem(7, key, value, bpf.BPF_EXIST), 2, {
    0: 7,
    8: key,
    16: value,
    24: 2n,
  }],
  ["MAP_DELETE_ELEM", () => bpf.bpfMapDeleteElem(7, key), 3, { 0: 7, 8: key, 16: 0n }],
  ["MAP_GET_NEXT_KEY", () => bpf.bpfMapGetNextKey(7, key, 4), 4, { 0: 7, 8: key }],
  [
    "PROG_LOAD",
    () =>
      bpf.bpfProgLoad({
        prog_type: 2,
        insns,
        license: "GPL",
        prog_name: "trace",
        expected_attach_type: 42,
        attach_btf_id: 99,
        attach_btf_obj_fd: 12,
        prog_btf_fd: 11,
        func_info: value,
      }),
    5,
    {
      0: 2,
      4: 2,
      8: insns,
      16: "GPL",
      24: 0,
      28: 0,
      32: 0n,
      48: 0x63617274,
      68: 42,
      72: 11,
      76: 8,
      80: value,
      88: 1,
      108: 99,
      112: 12,
    },
  ],
  ["PROG_TEST_RUN", () => bpf.bpfProgTestRun(7, { data_in: value, ctx_in: key, repeat: 5 }), 10, {
    0: 7,
    8: 8,
    16: value,
    32: 5,
    40: 4,
    48: key,
  }],
  ["PROG_GET_NEXT_ID", () => bpf.bpfProgGetNextId(41), 11, { 0: 41 }],
  ["PROG_GET_FD_BY_ID", () => bpf.bpfProgGetFdById(41), 13, { 0: 41 }],
  ["OBJ_GET_INFO_BY_FD", () => bpf.bpfObjGetInfoByFd(7, bpf.bpfProgInfo), 15, { 0: 7, 4: 232 }],
  ["RAW_TRACEPOINT_OPEN", () => bpf.bpfRawTracepointOpen({ name: "kfree_skb", prog_fd: 7, cookie: 5n }), 17, {
    0: "kfree_skb",
    8: 7,
    16: 5n,
  }],
  ["RAW_TRACEPOINT_OPEN of its own target", () => bpf.bpfRawTracepointOpen({ prog_fd: 7 }), 17, {
    0: 0n,
    8: 7,
  }],
  ["BTF_LOAD", () => bpf.bpfBtfLoad(value), 18, { 0: value, 8: 0n, 16: 8, 20: 0, 24: 0 }],
  ["MAP_FREEZE", () => bpf.bpfMapFreeze(7), 22, { 0: 7 }],
  [
    "LINK_CREATE of a perf event",
    () => bpf.bpfLinkCreate({ prog_fd: 7, target_fd: 8, attach_type: 41, perf_event: { bpf_cookie: 3n } }),
    28,
    {
      0: 7,
      4: 8,
      8: 41,
      12: 0,
      16: 3n,
    },
  ],
  [
    "LINK_CREATE of kprobe_multi",
    () => bpf.bpfLinkCreate({ prog_fd: 7, attach_type: 42, kprobe_multi: { flags: 1, addrs, cookies } }),
    28,
    {
      0: 7,
      8: 42,
      16: 1,
      20: 2,
      24: 0n,
      32: raw(addrs),
      40: raw(cookies),
    },
  ],
  [
    "LINK_CREATE of tracing",
    () => bpf.bpfLinkCreate({ prog_fd: 7, attach_type: 24, tracing: { cookie: 9n } }),
    28,
    {
      0: 7,
      8: 24,
      16: 0,
      24: 9n,
    },
  ],
  ["ENABLE_STATS", () => bpf.bpfEnableStats(), 32, { 0: 0 }],
];

test.each(rows)("BPF_%s", (_, call, command, attr) => {
  using kernel = fakeKernel(({ args: [cmd, address, size = 0] }) => {
    expect(cmd).toBe(command);
    const view = memory(address, size);
    for (const [key, wanted] of Object.entries(attr)) {
      const at = Number(key);
      if (typeof wanted === "number") expect([at, view.getUint32(at, true)]).toEqual([at, wanted]);
      else if (typeof wanted === "bigint") expect([at, view.getBigUint64(at, true)]).toEqual([at, wanted]);
      else {
        const pointer = Number(view.getBigUint64(at, true));
        if (typeof wanted === "string") expect(text(pointer)).toBe(wanted);
        else expect(new Uint8Array(memory(pointer, wanted.length).buffer)).toEqual(wanted);
      }
    }
    return 3;
  });
  call();
  expect(kernel.calls.length).toBe(1);
});

test.each(rows)("BPF_%s: a refusal names the command", (name, call) => {
  using _kernel = fakeKernel(() => -1);
  expect(call).toThrow(`bpf(BPF_${name.split(" ")[0]}): EPERM`);
});

describe("An errno that is an answer", () => {
  test.each<[name: string, errno: number, call: () => unknown, answer: unknown]>([
    ["look-up of a missing key", 2, () => bpf.bpfMapLookupElem(7, key, 8), undefined],
    ["deletion of a missing key", 2, () => bpf.bpfMapDeleteElem(7, key), false],
    ["update of a missing key", 2, () => bpf.bpfMapUpdateElem(7, key, value, bpf.BPF_EXIST), false],
    ["insertion of a present key", 17, () => bpf.bpfMapUpdateElem(7, key, value, bpf.BPF_NOEXIST), false],
    ["the last key", 2, () => bpf.bpfMapGetNextKey(7, key, 4), undefined],
    ["the last program", 2, () => bpf.bpfProgGetNextId(9), undefined],
    ["a program that has gone", 2, () => bpf.bpfProgGetFdById(9), undefined],
  ])("%s", (_, errno, call, answer) => {
    using _kernel = fakeKernel(() => -errno);
    expect(call()).toBe(answer as never);
  });
});

test("kprobe_multi by names, and cookies that do not match", () => {
  using _kernel = fakeKernel(({ args: [, address] }) => {
    const view = memory(address, 48), names = memory(Number(view.getBigUint64(24, true)), 16);
    expect([0, 8].map((at) => text(Number(names.getBigUint64(at, true))))).toEqual(["ip_rcv", "ip_output"]);
    expect([view.getUint32(20, true), view.getBigUint64(32, true)]).toEqual([2, 0n]);
    return 3;
  });
  bpf.bpfLinkCreate({ prog_fd: 7, attach_type: 42, kprobe_multi: { syms: ["ip_rcv", "ip_output"] } });
  const uneven = { addrs, cookies: BigUint64Array.of(1n) };
  expect(() => bpf.bpfLinkCreate({ prog_fd: 7, attach_type: 42, kprobe_multi: uneven })).toThrow(
    new RangeError("1 cookies for 2 functions"),
  );
});

test("BTF that is refused gives the last line of the kernel's log", () => {
  using _kernel = fakeKernel(({ args: [, address] }) => {
    const view = memory(address, 32), log = Number(view.getBigUint64(8, true));
    if (log !== 0) {
      new Uint8Array(memory(log, 64).buffer).set(new TextEncoder().encode("magic: 0x0\nInvalid magic\n"));
    }
    return -22;
  });
  try {
    bpf.bpfBtfLoad(value);
    expect.unreachable();
  } catch (error) {
    expect(String(error)).toBe("KernelError: bpf(BPF_BTF_LOAD): EINVAL");
    expect((error as { hint?: string }).hint).toBe("Invalid magic");
  }
});

test.each<[given: string, kept: string]>([
  ["skb_free", "skb_free"],
  ["kprobe-multi/skb.1", "kprobe_multi_sk"],
  ["Ärger", "_rger"],
  ["", ""],
])("object name %p is %p to the kernel", (given, kept) => {
  const name = bpf.objectName(given);
  expect(name.length).toBe(16);
  expect(bpf.infoName(name)).toBe(kept);
});

test("perf_event_open and its ioctl", () => {
  using kernel = fakeKernel(({ name, args: [address] }) => {
    if (name === "perf_event_open") {
      const view = memory(address, 112);
      expect([view.getUint32(0, true), view.getUint32(4, true), view.getBigUint64(8, true)]).toEqual([
        2,
        112,
        1234n,
      ]);
      expect(view.getBigUint64(64, true)).toBe(0xffffffff81000005n);
    }
    return 9;
  });
  expect(perfEventOpen({ type: 2, config: 1234n, config2: 0xffffffff81000005n })).toBe(9);
  perfEventSetBpf(9, 7);
  expect(kernel.calls.map(({ name, args }) => [name, ...args.slice(1, 5)])).toEqual([
    ["perf_event_open", -1, 0, -1, 8],
    ["ioctl", 0x40042408, 7, 0, 0],
  ]);
});
