# Network topologies and traffic of the guest. Sourced by every scenario.
#
#   pod 10.9.1.2 -- podveth 10.9.1.1 | node, forwards | 10.9.2.1 dnsveth -- dns 10.9.2.2
#       fd00:9:1::2         fd00:9:1::1                 fd00:9:2::1         fd00:9:2::2
#
#   left 10.9.3.2 -- leftveth | bridge br0 of the node | rightveth -- right 10.9.3.3

# A veth pair: PEER_NETNS gets eth0, the node gets NAME.
# wire NAME NETNS MTU NODE_ADDRESS NETNS_ADDRESS NODE_ADDRESS6 NETNS_ADDRESS6
wire() {
  ip netns add "$2"
  ip link add "$1" mtu "$3" type veth peer name eth0 netns "$2" mtu "$3"
  ip addr add "$4/24" dev "$1"
  ip addr add "$6/64" dev "$1" nodad
  ip link set "$1" up
  ip -n "$2" link set lo up
  ip -n "$2" addr add "$5/24" dev eth0
  ip -n "$2" addr add "$7/64" dev eth0 nodad
  ip -n "$2" link set eth0 up
  ip -n "$2" route add default via "$4"
  ip -n "$2" -6 route add default via "$6"
}

# topo MTU: the node between pod and dns; MTU is that of the pod's link.
topo() {
  modprobe -q veth
  wire podveth pod "$1" 10.9.1.1 10.9.1.2 fd00:9:1::1 fd00:9:1::2
  wire dnsveth dns 9001 10.9.2.1 10.9.2.2 fd00:9:2::1 fd00:9:2::2
  sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  # Both neighbours of both links are known from here on, in both families.
  ip netns exec dns ping -q -c1 -W$((5 * SLOWNESS)) 10.9.1.2 > /dev/null || echo "topo: no way from dns to pod" >&2
  ip netns exec dns ping -q -c1 -W$((5 * SLOWNESS)) fd00:9:1::2 > /dev/null || echo "topo: no IPv6 way from dns to pod" >&2
}

# pod_mtu MTU: another MTU for the pod's link; what the dns server learned about the path is forgotten.
pod_mtu() {
  ip link set podveth mtu "$1"
  ip -n pod link set eth0 mtu "$1"
  ip -n dns route flush cache
}

untopo() {
  ip netns del pod
  ip netns del dns
  until_true 5 gone_links podveth dnsveth
}
gone_links() {
  local link
  for link in "$@"; do [ ! -e "/sys/class/net/$link" ] || return 1; done
}

# bound PID PROTOCOL PORT: whether a socket is bound to that port in the network namespace of PID.
bound() { grep -qi "$(printf ':%04X [0-9A-F]*:0000 ' "$3")" "/proc/$1/net/$2" 2> /dev/null; }

# answer NAME: the dns server's answer, one UDP datagram of 2351 bytes with DF from port 9053 to a socket
# of the pod at port 40053. What arrives there is $OUT/NAME.received.
answer() {
  local file=$OUT/$1.received receiver
  : > "$file"
  ip netns exec pod socat -u -b 4096 UDP4-RECV:40053 "OPEN:$file" &
  receiver=$!
  until_true 10 bound $receiver udp 40053 || echo "answer: the receiver does not listen" >&2
  ip -n dns route flush cache
  head -c 2351 /dev/zero |
    ip netns exec dns socat -u -b 4096 - UDP4-SENDTO:10.9.1.2:40053,sourceport=9053,ip-mtu-discover=2
  pause 0.5
  kill $receiver
  wait $receiver
} 2>> "$OUT/stderr"

# listen NETNS TCP4-LISTEN|TCP6-LISTEN PORT: a TCP server that takes one connection and reads it to its end.
listen() {
  local family=${2:3:1}
  ip netns exec "$1" socat -u "$2:$3,reuseaddr" /dev/null &
  listener=$!
  until_true 10 bound $listener "tcp${family/4/}" "$3" || echo "listen: nobody listens" >&2
}

# say NETNS ADDRESS: one short message by TCP or UDP, in socat's notation; a refusal is part of the game.
say() { echo hello | ip netns exec "$1" socat -u -T $((2 * SLOWNESS)) - "$2"; } 2> /dev/null

# raw NETNS ADDRESS BYTES: one packet behind an IP header of the kernel's; the address in socat's notation, with the IP
# protocol, the bytes in printf's.
raw() { printf "$3" | ip netns exec "$1" socat -u - "$2"; }

# echo_request NETNS ADDRESS: one ICMP or ICMPv6 echo.
echo_request() { ip netns exec "$1" ping -q -c1 -W$((2 * SLOWNESS)) "$2" > /dev/null; }

# forget_neighbours: the next packet of the node to the pod needs ARP.
forget_neighbours() { ip neigh flush dev podveth; ip -n pod neigh flush dev eth0; }

# keep_neighbours NETNS...: what the node and these namespaces know of their neighbours stays so. Otherwise a packet's
# way depends on how long ago that was confirmed, and there are packets that ask.
keep_neighbours() {
  local netns address device mac
  for netns in "" "$@"; do
    ip ${netns:+-n "$netns"} neigh show | while read -r address _ device _ mac _; do
      # One that was not found has no address.
      [ -z "$mac" ] || ip ${netns:+-n "$netns"} neigh replace "$address" lladdr "$mac" dev "$device" nud permanent
    done
  done
}

# bridged: two namespaces on one bridge whose frames pass iptables.
bridged() {
  local side
  modprobe -qa veth bridge br_netfilter
  ip link add br0 type bridge
  ip link set br0 up
  for side in left:10.9.3.2 right:10.9.3.3; do
    ip netns add "${side%:*}"
    ip link add "${side%:*}veth" type veth peer name eth0 netns "${side%:*}"
    ip link set "${side%:*}veth" master br0 up
    ip -n "${side%:*}" addr add "${side#*:}/24" dev eth0
    ip -n "${side%:*}" link set eth0 up
  done
  sysctl -qw net.bridge.bridge-nf-call-iptables=1
  echo_request left 10.9.3.3 || echo "bridged: no way from left to right" >&2
}

unbridged() {
  ip netns del left
  ip netns del right
  until_true 5 gone_links leftveth rightveth
  ip link del br0
}
