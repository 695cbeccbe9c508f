/**
 * Names for machines without /etc/services and /etc/protocols (containers, minimal images), in the format of
 * those files: IANA's registries, the part that people use in filters.
 */

export const services = `
echo 7/tcp 7/udp
discard 9/tcp 9/udp sink null
systat 11/tcp users
daytime 13/tcp 13/udp
chargen 19/tcp 19/udp ttytst source
ftp-data 20/tcp
ftp 21/tcp
ssh 22/tcp
telnet 23/tcp
smtp 25/tcp mail
time 37/tcp 37/udp timserver
whois 43/tcp nicname
tacacs 49/tcp 49/udp
domain 53/tcp 53/udp
bootps 67/udp
bootpc 68/udp
tftp 69/udp
gopher 70/tcp
finger 79/tcp
http 80/tcp www
kerberos 88/tcp 88/udp kerberos5 krb5 kerberos-sec
pop3 110/tcp pop-3
sunrpc 111/tcp 111/udp portmapper
auth 113/tcp authentication tap ident
nntp 119/tcp readnews untp
ntp 123/udp
epmap 135/tcp loc-srv
netbios-ns 137/udp
netbios-dgm 138/udp
netbios-ssn 139/tcp
imap2 143/tcp imap
snmp 161/tcp 161/udp
snmp-trap 162/tcp 162/udp snmptrap
xdmcp 177/udp
bgp 179/tcp
irc 194/tcp 194/udp
ldap 389/tcp 389/udp
svrloc 427/tcp 427/udp
https 443/tcp 443/udp
snpp 444/tcp
microsoft-ds 445/tcp 445/udp
kpasswd 464/tcp 464/udp
submissions 465/tcp ssmtp smtps urd
isakmp 500/udp
exec 512/tcp
biff 512/udp comsat
login 513/tcp
who 513/udp whod
shell 514/tcp cmd syslog
syslog 514/udp
printer 515/tcp spooler
talk 517/udp
ntalk 518/udp
route 520/udp router routed
dhcpv6-client 546/udp
dhcpv6-server 547/udp
rtsp 554/tcp 554/udp
nntps 563/tcp snntp
submission 587/tcp
ipp 631/tcp
ldaps 636/tcp 636/udp
domain-s 853/tcp 853/udp
rsync 873/tcp
ftps-data 989/tcp
ftps 990/tcp
telnets 992/tcp
imaps 993/tcp
pop3s 995/tcp
socks 1080/tcp
openvpn 1194/tcp 1194/udp
ms-sql-s 1433/tcp
ms-sql-m 1434/udp
l2f 1701/udp l2tp
pptp 1723/tcp
radius 1812/tcp 1812/udp
radius-acct 1813/tcp 1813/udp radacct
mqtt 1883/tcp
ssdp 1900/udp
nfs 2049/tcp 2049/udp
gtp-c 2123/udp
gtp-u 2152/udp
docker 2375/tcp
docker-s 2376/tcp
etcd-client 2379/tcp
etcd-server 2380/tcp
iscsi-target 3260/tcp
mysql 3306/tcp
ms-wbt-server 3389/tcp
stun 3478/tcp 3478/udp
svn 3690/tcp subversion
ipsec-nat-t 4500/udp
vxlan 4789/udp
sip 5060/tcp 5060/udp
sip-tls 5061/tcp 5061/udp
xmpp-client 5222/tcp jabber-client
xmpp-server 5269/tcp jabber-server
mdns 5353/udp
postgresql 5432/tcp postgres
amqps 5671/tcp
amqp 5672/tcp 5672/sctp
coap 5683/udp
vnc-server 5900/tcp
x11 6000/tcp x11-0
geneve 6081/udp
redis 6379/tcp
sflow 6343/udp
ircd 6667/tcp
http-alt 8080/tcp 8080/udp webcache
puppet 8140/tcp
mqtts 8883/tcp secure-mqtt
zabbix-agent 10050/tcp
zabbix-trapper 10051/tcp
memcached 11211/tcp 11211/udp memcache
mongodb 27017/tcp
`;

export const protocols = `
ip 0 IP
hopopt 0 HOPOPT
icmp 1 ICMP
igmp 2 IGMP
ggp 3 GGP
ipencap 4 IP-ENCAP
st 5 ST
tcp 6 TCP
egp 8 EGP
igp 9 IGP
pup 12 PUP
udp 17 UDP
hmp 20 HMP
xns-idp 22 XNS-IDP
rdp 27 RDP
iso-tp4 29 ISO-TP4
dccp 33 DCCP
xtp 36 XTP
ddp 37 DDP
ipv6 41 IPv6
ipv6-route 43 IPv6-Route
ipv6-frag 44 IPv6-Frag
idrp 45 IDRP
rsvp 46 RSVP
gre 47 GRE
esp 50 IPSEC-ESP
ah 51 IPSEC-AH
skip 57 SKIP
ipv6-icmp 58 IPv6-ICMP
ipv6-nonxt 59 IPv6-NoNxt
ipv6-opts 60 IPv6-Opts
rspf 73 RSPF CPHB
vmtp 81 VMTP
eigrp 88 EIGRP
ospf 89 OSPFIGP
ax.25 93 AX.25
ipip 94 IPIP
etherip 97 ETHERIP
encap 98 ENCAP
pim 103 PIM
ipcomp 108 IPCOMP
vrrp 112 VRRP
l2tp 115 L2TP
isis 124 ISIS
sctp 132 SCTP
fc 133 FC
mobility-header 135 Mobility-Header
udplite 136 UDPLite
mpls-in-ip 137 MPLS-in-IP
manet 138
hip 139 HIP
shim6 140 Shim6
wesp 141 WESP
rohc 142 ROHC
`;
