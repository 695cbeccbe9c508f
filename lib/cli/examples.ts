/** Questions and the commands that answer them, for the manual page; the README has each of them, and more. */
export const examples: readonly (readonly [question: string, command: string])[] = [
  ["What works on this node, and what would help", "pwru --doctor"],
  ["Does it work at all? Show me", "pwru --demo"],
  ["Where does this flow end, and why?", "pwru 'tcp and dst host 10.0.0.7 and port 443'"],
  ["Does the packet reach this namespace?", "pwru --filter-netns blue icmp"],
  ["Only the handshake", "pwru 'tcp[tcpflags] & (tcp-syn|tcp-rst) != 0'"],
  ["Only one function, all its packets", "pwru --filter-func ip_forward"],
  ["By a field of the kernel's own packet", "pwru --filter-skb-expr 'skb->dev->mtu < skb->len'"],
  ["For a program, not a person", "pwru --output-json --output-file trace.json udp"],
  ["What does this filter compile to? (no root)", "pwru -d 'udp port 53'"],
];
