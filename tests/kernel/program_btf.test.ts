/** The kernel takes the BTF that we write, and follows a callback that it describes. */
import { describe, expect } from "bun:test";
import { type Code, type FunctionInfo, label, type MapSpec } from "../../asm/code.ts";
import {
  add,
  at,
  call,
  callLocal,
  exit,
  fp,
  jeq,
  ldFunction,
  ldMap,
  ldx,
  mov,
  r0,
  r1,
  r2,
  r3,
  r4,
  ret,
  st,
  stx,
} from "../../asm/insn.ts";
import { u32, u64 } from "../../asm/layout.ts";
import { kernelTest } from "./requires.ts";
import { load, run } from "./load.ts";
import { compareWithLog } from "./verifier_log.ts";

const each = label("each"), double = label("double");
const main: FunctionInfo = { name: "main", parameters: 1 };
const eachInfo: FunctionInfo = { name: "each", parameters: 2, entry: each };
const doubleInfo: FunctionInfo = { name: "double", parameters: 1, entry: double };

/** Sums 0 to 3 in a stack word whose address the callback gets, then doubles it. */
const sum: Code = [
  st(at(fp, -8, u64), 0),
  mov(r1, 4), // turns
  ldFunction(r2, each),
  mov(r3, fp),
  add(r3, -8), // r3 = what the callback gets in r2
  mov(r4, 0),
  call("bpf_loop"),
  ldx(r1, at(fp, -8, u64)),
  callLocal(double),
  exit(),

  each, // r1 = turn, r2 = the word
  ldx(r3, at(r2, u64)),
  add(r3, r1),
  stx(at(r2, u64), r3),
  ret(0),

  double,
  mov(r0, r1),
  add(r0, r1),
  exit(),
];

/** Counts the elements of a map. */
const stats: MapSpec = { name: "stats", type: 2, keySize: 4, valueSize: 8, maxEntries: 5 };
const count: Code = [
  st(at(fp, -8, u64), 0),
  ldMap(r1, stats),
  ldFunction(r2, each),
  mov(r3, fp),
  add(r3, -8),
  mov(r4, 0),
  call("bpf_for_each_map_elem"),
  ldx(r0, at(fp, -8, u64)),
  exit(),

  each, // r1 = map, r2 = key, r3 = value, r4 = the word
  ldx(r1, at(r4, u64)),
  add(r1, 1),
  stx(at(r4, u64), r1),
  ldx(r1, at(r2, u32)),
  jeq(r1, 3, double),
  ret(0),
  double,
  ret(1), // stops at key 3
];

describe("callbacks", () => {
  kernelTest([5, 17], "bpf_loop, and a local function besides", () => {
    expect(run(sum, [main, eachInfo, doubleInfo])).toBe(12);
    expect(compareWithLog(sum, { functions: [doubleInfo, main, eachInfo] })).toBe(18);
  });
  kernelTest([5, 13], "bpf_for_each_map_elem", () => {
    expect(run(count, [main, { ...eachInfo, parameters: 4 }])).toBe(4);
  });
  kernelTest([5, 17], "are refused without BTF, or when a function is missing in it", () => {
    expect(() => load(sum)).toThrow(/missing btf func_info/);
    expect(() => load(sum, [main, eachInfo])).toThrow(
      /number of funcs in func_info doesn't match number of subprogs/,
    );
  });
});

kernelTest([5, 6], "the most arguments that the kernel takes", () => {
  expect(run(ret(7), [{ name: "main", parameters: 5 }])).toBe(7);
});
