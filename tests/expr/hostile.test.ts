/** Whatever somebody types or feeds: an answer or a FilterSyntaxError, and soon. */
import { expect, test } from "bun:test";
import { assemble } from "../../asm/assemble.ts";
import { type Code, label } from "../../asm/code.ts";
import { fp, ldx, r6, r7, r8, r9, ret } from "../../asm/insn.ts";
import { at } from "../../asm/insn.ts";
import { u64 } from "../../asm/layout.ts";
import { bulkAccess } from "../../bpf-programs/memory_access.ts";
import { FilterSyntaxError } from "../../lib/errors.ts";
import { compileFilter, skb } from "../../lib/expr/compile.ts";
import { matches } from "../../lib/expr/evaluate.ts";
import { randomFrom } from "../asm/random_insn.ts";
import { exprBtf } from "../fixtures/expr_types.ts";
import { memoryOf } from "./memory.ts";

/** The code of a filter, as the kprobe programs use it on old kernels. */
function code(source: string): Code {
  const miss = label("miss");
  const filter = compileFilter(source, exprBtf, skb);
  return [
    filter.code({
      access: bulkAccess(),
      root: (dst) => ldx(dst, at(fp, -8, u64)),
      registers: [r7, r8, r9],
      temp: -16,
      spill: -112,
      spillBytes: 64,
      failed: miss,
    }, miss),
    ret(1),
    miss,
    ret(0),
  ];
}

/** true: compiled */
function survives(source: string): boolean {
  try {
    assemble(code(source));
    matches(compileFilter(source, exprBtf, skb).tree, memoryOf([]));
    return true;
  } catch (error) {
    if (!(error instanceof FilterSyntaxError)) throw new Error(`${source}: ${error}`, { cause: error });
    if (error.offset < 0 || error.offset + error.length > source.length) {
      throw new Error(`${source}: outside`);
    }
    return false;
  }
}

const pieces = [
  ..."+-*/%&|^~!<>=?:.,()[]{}'\"\\ \t\n;@#$€\0",
  ..."skb -> . len dev words cb head sk tstamp raw [ ] ( ) (u32) (struct iphdr *) sizeof 0 1 0x 'a' && || == << >> ? :"
    .split(" "),
  "(struct sk_buff *)",
  "STATE_OPEN",
  "(s8)",
  "18446744073709551615",
  "skb->len",
  "skb->words[",
  "*(u64 *)",
];

test("random pieces", () => {
  const random = randomFrom(4);
  let compiled = 0;
  for (let i = 0; i < 20_000; i++) {
    const source = Array.from({ length: 1 + random(12) }, () => pieces[random(pieces.length)]).join("");
    if (survives(source)) compiled++;
  }
  expect(compiled).toBeGreaterThan(50);
});

test("random bytes", () => {
  const random = randomFrom(5);
  for (let i = 0; i < 5000; i++) {
    survives(
      String.fromCharCode(...Array.from({ length: random(40) }, () => random(i % 2 === 0 ? 128 : 65536))),
    );
  }
});

test.each<[name: string, source: string]>([
  ["the longest name", `skb->${"x".repeat(4000)}`],
  ["the longest unknown name", "x".repeat(4096)],
  ["the longest number", "9".repeat(4096)],
  ["the longest hexadecimal number", `0x${"f".repeat(4000)}`],
  ["the longest character", `'${"x".repeat(4000)}`],
  ["indices that overflow", "skb->head[0x7fffffffffffffff]"],
  ["indices that overflow twice", "((struct sk_buff *)skb->head)[0xffffffffffffffff].words[3]"],
  ["an element beyond 2 GiB", "((struct sk_buff *)skb->head)[100000000].len"],
  ["before the struct", "((struct sk_buff *)skb->head)[-100000000].len"],
  ["before the root", "skb[-1].len && skb[1].pkt_type"],
])("%s", (_, source) => {
  const start = performance.now();
  survives(source);
  expect(performance.now() - start).toBeLessThan(1000);
});

test("Large expressions use eight slots at most", () => {
  const balanced = (depth: number): string => {
    const next = () => balanced(depth - 1);
    return depth === 0 ? "skb->len" : `(${next()}${"+-*/"[depth % 4]}${next()})`;
  };
  expect(survives(balanced(8))).toBe(true);
  const used = new Set<number>();
  const listing = (part: Code): void => {
    if (Array.isArray(part)) (part as readonly Code[]).forEach(listing);
    else if ("text" in (part as object)) {
      const { text, off } = part as { text: string; off: number };
      if (/^stx \[fp/.test(text)) used.add(off);
    }
  };
  listing(code(balanced(8)));
  expect([...used].sort((a, b) => a - b)).toEqual([-112, -104, -96, -88, -80, -72]);
});

test("One register is enough", () => {
  const miss = label("miss"), { code } = compileFilter("skb->len + skb->mark * skb->len == 5", exprBtf, skb);
  expect(() =>
    assemble([
      code({
        access: bulkAccess(),
        root: (dst) => ldx(dst, at(fp, -8, u64)),
        registers: [r6],
        temp: -16,
        spill: -112,
        spillBytes: 64,
        failed: miss,
      }, miss),
      ret(1),
      miss,
      ret(0),
    ])
  ).not.toThrow();
});
