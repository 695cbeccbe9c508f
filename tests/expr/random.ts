/** Random expressions over struct sk_buff, the same ones for the same seed. */
import { type Random } from "../asm/random_insn.ts";

const atoms = [
  "skb->len",
  "skb->mark",
  "skb->priority",
  "skb->hash",
  "skb->protocol",
  "skb->vlan_tci",
  "skb->pkt_type",
  "skb->ip_summed",
  "skb->cloned",
  "skb->tstamp",
  "skb->users.refs.counter",
  "skb->queue_mapping",
  "skb->dev->ifindex",
  "skb->dev->mtu",
  "skb->dev->name[2]",
  "skb->sk->__sk_common.skc_dport",
  "skb->sk->__sk_common.skc_state",
  "skb->sk->__sk_common.skc_reuse",
  "skb->sk->sk_rcvbuf",
  "skb->sk->sk_socket->type",
  "(u64)skb->head",
  "*(s8 *)skb->cb",
  "*(s16 *)(skb->cb + 2)",
  "*(__be32 *)&skb->cb[4]",
  "*(u64 *)skb->data",
  "((struct iphdr *)skb->head)->ihl",
  "(skb->sk != NULL)",
];
const constants = [
  "0",
  "1",
  "2",
  "7",
  "-1",
  "255",
  "0x80",
  "0xffff",
  "0x7fffffff",
  "0x80000000",
  "4294967295",
];
const wide = ["0x100000000", "-3000000000", "0x7fffffffffffffff", "0x8000000000000000", "5ull", "3l", "9u"];
const types = ["u8", "s8", "u16", "s16", "u32", "s32", "u64", "s64", "bool", "int", "unsigned long"];
const operators = ["+", "-", "*", "/", "%", "&", "|", "^"];
const relations = ["==", "!=", "<", "<=", ">", ">="];

export function randomExpression(random: Random, depth: number): string {
  const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
  const go = () => randomExpression(random, depth - 1);
  if (depth === 0 || random(12) === 0) {
    const kind = random(10);
    return kind < 7 ? pick(atoms) : pick(kind < 9 ? constants : wide);
  }
  const kinds: readonly (() => string)[] = [
    () => `(${go()} ${pick(operators)} ${go()})`,
    () => `(${go()} ${pick(operators)} ${go()})`,
    () => `(${go()} ${pick(operators)} ${go()})`,
    () => `(${go()} ${pick(["<<", ">>"])} ${random(2) === 0 ? random(32) : `(skb->len ^ ${go()})`})`,
    () => `(${go()} ${pick(relations)} ${go()})`,
    () => `(${go()} ${pick(relations)} ${go()})`,
    () => `(${go()} ${pick(["&&", "||"])} ${go()})`,
    () => `${pick(["-", "~", "!", "+"])} ${go()}`,
    () => `(${pick(types)})${go()}`,
    () => `(${go()} ? ${go()} : ${go()})`,
    () => `skb->cb[${go()} & 31]`,
    () => `((${pick(types.slice(0, 8))} *)skb->cb)[${go()} & 3]`,
  ];
  return pick(kinds)();
}
