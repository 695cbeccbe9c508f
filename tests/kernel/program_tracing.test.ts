/** What is found out about loaded BPF programs, and the probes on them, which run in virtual machines only. */
import { expect } from "bun:test";
import { items, type ProgramSpec } from "../../asm/code.ts";
import { at, ldx, mov, r0, r1, r2, r3, stx } from "../../asm/insn.ts";
import { u64 } from "../../asm/layout.ts";
import type { TraceOptions } from "../../bpf-programs/frame.ts";
import { headChangeProgram, headerCopyProgram, lineageExitProgram } from "../../bpf-programs/lineage.ts";
import { traceMaps } from "../../bpf-programs/maps.ts";
import { bulkAccess, directAccess, type MemoryAccess } from "../../bpf-programs/memory_access.ts";
import { probeContext } from "../../bpf-programs/registers.ts";
import { lookUpProgram, stackProgram } from "../../bpf-programs/stack_programs.ts";
import { BPF_PROG_TYPE_RAW_TRACEPOINT } from "../../asm/uapi.ts";
import { kprobeProgram } from "../../bpf-programs/function_programs.ts";
import { tcProgram } from "../../bpf-programs/tc.ts";
import { keepsSet } from "../../bpf-programs/tracking.ts";
import { xdpProgram } from "../../bpf-programs/xdp.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { noNames } from "../../lib/pcap_filter/names.ts";
import { loadProgram } from "../../lib/sys/program.ts";
import { compilePacketFilter } from "../../lib/trace/filter.ts";
import { hasKernelBtf } from "../kernel_btf.ts";
import { bpfMapInfo, bpfObjGetInfoByFd, bpfProgCode, bpfProgInfo } from "../../lib/sys/bpf.ts";
import { errno } from "../../lib/sys/errno.ts";
import { kernelError } from "../../lib/sys/ffi.ts";
import { ProgramTracing } from "../../lib/trace/program_tracing.ts";
import { watchPrograms } from "../../lib/trace/new_programs.ts";
import { HelperCalls } from "../../lib/trace/helper_calls.ts";
import { readKallsyms } from "../../lib/symbols/kallsyms.ts";
import { tailCallees } from "../../lib/trace/tail_calls.ts";
import { examineProgram, LoadedProgram, programsAfter } from "../../lib/trace/loaded_programs.ts";
import { kernelTest } from "./requires.ts";
import { ENTRY_TYPE, loadTarget, type Target, targetMaps } from "./target_programs.ts";

const both = new Set(["tc", "xdp"] as const);
const idOf = (fd: number) => bpfObjGetInfoByFd(fd, bpfProgInfo).id;
const tc: Target = { kind: "tc", name: "count_packets", returns: 0 };

kernelTest([5, 6], "a program is found by its id, with the name that the kernel gives it", () => {
  using target = loadTarget(tc);
  using found = examineProgram(idOf(target.fd), both) as LoadedProgram;
  expect(found).toBeInstanceOf(LoadedProgram);
  expect(found).toMatchObject({ kind: "tc", entry: { btfId: ENTRY_TYPE, argument: 0 }, parts: [] });
  expect(found.entry.symbol).toMatch(/^bpf_prog_[0-9a-f]{16}_count_packets\[bpf\]$/);
  expect(found.entry.address).toBeGreaterThan(0xffff_0000_0000_0000n);
});

kernelTest([5, 6], "the functions of a program that it gives the packet", () => {
  using target = loadTarget({ ...tc, does: { what: "call" } });
  using found = examineProgram(idOf(target.fd), both) as LoadedProgram;
  expect(found.parts).toMatchObject([{ btfId: ENTRY_TYPE + 1, argument: 0 }]);
  expect(found.parts[0]?.symbol).toMatch(/^bpf_prog_[0-9a-f]{16}_count_packets_part\[bpf\]$/);
  expect(found.parts[0]?.address).not.toBe(found.entry.address);
});

kernelTest([5, 6], "a program that tail calls lead to", () => {
  using maps = new Maps();
  using callee = loadTarget(tc), _caller = loadTarget({ ...tc, does: { what: "jump" } }, maps);
  const jumps = maps.get(targetMaps.jumps), program = idOf(callee.fd);
  expect(tailCallees().filter((found) => found.program === program)).toEqual([]);
  jumps.update(0, new Uint8Array(Uint32Array.of(callee.fd).buffer));
  const { id } = bpfObjGetInfoByFd(jumps.fd, bpfMapInfo);
  expect(tailCallees().filter((found) => found.program === program)).toEqual([
    { program, map: `${id} jumps` },
  ]);
});

kernelTest([5, 6], "what programs call, by the kernel's symbols, and where they call it", () => {
  using maps = new Maps();
  const callers = maps.get(traceMaps(4096).callers), symbols = readKallsyms();
  const calls = new HelperCalls(callers, symbols.addresses("__bpf_call_base")[0]!, { kfuncsById: false });
  calls.look();
  using target = loadTarget({ ...tc, does: { what: "count" } }, maps);
  const names = calls.look().callees.map((callee) =>
    "address" in callee ? symbols.at(callee.address)?.name : callee.btfId
  );
  expect(names).toEqual(["htab_map_update_elem", "__htab_map_lookup_elem", "htab_map_delete_elem"]);
  using _jumper = loadTarget({ ...tc, does: { what: "jump" } }, maps); // that is no call
  expect(calls.look()).toEqual({ callees: [], remarks: [] });
  const { functions: [code] } = bpfProgCode(target.fd),
    key = new Uint8Array(12),
    view = new DataView(key.buffer);
  const isCaller = (address: bigint) => {
    view.setUint32(0, 64, true);
    view.setBigUint64(4, address);
    return callers.lookup(key) !== undefined;
  };
  const start = code!.address, end = start + BigInt(code!.length);
  expect([start - 1n, start, start + 1n, end - 1n, end].map(isCaller)).toEqual([
    false,
    true,
    true,
    true,
    false,
  ]);
  target[Symbol.dispose]();
  calls.look();
  expect(isCaller(start)).toBe(false);
});

kernelTest([5, 6], "a program of another kind is none of our business", () => {
  using target = loadTarget(tc);
  expect(examineProgram(idOf(target.fd), new Set(["xdp"]))).toBeUndefined();
});

kernelTest([5, 6], "a program without BTF is named, with the reason", () => {
  using target = loadTarget({ ...tc, name: "plain", argument: "none" });
  const id = idOf(target.fd);
  expect(examineProgram(id, both)).toEqual({ id, name: "plain", why: "it was loaded without BTF" });
});

kernelTest([5, 6], "a program that has gone is nothing to speak of", () => {
  const target = loadTarget(tc), id = idOf(target.fd);
  target[Symbol.dispose]();
  expect(examineProgram(id, both)).toBeUndefined();
});

kernelTest([5, 6], "programs are listed by rising ids, the new ones alone after the last", () => {
  const last = Math.max(0, ...programsAfter(0));
  using one = loadTarget(tc), other = loadTarget({ ...tc, kind: "xdp" });
  const ids = [...programsAfter(last)];
  expect(ids).toEqual(expect.arrayContaining([idOf(one.fd), idOf(other.fd)]));
  expect(ids).toEqual([...ids].sort((a, b) => a - b));
});

kernelTest(
  [5, 6],
  "a program that is loaded while a trace runs is followed before the next look at all",
  async () => {
    const looks: number[] = [], remarks: string[] = [], everyMs = 100;
    const followPrograms = (newest: number) => {
      looks.push(newest);
      return Promise.resolve([`up to ${newest}`]);
    };
    const looked = async (times: number) => {
      while (looks.length < times) await Bun.sleep(5);
    };
    using _first = loadTarget(tc);
    const { signal } = new AbortController(), onRemark = (remark: string) => remarks.push(remark);
    const watch = watchPrograms({ followPrograms }, { signal, onRemark, everyMs });
    await looked(1);
    using target = loadTarget(tc);
    const loaded = performance.now();
    await looked(2);
    expect(performance.now() - loaded).toBeLessThan(8 * everyMs);
    expect(looks[1]).toBeGreaterThanOrEqual(idOf(target.fd));
    await looked(3); // some may have gone
    expect(remarks).toEqual(looks.map((newest) => `up to ${newest}`));
    watch[Symbol.dispose]();
    using _late = loadTarget(tc);
    await Bun.sleep(2 * everyMs);
    expect(looks).toHaveLength(3);
  },
);

const shapes: [name: string, options: Partial<TraceOptions>][] = [
  ["all columns", {}],
  ["all additions", { additions: { caller: true, stack: true, tunnel: true, skbBytes: 232 } }],
  ["frames followed", { tracking: { follow: true, ids: true, frames: true } }],
  ["frames numbered", { tracking: { follow: false, ids: true, frames: true } }],
  ["stacks", { tracking: { follow: false, ids: false, stacks: true, frames: true } }],
  [
    "everything",
    {
      tracking: { follow: true, ids: true, stacks: true, frames: true },
      filter: compilePacketFilter("udp and (vlan 5 or dst port 9053)", noNames),
      netns: 4026531840,
      ifindex: 2,
    },
  ],
];
/**
 * To be verified where programs cannot be traced. A raw tracepoint has no bpf_get_func_ret: what was returned is its second
 * argument instead.
 */
const asTracepoint = ({ name, license, code }: ProgramSpec): ProgramSpec => ({
  name,
  license,
  code: [...items(code)].map((item) =>
    "text" in item && item.text.includes("bpf_get_func_ret")
      ? [ldx(r3, at(r1, 8, u64)), stx(at(r2, u64), r3), mov(r0, 0)]
      : item
  ),
  type: BPF_PROG_TYPE_RAW_TRACEPOINT,
});
const types = hasKernelBtf ? new BtfTypes(loadKernelBtf()) : undefined;
const accesses: [string, MemoryAccess | undefined][] = types === undefined
  ? []
  : [["direct", directAccess(types)], ["bulk", bulkAccess()]];

kernelTest(
  [5, 17],
  "tail calls are told of however long it takes to probe the program that they lead to",
  () => {
    using maps = new Maps();
    using callee = loadTarget(tc), _caller = loadTarget({ ...tc, does: { what: "jump" } }, maps);
    maps.get(targetMaps.jumps).update(0, new Uint8Array(Uint32Array.of(callee.fd).buffer));
    const kernel = types as BtfTypes;
    const options = { kernel, access: bulkAccess(), maps: traceMaps(4096), meta: false, tuple: false };
    const load = () => {
      Bun.sleepSync(1100);
      throw kernelError("bpf(BPF_PROG_LOAD)", errno.EINVAL as number);
    };
    using tracing = new ProgramTracing({ kinds: new Set(["tc"]), options, load }, new Map());
    const told = tracing.attachNew(idOf(callee.fd), new AbortController().signal);
    expect(told.filter((remark) => remark.includes(`program ${idOf(callee.fd)} `))).toEqual([
      expect.stringMatching(/^Cannot trace BPF program/),
      expect.stringMatching(/^Tail calls to BPF program/),
    ]);
  },
  types !== undefined,
);

for (const [accessName, access] of accesses) {
  for (const [name, shape] of shapes) {
    kernelTest(
      [5, 17],
      `the kernel takes probes on programs and what follows frames: ${name}, ${accessName}`,
      () => {
        using maps = new Maps();
        const options: TraceOptions = {
          kernel: types as BtfTypes,
          access: access as MemoryAccess,
          maps: traceMaps(4096, 100),
          meta: true,
          tuple: true,
          ...shape,
        };
        const entry = { btfId: ENTRY_TYPE, at: "entry", address: 1n } as const;
        const context = probeContext(process.arch), { tracking } = options;
        const id = (name: string) => types?.functionId(name) as number;
        const onPrograms = [tcProgram(options, entry), xdpProgram(options, entry)];
        const exits = [tcProgram, xdpProgram].map((program) => program(options, { ...entry, at: "exit" }));
        const withMaps = { ...options, additions: { ...options.additions, mapOperation: true } };
        const onReturns = tracking?.stacks !== true
          ? []
          : (["value", "element"] as const).map((result) =>
            lookUpProgram(withMaps, {
              fromPrograms: true,
              map: { key: 2, result },
              btfId: 1,
              parameters: 2,
              address: 1n,
            })
          );
        const onFunctions = tracking === undefined ? [] : [
          ...(["lives", "ends", "ends unseen", "begins"] as const).map((fate) =>
            kprobeProgram(options, context, 1, fate)
          ),
          ...(tracking.stacks !== true ? [] : [true, false].flatMap((fromPrograms) => [
            stackProgram(options, context, "kprobe", { fromPrograms }),
            stackProgram(withMaps, context, "kprobe", { fromPrograms, map: { key: 2, value: 3 } }),
          ])),
        ];
        const onBirths = tracking === undefined || !keepsSet(tracking) ? [] : [
          headerCopyProgram(options, { name: "skb_copy_header", btfId: id("skb_copy_header") }),
          headChangeProgram(options, { name: "pskb_expand_head", btfId: id("pskb_expand_head") }),
          lineageExitProgram(options, { name: "build_skb", btfId: id("build_skb"), parameters: 2 }),
        ];
        for (
          const spec of [
            ...[...onPrograms, ...exits, ...onBirths, ...onReturns].map(asTracepoint),
            ...onFunctions,
          ]
        ) {
          using program = loadProgram(spec, { maps });
          expect(program.fd).toBeGreaterThan(0);
        }
      },
      access !== undefined,
    );
  }
}
