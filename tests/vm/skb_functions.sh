# Prints "ARGUMENT NAME" for every function in vmlinux BTF that takes a struct sk_buff * in arguments 1 to 5.
bpftool btf dump file /sys/kernel/btf/vmlinux format raw | awk '
/^\[/ { id = substr($1, 2, length($1) - 2); kind = $2; proto = 0 }
/^\[.*\] STRUCT .sk_buff. / { skb = id }
/^\[.*\] PTR / { split($0, p, "type_id="); target[id] = p[2] + 0 }
/^\[.*\] FUNC_PROTO / { proto = id; n = 0 }
/^\t/ { if (proto) { n++; split($0, p, "type_id="); if (n <= 5) arg[proto, n] = p[2] + 0 } }
/^\[.*\] FUNC / { name = $3; gsub(/\047/, "", name); split($0, p, "type_id="); func_proto[name] = p[2] + 0 }
END { for (name in func_proto) for (n = 1; n <= 5; n++) if (target[arg[func_proto[name], n]] == skb && skb) { print n, name; break } }'
