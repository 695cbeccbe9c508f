import { expect, test } from "bun:test";
import { parseBtf } from "../../lib/btf/parse.ts";
import { enumArgument, pointerArgument, rawTracepoint, rawTracepoints } from "../../lib/btf/tracepoints.ts";
import { BtfBuilder } from "./builder.ts";

const b = new BtfBuilder();
const int = b.int("int", 4),
  skb = b.ptr(b.const(b.struct("sk_buff", 0, []))),
  sock = b.ptr(b.struct("sock", 0, []));
const reason = b.enum("skb_drop_reason", [["SKB_NOT_DROPPED_YET", 0]]), data = b.ptr(0);
// as the kernel declares it: the typedef's prototype has types only, the iterator function has names
const dropped: [string, number][] = [["", data], ["", sock], ["", skb], ["", b.const(reason)], ["", int]];
b.typedef("btf_trace_kfree_skb", b.ptr(b.proto(0, dropped)));
const names = ["__data", "rx_sk", "skb__nullable", "reason", "len"];
b.func("__traceiter_kfree_skb", dropped.map(([, type], i) => [names[i]!, type]));
b.typedef("btf_trace_plain", b.ptr(b.proto(0, [["", data], ["", skb]])));
b.typedef("btf_trace_kfree_skb", b.ptr(b.proto(0, [])));
b.typedef("btf_trace_no_function", int);
const btf = parseBtf(b.build());

test("arguments come without the private one, named where the kernel knows", () => {
  const { arguments: args } = rawTracepoint(btf, "kfree_skb")!;
  expect(args.map(({ name, typeText }) => `${typeText} ${name}`)).toEqual([
    "struct sock * rx_sk",
    "const struct sk_buff * skb__nullable",
    "const enum skb_drop_reason reason",
    "int len",
  ]);
  expect(args.map(({ pointsTo, enumName, nullable }) => [pointsTo, enumName, nullable])).toEqual([
    ["sock", undefined, false],
    ["sk_buff", undefined, true],
    [undefined, "skb_drop_reason", false],
    [undefined, undefined, false],
  ]);
});

test("the skb and the reason are found by type", () => {
  const found = rawTracepoint(btf, "kfree_skb")!;
  expect(pointerArgument(found, "sk_buff")).toBe(1);
  expect(enumArgument(found, "skb_drop_reason")).toBe(2);
  expect(pointerArgument(found, "net")).toBeUndefined();
  expect(enumArgument(found, "sk_rst_reason")).toBeUndefined();
});

test("each is listed once, and only what is one", () => {
  const all = [...rawTracepoints(btf)];
  expect(all.map(({ name, typeId }) => [name, btf.nameOf(typeId)])).toEqual([
    ["kfree_skb", "btf_trace_kfree_skb"],
    ["plain", "btf_trace_plain"],
  ]);
  expect(all[1]!.arguments[0]!.name).toBe("");
  expect(rawTracepoint(btf, "no_function")).toBeUndefined();
  expect(rawTracepoint(btf, "missing")).toBeUndefined();
});

test("a module's own are found beside those of the kernel", () => {
  const m = new BtfBuilder(btf);
  m.typedef("btf_trace_mine", m.ptr(m.proto(0, [["", data], ["", skb]])));
  const module = parseBtf(m.build(), { base: btf, name: "mod" });
  expect([...rawTracepoints(module)].map(({ name }) => name)).toEqual(["mine"]);
  expect(rawTracepoint(module, "kfree_skb")?.name).toBe("kfree_skb");
});
