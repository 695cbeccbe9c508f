/** BTF of our own functions, to the byte. That the kernel takes it: tests/kernel/program_btf.test.ts. */
import { describe, expect, test } from "bun:test";
import { assemble } from "../../asm/assemble.ts";
import { label } from "../../asm/code.ts";
import { AssemblyError } from "../../asm/errors.ts";
import { callLocal, exit, lddw, r1, ret } from "../../asm/insn.ts";
import { programBtf } from "../../asm/program_btf.ts";

const each = label("each"), last = label("last");
const { labels } = assemble([lddw(r1, 0), callLocal(each), exit(), each, ret(0), last, ret(1)]);

test("an entry and a callback", () => {
  const { btf, funcInfo, funcInfoRecSize } = programBtf(
    [{ name: "main", parameters: 1 }, { name: "each", parameters: 2, entry: each }],
    labels,
  );
  const u64 = "01000000 00000001 08000000 40000000"; // name 1, kind 1, 8 bytes, 64 bits
  const mainProto = "00000000 0100000d 01000000 05000000 01000000"; // 1 argument, kind 13, u64; a1 u64
  const main = "08000000 0100000c 02000000"; // global, kind 12, type 2
  const eachProto = "00000000 0200000d 01000000 05000000 01000000 0d000000 01000000"; // a1, a2
  const eachFunc = "10000000 0000000c 04000000"; // static, type 4
  const types = u64 + mainProto + main + eachProto + eachFunc;
  const strings = new TextEncoder().encode("\0u64\0a1\0main\0a2\0each\0").toHex();
  const header = "9feb 01 00 18000000 00000000 58000000 58000000 15000000";
  expect(btf.toHex()).toBe((header + types).replaceAll(" ", "") + strings);
  expect(funcInfo.toHex()).toBe("00000000" + "03000000" + "04000000" + "05000000");
  expect(funcInfoRecSize).toBe(8);
});

test("functions are listed by place, whatever their order", () => {
  const { funcInfo } = programBtf(
    [
      { name: "last", parameters: 0, entry: last },
      { name: "each", parameters: 0, entry: each },
      { name: "main", parameters: 0 },
    ],
    labels,
  );
  expect([...new Uint32Array(funcInfo.buffer)]).toEqual([0, 3, 4, 5, 6, 7]);
});

describe("refused", () => {
  // deno-fmt-ignore
  test.each<[message: string, build: () => unknown]>([
    ["Label is never placed: function lost", () => programBtf([{ name: "lost", parameters: 0, entry: label("lost") }], labels)],
    ['Function name is no C identifier: "each frame"', () => programBtf([{ name: "each frame", parameters: 0 }], labels)],
    ['Function name is no C identifier: ""', () => programBtf([{ name: "", parameters: 0 }], labels)],
    ['Function name is no C identifier: "1st"', () => programBtf([{ name: "1st", parameters: 0 }], labels)],
  ])("%s", (message, build) => {
    expect(build).toThrow(new AssemblyError(message));
  });
});
