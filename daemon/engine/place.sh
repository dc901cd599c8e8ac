# llmhost: find, start, look at and stop a model server on this machine. For any POSIX sh; needs no root.
# First line of the input: set -- VERB SERVER ARGUMENTS…; answers are lines KEY=VALUE, the last one is ok= or error=CODE TEXT.
# shellcheck shell=sh disable=SC1007,SC2016,SC2034,SC2086,SC2088,SC2116
say() { printf '%s=%s\n' "$1" "$2"; }
fail() { say error "$1 $2"; exit 0; }
text() { LC_ALL=C grep -a "$@"; }       # whatever bytes there are
nap() { sleep 0.1 2>/dev/null || sleep 1; }

# The first data disk that is there and can be written; rented machines keep it over a stop (AutoDL, PAI-DSW), the home last.
find_base() {
    for disk in /root/autodl-tmp /mnt/workspace /mnt/data /data "$HOME"; do
        [ -d "$disk" ] && [ -w "$disk" ] && break
    done
    base=$disk/llmhost
    [ "$disk" = "$HOME" ] && base=$HOME/.llmhost
    run=$base/run
    mkdir -p "$run" 2>/dev/null || fail disk_full "cannot make $run"
    pidfile=$run/$server.pid
    log=$run/$server.log
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
    meant | text -iE 'no such file|could not establish connection|no space|out of memory|to allocate|invalid magic|architecture|not within|in use' |
        tail -n 1 | text . ||
        meant | text -iE 'error|fail|invalid|cannot|not found|panic|fatal|abort|killed' | tail -n 1 | text .
}

tell_server() {
    find_server
    say base "$base"
    say log "$log"
    if [ -n "$pid" ]; then
        say pid "$pid"
        say port "$port"
    else
        last=$(last_line) && say last_line "$last"
    fi
    last=$(meant | tail -n 1 | text .) && say last_words "$last"
}

find_program() {    # NAME PATH USUAL
    if [ -n "$2" ]; then
        case $2 in "~/"*) set -- "$1" "$HOME/${2#??}" "$3" ;; esac
        [ -x "$2" ] && [ ! -d "$2" ] && echo "$2"
        return 0
    fi
    command -v "$1" 2>/dev/null && return 0
    for place in $3; do
        case $place in
        "~/"*) place=$HOME/${place#??} ;;
        BASE/*) place=$base/${place#BASE/} ;;
        esac
        [ -x "$place" ] && [ ! -d "$place" ] && echo "$place" && return 0
    done
}

# A port of 127.0.0.1 nobody listens on, by the kernel's own list; the same server tends to get the same one.
free_port() {
    taken=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r n local remote state rest; do
        [ "$state" = 0A ] && echo "${local##*:}"
    done)
    try=$((20000 + $(printf %s "$server" | cksum | cut -d' ' -f1) % 10000))
    while :; do
        hex=$(printf %04X "$try")
        case " $(echo $taken) " in *" $hex "*) try=$((try + 1)) ;; *) break ;; esac
    done
    echo "$try"
}

do_find() {         # PROGRAM PATH USUAL
    program=$(find_program "$1" "$2" "$3")
    if [ -n "$program" ]; then
        say program "$program"
        # Not a server of somebody else's that happens to listen where it looks first.
        say version "$(OLLAMA_HOST=127.0.0.1:1 "$program" --version 2>&1 </dev/null | text -i version | tail -n 1)"
    fi
    [ -d "$HOME/.ollama/models/manifests" ] && say models "$HOME/.ollama/models"
    tell_server
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

do_start() {        # ENVIRONMENT COMMAND
    take_lock
    find_server
    if [ -z "$pid" ]; then
        sweep
        port=$(free_port)
        launch "$(printf '%s' "exec env $1 $2" | sed -e "s|@PORT@|$port|g" -e "s|@BASE@|$base|g")"
    fi
    tell_server
}

do_stop() {
    take_lock
    find_server
    was=$pid n=0
    [ -n "$was" ] && kill -TERM "$was" 2>/dev/null
    while find_server; [ -n "$pid" ]; do
        n=$((n + 1))
        [ $n = 50 ] && kill -TERM "$pid" 2>/dev/null
        [ $n = 100 ] && kill -KILL "-$pid" 2>/dev/null
        [ $n -gt 150 ] && fail engine_stuck "process $pid does not end"
        nap
    done
    [ -n "$was" ] && kill -KILL "-$was" 2>/dev/null
    sweep
    rm -f "$pidfile" "$pidfile.new"
    say gone 1
}

umask 077
[ -n "$HOME" ] && [ -d "$HOME" ] || HOME=$(cd ~ 2>/dev/null && pwd)
export HOME
verb=$1 server=$2
shift 2
find_base
case $verb in
find) do_find "$@" ;;
start) do_start "$@" ;;
look) tell_server ;;
stop) do_stop ;;
esac
say ok 1
