# llmhost: what every step on a machine begins with. For any POSIX sh; needs no root; sent in front of place.sh and install.sh.
# First line of the input: set -- VERB NAME ARGUMENTS…; answers are lines KEY=VALUE, the last one is ok= or error=CODE TEXT.
# shellcheck shell=sh disable=SC1007,SC2034,SC2086,SC2154
say() { printf '%s=%s\n' "$1" "$2"; }
fail() { say error "$1 $2"; exit 0; }
text() { LC_ALL=C grep -a "$@"; }       # whatever bytes there are
nap() { sleep 0.1 2>/dev/null || sleep 1; }

# Our directory: $base when it is set, else on the first data disk that is there and can be written; rented machines keep it over a
# stop (AutoDL, PAI-DSW), the home last. The files of $server are in its run/.
find_disk() {
    [ -z "$base" ] || return 0
    for disk in /root/autodl-tmp /mnt/workspace /mnt/data /data "$HOME"; do
        [ -d "$disk" ] && [ -w "$disk" ] && break
    done
    base=$disk/llmhost
    [ "$disk" = "$HOME" ] && base=$HOME/.llmhost
    return 0
}
find_base() {
    find_disk
    run=$base/run
    mkdir -p "$run" 2>/dev/null || fail disk_full "cannot make $run"
    pidfile=$run/$server.pid
    endfile=$run/$server.end
    log=$run/$server.log
    words=$run/$server.arguments
    lock=$run/$server.lock
}

# Start time of a process that lives; nothing for one that is gone, a zombie, or never was.
born() {
    stat=
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 0
    stat=${stat##*) }
    case $stat in Z* | X*) return 0 ;; esac
    set -- $stat
    echo "${20}"
}

# Which start of this machine it is: the kernel's, and that of the first process, because a container that is started again keeps the
# kernel's. Start times count from the kernel's: without this, a number of an earlier start could be somebody else's process of today.
which_boot() {
    id=
    { read -r id </proc/sys/kernel/random/boot_id; } 2>/dev/null
    echo "$id/$(born 1)"
}

# Sets pid and port when our server runs, and kills: what killed() said when it was started. restarted: it ran before the machine was
# started anew. foreign: another llmhostd than $owner started it. A file of fewer words is of an older one, which did not write all this.
find_server() {
    pid= port= kills= restarted= foreign=
    { read -r p b o k kills by rest <"$pidfile"; } 2>/dev/null || return 0
    if [ "${k:-$boot}" != "$boot" ]; then
        restarted=1
        return 0
    fi
    now=$(born "$p")
    [ -n "$now" ] && [ "$now" = "$b" ] || return 0
    pid=$p port=$o
    [ "${by:-$owner}" = "$owner" ] || foreign=$by
}

# Where the kernel counts the memory of a process and those beside it: by the path a machine sees, or as a container sees its own.
memory_files() {    # PID
    { while IFS=: read -r n kinds path; do
        case $kinds in
        '') echo "/sys/fs/cgroup$path" /sys/fs/cgroup ;;
        memory | memory,* | *,memory | *,memory,*) echo "/sys/fs/cgroup/memory$path" /sys/fs/cgroup/memory ;;
        esac
    done <"/proc/$1/cgroup"; } 2>/dev/null
}
# How many of them it has killed since it began to count, because there was no memory left (cgroup v2, v1, else the whole machine).
killed() {          # PID
    for d in $(memory_files "$1") /proc; do
        cat "$d/memory.events" "$d/memory.oom_control" "$d/vmstat" 2>/dev/null
    done | grep '^oom_kill ' | head -n 1 | cut -d' ' -f2
}

# One start or stop at a time. The lock is a directory that names its holder; whose holder was killed is broken.
take_lock() {
    tries=0 strange=0
    until mkdir "$lock" 2>/dev/null; do
        tries=$((tries + 1)) holder=
        { read -r holder since <"$lock/holder"; } 2>/dev/null
        if [ ! -d "$lock" ]; then
            strange=$((strange + 1))
            [ $strange -gt 20 ] && fail disk_full "cannot write in $run"
        elif [ -n "$holder" ]; then
            [ "$(born "$holder")" = "$since" ] || rm -rf "$lock"
        elif [ $tries -gt 30 ]; then
            rm -rf "$lock"
        fi
        [ $tries -gt 250 ] && fail busy "another start or stop of $server goes on"
        nap
    done
    trap 'rm -rf "$lock"' EXIT
    trap 'exit 1' HUP INT TERM
    { echo "$$ $(born $$)" >"$lock/holder"; } 2>/dev/null
}

# What a server started carries our mark in its environment: ollama's runners stay when it is killed, and keep the memory of the card.
marked() { grep -lsF "LLMHOST_SERVER=$pidfile" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3; }
sweep() {
    n=0
    while left=$(marked); [ -n "$left" ] && [ $n -lt 50 ]; do
        kill -KILL $left 2>/dev/null
        n=$((n + 1))
        nap
    done
}

# The end of the log without what tells of requests and of things that go well.
meant() { tail -c 8000 "$log" 2>/dev/null | text -vE '^[[:space:]]*$|^\[GIN\]|level=(INFO|DEBUG)'; }

# Why it ended: the last line that names a cause, else the last one that speaks of something wrong.
causes='no such file|could not establish connection|no space|writing to file|out of memory|to allocate|invalid magic|architecture|not within|in use'
causes="$causes|bind http|shared object|glibc|driver version|kernel image|illegal instruction|signal: "
last_line() {
    meant | text -iE "$causes" | tail -n 1 | text . ||
        meant | text -iE 'error|fail|invalid|cannot|not found|panic|fatal|abort|killed' | tail -n 1 | text .
}

# The server, in a session of its own: it must outlive us. Its keeper waits for it to write down how it ended ("STATUS KILLS BEFORE",
# which nobody else can know), and has no mark: it is no part of the server, and ends with it.
server_text='echo "$$" >"$1.pid.new" && LLMHOST_SERVER=$1.pid && export LLMHOST_SERVER && eval "$2"'
keeper_text='set -- "$KEEP_AT" "$KEEP_LINE" "$KEEP_SERVER" "$KEEP_BEFORE" "$KEEP_FILES"
unset KEEP_AT KEEP_LINE KEEP_SERVER KEEP_BEFORE KEEP_FILES
setsid sh -c "$3" sh "$1" "$2" &
exec >/dev/null 2>&1
wait $!
status=$?
for d in $5; do cat "$d/memory.events" "$d/memory.oom_control" "$d/vmstat"; done | grep "^oom_kill " | {
    read -r word kills
    echo "$status ${kills:-0} ${4:-0}" >"$1.end"
}'

# All three descriptors away from ours.
launch() {          # LINE
    rm -f "$pidfile" "$pidfile.new" "$endfile"
    { printf '' >"$log"; } 2>/dev/null || fail disk_full "cannot write $log"
    before=$(killed $$)
    # Not as arguments: whoever looks for the server by its command line shall find the server.
    KEEP_AT=${pidfile%.pid} KEEP_LINE=$1 KEEP_SERVER=$server_text KEEP_BEFORE=$before KEEP_FILES="$(memory_files $$) /proc" \
        setsid sh -c "$keeper_text" </dev/null >>"$log" 2>&1 &
    tries=0 new=
    until { read -r new <"$pidfile.new"; } 2>/dev/null && [ -n "$new" ] || [ $tries -gt 50 ]; do
        tries=$((tries + 1))
        sleep 0.05 2>/dev/null || sleep 1
    done
    [ -n "$new" ] || [ ! -e "$pidfile.new" ] || fail disk_full "cannot write $pidfile"
    [ -n "$new" ] || fail engine_exited "cannot be started: $(last_line || meant | tail -n 1)"
    since=$(born "$new")
    if ! { echo "$new ${since:-0} $port $boot ${before:-0} $owner" >"$pidfile.new" && mv "$pidfile.new" "$pidfile"; } 2>/dev/null; then
        kill -KILL "-$new" 2>/dev/null
        rm -f "$pidfile" "$pidfile.new"
        fail disk_full "cannot write $pidfile"
    fi
}

umask 077
[ -n "$HOME" ] && [ -d "$HOME" ] || HOME=$(cd ~ 2>/dev/null && pwd)
export HOME
base= owner= verb=$1 server=$2 boot=$(which_boot)
shift 2
