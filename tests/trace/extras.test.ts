import { expect, test } from "bun:test";
import { parseBtf } from "../../lib/btf/parse.ts";
import { parseFtraceList } from "../../lib/symbols/ftrace.ts";
import { parseKallsyms } from "../../lib/symbols/kallsyms.ts";
import { symbolText } from "../../lib/symbols/table.ts";
import { findExtras, unseenRemarks } from "../../lib/trace/extras.ts";
import { type FunctionSources, selectFunctions, type TracedFunction } from "../../lib/trace/functions.ts";
import { BtfBuilder } from "../btf/builder.ts";

const b = new BtfBuilder();
const skb = b.ptr(b.struct("sk_buff", 0, [])), int = b.int("int", 4);
for (const name of ["ip_rcv", "kfree_skbmem", "build_skb_around"]) b.func(name, [["skb", skb]]);
b.func("napi_reuse_skb", [["napi", int], ["skb", skb]]);
b.func("skb_copy_header", [["new", skb], ["old", skb]]);
const kernel = parseBtf(b.build());

const list = `ffffffff81000104 ip_rcv
ffffffff81000204 kfree_skbmem
ffffffff81000304 build_skb_around
ffffffff81000404 napi_reuse_skb
ffffffff81000504 fib_table_lookup
ffffffff81000704 skb_copy_header
ffffffff81000604 net_rx_action
ffffffffc0000104 nft_lookup [nf_tables]
ffffffffc0000204 same_name [nf_tables]
ffffffffc0000304 same_name [ip_vs]
`;
const ftraced: FunctionSources = {
  kernel,
  modules: [],
  ftrace: parseFtraceList([Buffer.from(list)], true),
  symbols: () => parseKallsyms([]),
};
const kallsyms: FunctionSources = {
  kernel,
  modules: [],
  symbols: () =>
    parseKallsyms([
      Buffer.from(list.replace(/^(\S+) (\S+)(?: (\S+))?$/gm, (_, address, name, module) =>
        `${address} t ${name}${module === undefined ? "" : `\t${module}`}`)),
    ]),
};

const show = (functions: readonly TracedFunction[]) =>
  functions.map((found) => `${symbolText(found)}/${found.argument}`);
const extras = (sources: FunctionSources, pattern = "", packetless: string[] = [], stacks = false) => {
  const found = findExtras(sources, selectFunctions(sources, pattern), { stacks, packetless });
  const fated = [...found.shown, ...found.unseen].map(({ fate, functions }) =>
    [fate, show(functions)] as const
  );
  const rest = { watched: show(found.watched), packetless: show(found.packetless) };
  const all: Record<string, string[]> = {
    ...Object.fromEntries(fated.filter(([, functions]) => functions.length > 0)),
    ...rest,
  };
  return all;
};

test.each([["ftrace", ftraced], ["kallsyms", kallsyms]])(
  "beginnings and ends among all functions (%s)",
  (_, sources) => {
    expect(extras(sources)).toEqual({
      "ends": ["kfree_skbmem/1", "napi_reuse_skb/2"],
      "takes after": ["skb_copy_header/1"],
      "ends unseen": ["build_skb_around/1"], // traced only by its exact name, and of use all the same
      watched: [],
      packetless: [],
    });
  },
);

test("a function that makes packets begins them where it is asked for", () => {
  expect(extras(kallsyms, "build_skb_around")).toMatchObject({
    "begins": ["build_skb_around/1"],
    "ends unseen": ["kfree_skbmem/1", "napi_reuse_skb/2"],
    "takes after unseen": ["skb_copy_header/1"],
  });
});

test("those that were not asked for are watched unseen", () => {
  expect(extras(ftraced, "ip_rcv|napi_reuse_skb")).toEqual({
    "ends": ["napi_reuse_skb/2"],
    "ends unseen": ["build_skb_around/1", "kfree_skbmem/1"],
    "takes after unseen": ["skb_copy_header/1"],
    watched: [],
    packetless: [],
  });
});

test.each([["ftrace", ftraced], ["kallsyms", kallsyms]])(
  "functions without a packet, of the kernel and its modules (%s)",
  (_, sources) => {
    const names = ["fib_table_lookup", "nft_lookup", "same_name", "fib_table_lookup"];
    expect(extras(sources, "", names)["packetless"]).toEqual([
      "fib_table_lookup/1",
      "nft_lookup[nf_tables]/1",
      "same_name[nf_tables]/1",
      "same_name[ip_vs]/1",
    ]);
  },
);

test("where stacks are followed, the gates are watched that are not shown", () => {
  expect(extras(ftraced, "kfree_skbmem", [], true)["watched"]).toEqual(["net_rx_action/1", "ip_rcv/1"]);
  expect(extras(kallsyms, "", [], true)["watched"]).toEqual(["net_rx_action/1"]);
});

test("a function that has a packet is not probed twice", () => {
  expect(extras(ftraced, "", ["ip_rcv"])["packetless"]).toEqual([]);
  expect(extras(ftraced, "kfree_skbmem", ["ip_rcv"])["packetless"]).toEqual(["ip_rcv/1"]);
});

test("a name that nothing has is refused", () => {
  expect(() => extras(ftraced, "", ["no_such"])).toThrow(
    'Cannot find "no_such" among the functions that can be traced',
  );
});

test("a function that nobody asked to see, and that cannot be probed, is no failure but said", () => {
  expect(unseenRemarks([])).toEqual([]);
  expect(unseenRemarks([{ name: "kfree_skbmem", code: "EINVAL" }, { name: "ip_rcv", code: "EBUSY" }]))
    .toEqual([
      "Packets may be followed beyond their end, or taken for new ones, because these cannot be probed: kfree_skbmem (EINVAL), ip_rcv (EBUSY)",
    ]);
});
