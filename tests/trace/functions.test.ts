import { describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { BTF_DIRECTORY, loadKernelBtf } from "../../lib/btf/load.ts";
import { parseBtf } from "../../lib/btf/parse.ts";
import { UnsupportedError, UsageError } from "../../lib/errors.ts";
import { parseFtraceList } from "../../lib/symbols/ftrace.ts";
import { parseKallsyms } from "../../lib/symbols/kallsyms.ts";
import { symbolText } from "../../lib/symbols/table.ts";
import { type FunctionSources, readFunctionSources, selectFunctions } from "../../lib/trace/functions.ts";
import { skbFunctions } from "../../lib/trace/skb_functions.ts";
import { BtfBuilder } from "../btf/builder.ts";

const b = new BtfBuilder();
const int = b.int("int", 4),
  struct = b.struct("sk_buff", 0, []),
  skb = b.ptr(struct),
  constSkb = b.ptr(b.const(struct));
const tagged = b.ptr(b.add("TYPE_TAG", "rcu", struct)),
  alias = b.typedef("skb_t", skb),
  list = b.ptr(b.struct("list", 8, []));
const wide = b.struct("wide", 16, []),
  pointerPointer = b.ptr(skb),
  other = b.ptr(b.struct("__sk_buff", 0, []));
const functions: [name: string, types: number[]][] = [
  ["first", [skb]],
  ["third", [int, list, skb]],
  ["fifth", [int, int, int, int, skb]],
  ["sixth", [int, int, int, int, int, skb]],
  ["twice", [skb, int, skb]],
  ["constant", [constSkb]],
  ["tag", [int, tagged]],
  ["typedefs", [alias]],
  ["behind_wide", [wide, skb]],
  ["double_pointer", [pointerPointer]],
  ["user_skb", [other]],
  ["nothing", []],
  ["notrace_function", [skb]],
  ["__pim_rcv", [list, skb]],
  ["cloned", [skb]],
  ["in_parts", [skb]],
  ["many", [skb]],
  ["no_symbol", [skb]],
  ["__bpf_trace_x", [skb]],
  ["freed_init", [skb]],
  ["build_skb_around", [skb]],
  ["__skb_clone", [skb, skb]],
  ["__skb_wait_for_more_packets", [list, constSkb]],
  ["repeated", [skb]],
  ["repeated", [skb]],
  ["contradictory", [skb]],
  ["contradictory", [int, skb]],
];
for (const [name, types] of functions) b.func(name, types.map((type, i) => [`p${i}`, type]));
const kernel = parseBtf(b.build());
const m = new BtfBuilder(kernel);
m.func("mod_rcv", [["dev", int], ["skb", skb]]);
m.func("mod_own", [["skb", m.ptr(struct)]]);
m.func("first", [["skb", skb]]);
const module = parseBtf(m.build(), { base: kernel, name: "mod" });

const kallsyms = `ffffffff81000000 T _text
ffffffff81000100 T first
ffffffff81000200 T third
ffffffff81000300 t fifth
ffffffff81000400 T sixth
ffffffff81000500 T twice
ffffffff81000600 T constant
ffffffff81000700 T tag
ffffffff81000800 T typedefs
ffffffff81000900 T behind_wide
ffffffff81000a00 t notrace_function
ffffffff81000b00 t __pim_rcv.constprop.0
ffffffff81000c00 t cloned.isra.0
ffffffff81000d00 t cloned.constprop.0.isra.0
ffffffff81000e00 t in_parts.part.0
ffffffff81000f00 t many
ffffffff81001000 t many
ffffffff81001100 t __bpf_trace_x
ffffffff81001200 T repeated
ffffffff81001280 T build_skb_around
ffffffff810012c0 t __skb_clone
ffffffff812d0000 T __skb_wait_for_more_packets
ffffffff81001300 T contradictory
ffffffff81002000 T _sinittext
ffffffff81002100 t freed_init
ffffffff81003000 T _einittext
ffffffff81004000 T nothing
ffffffff81005000 T not_in_btf
ffffffffc0000100 t mod_rcv\t[mod]
ffffffffc0000200 t mod_own\t[mod]
ffffffffc0000300 t first\t[mod]
ffffffffc0000400 t stranger\t[other]
`;
const untraceable = /notrace_function|__bpf_trace_x|freed_init|_text|inittext|nothing$/;
const traceable = [...kallsyms.matchAll(/^(\w+) \w (\S+)(?:\t(\S+))?$/gm)]
  .filter(([, , name]) => !untraceable.test(name!));
const ftraceNames = traceable.map(([, , name, mod]) => name + (mod ? ` ${mod}` : "")).join("\n") +
  "\nno_symbol\n";
const ftraceAddresses = traceable.map(([, address, name, mod]) =>
  `${(BigInt(`0x${address}`) + 4n).toString(16)} ${name}${mod ? ` ${mod}` : ""}`
).join("\n");

const symbols = () => parseKallsyms([Buffer.from(kallsyms)]);
const fail = () => {
  throw new UnsupportedError("kallsyms must not be read here");
};
const planA: FunctionSources = {
  kernel,
  modules: [module],
  ftrace: parseFtraceList([Buffer.from(ftraceAddresses)], true),
  symbols: fail,
};
const planB: FunctionSources = {
  kernel,
  modules: [module],
  ftrace: parseFtraceList([Buffer.from(ftraceNames)], false),
  symbols,
};
const planC: FunctionSources = { kernel, modules: [module], symbols };
const show = (sources: FunctionSources, pattern?: string) =>
  selectFunctions(sources, pattern).functions.map((found) => `${symbolText(found)}/${found.argument}`);

test("the first skb among five parameters counts, whatever is const", () => {
  expect(skbFunctions(kernel).map(({ name, argument }) => `${name}/${argument}`)).toEqual([
    "first/1",
    "third/3",
    "fifth/5",
    "twice/1",
    "constant/1",
    "tag/2",
    "typedefs/1",
    "behind_wide/undefined",
    "notrace_function/1",
    "__pim_rcv/2",
    "cloned/1",
    "in_parts/1",
    "many/1",
    "no_symbol/1",
    "__bpf_trace_x/1",
    "freed_init/1",
    "build_skb_around/1",
    "__skb_clone/1",
    "__skb_wait_for_more_packets/2",
    "repeated/1",
    "contradictory/undefined",
  ]);
  expect(skbFunctions(module).map(({ name, module, argument }) => `${name} ${module} ${argument}`)).toEqual([
    "mod_rcv mod 2",
    "mod_own mod 1",
    "first mod 1",
  ]);
});

const everywhere = [
  "first/1",
  "third/3",
  "fifth/5",
  "twice/1",
  "constant/1",
  "tag/2",
  "typedefs/1",
  "__pim_rcv.constprop.0/2",
  "many/1",
  "many/1",
];
const inModule = ["mod_rcv[mod]/2", "mod_own[mod]/1", "first[mod]/1"];

test("a blob in which everything is a packet is refused, not walked for minutes", () => {
  const b = new BtfBuilder(), struct = b.struct("sk_buff", 0, []);
  for (let i = 0; i < 100_000; i++) b.const(struct);
  expect(() => skbFunctions(parseBtf(b.build()))).toThrow("over 200 of its types are one type");
});

test("plan A: ftrace's addresses, kallsyms untouched", () => {
  const selection = selectFunctions(planA);
  expect(show(planA)).toEqual([...everywhere, "repeated/1", ...inModule]);
  expect(selection).toMatchObject({
    plan: "ftrace addresses",
    recordAddresses: true,
    found: 21,
    skipped: { untraceable: 5, ambiguous: 1, displaced: 2, unknownAddress: 0 },
  });
  expect(selection.functions[0]).toEqual({ name: "first", address: 0xffffffff81000104n, argument: 1 });
});

test("plan B: ftrace's names at kallsyms' addresses", () => {
  const selection = selectFunctions(planB);
  expect(show(planB)).toEqual([...everywhere, "repeated/1", ...inModule]);
  expect(selection).toMatchObject({
    plan: "ftrace names and kallsyms",
    recordAddresses: false,
    skipped: { untraceable: 4, ambiguous: 1, displaced: 2, unknownAddress: 1 },
  });
  expect(selection.functions.at(-1)).toEqual({
    name: "first",
    module: "mod",
    address: 0xffffffffc0000300n,
    argument: 1,
  });
  expect(selection.functions.filter(({ name }) => name === "many").map(({ address }) => address)).toEqual([
    0xffffffff81000f00n,
    0xffffffff81001000n,
  ]);
});

test("plan B: without modules the kernel's own text is enough", () => {
  const sources = { ...planB, modules: [], symbols: fail, text: symbols };
  expect(show(sources)).toEqual([...everywhere, "repeated/1"]);
  expect(() => selectFunctions({ ...sources, modules: [module] })).toThrow("kallsyms must not be read here");
});

test("plan C: all that kallsyms knows, less what is notrace or freed for certain", () => {
  const selection = selectFunctions(planC);
  expect(show(planC)).toEqual([
    ...everywhere.slice(0, 7),
    "notrace_function/1",
    ...everywhere.slice(7),
    "repeated/1",
    ...inModule,
  ]);
  expect(selection).toMatchObject({
    plan: "kallsyms",
    skipped: { untraceable: 4, ambiguous: 1, displaced: 2, unknownAddress: 0 },
  });
});

test("without the module none of its functions, though of the same name", () => {
  expect(show({ ...planA, modules: [] }, "first|mod_.*")).toEqual(["first/1"]);
});

test("two names of one address are attached once", () => {
  const aliases = () => parseKallsyms([Buffer.from("ffffffff81000100 T first\nffffffff81000100 T twice\n")]);
  expect(show({ kernel, modules: [], symbols: aliases })).toEqual(["first/1"]);
});

test("hidden addresses are an error", () => {
  const hidden = () => parseKallsyms([Buffer.from("0000000000000000 T first\n")]);
  expect(() => selectFunctions({ ...planB, symbols: hidden })).toThrow(UnsupportedError);
});

describe("--filter-func", () => {
  test("matches whole names, of which the compiler's suffix is no part", () => {
    expect(show(planA, "f.*")).toEqual(["first/1", "fifth/5", "first[mod]/1"]);
    expect(show(planA, "[i]rs")).toEqual([]);
    expect(show(planA, "__pim_rcv")).toEqual(["__pim_rcv.constprop.0/2"]);
    expect(selectFunctions(planA, "many|third").found).toBe(2);
  });
  test("where there may be no packet is traced only by its exact name", () => {
    expect(show(planA, "build_skb.*|__skb_c.*")).toEqual([]);
    expect(show(planA, "build_skb_around")).toEqual(["build_skb_around/1"]);
    expect(show(planA, "__skb_clone")).toEqual(["__skb_clone/1"]);
    expect(show(planA, "__skb_wait.*")).toEqual([]);
    expect(show(planA, "__skb_wait_for_more_packets")).toEqual(["__skb_wait_for_more_packets/2"]);
  });
  test.each<[name: string, why: string]>([
    ["frist", "there is no such function; did you mean first"],
    ["zzzzzzzzz", "there is no such function"],
    ["nothing", "it takes no struct sk_buff *"],
    ["double_pointer", "it takes no struct sk_buff *"],
    ["sixth", "its struct sk_buff * is parameter 6, only the first 5 can be read"],
    ["behind_wide", "its skb is not passed in the register of its position"],
    [
      "notrace_function",
      "ftrace does not list it, so it is inlined, renamed by the compiler or marked notrace",
    ],
    ["not_in_btf", "the kernel's BTF does not describe it"],
    ["stranger", "it is in module other; add --kmods other"],
  ])("%s alone is refused", (name, why) => {
    expect(() => selectFunctions(planB, name)).toThrow(new UsageError(`Cannot trace "${name}": ${why}`));
  });
  test("without symbols the reason is less exact", () => {
    expect(() => selectFunctions(planA, "frist")).toThrow("there is no such function; did you mean first");
    expect(() => selectFunctions(planC, "in_parts")).toThrow("it is not among the kernel's symbols");
  });
  test("an expression that finds nothing is no error here", () => {
    expect(selectFunctions(planA, "zzz.*")).toMatchObject({ functions: [], found: 0 });
  });
  test("what is no expression is", () => {
    expect(() => selectFunctions(planA, "(")).toThrow(UsageError);
  });
});

describe.skipIf(!existsSync(`${BTF_DIRECTORY}/vmlinux`))(
  "the running kernel (5.2, CONFIG_DEBUG_INFO_BTF)",
  () => {
    test("has functions to trace, or says why it hides them", () => {
      const kernel = loadKernelBtf();
      expect(skbFunctions(kernel).length).toBeGreaterThan(500);
      try {
        const { functions, found, skipped } = selectFunctions(readFunctionSources({ kernel }));
        expect(functions.length).toBeGreaterThan(found / 2);
        expect(functions.some(({ name, argument }) => name === "ip_rcv" && argument === 1)).toBe(true);
        expect(skipped.displaced).toBe(0);
        expect(new Set(functions.map(({ address }) => address)).size).toBe(functions.length);
      } catch (error) {
        if (!(error instanceof UnsupportedError)) throw error;
        expect(error.hint).toBeDefined();
      }
    });
  },
);
