import { expect, test } from "bun:test";
import { parseBtf } from "../../lib/btf/parse.ts";
import { mapOperationOf } from "../../lib/trace/map_operations.ts";
import { BtfBuilder } from "../btf/builder.ts";

const b = new BtfBuilder();
const map = b.ptr(b.struct("bpf_map", 0, [])), other = b.ptr(b.struct("sk_buff", 0, []));
const bytes = b.ptr(0), number = b.int("u64", 8);
b.func("htab_map_update_elem", [["map", map], ["key", bytes], ["value", bytes], ["flags", number]]);
b.func("htab_map_delete_elem", [["map", map], ["key", bytes]]);
b.func("trie_lookup_elem", [["map", map], ["_key", bytes]]);
b.func("htab_lru_map_lookup_elem", [["map", map], ["key", bytes]]);
b.func("__htab_map_lookup_elem", [["map", map], ["key", bytes]]);
b.func("bpf_map_lookup_elem", [["map", number], ["key", number]]); // BPF_CALL_2
b.func("bpf_map_push_elem", [["map", number], ["value", number], ["flags", number]]);
b.func("queue_map_pop_elem", [["map", map], ["value", bytes]]);
b.func("dev_map_redirect", [["map", map], ["ifindex", number], ["flags", number]]);
b.func("bpf_xdp_redirect_map", [["map", number], ["key", number], ["flags", number]]);
b.func("bpf_redirect", [["ifindex", number], ["flags", number]]);
b.func("skb_clone", [["skb", other], ["key", bytes]]);
b.func("nothing", []);
const btf = parseBtf(b.build());

test.each([
  ["htab_map_update_elem", { key: 2, value: 3 }],
  ["htab_map_delete_elem", { key: 2 }],
  ["trie_lookup_elem", { key: 2, result: "value" }],
  ["htab_lru_map_lookup_elem", { key: 2, result: "value" }],
  ["__htab_map_lookup_elem", { key: 2, result: "element" }],
  ["bpf_map_lookup_elem", { key: 2, result: "value" }],
  ["bpf_map_push_elem", { value: 2 }],
  ["queue_map_pop_elem", {}], // nothing is in it yet
  ["dev_map_redirect", {}],
  ["bpf_xdp_redirect_map", {}], // its key is a number and points nowhere
  ["bpf_redirect", undefined],
  ["skb_clone", undefined],
  ["nothing", undefined],
  ["unknown", undefined],
])("%s", (name, operation) => {
  expect(mapOperationOf(btf, name)).toEqual(operation as object);
});
