/** The kernel is the oracle: our disassembly of a program equals the text in its level-2 verifier log. */
import { describe, expect } from "bun:test";
import { readFileSync } from "node:fs";
import { type Code, label, type MapSpec } from "../../asm/code.ts";
import * as insn from "../../asm/insn.ts";
import {
  add,
  at,
  call,
  callKfunc,
  callLocal,
  exit,
  fp,
  gotol,
  ja,
  jlt,
  ldAbs,
  ldBtfVariable,
  lddw,
  ldInd,
  ldMap,
  ldMapValue,
  ldx,
  ldxsx,
  mov,
  neg,
  neg32,
  r0,
  r1,
  r2,
  r6,
  r7,
  r8,
  r9,
  ret,
  st,
  stx,
} from "../../asm/insn.ts";
import { s16, s32, s8, u16, u32, u64, u8 } from "../../asm/layout.ts";
import { aluOps, atomicOps, jumpOps } from "../../asm/opcodes.ts";
import { randomFrom, randomInsn } from "../asm/random_insn.ts";
import { findKernelType, FUNC, VAR } from "../kernel_btf.ts";
import { kernelTest } from "./requires.ts";
import { compareWithLog } from "./verifier_log.ts";

const events: MapSpec = { name: "events", type: 27, keySize: 0, valueSize: 0, maxEntries: 4096 * 16 };
const stats: MapSpec = { name: "stats", type: 2, keySize: 4, valueSize: 16, maxEntries: 1 };

/** r6 = context, r7 to r9 and r0 = numbers that the verifier does not know; 32 bytes of stack are written. */
const prologue: Code = [
  mov(r6, r1),
  ...[r7, r8, r9].map((register) => [call("bpf_get_prandom_u32"), mov(register, r0)]),
  call("bpf_get_prandom_u32"),
  ...[-8, -16, -24, -32].map((offset) => st(at(fp, offset, u64), offset)),
];

function constructor<T>(name: string): T {
  return insn[name as keyof typeof insn] as T;
}

const SIGNED_DIVISION = [6, 6] as const, ATOMICS = [5, 12] as const, JMP32 = [5, 1] as const;

describe("arithmetic", () => {
  for (const [name, { off }] of Object.entries(aluOps)) {
    kernelTest(off === 0 ? [4, 20] : SIGNED_DIVISION, name, () => {
      for (const make of [constructor<typeof mov>(name), constructor<typeof mov>(`${name}32`)]) {
        compareWithLog([prologue, make(r7, r8), make(r9, 7), make(r8, 31), make(r8, 1), ret(0)]);
        if (!name.endsWith("sh")) compareWithLog([prologue, make(r7, -1), make(r8, 2 ** 31 - 1), ret(0)]);
      }
    });
  }
  kernelTest([4, 20], "neg, be, le", () => {
    const swaps = ([16, 32, 64] as const).flatMap((bits) => [insn.be(r7, bits), insn.le(r8, bits)]);
    compareWithLog([prologue, neg(r7), neg32(r8), swaps, ret(0)]);
  });
  kernelTest([6, 6], "movsx, bswap", () => {
    const wide = ([8, 16, 32] as const).map((bits) => insn.movsx(r7, r8, bits));
    const narrow = ([8, 16] as const).map((bits) => insn.movsx32(r8, r9, bits));
    const swaps = ([16, 32, 64] as const).map((bits) => insn.bswap(r7, bits));
    compareWithLog([prologue, wide, narrow, swaps, ret(0)]);
  });
});

describe("memory", () => {
  kernelTest([4, 20], "ldx, stx, st", () => {
    const types = [u8, u16, u32, u64];
    compareWithLog([
      prologue,
      types.map((type) => [ldx(r1, at(fp, -8, type)), stx(at(fp, -16, type), r7), st(at(fp, -24, type), -2)]),
      mov(r2, fp),
      add(r2, -40),
      types.map((type) => [st(at(r2, 8, type), 127), ldx(r1, at(r2, 8, type))]),
      ldx(r1, at(r6, u32)),
      stx(at(fp, -40, u64), fp),
      ret(0),
    ]);
  });
  kernelTest([6, 6], "ldxsx", () => {
    compareWithLog([prologue, [s8, s16, s32].map((type) => ldxsx(r1, at(fp, -8, type))), ret(0)]);
  });
  kernelTest([4, 20], "ldAbs, ldInd", () => {
    const widths = [1, 2, 4] as const;
    compareWithLog([
      prologue,
      widths.map((width) => [ldAbs(width, 14 - width), ldInd(width, r7, width)]),
      exit(),
    ]);
    compareWithLog([prologue, ldAbs(4, -0x1000), ldInd(2, r7, -2), exit()]);
  });
  for (const [name, { imm }] of Object.entries(atomicOps)) {
    kernelTest(imm === 0 ? [4, 20] : ATOMICS, name, () => {
      const make = constructor<typeof insn.atomicAdd>(name);
      compareWithLog([prologue, make(at(fp, -8, u64), r7), make(at(fp, -16, u32), r8), ret(0)]);
    });
  }
});

describe("control flow", () => {
  for (const name of Object.keys(jumpOps)) {
    for (const mnemonic of [name, `${name}32`]) {
      kernelTest(mnemonic.endsWith("32") ? JMP32 : [4, 20], mnemonic, () => {
        const make = constructor<typeof insn.jeq>(mnemonic);
        for (const source of [r8, 10, -10]) {
          const over = label("over"), end = label("end");
          compareWithLog([
            prologue,
            make(r7, source, over),
            mov(r9, 1),
            over,
            make(r7, r8, end),
            neg(r9),
            end,
            ret(0),
          ]);
        }
      });
    }
  }
  kernelTest([5, 3], "back over a bounded loop, ja", () => {
    const top = label("top"), over = label("over");
    compareWithLog([mov(r0, 0), ja(over), over, top, add(r0, 1), jlt(r0, 3, top), exit()]);
  });
  kernelTest([6, 6], "gotol", () => {
    const end = label("end"), start = label("start");
    compareWithLog([mov(r0, 0), gotol(end), start, exit(), end, gotol(start)]);
  });
  kernelTest([4, 20], "local functions", () => {
    const double = label("double");
    compareWithLog([mov(r1, 4), callLocal(double), exit(), double, mov(r0, r1), add(r0, r1), exit()]);
  });
  kernelTest([6, 2], "kernel functions", () => {
    const id = (name: string) => findKernelType(FUNC, (type) => type.name === name).id;
    const lock = "bpf_rcu_read_lock", unlock = "bpf_rcu_read_unlock";
    compareWithLog([callKfunc(lock, id(lock)), callKfunc(unlock, id(unlock)), ret(0)]);
  });
});

describe("wide loads", () => {
  kernelTest([4, 20], "numbers", () => {
    const values = [0, 1, -1, 2 ** 31, 0x1122334455667788n, 2n ** 63n, 2n ** 64n - 1n];
    compareWithLog([values.map((value) => lddw(r1, value)), ret(0)]);
  });
  kernelTest([5, 8], "maps", () => {
    compareWithLog([ldMap(r1, events), ldMapValue(r1, stats), ldMapValue(r2, stats, 8), ret(0)]);
  });
  const hasVariables = / runqueues$/m.test(readFileSync("/proc/kallsyms", "utf8"));
  kernelTest([5, 10], "kernel variables, with CONFIG_KALLSYMS_ALL", () => {
    const { id } = findKernelType(VAR, ({ name }) => name === "runqueues");
    compareWithLog([ldBtfVariable(r1, id), ret(0)]);
  }, hasVariables);
});

kernelTest([6, 6], "random arithmetic and jumps", () => {
  const random = randomFrom(2),
    numbers = Array.from({ length: 10 }, (_, number) => new insn.Register(number));
  let compared = 0;
  for (let program = 0; program < 60; program++) {
    const code: Code[] = [];
    while (code.length < 40) {
      const made = randomInsn(random), cls = made.opcode & 0x07, wide = made.opcode === 0x18;
      const scalar = wide || ((cls === 0x04 || cls === 0x07) && made.src < 10);
      const conditional = (cls === 0x05 || cls === 0x06) && made.target !== undefined && made.opcode > 0x10;
      const jumps = conditional && made.opcode !== 0x85 && made.src < 10 && made.dst < 10;
      const end = label("end");
      if (jumps && random(4) === 0) code.push([{ ...made, target: end }, mov(r9, r0), end]);
      else if (scalar) code.push(made);
    }
    const start = [prologue, numbers.slice(1, 7).map((register) => mov(register, r0))];
    compared += compareWithLog([start, code, ret(0)], { everyLine: false });
  }
  expect(compared).toBeGreaterThan(60 * 40);
});
