# Runs in a virtual machine as root, beside the compiled kprobe_backend; talks to the console.
# Every CHECK line must say ok.
export PATH=/usr/bin:/sbin:/bin
exec > /dev/ttyS0 2>&1
sysctl -qw kernel.printk="3 3 3 3"
T=/sys/kernel/tracing
kb=$PWD/kprobe_backend
now() { echo $((${EPOCHREALTIME/./} / 1000)); }
ms() { echo $(($(now) - $1)); }
check() { if [ "$2" = "$3" ]; then echo "CHECK ok   $1: $2"; else echo "CHECK FAIL $1: $2, wanted $3"; fi; }
wait_for() { local i=0; while [ ! -e "$1" ]; do i=$((i + 1)); [ $i -gt 1200 ] && { echo "no $1"; return 1; }; usleep 50000; done; }
ours() { grep -c '^p:pwru_[0-9]' $T/kprobe_events; }
empty() { # waits until no definition of ours is left; prints how long that took
  local s=$(now); while [ "$(ours)" != 0 ]; do [ "$(ms $s)" -gt 120000 ] && break; usleep 200000; done; ms $s; }
start() { # start NAME LIMIT: job control, so that SIGINT is not ignored
  rm -f /tmp/$1.ready*; READY=/tmp/$1.ready setsid $kb $2 > /out/$1.json 2>&1 & eval $1=$!; }
stop() { local s=$(now); kill -INT $2; wait $2; echo "$1 signal to gone: $(ms $s) ms"; cat /out/$1.json; }
traffic() { ping -q -c 20 -i 0.01 127.0.0.1 > /dev/null; }

uname -r
start W 1; wait_for /tmp/W.ready; stop W $W # page cache is cold only once
empty
echo 'p:kprobes/foreign vfs_read' >> $T/kprobe_events
echo 'p:pwru_theirs/foreign vfs_write' >> $T/kprobe_events
before=$(wc -l < $T/enabled_functions)

echo "== whole set"
start A; wait_for /tmp/A.ready; traffic
kill -0 $A; ours; stop A $A
check "nothing armed" "$(grep -c -v -E 'DISABLED|FTRACE' /sys/kernel/debug/kprobes/list)" 0
check "ftrace as before" "$(wc -l < $T/enabled_functions)" "$before"
check "programs" "$(bpftool prog show name count | wc -l)" 0
ps w | grep -c '[i]nternal-helper'
echo "empty after $(empty) ms"
check "others' probes" "$(grep -c foreign $T/kprobe_events)" 2

echo "== killed, then two at once"
start B 100; wait_for /tmp/B.ready; s=$(now); kill -KILL $B; wait $B; echo "killed: $(ms $s) ms"; cat /out/B.json
check "left by the killed one" "$(ours)" "$(grep -o '"attached":[0-9]*' /out/B.json | cut -d: -f2)"
check "armed" "$(grep -c -v -E 'DISABLED|FTRACE' /sys/kernel/debug/kprobes/list)" 0
start C 300; start D 300; wait_for /tmp/C.ready; wait_for /tmp/D.ready
s=$(now); while grep -q "^p:pwru_${B}_" $T/kprobe_events; do [ "$(ms $s)" -gt 60000 ] && break; usleep 100000; done
echo "swept after $(ms $s) ms"
check "killed one's" "$(grep -c "^p:pwru_${B}_" $T/kprobe_events)" 0
check "C's" "$(grep -c "^p:pwru_${C}_" $T/kprobe_events)" "$(grep -o '"attached":[0-9]*' /out/C.json | cut -d: -f2)"
check "D's" "$(grep -c "^p:pwru_${D}_" $T/kprobe_events)" "$(grep -o '"attached":[0-9]*' /out/D.json | cut -d: -f2)"
traffic
echo "== a container beside them"
in_container() { # in_container NAME LIMIT HOW: process 1 of a pid namespace (exec), or below one (nothing)
  READY=/tmp/$1.ready unshare -p -f -m sh -c "mount -t proc none /proc; $3 $kb $2; exit 0" > /out/$1.json 2>&1 & eval $1=$!; }
outer_pid() { ps -o pid,args | grep "[k]probe_backend $1\$" | awk '{print $1}' | tail -1; }
in_container P 50; in_container Q 30 exec; wait_for /tmp/P.ready; wait_for /tmp/Q.ready
check "groups of containers" "$(grep -oE 'pwru_1?[0-9]_[0-9]+_[0-9]+/' $T/kprobe_events | sort -u | wc -l)" 2
traffic
s=$(now); kill -TERM $(outer_pid 30); wait $Q; echo "process 1 gone after $(ms $s) ms"; cat /out/Q.json
check "process 1 left" "$(grep -c 'pwru_1_[0-9]*_' $T/kprobe_events)" 0
check "C's beside it" "$(grep -c "^p:pwru_${C}_" $T/kprobe_events)" 300
kill -KILL $(outer_pid 50); wait $P; cat /out/P.json
stop C $C; stop D $D
echo "empty after $(empty) ms"

echo "== interrupted while attaching, and during the clean-up another start"
start E; wait_for /tmp/E.ready.first; stop E $E
start F 300; wait_for /tmp/F.ready; traffic; stop F $F
echo "empty after $(empty) ms"
check "others' probes" "$(grep -c foreign $T/kprobe_events)" 2

echo "== places found by trial"
FTRACE_LIST=no start H 300; wait_for /tmp/H.ready; traffic; stop H $H
echo "empty after $(empty) ms"

echo "== no tracefs"
unshare -m sh -c "mount -t tmpfs none /sys/kernel/tracing; umount /sys/kernel/debug/tracing; mount -t tmpfs none /sys/kernel/debug; READY=/tmp/G.ready exec $kb 40" > /out/G.json 2>&1 & U=$!
wait_for /tmp/G.ready; traffic
s=$(now); kill -INT $(outer_pid 40); wait $U; echo "gone after $(ms $s) ms"; cat /out/G.json
while bpftool prog show name count | grep -q count; do [ "$(ms $s)" -gt 60000 ] && break; usleep 200000; done; echo "probes gone after $(ms $s) ms"
check "programs" "$(bpftool prog show name count | wc -l)" 0
dmesg | grep -iE 'BUG|WARN|oops' | head
echo done
