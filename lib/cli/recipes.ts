/**
 * Incidents that happen again and again: what was seen, what to type, how to read the answer. For the manual page and
 * the README. Each is staged by tests/vm/scenarios/recipes.ts: what stands between backticks in `reading` has to be
 * in what the command prints.
 */
export interface Recipe {
  readonly name: string;
  /** as somebody would tell it */
  readonly incident: string;
  readonly command: string;
  readonly reading: string;
}

export const recipes: readonly Recipe[] = [
  {
    name: "mtu",
    incident: "Large DNS answers never reach one pod, small ones do",
    command: "pwru 'udp and src port 53'",
    reading:
      "`ip_forward` turns to `__icmp_send` and frees the packet with `SKB_DROP_REASON_PKT_TOO_BIG`: it is " +
      "longer (LEN) than the next link takes, and may not be fragmented. Give both links the same MTU, and find " +
      "out who keeps the ICMP message from the sender.",
  },
  {
    name: "firewall",
    incident: "New connections to a port time out, nothing is in any log",
    command: "pwru 'tcp[tcpflags] & tcp-syn != 0 and dst port 443'",
    reading:
      "`nf_hook_slow`, then `SKB_DROP_REASON_NETFILTER_DROP`: a rule of nftables or iptables drops it. " +
      "NETNS says in which namespace, IFACE behind which interface: list the rules there.",
  },
  {
    name: "listener",
    incident: "The server runs, and yet: connection refused",
    command: "pwru 'tcp and dst port 8080'",
    reading:
      "`tcp_v4_rcv`, then `SKB_DROP_REASON_NO_SOCKET`: in this namespace (NETNS) nobody listens at this " +
      "address. The server is bound to another one, often 127.0.0.1: ss -ltn, in that namespace.",
  },
  {
    name: "slow-reader",
    incident: "Metrics get lost when there are many of them",
    command: "pwru --summary 'udp and dst port 8125'",
    reading:
      "A row says `dropped`, `SKB_DROP_REASON_SOCKET_RCVBUFF`, and how many: the socket's buffer is full, its " +
      "reader too slow. Raise net.core.rmem_max and SO_RCVBUF, or read faster.",
  },
  {
    name: "way-back",
    incident: "A machine with two uplinks answers on one of them only",
    command: "pwru 'icmp and dst host 10.9.2.2'",
    reading:
      "`SKB_DROP_REASON_IP_RPFILTER`: answers to that source would leave by another interface than IFACE, " +
      "and rp_filter is strict. Put the route back right, or set rp_filter to 2.",
  },
  {
    name: "stale-nat",
    incident: "A service works, but not for some of its clients",
    command: "pwru --filter-track-skb 'udp and dst host 10.96.0.10'",
    reading: "The TUPLE changes from the service's address to that of the pod which was chosen, here " +
      "`->10.9.2.99:53(udp)`. That pod is gone: `SKB_DROP_REASON_NEIGH_FAILED`, since nobody answers to its " +
      "address. conntrack -D -d 10.96.0.10 forgets the choice.",
  },
  {
    name: "program",
    incident: "Since an agent was updated, packets to one port vanish",
    command: "pwru --filter-trace-tc 'udp and dst port 4789'",
    reading:
      "A line names the BPF program and its verdict, `(tc)(TC_ACT_SHOT)`, and the next one frees the packet " +
      "with `SKB_DROP_REASON_TC_INGRESS`. bpftool prog show says who loaded it and when.",
  },
  {
    name: "moved",
    incident: "A machine was replaced, and its neighbours cannot reach it",
    command: "pwru 'dst host 10.9.1.2'",
    reading:
      "`SKB_DROP_REASON_OTHERHOST`: the frame came to this interface with another machine's MAC address on " +
      "it. The neighbour table of the sender is stale: ip neigh flush, there.",
  },
  {
    name: "checksum",
    incident: "tcpdump shows the packets come in, the program gets none",
    command: "pwru 'tcp and dst port 8443'",
    reading:
      "`SKB_DROP_REASON_TCP_CSUM`: the checksum is wrong. Mostly the sender's card or its driver, often " +
      "beneath a tunnel, should have filled it in: ethtool -K DEV tx off, there.",
  },
  {
    name: "who",
    incident: "Something on this node asks the metadata service, and nobody knows what",
    command: "pwru --output-netns-names 'dst host 169.254.169.254'",
    reading:
      "PROCESS of the first line is the sender, here `socat:`, and NETNS NAME its container, here `pod`. " +
      "Later lines may run on behalf of whoever was interrupted.",
  },
];
