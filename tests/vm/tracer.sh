# Starting, watching and stopping a tracer inside the guest. Sourced by every scenario.
#
#   start NAME [WORD...]      starts $TRACER with these words, returns when it is ready (or gone, or after
#                             $PATIENCE seconds: then ready_ms is how long it was waited for)
#   stop NAME [SIGNAL [MS]]   sends SIGINT or SIGNAL and waits until it is gone, MS milliseconds at most
#   run NAME [WORD...]        starts it, waits for its end, $RUN_PATIENCE_MS milliseconds at most (30000)
#
# Limits are those of the fastest machine: they are multiplied by $SLOWNESS.
#
# $TRACER is the binary under test unless a scenario says otherwise; $TRACER_OPTIONS are words for every start.
# Leaves $OUT/NAME.out, NAME.err and NAME.facts, lines of key=value:
#   ready_ms   from exec to the ready file         stop_ms    from the signal until the parent has reaped it
#   status     as the shell sees it                hwm_kib    VmHWM at the time of the signal
#   ready, gone   yes or no                        (a key may come twice: the last one counts)

TRACER=${TRACER:-$PWRU} SLOWNESS=${SLOWNESS:-1}
declare -A pid_of chapter_end
mkfifo /tmp/nap.$$ && exec 9<> /tmp/nap.$$ && rm /tmp/nap.$$

# Seconds, without a process of its own: forks are slow under emulation.
nap() { read -rt "$1" -u 9; }
# The time that something needs, in seconds of the fastest machine; $SLOWNESS is how much slower this one is.
pause() { local i; for ((i = 0; i < SLOWNESS; i++)); do nap "$1"; done; }
# Microseconds since the epoch, in $NOW.
now() { NOW=${EPOCHREALTIME/./}; }
fact() { echo "$2=$3" >> "$OUT/$1.facts"; }

# On the console, which shows how far a guest came that never finished.
progress() {
  local up
  read -r up _ < /proc/uptime
  echo "$up $1" > /dev/console
} 2> /dev/null

# until_true SECONDS COMMAND...: polls; fails when the time is over.
until_true() {
  local end=$((SECONDS + $1 * SLOWNESS))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    nap 0.02
  done
  return 0
}

start() {
  local name=$1 ready=/tmp/$1.ready begin end=$((SECONDS + ${PATIENCE:-600} * SLOWNESS))
  shift
  progress "start $name"
  rm -f "$ready"
  now; begin=$NOW
  # Job control: without it the shell makes a background job ignore SIGINT.
  set -m
  "$TRACER" --ready-file "$ready" ${TRACER_OPTIONS:-} "$@" > "$OUT/$name.out" 2> "$OUT/$name.err" &
  pid_of[$name]=$!
  set +m
  echo "$TRACER $*" > "$OUT/$name.command"
  until [ -e "$ready" ] || ! alive ${pid_of[$name]} || [ $SECONDS -ge $end ]; do nap 0.02; done
  now
  fact "$name" ready_ms $(((NOW - begin) / 1000))
  if [ -e "$ready" ]; then fact "$name" ready yes; else fact "$name" ready no; fi
}

# alive PID: whether it has not ended. The shell may be late to reap, so a zombie has ended too.
alive() {
  local stat
  read -r stat 2> /dev/null < "/proc/$1/stat" && [[ ! $stat =~ \)\ [ZX]\  ]]
}

# reap NAME SINCE LIMIT_MS: waits for the end of a tracer; status and time since SINCE (microseconds).
# `wait` returns the moment it is reaped; a watchdog interrupts it.
reap() {
  local name=$1 begin=$2 limit_ms=$(($3 * SLOWNESS)) pid=${pid_of[$1]} me=$BASHPID dog status expired=
  trap 'expired=yes' USR1
  (trap - USR1; nap $((limit_ms / 1000)).$(printf %03d $((limit_ms % 1000))); kill -USR1 "$me") &
  dog=$!
  wait "$pid"
  status=$?
  now
  fact "$name" stop_ms $(((NOW - begin) / 1000))
  trap '' USR1
  kill "$dog"
  wait "$dog"
  trap - USR1
  if [ -n "$expired" ]; then
    fact "$name" gone no
    # Where it hangs, thread by thread: $OUT/NAME.stuck. The peer is known to.
    [ "$TRACER" = "$PEER" ] || head -n 100 /proc/$pid/task/*/{status,stack} > "$OUT/$name.stuck"
    return 1
  fi
  fact "$name" status $status
  fact "$name" gone yes
} 2>> "$OUT/$1.stderr"

stop() {
  progress "stop $1"
  if ! alive "${pid_of[$1]}"; then
    now
    reap "$1" "$NOW" 1000
    return 1
  fi
  local name=$1 signal=${2:-INT} limit_ms=${3:-60000} pid=${pid_of[$1]}
  fact "$name" hwm_kib "$(awk '/^VmHWM/ { print $2 }' /proc/$pid/status)"
  now
  kill -"$signal" "$pid"
  reap "$name" "$NOW" "$limit_ms"
} 2>> "$OUT/stderr"

run() {
  local name=$1 begin
  shift
  now; begin=$NOW
  set -m
  "$TRACER" "$@" > "$OUT/$name.out" 2> "$OUT/$name.err" &
  pid_of[$name]=$!
  set +m
  echo "$TRACER $*" > "$OUT/$name.command"
  # One that should have refused and did not is ended.
  reap "$name" "$begin" "${RUN_PATIENCE_MS:-30000}" || { kill -INT ${pid_of[$name]}; reap "$name" "$NOW" 10000; }
}

# lines_in NAME N: whether the tracer has printed N lines (the header counts).
lines_in() { [ "$(wc -l < "$OUT/$1.out")" -ge "$2" ]; }

# settle NAME: waits until the output has not grown for 0.3 s, 10 s at most (of the fastest machine).
settle() {
  local before=-1 size=0 tries=0
  while [ "$size" != "$before" ] && [ $tries -lt 33 ]; do
    before=$size
    pause 0.3
    size=$(wc -c < "$OUT/$1.out")
    tries=$((tries + 1))
  done
}

# chapter NAME TITLE: what was printed since the last chapter is kept as $OUT/TITLE.lines, under the header.
chapter() {
  local from=${chapter_end[$1]:-1} to
  settle "$1"
  to=$(wc -l < "$OUT/$1.out")
  sed -n "1p;$((from + 1)),${to}p" "$OUT/$1.out" > "$OUT/$2.lines"
  chapter_end[$1]=$to
}

# attached NAME: how many functions are hooked right now, by either kind of hook.
attached() {
  fact "$1" enabled_functions "$(wc -l < /sys/kernel/tracing/enabled_functions)"
  fact "$1" kprobes "$(grep -vc DISABLED /sys/kernel/debug/kprobes/list)"
}

# snapshot NAME: what hangs on the kernel, as $OUT/NAME.progs, .links, .kprobe_events, .kprobes, .enabled_functions.
snapshot() {
  # bpftool's own iterator is gone before the next one looks; ids, times and sizes differ from run to run.
  bpftool -j prog show | grep -oE '"type":"[a-z_]+","name":"[^"]*"' | grep -v pid_iter | sort > "$OUT/$1.progs"
  bpftool -j link show 2> /dev/null | grep -oE '"type":"[a-z_]+"' | sort > "$OUT/$1.links"
  cat /sys/kernel/tracing/kprobe_events > "$OUT/$1.kprobe_events"
  grep -v DISABLED /sys/kernel/debug/kprobes/list > "$OUT/$1.kprobes"
  cut -d' ' -f1 /sys/kernel/tracing/enabled_functions > "$OUT/$1.enabled_functions"
}

# swept: whether no definition of a kprobe event is left.
swept() { ! read -r _ < /sys/kernel/tracing/kprobe_events; }
