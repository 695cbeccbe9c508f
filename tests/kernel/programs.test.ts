/** Every program that we ship, in every shape that options and kernels give it, passes this kernel's verifier. */
import { describe, expect, setDefaultTimeout } from "bun:test";
import type { KernelTypes } from "../../asm/code.ts";
import { traceMaps } from "../../bpf-programs/maps.ts";
import { bulkAccess, directAccess, type MemoryAccess } from "../../bpf-programs/memory_access.ts";
import { probeContext } from "../../bpf-programs/registers.ts";
import type { TraceOptions } from "../../bpf-programs/frame.ts";
import { stackProgram, stackWatchProgram } from "../../bpf-programs/stack_programs.ts";
import {
  kprobeMultiPositionsProgram,
  kprobeMultiProgram,
  kprobePositionsProgram,
  kprobeProgram,
} from "../../bpf-programs/function_programs.ts";
import { type TracepointHook, tracepointProgram } from "../../bpf-programs/tracepoint_program.ts";
import { HEIR_ARGUMENT } from "../../bpf-programs/trace.ts";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { MAX_VALUES } from "../../bpf-programs/events.ts";
import { compileValue, skb } from "../../lib/expr/compile.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { Maps } from "../../lib/maps/maps.ts";
import { noNames } from "../../lib/pcap_filter/names.ts";
import { loadProgram } from "../../lib/sys/program.ts";
import { compileFor, compilePacketFilter } from "../../lib/trace/filter.ts";
import { packetTracepoints } from "../../lib/trace/tracepoints.ts";
import { hasKernelBtf } from "../kernel_btf.ts";
import { kernelTest } from "./requires.ts";

setDefaultTimeout(60_000); // a busy machine is no failure

const context = probeContext(process.arch);

/** The kernel's types, without the cast to void that came with Linux 6.17. */
function withoutVoidCast(types: BtfTypes): KernelTypes {
  return {
    field: (struct, path) => types.field(struct, path),
    bitField: (struct, path) => types.bitField(struct, path),
    has: (struct, path) => types.has(struct, path),
    structId: (name) => types.structId(name),
    functionId: (name) => types.functionId(name),
    enumerator: (enumName, name) =>
      enumName === "bpf_features" ? undefined : types.enumerator(enumName, name),
    byteArrayStruct: (minBytes) => types.byteArrayStruct(minBytes),
  };
}

const filters = [
  undefined,
  "udp and src port 9053",
  "tcp[tcpflags] & tcp-syn != 0",
  "arp",
  "vlan 5 and ip6 host fe80::1",
  "(inbound or ifindex 3) and len > 100",
  "geneve 7 and host 10.0.0.1",
  "ip protochain 6",
];
/** With a chain of pointers, a division and values below it. */
const someValue = () =>
  compileValue("(skb->len + skb->mark) * (skb->hash - skb->dev->mtu / skb->truesize)", loadKernelBtf(), skb);

const allAdditions = {
  caller: true,
  stack: true,
  controlBlock: true,
  skbBytes: 232,
  sharedInfoBytes: 320,
  tunnel: true,
  values: hasKernelBtf ? Array.from({ length: MAX_VALUES }, () => someValue()) : [],
};

const shapes: [name: string, options: Partial<TraceOptions>][] = [
  ["nothing but the packet", { meta: false, tuple: false }],
  ["all columns", { meta: true, tuple: true }],
  ["all additions", { additions: allAdditions }],
  ["the tunnel alone", { meta: false, tuple: false, additions: { tunnel: true } }],
  ["the shared info alone", { meta: false, tuple: false, additions: { sharedInfoBytes: 320 } }],
  [
    "tunnels",
    {
      tunnel: {
        l2: compileFor("EN10MB", "ip host 10.0.0.1", noNames),
        l3: compileFor("RAW", "icmp", noNames),
      },
    },
  ],
  [
    "all additions, of packets that are followed and numbered, beneath stacks and in tunnels",
    {
      additions: allAdditions,
      tracking: { follow: true, ids: true, stacks: true },
      tunnel: {
        l2: compileFor("EN10MB", "ip host 10.0.0.1", noNames),
        l3: compileFor("RAW", "icmp", noNames),
      },
      mark: { value: 0x80000001, mask: 0xff0000ff },
      netns: 4026531840,
      ifindex: 2,
      memory: {
        directMap: 0xffff888000000000n,
        pageArray: 0xffffea0000000000n,
        structPageBytes: 64,
        pageBytes: 4096,
      },
    },
  ],
  ["packets followed", { tracking: { follow: true, ids: false } }],
  ["stacks", { meta: false, tuple: false, tracking: { follow: false, ids: false, stacks: true } }],
  ["packets numbered", { meta: false, tuple: false, tracking: { follow: false, ids: true } }],
  [
    "every filter, fragments read",
    {
      tracking: { follow: true, ids: true, stacks: true },
      meta: true,
      tuple: true,
      mark: { value: 0x80000001, mask: 0xff0000ff },
      netns: 4026531840,
      ifindex: 2,
      memory: {
        directMap: 0xffff888000000000n,
        pageArray: 0xffffea0000000000n,
        structPageBytes: 64,
        pageBytes: 4096,
      },
    },
  ],
];

/** Tracepoints cannot tell callers. */
const withoutCaller = (options: TraceOptions): TraceOptions => ({
  ...options,
  additions: { ...options.additions, caller: false },
});

describe.skipIf(!hasKernelBtf)("programs (needs kernel BTF)", () => {
  const types = hasKernelBtf ? new BtfTypes(loadKernelBtf()) : undefined;
  const accesses: [name: string, access: MemoryAccess | undefined][] = types === undefined ? [] : [
    ["direct, void", directAccess(types)],
    ["direct, struct", directAccess(withoutVoidCast(types))],
    ["bulk", bulkAccess()],
  ];
  for (const [accessName, access] of accesses) {
    for (const [shapeName, shape] of shapes) {
      for (const expression of filters) {
        kernelTest([5, 10], `${accessName}; ${shapeName}; filter ${expression ?? "none"}`, () => {
          using maps = new Maps();
          const options: TraceOptions = {
            kernel: types as BtfTypes,
            access: access as MemoryAccess,
            maps: traceMaps(1 << 16),
            ...(expression === undefined ? {} : { filter: compilePacketFilter(expression, noNames) }),
            meta: true,
            tuple: true,
            ...shape,
          };
          const [first] = packetTracepoints((types as BtfTypes).btf);
          const specs = [
            kprobeProgram(options, context, 1),
            kprobeProgram(options, context, 5),
            kprobePositionsProgram(options, context),
            kprobeMultiProgram(options, context, 3),
            kprobeMultiPositionsProgram(options, context),
            tracepointProgram(withoutCaller(options), first as TracepointHook),
            ...(options.tracking?.stacks !== true ? [] : [
              stackProgram(options, context, "kprobe"),
              stackProgram(options, context, "kprobe-multi"),
              stackWatchProgram(options, context, "kprobe"),
            ]),
            ...(options.tracking === undefined
              ? []
              : (["takes after", "takes after unseen"] as const).flatMap((fate) => [
                kprobeProgram(options, context, HEIR_ARGUMENT, fate),
                kprobeMultiProgram(options, context, HEIR_ARGUMENT, fate),
              ])),
            ...(options.tracking === undefined
              ? []
              : (["begins", "ends", "ends unseen"] as const).flatMap((fate) => [
                kprobeProgram(options, context, 1, fate),
                kprobeMultiProgram(options, context, 2, fate),
                tracepointProgram(withoutCaller(options), {
                  ...first as TracepointHook,
                  fate,
                }),
              ])),
          ];
          for (const spec of specs) {
            using program = loadProgram(spec, { maps });
            expect(program.fd).toBeGreaterThan(0);
          }
        }, access !== undefined);
      }
    }
  }
});
