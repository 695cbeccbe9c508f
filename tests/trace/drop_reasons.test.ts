/** Names of drop reasons: the core's, and those of subsystems in modules that come later than the tracer. */
import { describe, expect, test } from "bun:test";
import { loadKernelBtf } from "../../lib/btf/load.ts";
import { type Btf, parseBtf } from "../../lib/btf/parse.ts";
import { BtfTypes } from "../../lib/btf/types.ts";
import { DropReasons, type ModuleTypes } from "../../lib/trace/drop_reasons.ts";
import { BtfBuilder } from "../btf/builder.ts";

const MAC80211 = 1 << 16, OPENVSWITCH = 3 << 16;

function kernel({ builtIn = false, reasons = true } = {}): Btf {
  const blob = new BtfBuilder(), skb = blob.ptr(blob.struct("sk_buff", 8, []));
  const int = blob.int("int", 4);
  const reason = !reasons ? int : blob.enum("skb_drop_reason", [
    ["SKB_NOT_DROPPED_YET", 0],
    ["SKB_DROP_REASON_NO_SOCKET", 3],
    ["SKB_DROP_REASON_SUBSYS_MASK", 0xffff0000],
  ]);
  if (reasons) {
    blob.enum("skb_drop_reason_subsys", [
      ["SKB_DROP_REASON_SUBSYS_CORE", 0],
      ["SKB_DROP_REASON_SUBSYS_MAC80211_UNUSABLE", 1],
      ["SKB_DROP_REASON_SUBSYS_OPENVSWITCH", 3],
      ["SKB_DROP_REASON_SUBSYS_NUM", 4],
    ]);
  }
  blob.func("kfree_skb_reason", [["skb", skb], ["reason", reason]]);
  blob.func("sk_skb_reason_drop", [["sk", skb], ["skb", skb], ["reason", blob.const(reason)]]);
  blob.func("skb_release_data", [["skb", skb], ["reason", reason]]);
  blob.func("kfree_skb", [["skb", skb]]);
  if (builtIn) blob.enum("mac80211_drop_reason", [["RX_DROP_U_MIC_FAIL", MAC80211 + 1]]);
  return parseBtf(blob.build());
}

function module(base: Btf, name: string, build: (blob: BtfBuilder) => void): Btf {
  const blob = new BtfBuilder(base);
  build(blob);
  return parseBtf(blob.build(), { base, name });
}

/** Modules by name, and which of them were read. */
function modulesOf(base: Btf, all: Record<string, (blob: BtfBuilder) => void>) {
  const read: string[] = [];
  const types: ModuleTypes = {
    names: () => Object.keys(all),
    load(name) {
      read.push(name);
      const build = all[name];
      return build === undefined ? undefined : module(base, name, build);
    },
  };
  return { read, types };
}

const openvswitch = (blob: BtfBuilder) =>
  void blob.enum("ovs_drop_reason", [["__OVS_DROP_REASON", OPENVSWITCH], [
    "OVS_DROP_METER",
    OPENVSWITCH + 6,
  ]]);
const unrelated = (blob: BtfBuilder) => {
  blob.enum("flags", [["MASK", OPENVSWITCH + 6]]);
  blob.enum("other_drop_reason", [["OTHER", 2 << 16 | 6]]);
};

describe("names", () => {
  test("of the core, without a look at modules", () => {
    const btf = kernel(), { read, types } = modulesOf(btf, { openvswitch });
    const reasons = new DropReasons(new BtfTypes(btf), types);
    expect([reasons.get(3), reasons.get(77), reasons.get(0)]).toEqual([
      "SKB_DROP_REASON_NO_SOCKET",
      undefined,
      "SKB_NOT_DROPPED_YET",
    ]);
    expect(read).toEqual([]);
  });

  test("of a module, which is read once, and first the one that has the subsystem's name", () => {
    const btf = kernel(), { read, types } = modulesOf(btf, { aaa: unrelated, openvswitch, zzz: unrelated });
    const reasons = new DropReasons(new BtfTypes(btf), types);
    expect([reasons.get(OPENVSWITCH + 6), reasons.get(OPENVSWITCH + 6), reasons.get(OPENVSWITCH + 7)])
      .toEqual(["OVS_DROP_METER", "OVS_DROP_METER", undefined]);
    expect(read).toEqual(["openvswitch"]);
  });

  test("of a module with another name; a number that is like it in another enum is not taken", () => {
    const btf = kernel(), { read, types } = modulesOf(btf, { aaa: unrelated, custom: openvswitch });
    expect(new DropReasons(new BtfTypes(btf), types).get(OPENVSWITCH + 6)).toBe("OVS_DROP_METER");
    expect(read).toEqual(["aaa", "custom"]);
  });

  test("of a subsystem that is built in", () => {
    const btf = kernel({ builtIn: true }), { read, types } = modulesOf(btf, { openvswitch });
    expect(new DropReasons(new BtfTypes(btf), types).get(MAC80211 + 1)).toBe("RX_DROP_U_MIC_FAIL");
    expect(read).toEqual([]);
  });

  test("none: the module is gone, or there is no such subsystem", () => {
    const btf = kernel(), types: ModuleTypes = { names: () => ["openvswitch"], load: () => undefined };
    const reasons = new DropReasons(new BtfTypes(btf), types);
    expect([reasons.get(OPENVSWITCH + 6), reasons.get(9 << 16 | 1)]).toEqual([undefined, undefined]);
  });
});

describe("which argument is a reason", () => {
  const table = { kfree_skb_reason: 2, sk_skb_reason_drop: 3, kfree_skb: 0, skb_release_data: 0, nothing: 0 };

  test("by the types", () => {
    const btf = kernel(), reasons = new DropReasons(new BtfTypes(btf), modulesOf(btf, {}).types);
    const found = Object.keys(table).map((func) => [func, reasons.argumentOf(func) ?? 0]);
    expect(Object.fromEntries(found)).toEqual(table);
  });

  test("none on a kernel without reasons", () => {
    const btf = kernel({ reasons: false }),
      reasons = new DropReasons(new BtfTypes(btf), modulesOf(btf, {}).types);
    expect([reasons.size, reasons.argumentOf("kfree_skb_reason"), reasons.get(3)]).toEqual([
      0,
      undefined,
      undefined,
    ]);
  });

  test("of this very kernel's functions", () => {
    const types = new BtfTypes(loadKernelBtf()),
      reasons = new DropReasons(types, { names: () => [], load: () => undefined });
    const known = ["kfree_skb_reason", "sk_skb_reason_drop", "kfree_skb_list_reason", "tcp_drop_reason"];
    const here = known.filter((func) => types.functionId(func) !== undefined);
    const arguments_ = here.map((func) => reasons.argumentOf(func));
    expect(arguments_).toEqual(here.map((func) => /^(sk_skb|tcp)_/.test(func) ? 3 : 2));
    expect(here.length > 0).toBe(reasons.size > 0);
  });
});
