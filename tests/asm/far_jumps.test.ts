/** Programs that are longer than a jump reaches. */
import { describe, expect, test } from "bun:test";
import { assemble } from "../../asm/assemble.ts";
import { type Code, type Insn, items, Label, label } from "../../asm/code.ts";
import { withinReach } from "../../asm/far_jumps.ts";
import { callLocal, exit, ja, jeq, jne, lddw, mov, r1, r2 } from "../../asm/insn.ts";

const filler = (count: number) => Array.from({ length: count }, (_, index) => mov(r1, index));

/** What a machine does with `code` where every jump is taken (or none): the texts of what it passes but `ja`. */
function walk(code: Code, taken: boolean): string[] {
  const list = [...items(code)], texts: string[] = [];
  for (let index = 0, steps = 0; steps < 500_000; steps++) {
    const item = list[index++];
    if (item === undefined) throw new Error("It ran off the end");
    if (item instanceof Label) continue;
    const always = item.text.startsWith("ja ");
    if (!always) texts.push(item.text);
    if (item.text === "exit") return texts;
    if (item.target === undefined || !(always || taken)) continue;
    index = list.indexOf(item.target);
  }
  throw new Error("It does not end");
}

const [start, middle, end] = [label("start"), label("middle"), label("end")];
const rows: readonly (readonly [name: string, code: Code])[] = [
  ["forwards over everything", [jeq(r2, 0, end), filler(100_000), end, exit()]],
  ["by ja, so that what is skipped is reached from elsewhere", [
    jne(r2, 0, middle),
    ja(end),
    filler(40_000),
    middle,
    filler(70_000),
    end,
    exit(),
  ]],
  ["backwards", [
    ja(middle),
    start,
    mov(r2, 1),
    ja(end),
    filler(90_000),
    middle,
    jeq(r2, 0, start),
    end,
    exit(),
  ]],
  ["from everywhere", [Array.from({ length: 50_000 }, () => jeq(r2, 0, end)), filler(5), end, exit()]],
  ["over loads of two slots", [
    jeq(r2, 0, end),
    Array.from({ length: 40_000 }, () => lddw(r1, 1n)),
    end,
    exit(),
  ]],
];

describe.each([...rows])("%s", (_, code) => {
  const near = withinReach(code);
  test("every jump fits", () => {
    expect(() => assemble(code)).toThrow("does not fit 16 bits");
    expect(assemble(near).bytes.length).toBeGreaterThan(0);
  });

  test.each([true, false])("goes where it went, jumps taken: %p", (taken) => {
    expect(walk(near, taken)).toEqual(walk(code, taken));
  });

  test("leaves no dead code", () => {
    const list = [...items(near)];
    const dead = list.filter((item, index) => {
      const before = list[index - 1];
      return !(item instanceof Label) && before !== undefined && !(before instanceof Label) &&
        /^(ja|exit)/.test(before.text);
    });
    const deadBefore = [...items(code)].filter((item, index, all) =>
      !(item instanceof Label) && /^(ja|exit)/.test((all[index - 1] as Insn | undefined)?.text ?? "")
    );
    expect(dead).toEqual(deadBefore);
  });
});

test("a short program comes back as it is", () => {
  const code = [jeq(r2, 0, end), filler(1000), end, exit()];
  expect(withinReach(code)).toBe(code);
});

test("a call reaches far by itself", () => {
  const code = [callLocal(end), filler(40_000), exit(), end, exit()];
  expect([...items(withinReach(code))]).toEqual([...items(code)]);
});
