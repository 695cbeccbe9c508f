/** Labels -> distances, slots -> items, maps -> relocations. */
import { describe, expect, test } from "bun:test";
import { assemble } from "../../asm/assemble.ts";
import { type Code, type Insn, items, label } from "../../asm/code.ts";
import { AssemblyError } from "../../asm/errors.ts";
import {
  add,
  at,
  callLocal,
  exit,
  fp,
  gotol,
  ja,
  jeq,
  jeq32,
  lddw,
  ldFunction,
  ldMap,
  ldMapValue,
  mov,
  neg,
  r0,
  r1,
  r2,
  ret,
  stx,
} from "../../asm/insn.ts";
import { u64 } from "../../asm/layout.ts";
import { slotsToHex } from "./hex.ts";
import { events, stats } from "./insn_rows.ts";

/** `count` one-slot instructions */
function filler(count: number): Code {
  return new Array<Insn>(count).fill(neg(r0));
}

describe("programs", () => {
  const end = label("end"), top = label("top"), double = label("double");
  // deno-fmt-ignore
  test.each<[name: string, code: Code, bytes: string]>([
    ["nothing", [], ""],
    ["one instruction, no list", exit(), "95 00 0000 00000000"],
    ["lists in lists", [[mov(r0, 0), [[]]], [[[exit()]]]], "b7 00 0000 00000000 95 00 0000 00000000"],
    ["a fragment", ret(1), "b7 00 0000 01000000 95 00 0000 00000000"],
    ["forward over two slots of one load", [ja(end), lddw(r1, 1), end, exit()],
      "05 00 0200 00000000 18 01 0000 01000000 00 00 0000 00000000 95 00 0000 00000000"],
    ["back over it", [top, lddw(r1, 1), jeq(r0, 0, top), exit()],
      "18 01 0000 01000000 00 00 0000 00000000 15 00 fdff 00000000 95 00 0000 00000000"],
    ["to itself", [top, ja(top)], "05 00 ffff 00000000"],
    ["to the next one", [ja(end), end, exit()], "05 00 0000 00000000 95 00 0000 00000000"],
    ["two labels at one place", [ja(top), ja(end), top, end, exit()],
      "05 00 0100 00000000 05 00 0000 00000000 95 00 0000 00000000"],
    ["a local function", [callLocal(double), exit(), double, mov(r0, r1), add(r0, r1), exit()],
      "85 10 0000 01000000 95 00 0000 00000000 bf 10 0000 00000000 0f 10 0000 00000000 95 00 0000 00000000"],
    ["its address", [ldFunction(r2, double), exit(), double, exit()],
      "18 42 0000 02000000 00 00 0000 00000000 95 00 0000 00000000 95 00 0000 00000000"],
  ])("%s", (_, code, bytes) => {
    expect(slotsToHex(assemble(code).bytes)).toBe(bytes);
  });

  test("the same code twice gives the same bytes, and equal fragments do not collide", () => {
    const skip = (): Code => {
      const over = label("over");
      return [jeq(r0, 0, over), mov(r0, 1), over];
    };
    const code = [skip(), skip(), exit()];
    expect(assemble(code)).toEqual(assemble(code));
    expect(assemble(code).bytes).toHaveLength(5 * 8);
  });
});

describe("reach of a jump", () => {
  const far = label("far");
  const forward = (jump: Insn, slots: number) => assemble([jump, filler(slots), far, exit()]);
  const backward = (jump: Insn, slots: number) => assemble([far, filler(slots), jump, exit()]);
  const off = (bytes: Uint8Array, slot: number) => new DataView(bytes.buffer).getInt16(slot * 8 + 2, true);
  const imm = (bytes: Uint8Array, slot: number) => new DataView(bytes.buffer).getInt32(slot * 8 + 4, true);

  test("16 bits", () => {
    expect(off(forward(ja(far), 32767).bytes, 0)).toBe(32767);
    expect(off(backward(jeq(r0, r1, far), 32767).bytes, 32767)).toBe(-32768);
  });

  // deno-fmt-ignore
  test.each<[message: string, build: () => unknown]>([
    ["Jump over 32768 slots does not fit 16 bits: ja far", () => forward(ja(far), 32768)],
    ["Jump over -32769 slots does not fit 16 bits: ja far", () => backward(ja(far), 32768)],
    ["Jump over 32768 slots does not fit 16 bits: jeq r0, 0, far", () => forward(jeq(r0, 0, far), 32768)],
    ["Jump over -32769 slots does not fit 16 bits: jeq32 r0, r1, far", () => backward(jeq32(r0, r1, far), 32768)],
  ])("%s", (message, build) => {
    expect(build).toThrow(new AssemblyError(message));
  });

  test("32 bits for gotol, calls and function addresses", () => {
    expect(imm(forward(gotol(far), 40000).bytes, 0)).toBe(40000);
    expect(imm(backward(gotol(far), 40000).bytes, 40000)).toBe(-40001);
    expect(imm(forward(callLocal(far), 40000).bytes, 0)).toBe(40000);
    expect(imm(backward(callLocal(far), 40000).bytes, 40000)).toBe(-40001);
    expect(imm(forward(ldFunction(r1, far), 40000).bytes, 0)).toBe(40001);
    expect(imm(backward(ldFunction(r1, far), 40000).bytes, 40000)).toBe(-40001);
  });
});

describe("labels", () => {
  const end = label("end");
  // deno-fmt-ignore
  test.each<[message: string, item: string, code: Code]>([
    ["Label is never placed: ja end", "ja end", [ja(end), exit()]],
    ["Label is never placed: jeq r0, 0, end", "jeq r0, 0, end", [jeq(r0, 0, end), label("end"), exit()]],
    ["Label is never placed: callLocal end", "callLocal end", [callLocal(end), exit()]],
    ["Label is never placed: ldFunction r2, end", "ldFunction r2, end", [ldFunction(r2, end), exit()]],
    ["Label is placed twice: end", "end", [end, mov(r0, 0), [end, exit()]]],
  ])("%s", (message, item, code) => {
    const build = () => assemble(code);
    expect(build).toThrow(new AssemblyError(message));
    expect(build).toThrow(expect.objectContaining({ item, label: "end" }));
  });

  test("places count slots, not items", () => {
    const start = label("start"), last = label("last");
    const { labels } = assemble([start, lddw(r1, 0), ldMap(r1, events), last]);
    expect(labels).toEqual(new Map([[start, 0], [last, 4]]));
  });
});

test("relocations say which slot takes which map", () => {
  const { relocations, bytes } = assemble([
    mov(r0, 0),
    ldMap(r1, events),
    ldMapValue(r2, stats, 8),
    ldMapValue(r2, stats),
    ldMap(r1, events),
    exit(),
  ]);
  expect(relocations).toEqual([
    { slot: 1, map: events, offset: undefined },
    { slot: 3, map: stats, offset: 8 },
    { slot: 5, map: stats, offset: 0 },
    { slot: 7, map: events, offset: undefined },
  ]);
  expect(relocations[0]?.map).toBe(events);
  for (const { slot } of relocations) {
    expect(bytes.subarray(slot * 8 + 4, slot * 8 + 16)).toEqual(new Uint8Array(12));
  }
});

test("each slot knows its instruction", () => {
  const load = lddw(r1, 1), store = stx(at(fp, -8, u64), r1), done = exit();
  expect(assemble([load, store, done]).insns).toEqual([load, load, store, done]);
});

test("items are in order, however deep they lie", () => {
  const a = mov(r0, 0), b = exit(), place = label("place");
  expect([...items([[a], [[place, []]], b])]).toEqual([a, place, b]);
});
