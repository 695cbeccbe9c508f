#!/usr/bin/busybox sh
# First process of the guest: a small Debian-like root, then every scenario of /job, then power off.
# After each scenario its folder goes out through the second serial port, $results, as a tar archive: a word of the
# kernel's command line, which the kernel makes a variable of ours.
/usr/bin/busybox --install -s /bin
ln -sf /usr/bin/bash /bin/sh
for tool in modprobe insmod lsmod depmod rmmod; do ln -sf /usr/bin/kmod /usr/bin/$tool; done
ln -sf /usr/bin/kmod /sbin/modprobe # where the kernel looks when it wants a module
ln -sf nc.openbsd /usr/bin/nc
for tool in iptables ip6tables; do ln -sf xtables-nft-multi /usr/bin/$tool; done
export PATH=/usr/bin:/bin HOME=/root TERM=dumb
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts none /dev/pts
for folder in /run /tmp /dev/shm; do mount -t tmpfs none $folder; done
chmod 1777 /tmp /dev/shm
mount -t debugfs none /sys/kernel/debug
mount -t tracefs none /sys/kernel/tracing
mount -t bpf none /sys/fs/bpf
mkdir -p /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
sysctl -qw kernel.printk=3
ip link set lo up
stty -F "$results" raw -echo

for folder in /job/*/; do
  name=$(basename "$folder")
  export OUT=/out/$name
  mkdir -p "$OUT"
  echo "scenario $name starts at $(cut -d' ' -f1 /proc/uptime)"
  cd "$folder"
  . ./settings
  begin=$(cut -d' ' -f1 /proc/uptime)
  timeout -k 5 "$limit" bash -c 'set -u; . /lib/guest/tracer.sh; . /lib/guest/topo.sh; . ./script.sh' \
    < /dev/null > "$OUT/stdout" 2> "$OUT/stderr"
  echo "$? $begin $(cut -d' ' -f1 /proc/uptime)" > "$OUT/status"
  tar -C /out -cf "$results" "$name"
  rm -rf "$OUT"
done
echo "all scenarios done at $(cut -d' ' -f1 /proc/uptime)"
sync
poweroff -f
