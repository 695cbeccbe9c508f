/** What expressions are on memory that is written down here. */
import { describe, expect, test } from "bun:test";
import { compileFilter, compileValue, skb } from "../../lib/expr/compile.ts";
import { evaluate, matches } from "../../lib/expr/evaluate.ts";
import { formatResult } from "../../lib/expr/format.ts";
import { exprBtf } from "../fixtures/expr_types.ts";
import { memoryOf, ROOT } from "./memory.ts";

const DEV = 0xffff_8880_0000_2000n, SOCK = 0xffff_8880_0000_3000n, NET = 0xffff_8880_0000_4000n;
const HEAD = 0xffff_8880_0000_5000n;

const memory = memoryOf([
  [ROOT + 16n, 8, DEV],
  [ROOT + 24n, 8, SOCK],
  [ROOT + 32n, 8, -5n],
  [ROOT + 40n, 8, 0x0807_0605_0403_0281n],
  [ROOT + 112n, 4, 1500n],
  [ROOT + 116n, 1, 0xfen],
  [ROOT + 117n, 1, 1n],
  [ROOT + 128n, 4, 0x0000_5d_43n], // pkt_type 3, ip_summed 2, delta -3, kind 5
  [ROOT + 136n, 8, 0xffff_ffff_ffff_fff0n],
  [ROOT + 164n, 4, 0x8000_0010n],
  [ROOT + 168n, 4, 0x0200_4d0an], // 10.77.0.2
  [ROOT + 176n, 2, 0x0008n],
  [ROOT + 192n, 8, HEAD],
  [ROOT + 208n, 8, 0x0000_0002_0000_0001n],
  [ROOT + 216n, 8, 0x0000_0004_0000_0003n],
  [DEV + 56n, 4, 9001n],
  [DEV + 224n, 4, 2n],
  [DEV + 264n, 8, NET],
  [DEV + 280n, 5, 0x30_6874_65n], // "eth0"
  [DEV + 300n, 6, 0x06_05_04_03_02_01n],
  [SOCK + 12n, 2, 0xbb01n],
  [SOCK + 16n, 4, 1n],
  [SOCK + 20n, 2, 0xffffn],
  [NET + 176n, 4, 4026531840n],
  [HEAD, 1, 0x45n],
  [HEAD + 8n, 1, 64n],
  [HEAD + 16n, 4, 0x0200_4d0an],
]);

/** undefined: no value */
test.each<[source: string, value: bigint | undefined, text: string]>([
  ["skb", ROOT, "0xffff888000001000"],
  ["skb->len", 1500n, "1500"],
  ["skb.len", 1500n, "1500"],
  ["(*skb).len", 1500n, "1500"],
  ["skb->small", -2n, "-2"],
  ["skb->flag", 1n, "true"],
  ["skb->tstamp", -5n, "-5"],
  ["skb->skb_mstamp", 0xffff_ffff_ffff_fffbn, "18446744073709551611"],
  ["skb->pkt_type", 3n, "3"],
  ["skb->ip_summed", 2n, "2"],
  ["skb->delta", -3n, "-3"],
  ["skb->kind", 5n, "STATE_SHARED"],
  ["skb->all", 0x5d43n, "23875"],
  ["skb->mark", 0x80000010n, "2147483664"],
  ["skb->protocol", 0x0800n, "2048"],
  ["skb->daddr", 0x0a4d0002n, "172818434"],
  ["skb->daddr >> 24", 10n, "10"],
  ["skb->sk->port", 443n, "443"],
  ["skb->sk->state", 1n, "STATE_OPEN"],
  ["skb->sk->err", -1n, "-1"],
  ["skb->dev->ifindex", 2n, "2"],
  ["skb->dev->nd_net.net->ns.inum", 4026531840n, "4026531840"],
  ["skb->dev", DEV, "0xffff888000002000"],
  ["skb->dev->name[0]", 101n, "101"],
  ["skb->dev->mac", 0x06_05_04_03_02_01n, "[1, 2, 3, 4, 5, 6]"],
  ["skb->dev->nd_net", NET, '{"net": 0xffff888000004000}'],
  ["skb->cb[0]", 0x81n, "129"],
  ["skb->cb[skb->words[1]]", 3n, "3"],
  ["skb->words[skb->pkt_type]", 4n, "4"],
  ["skb->words[1] + skb->words[2]", 5n, "5"],
  ["((u32 *)skb->cb)[1]", 0x08070605n, "134678021"],
  ["*(u16 *)(skb->cb + 1)", 0x0302n, "770"],
  ["*(__be16 *)(skb->cb + 1)", 0x0203n, "515"],
  ["*(s8 *)skb->cb", -127n, "-127"],
  ["((struct iphdr *)skb->head)->ttl", 64n, "64"],
  ["((struct iphdr *)skb->head)->ihl", 5n, "5"],
  ["((struct iphdr *)skb->head)->version", 4n, "4"],
  ["((struct iphdr *)(skb->head + 4))->ttl", 0n, "0"],
  ["((struct iphdr *)skb->head)->daddr == skb->daddr", 1n, "1"],
  ["skb->len + skb->small", 1498n, "1498"],
  ["skb->small > skb->len", 1n, "1"], // -2 as an unsigned int
  ["skb->small < 0", 1n, "1"],
  ["skb->len - 2000", 0xffff_fe0cn, "4294966796"],
  ["skb->len - 2000 < 0", 0n, "0"],
  ["(int)skb->len - 2000", -500n, "-500"],
  ["skb->tstamp / 2", -2n, "-2"],
  ["skb->tstamp % 2", -1n, "-1"],
  ["skb->tstamp >> 1", -3n, "-3"],
  ["skb->wide >> 1", 0x7fff_ffff_ffff_fff8n, "9223372036854775800"],
  ["skb->wide + 16", 0n, "0"],
  ["skb->mark << 1", 0x20n, "32"],
  ["(int)skb->mark >> 4", -0x7ffffffn, "-134217727"],
  ["skb->mark << (skb->len - 1499 + 32)", 0x20n, "32"], // the count modulo 32
  ["~skb->protocol", -0x801n, "-2049"],
  ["-skb->mark", 0x7fff_fff0n, "2147483632"],
  ["skb->len ? skb->mark : skb->small", 0x80000010n, "2147483664"],
  ["skb->len == 1 ? skb->mark : skb->small", 0xffff_fffen, "4294967294"],
  ["(bool)skb->len", 1n, "true"],
  ["(u8)(bool)skb->delta", 1n, "1"],
  ["(u8)skb->len", 0xdcn, "220"],
  ["(s8)skb->len", -36n, "-36"],
  ["skb->cb + 3", ROOT + 43n, "0xffff88800000102b"],
  ["&skb->words[3] - &skb->words[1]", 2n, "2"],
  ["&skb->words[1] - &skb->words[3]", -2n, "-2"],
  ["(enum state)1", 1n, "STATE_OPEN"],
  ["skb->raw", 0n, "0x0"],
  ["skb->hidden == NULL", 1n, "1"],
  ["skb->len / (skb->len - 1500)", undefined, ""],
  ["*(u8 *)skb->raw", undefined, ""],
  ["((struct iphdr *)skb->raw)->ttl == 0", undefined, ""],
  ["!((struct iphdr *)skb->raw)->ttl", undefined, ""],
  ["((struct iphdr *)(skb->raw + 4))->ttl", undefined, ""],
  ["skb->raw && *(u8 *)skb->raw", 0n, "0"],
  ["!skb->raw || *(u8 *)skb->raw", 1n, "1"],
  ["skb->raw ? *(u8 *)skb->raw : 7", 7n, "7"],
  ["*(u32 *)0x10", 0n, "0"], // nothing there
])("%s", (source, value, text) => {
  const { tree } = compileValue(source, exprBtf, skb);
  const got = evaluate(tree, memory);
  expect(got).toBe(value as bigint);
  if (got !== undefined) expect(formatResult(exprBtf, tree.type, got)).toBe(text);
});

describe("a filter", () => {
  test.each<[source: string, match: boolean]>([
    ["skb->protocol == 0x0800", true],
    ["skb->protocol == 8", false],
    ["skb->protocol = 0x0800", true],
    ["skb->dev->ifindex == 2 && skb->len > 500", true],
    ["skb->dev->ifindex == 2 && skb->len > 1500", false],
    ["skb->mark == 0x80000010", true],
    ["skb->mark > 0x80000000", true],
    ["skb->small == -2", true],
    ["skb->sk->state == STATE_OPEN", true],
    ["skb->kind == STATE_SHARED", true],
    ["skb->tstamp", true],
    ["skb->raw", false],
    ["skb", true],
    ["((struct iphdr *)skb->raw)->ttl == 0", false], // NULL on the way
    ["!(((struct iphdr *)skb->raw)->ttl == 1)", false],
    ["skb->len / (skb->len - 1500) == 0", false],
    ["skb->len == 1500 || skb->len / (skb->len - 1500) == 0", true],
  ])("%s: %p", (source, match) => {
    expect(matches(compileFilter(source, exprBtf, skb).tree, memory)).toBe(match);
  });
});
