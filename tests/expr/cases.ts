/**
 * Expressions whose members exist on every kernel from 5.10 on. What they evaluate to depends on the memory
 * they are run on; that all ways of running them agree is the test.
 */
import { skb, xdp } from "../../lib/expr/compile.ts";
import type { Root } from "../../lib/expr/compile.ts";

/** Values that give the expressions below something to find. */
export const planted: readonly (readonly [place: string, value: bigint])[] = [
  ["skb->len", 1500n],
  ["skb->data_len", 0n],
  ["skb->mark", 0x80000010n],
  ["skb->priority", 0xffffffffn],
  ["skb->protocol", 0x0800n],
  ["skb->vlan_proto", 0x8100n],
  ["skb->pkt_type", 3n],
  ["skb->ip_summed", 2n],
  ["skb->tstamp", -5n],
  ["skb->users.refs.counter", -1n],
  ["skb->dev->ifindex", 2n],
  ["skb->dev->mtu", 9001n],
  ["skb->dev->flags", 0x1043n],
  ["skb->dev->type", 1n],
  ["skb->dev->name[0]", 101n],
  ["skb->sk->__sk_common.skc_family", 2n],
  ["skb->sk->__sk_common.skc_state", 1n],
  ["skb->sk->__sk_common.skc_dport", 443n],
  ["skb->sk->__sk_common.skc_daddr", 0x0a4d0002n],
  ["skb->sk->__sk_common.skc_bound_dev_if", -3n],
  ["skb->sk->sk_rcvbuf", -212992n],
  ["skb->sk->sk_socket->state", 3n],
  ["skb->sk->sk_socket->type", -2n],
];

/** Every member on its own, and compared with numbers at the edges of its type. */
const members = [
  "skb->len",
  "skb->data_len",
  "skb->mac_len",
  "skb->hdr_len",
  "skb->queue_mapping",
  "skb->priority",
  "skb->skb_iif",
  "skb->hash",
  "skb->vlan_proto",
  "skb->vlan_tci",
  "skb->mark",
  "skb->protocol",
  "skb->transport_header",
  "skb->network_header",
  "skb->csum",
  "skb->truesize",
  "skb->tstamp",
  "skb->users.refs.counter",
  "skb->pkt_type",
  "skb->ip_summed",
  "skb->cloned",
  "skb->fclone",
  "skb->csum_level",
  "skb->encapsulation",
  "skb->dev->ifindex",
  "skb->dev->mtu",
  "skb->dev->flags",
  "skb->dev->type",
  "skb->dev->name[0]",
  "skb->dev->nd_net.net->ns.inum",
  "skb->sk->__sk_common.skc_family",
  "skb->sk->__sk_common.skc_state",
  "skb->sk->__sk_common.skc_dport",
  "skb->sk->__sk_common.skc_num",
  "skb->sk->__sk_common.skc_daddr",
  "skb->sk->__sk_common.skc_bound_dev_if",
  "skb->sk->__sk_common.skc_reuse",
  "skb->sk->__sk_common.skc_ipv6only",
  "skb->sk->__sk_common.skc_net.net->ns.inum",
  "skb->sk->sk_rcvbuf",
  "skb->sk->sk_backlog.len",
  "skb->sk->sk_socket->state",
  "skb->sk->sk_socket->type",
] as const;

const xdpMembers = [
  "xdp->frame_sz",
  "xdp->rxq->queue_index",
  "xdp->rxq->mem.type",
  "xdp->rxq->mem.id",
  "xdp->rxq->dev->ifindex",
  "xdp->rxq->dev->mtu",
  "xdp->rxq->dev->flags",
  "xdp->rxq->dev->type",
  "xdp->rxq->dev->name[0]",
  "xdp->rxq->dev->nd_net.net->ns.inum",
] as const;

const perMember = (of: readonly string[]) =>
  of.flatMap((member) => [
    member,
    `${member} == 2`,
    `${member} > -1`,
    `${member} >= 0x80000000`,
    `(s16)${member} < 0`,
  ]);

/** One line each: what C says, what the kernel's structs offer. */
const single = `
skb
skb == 0
!skb
skb->len > 500
skb->len = 1500
skb.len == 1500
(*skb).len == 1500
(skb)->len
skb[0].len
skb->len > 500 && skb->mark == 0
skb->len > 500 && skb->mark == 0x80000010
skb->len < 500 || skb->protocol == 0x0800
!(skb->len < 500) && !(skb->mark == 3)
!skb->data_len
!!skb->data_len
skb->len == 1500 ? skb->mark : skb->priority
skb->len < 100 ? 1 : skb->len < 2000 ? 2 : 3
skb->dev ? skb->dev->ifindex : -1
skb->sk && skb->sk->__sk_common.skc_state == TCP_ESTABLISHED
skb->sk == NULL
skb->sk != 0 && skb->dev != 0
skb->dev && skb->dev->ifindex == 2
skb->next
skb->next == skb->prev
skb->next < skb->prev
skb->head
skb->data - skb->head
skb->end - skb->tail
skb->head + skb->network_header
skb->head + 4 - skb->head
4 + skb->head == skb->head + 4
skb->mark & 0xf0
skb->mark & 0xf0 == 0x10
(skb->mark & 0xf0) == 0x10
skb->mark | 1
skb->mark ^ 0xffffffff
~skb->mark
~skb->len == -1501
-skb->len
-skb->pkt_type
+skb->pkt_type
-skb->tstamp
~skb->tstamp
skb->mark << 4
skb->mark >> 28
(s32)skb->mark >> 28
(s64)skb->mark << 28
skb->tstamp >> 1
skb->tstamp << 3
skb->mark >> (skb->len & 31)
skb->mark << (skb->len & 31)
(s32)skb->mark >> skb->len
(u64)skb->mark << skb->hash
skb->mark + 1
skb->mark + skb->mark
skb->priority + 1
skb->priority * skb->priority
(u64)skb->priority * skb->priority
skb->users.refs.counter * 1000000000
skb->users.refs.counter - 2147483647
skb->len - 2000
skb->len - 2000 < 0
(int)skb->len - 2000 < 0
skb->len / 7
skb->len % 7
skb->mark / skb->len
skb->mark % skb->len
skb->mark / skb->data_len
skb->mark % skb->data_len
skb->tstamp / 2
skb->tstamp % 2
skb->tstamp / -2
skb->tstamp % -2
skb->tstamp / skb->users.refs.counter
skb->tstamp % skb->users.refs.counter
skb->sk->sk_rcvbuf / 1000
skb->sk->sk_rcvbuf % 1000
skb->sk->sk_rcvbuf / skb->sk->__sk_common.skc_bound_dev_if
skb->sk->sk_rcvbuf % skb->sk->__sk_common.skc_bound_dev_if
(s32)skb->mark / -1
(s64)skb->hash / 0x100000000
skb->hash / 3000000000
skb->hash * 3000000000
skb->hash + 10000000000
skb->hash == 10000000000
skb->hash & 0xffffffff00000000
skb->protocol == 0x0800
skb->protocol = 0x800
skb->protocol >= 0x0600
skb->protocol & 0xff
skb->protocol == 0x86dd || skb->protocol == 0x0800
*(u16 *)&skb->protocol == 8
*(__be16 *)&skb->protocol == 0x0800
(__be16)skb->len
skb->sk->__sk_common.skc_dport == 443
skb->sk->__sk_common.skc_daddr == 0x0a4d0002
skb->sk->__sk_common.skc_daddr >> 24 == 10
skb->sk->__sk_common.skc_state == TCP_ESTABLISHED
TCP_ESTABLISHED == skb->sk->__sk_common.skc_state
skb->sk->__sk_common.skc_state != TCP_LISTEN
skb->sk->sk_socket->state == SS_CONNECTED
SS_CONNECTED == skb->sk->sk_socket->state
skb->sk->sk_socket->state & SS_CONNECTED
(enum sock_type)SOCK_STREAM
skb->sk->sk_socket->type == -2
skb->sk->sk_socket->type < 0
(u16)skb->sk->sk_socket->type > 60000
skb->sk->sk_socket->ops
skb->sk->sk_socket->file == NULL
skb->dev->reg_state == NETREG_REGISTERED
skb->dev->name[0] == 'e'
skb->dev->name[0] == 'e' && skb->dev->name[1] != '\\0'
skb->dev->name[skb->len & 7]
*skb->dev->name == 'e'
*(skb->dev->name + 3)
skb->dev->name[15]
*(u32 *)skb->dev->name
*(u64 *)skb->dev->name == 0x65
skb->dev->dev_addr
skb->dev->dev_addr[0]
skb->dev->_tx
skb->dev->nd_net.net == skb->sk->__sk_common.skc_net.net
skb->cb[0]
skb->cb[47]
skb->cb[skb->len & 15]
skb->cb[skb->len & 15] << 8 | skb->cb[1]
((u32 *)skb->cb)[2]
((u32 *)skb->cb)[skb->hash & 7]
((s16 *)skb->cb)[skb->hash & 7]
((u64 *)&skb->cb[8])[1]
*(s8 *)skb->cb
*(u64 *)(skb->cb + 8)
*(u32 *)(skb->cb + 1)
*(u16 *)&skb->cb[3]
*(__be32 *)(skb->cb + 4)
*(__be64 *)(skb->cb + 8)
*((u8 *)skb + 7)
((u8 *)skb)[skb->len & 63]
((struct sk_buff *)skb)->len
((struct sk_buff *)((u64)skb + 0))->len
(&skb->len)[0]
*&skb->len
&skb->len
&skb->cb[5] - &skb->cb[1]
&((u32 *)skb->cb)[5] - &((u32 *)skb->cb)[1]
&skb->dev->mtu
(u64)&skb->len - (u64)skb == (u64)&((struct sk_buff *)skb)->len - (u64)skb
((struct iphdr *)(skb->head + skb->pkt_type * 8))->ttl
((struct iphdr *)skb->head)->ttl == 64
((struct iphdr *)skb->head)->version
((struct iphdr *)skb->head)->ihl * 4
((struct iphdr *)skb->head)->protocol == 6
((struct iphdr *)skb->head)->tot_len
((struct iphdr *)skb->head)->daddr
((struct iphdr *)skb->head)->frag_off & 0x1fff
((struct tcphdr *)skb->data)->dest
((struct tcphdr *)skb->data)->syn && !((struct tcphdr *)skb->data)->ack
((struct tcphdr *)skb->data)->doff
((struct tcphdr *)skb->data)->seq
((struct ipv6hdr *)skb->data)->daddr.in6_u.u6_addr8[15]
((struct ipv6hdr *)skb->data)->daddr.in6_u.u6_addr32[3]
((struct udphdr *)skb->data + 1)->source
((struct udphdr *)skb->data - 1)->source
((struct ethhdr *)skb->data)->h_proto
((struct ethhdr *)skb->data)->h_dest[5]
((struct skb_shared_info *)skb->head)->nr_frags
((struct skb_shared_info *)skb->head)->gso_size > 0
((struct skb_shared_info *)skb->head)->gso_segs
((struct list_head **)skb->cb)[1]->next->prev
**(u64 **)&skb->dev
*(u64 *)*(u64 *)&skb->dev
*(u32 *)8
*(u32 *)0x1000 == 0
*(u64 *)0x8000000000000000
*(u64 *)-4096 >= 0
*(u32 *)(u64)skb->pkt_type
sizeof(struct sk_buff) > 200
sizeof(struct iphdr)
sizeof(u64) + sizeof(int) + sizeof(unsigned char)
sizeof skb->cb
sizeof(skb->len) == 4
sizeof skb
sizeof(struct sk_buff *)
(bool)skb->mark
(bool)skb->data_len
(_Bool)skb->next
(u8)skb->mark
(s8)skb->mark
(char)skb->mark
(unsigned short)skb->mark
(short)skb->priority
(int)skb->priority
(unsigned)skb->users.refs.counter
(long)skb->priority
(unsigned long)skb->users.refs.counter
(unsigned long long)skb->tstamp
(long long unsigned int)skb->tstamp > 5
(u8)(skb->len + 100) == 64
(s32)skb->tstamp
(u32)skb->tstamp
(u16)skb->tstamp
(u64)skb
(u32)(u64)skb
(void *)skb == skb
(const struct sk_buff *)skb == skb
skb->tstamp < 0
skb->tstamp > 0xffffffff
skb->tstamp == -5
skb->tstamp == 18446744073709551611
skb->users.refs.counter == -1
skb->users.refs.counter == 0xffffffff
skb->users.refs.counter > 1u
skb->users.refs.counter < skb->len
skb->priority == -1
skb->priority == 0xffffffff
skb->priority >= 0xffffffff
skb->priority > 0x7fffffff
skb->mark >= 0x80000010
skb->mark > 0x8000000f
skb->mark < 0x80000011
skb->mark <= 2147483663
skb->mark == 0x80000010ull
skb->mark == -2147483632
skb->pkt_type == 3
skb->pkt_type = 0
skb->pkt_type << 30
skb->pkt_type - 4 < 0
skb->ip_summed * 3 + 1
skb->pkt_type + skb->ip_summed == 5
(u32)skb->pkt_type - 4 > 0
~skb->pkt_type
(skb->len == 1500) + (skb->mark != 0) + (skb->dev != 0)
((skb->len > 1) & (skb->mark > 1)) | (skb->hash > 1)
(skb->len > 1) == (skb->mark > 1) == 1
1 < skb->len == 1
1 == 1
0
1 ? skb->len : 0
0 && skb->len
1 || skb->len
1 && skb->len
0 || skb->dev
'a' + 1
0b101 + 0o17 + 017 + 0x1f
-1
~0u
-1 >> 1
~0ull >> 1
1 << 31
7 / 2 * 2 + 7 % 2
-7 / 2 - -7 % 2
3 - 2 - 1
1 + 2 * 3 == 7
2 + 3 << 1
1 | 2 ^ 3 & 1
skb->len * skb->mark - skb->hash * skb->priority + (skb->csum ^ skb->truesize) * (skb->hash - skb->len)
((skb->len+skb->hash)*(skb->mark+skb->csum)-(skb->len^skb->hash)*(skb->mark^skb->csum))/(((skb->len|1)+(skb->hash|1))*((skb->mark|1)+(skb->csum|1))-((skb->len&7)+(skb->hash&7))*((skb->mark&7)+(skb->csum&7)))
`.trim().split("\n");

/** Of struct xdp_buff. */
const ofXdp = `
xdp
xdp->data
xdp->data_end - xdp->data
xdp->data_end > xdp->data
xdp->data_hard_start == xdp->data - 256
xdp->data_meta
xdp->frame_sz == 4096
xdp->rxq->dev->mtu > 1500 || xdp->frame_sz
((struct ethhdr *)xdp->data)->h_proto == 0x0800
((struct ethhdr *)xdp->data)->h_source[0] & 1
*(u64 *)xdp->data
((u8 *)xdp->data)[12] << 8 | ((u8 *)xdp->data)[13]
`.trim().split("\n");

export const cases: readonly (readonly [source: string, root: Root])[] = [
  ...perMember(members).map((source) => [source, skb] as const),
  ...single.map((source) => [source, skb] as const),
  ...[...perMember(xdpMembers), ...ofXdp].map((source) => [source, xdp] as const),
];
