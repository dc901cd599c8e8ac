# llmhost: find, start, look at and stop a model server on this machine. For any POSIX sh; needs no root.
# First line of the input: set -- VERB SERVER ARGUMENTS…; answers are lines KEY=VALUE, the last one is ok= or error=.
say() { printf '%s=%s\n' "$1" "$2"; }
fail() { say error "$1"; exit 0; }

# The first data disk that is there and can be written; rented machines keep it over a stop (AutoDL, PAI-DSW), the home last.
find_base() {
    for disk in /root/autodl-tmp /mnt/workspace /mnt/data /data "$HOME"; do
        [ -d "$disk" ] && [ -w "$disk" ] && break
    done
    base=$disk/llmhost
    [ "$disk" = "$HOME" ] && base=$HOME/.llmhost
    run=$base/run
    mkdir -p "$run" 2>/dev/null || fail "disk: cannot make $run"
    pidfile=$run/$server.pid
    log=$run/$server.log
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

# Why it ended: the last line that speaks of something wrong, else the last one.
last_line() {
    tail -c 8000 "$log" 2>/dev/null | grep -iE 'error|fail|memory|invalid|cannot|not found|no space|not within' | tail -n 1 |
        grep . || tail -c 4000 "$log" 2>/dev/null | grep -v '^[[:space:]]*$' | tail -n 1
}

tell_server() {
    find_server
    say base "$base"
    say log "$log"
    if [ -n "$pid" ]; then
        say pid "$pid"
        say port "$port"
    else
        [ -s "$log" ] && say last_line "$(last_line)"
    fi
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
        say version "$("$program" --version 2>&1 </dev/null | grep -i version | tail -n 1)"
    fi
    [ -d "$HOME/.ollama/models/manifests" ] && say models "$HOME/.ollama/models"
    tell_server
}

do_start() {        # ENVIRONMENT COMMAND
    tries=0
    until mkdir "$run/$server.lock" 2>/dev/null; do
        tries=$((tries + 1))
        # Whoever holds it for so long was killed in the middle.
        [ $tries -gt 100 ] && rmdir "$run/$server.lock" 2>/dev/null
        sleep 0.1 2>/dev/null || sleep 1
    done
    trap 'rmdir "$run/$server.lock" 2>/dev/null' EXIT
    find_server
    if [ -z "$pid" ]; then
        port=$(free_port)
        line=$(printf '%s' "exec env $1 $2" | sed -e "s|@PORT@|$port|g" -e "s|@BASE@|$base|g")
        : >"$log" 2>/dev/null || fail "disk: cannot write $log"
        rm -f "$pidfile"
        # All three descriptors away from ours, and a session of its own: it must outlive us.
        setsid sh -c 'echo "$$" >"$1.new"; eval "$2"' sh "$pidfile" "$line" </dev/null >>"$log" 2>&1 &
        tries=0
        until [ -s "$pidfile.new" ] || [ $tries -gt 50 ]; do
            tries=$((tries + 1))
            sleep 0.05 2>/dev/null || sleep 1
        done
        read -r new <"$pidfile.new" || fail "disk: cannot write $pidfile"
        echo "$new $(born "$new") $port" >"$pidfile"
        rm -f "$pidfile.new"
    fi
    tell_server
}

do_stop() {
    find_server
    [ -n "$pid" ] || { say gone 1; return; }
    was=$pid
    kill -TERM "$pid" 2>/dev/null
    n=0
    while find_server; [ -n "$pid" ]; do
        n=$((n + 1))
        [ $n = 50 ] && kill -TERM "$pid" 2>/dev/null
        [ $n = 100 ] && kill -KILL "-$pid" 2>/dev/null
        [ $n -gt 150 ] && fail "alive: process $pid does not end"
        sleep 0.1 2>/dev/null || sleep 1
    done
    # Runners of a server that was killed stay in its group and keep the memory of the card.
    kill -KILL "-$was" 2>/dev/null
    rm -f "$pidfile"
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
