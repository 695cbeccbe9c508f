/**
 * What a function or tracepoint says about the life of the packet it is hit with (net/core/skbuff.c, net/core/dev.c
 * and the readers of each protocol, Linux 5.10 to 7.3). Names that a kernel does not have cost nothing.
 */

/**
 * `station`  the packet is there, no more is known
 * `receive`  a device hands it to the stack; `transmit`: the stack hands it to a device's queue
 * `xmit`     a driver gets it
 * `forward`  the stack sends on what it received
 * `socket`   a socket takes it, or waits to be asked for it
 * `read`     a process takes its bytes
 * `drop`     a reference is given up because something is wrong; `consume`: because all is done
 * `dropped`  the last reference is gone, said by a tracepoint; `consumed`: likewise
 * `freed`    the memory is given back, whyever
 * `beneath`  a function without a packet, called by one that has it
 * `tail`     a part of giving it back, or of an inner change: the packet may live on
 */
export type Role =
  | "station"
  | "receive"
  | "transmit"
  | "xmit"
  | "forward"
  | "socket"
  | "read"
  | "drop"
  | "consume"
  | "dropped"
  | "consumed"
  | "freed"
  | "beneath"
  | "tail";

const functions: Readonly<Record<Exclude<Role, "station" | "dropped" | "consumed" | "beneath">, string>> = {
  receive: "netif_rx __netif_rx netif_rx_ni netif_rx_internal netif_receive_skb netif_receive_skb_core " +
    "__netif_receive_skb napi_gro_receive gro_receive_skb napi_gro_frags",
  transmit: "dev_queue_xmit __dev_queue_xmit __dev_direct_xmit dev_direct_xmit",
  xmit: "dev_hard_start_xmit",
  forward: "ip_forward ip_forward_finish ip6_forward ip6_forward_finish __br_forward br_forward",
  socket: "__udp_enqueue_schedule_skb __sock_queue_rcv_skb sock_queue_rcv_skb sock_queue_rcv_skb_reason " +
    "tcp_rcv_established tcp_data_queue tcp_queue_rcv tcp_add_backlog tcp_rcv_state_process",
  read: "skb_consume_udp skb_copy_datagram_iter __skb_datagram_iter skb_copy_and_csum_datagram_msg " +
    "skb_free_datagram __skb_free_datagram_locked skb_splice_bits",
  drop: "kfree_skb kfree_skb_reason sk_skb_reason_drop __sk_skb_reason_drop kfree_skb_list_reason tcp_drop " +
    "tcp_drop_reason",
  consume: "consume_skb __consume_stateless_skb napi_consume_skb",
  freed: "__kfree_skb kfree_skbmem napi_skb_cache_put napi_skb_free_stolen_head skb_attempt_defer_free " +
    "kfree_skb_partial",
  tail: "skb_release_head_state skb_release_all skb_release_data skb_free_head sock_wfree __sock_wfree " +
    "sock_rfree sock_efree sock_ofree sock_pfree sock_edemux tcp_wfree unix_destruct_scm tpacket_destruct_skb " +
    "skb_orphan_partial skb_zcopy_clear kfree_skb_list __dev_kfree_skb_any __dev_kfree_skb_irq " +
    "dev_kfree_skb_any_reason dev_kfree_skb_irq_reason __tcf_kfree_skb_list",
};

const tracepoints: Readonly<Partial<Record<Role, string>>> = {
  receive: "netif_rx_entry netif_rx_ni_entry netif_rx netif_receive_skb_entry netif_receive_skb_list_entry " +
    "netif_receive_skb napi_gro_receive_entry napi_gro_frags_entry",
  transmit: "net_dev_queue",
  xmit: "net_dev_start_xmit",
  socket: "tcp_probe",
  read: "skb_copy_datagram_iovec",
  dropped: "kfree_skb",
  consumed: "consume_skb",
};

function byName(table: Readonly<Partial<Record<Role, string>>>): ReadonlyMap<string, Role> {
  return new Map(
    Object.entries(table).flatMap(([role, names]) =>
      names.split(" ").map((name) => [name, role as Role] as const)
    ),
  );
}

const functionRoles = byName(functions), tracepointRoles = byName(tracepoints);

/** @param symbol may have a suffix: "[module]", ".constprop.0" */
export function functionRole(symbol: string): Role {
  return functionRoles.get(symbol.replace(/[.[].*/, "")) ?? "station";
}

export function tracepointRole(name: string): Role {
  return tracepointRoles.get(name) ?? "station";
}

/** Whether a packet is on its way out of memory; else the function still has it. */
export function isEnding(role: Role): boolean {
  return role === "drop" || role === "consume" || role === "dropped" || role === "consumed" ||
    role === "freed" || role === "tail";
}

/** Whether something is wrong with it, as far as the name tells. */
export function isDrop(role: Role): boolean {
  return role === "drop" || role === "dropped";
}

/** Whether code that lets go of a packet does so for a process that reads from a socket. */
export function isReader(name: string): boolean {
  return /recvmsg|^skb_consume_udp$|^_*skb_free_datagram|^__consume_stateless_skb$|_recv_skb$/.test(name);
}

/** Whether code frees what others hand to it, so that it tells nothing of why: who had the packet before does. */
export function isErrand(name: string): boolean {
  return isEnding(functionRole(name)) || /^(skb_queue_purge|skb_rbtree_purge|skb_errqueue_purge)/.test(name);
}

/** Whether it frees what readers have left to it: what this machine received, somebody has read. */
export function isDeferredFree(name: string): boolean {
  return name === "skb_defer_free_flush";
}

/** Whether code that lets go of a packet has made a copy that takes its place: for a program of XDP on a veth. */
export function isReplacement(name: string): boolean {
  return name === "skb_pp_cow_data" || name === "veth_convert_skb_to_xdp_buff";
}
