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

# Sets pid and port when our server runs.
find_server() {
    pid= port=
    { read -r p b o rest <"$pidfile"; } 2>/dev/null || return 0
    now=$(born "$p")
    [ -n "$now" ] && [ "$now" = "$b" ] || return 0
    pid=$p port=$o
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
last_line() {
    meant | text -iE 'no such file|could not establish connection|no space|writing to file|out of memory|to allocate|invalid magic|architecture|not within|in use' |
        tail -n 1 | text . ||
        meant | text -iE 'error|fail|invalid|cannot|not found|panic|fatal|abort|killed' | tail -n 1 | text .
}

# All three descriptors away from ours, and a session of its own: it must outlive us.
launch() {          # LINE
    rm -f "$pidfile" "$pidfile.new"
    { printf '' >"$log"; } 2>/dev/null || fail disk_full "cannot write $log"
    setsid sh -c 'echo "$$" >"$1.new" && LLMHOST_SERVER=$1 && export LLMHOST_SERVER && eval "$2"' sh "$pidfile" "$1" \
        </dev/null >>"$log" 2>&1 &
    tries=0 new=
    until { read -r new <"$pidfile.new"; } 2>/dev/null && [ -n "$new" ] || [ $tries -gt 50 ]; do
        tries=$((tries + 1))
        sleep 0.05 2>/dev/null || sleep 1
    done
    [ -n "$new" ] || [ ! -e "$pidfile.new" ] || fail disk_full "cannot write $pidfile"
    [ -n "$new" ] || fail engine_exited "cannot be started: $(last_line || meant | tail -n 1)"
    since=$(born "$new")
    if ! { echo "$new ${since:-0} $port" >"$pidfile.new" && mv "$pidfile.new" "$pidfile"; } 2>/dev/null; then
        kill -KILL "-$new" 2>/dev/null
        rm -f "$pidfile" "$pidfile.new"
        fail disk_full "cannot write $pidfile"
    fi
}

umask 077
[ -n "$HOME" ] && [ -d "$HOME" ] || HOME=$(cd ~ 2>/dev/null && pwd)
export HOME
base= verb=$1 server=$2
shift 2
