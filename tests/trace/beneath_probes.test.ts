import { expect, test } from "bun:test";
import type { TraceOptions } from "../../bpf-programs/frame.ts";
import { parseBtf } from "../../lib/btf/parse.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import type { FunctionBackend } from "../../lib/trace/backend.ts";
import { BeneathProbes } from "../../lib/trace/beneath_probes.ts";
import { BtfBuilder } from "../btf/builder.ts";

const lookUp = { name: "htab_map_lookup_elem", address: 0x1000n, argument: 1 } as const;
const options = { additions: { mapOperation: true } } as TraceOptions;

/** A kernel of before Linux 5.12 counts no recursion, since it does not prevent any. */
function oldKernel(): BtfTypes {
  const b = new BtfBuilder();
  b.struct("bpf_prog_info", 4, [["type", b.int("u32", 4), 0]]);
  b.func(lookUp.name, [["map", b.ptr(b.struct("bpf_map", 0, []))], ["key", b.ptr(0)]]);
  return new BtfTypes(parseBtf(b.build()));
}

test("a look-up is not probed on return where our own would be probed in it, again and again", async () => {
  const probes = new BeneathProbes(options, oldKernel(), ({ name }) => {
    throw new Error(`Would load ${name}`);
  });
  const onEntry: unknown[] = [];
  const backend = {
    attachBeneath(functions, probe) {
      onEntry.push([functions, probe]);
      return Promise.resolve([]);
    },
  } as Partial<FunctionBackend> as FunctionBackend;
  expect(await probes.attach(backend, [lookUp], true)).toEqual({
    refused: [],
    remarks: [`What ${lookUp.name} finds is not shown: that takes Linux 5.12`],
  });
  expect(onEntry).toEqual([[[lookUp], { fromPrograms: true, map: { key: 2, result: "value" } }]]);
});
