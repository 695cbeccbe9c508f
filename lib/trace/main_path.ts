/**
 * The functions that most packets pass, in the order of their way. Where functions are attached one by one
 * (kprobe), these come first: events that explain most losses flow while the rest is still being attached.
 * A name that this kernel does not have costs nothing.
 */
export const mainPath: readonly string[] = [
  // the end of a packet
  ..."kfree_skb_reason sk_skb_reason_drop kfree_skb consume_skb kfree_skbmem skb_consume_udp".split(" "),
  // received
  ..."__netif_receive_skb __netif_receive_skb_one_core netif_receive_skb napi_gro_receive netif_rx __netif_rx"
    .split(" "),
  ..."netif_rx_internal enqueue_to_backlog eth_type_trans".split(" "),
  // IPv4
  ..."ip_rcv ip_rcv_core ip_rcv_finish ip_route_input_noref ip_local_deliver ip_local_deliver_finish".split(
    " ",
  ),
  ..."ip_forward ip_forward_finish ip_output ip_finish_output __ip_finish_output ip_finish_output2".split(
    " ",
  ),
  ..."ip_send_skb ip_local_out __ip_local_out __ip_queue_xmit ip_fragment ip_do_fragment ip_defrag".split(
    " ",
  ),
  // IPv6
  ..."ipv6_rcv ip6_rcv_core ip6_rcv_finish ip6_input ip6_forward ip6_output ip6_finish_output".split(" "),
  ..."__ip6_finish_output ip6_finish_output2 ip6_local_out ip6_xmit".split(" "),
  // transport
  ..."udp_rcv __udp4_lib_rcv udp_queue_rcv_skb udp_unicast_rcv_skb udpv6_rcv".split(" "),
  ..."tcp_v4_rcv tcp_v4_do_rcv tcp_rcv_established tcp_rcv_state_process tcp_v6_rcv tcp_v6_do_rcv".split(" "),
  ..."icmp_rcv icmp_echo __icmp_send icmpv6_rcv icmp6_send arp_rcv arp_process arp_xmit".split(" "),
  // sent
  ..."dev_queue_xmit __dev_queue_xmit dev_hard_start_xmit veth_xmit __dev_forward_skb skb_scrub_packet".split(
    " ",
  ),
  // decided elsewhere
  ..."nf_hook_slow nft_do_chain br_handle_frame br_forward tcf_classify".split(" "),
];
