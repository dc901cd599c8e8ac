# llmhost: find, start, look at and stop a model server on this machine, behind machine.sh.
# First line of the input: set -- VERB SERVER OWNER ARGUMENTS…
# shellcheck shell=sh disable=SC1007,SC2016,SC2034,SC2086,SC2088,SC2116,SC2154
# How many beside it the kernel has killed since it began, and then how much memory there is for all of them.
tell_kills() {      # PID NOW BEFORE
    case $2.$3 in .* | *. | *[!0-9.]*) return 0 ;; esac
    say kills "$(($2 - $3))"
    [ "$2" -gt "$3" ] || return 0
    limit=$(for d in $(memory_files "$1"); do cat "$d/memory.max" "$d/memory.limit_in_bytes" 2>/dev/null; done |
        grep -x '[0-9]\{1,15\}' | sort -n | head -n 1)
    [ -n "$limit" ] && say limit "$limit"
}

# For how long it and all it started have computed, in hundredths of a second; the bytes they have read, with the memory they have; and
# whether somebody stopped it (T).
tell_life() {
    ticks=0 moved=0 now=$(killed "$pid")
    for p in $(marked); do
        { read -r stat <"/proc/$p/stat"; } 2>/dev/null || continue
        set -- ${stat##*) }
        ticks=$((ticks + ${12} + ${13}))
        moved=$((moved + ${22} * 4096))
        [ "$p" = "$pid" ] && say state "$1"
        while read -r word n; do
            case $word in rchar: | read_bytes:) moved=$((moved + n)) ;; esac
        done 2>/dev/null <"/proc/$p/io"
    done
    say ticks "$ticks"
    say moved "$moved"
    tell_kills "$pid" "$now" "$kills"
}

# How it ended. Its keeper needs a moment to say so.
tell_end() {
    last=$(last_line) && say last_line "$last"
    [ -n "$restarted" ] && say restarted 1
    [ -e "$pidfile" ] && [ -z "$restarted" ] || return 0
    n=0
    until { read -r ended now before <"$endfile"; } 2>/dev/null || [ $n -ge 5 ]; do
        n=$((n + 1))
        nap
    done
    [ $n -lt 5 ] || return 0
    say ended "$ended"
    tell_kills $$ "$now" "$before"
    case $last in *in\ use* | *bind*) port_owner "$o" ;; esac
}

# Who listens on a port of 127.0.0.1 now: "python3 (pid 77)", as far as we may see it.
port_owner() {      # PORT
    hex=$(printf %04X "$1")
    inode=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r n local remote state q t r u w inode rest; do
        [ "$state" = 0A ] && [ "${local##*:}" = "$hex" ] && echo "$inode" && break
    done)
    [ -n "$inode" ] || return 0
    owner=$(ls -l /proc/[0-9]*/fd/* 2>/dev/null | grep -F " -> socket:[$inode]" | head -n 1 | sed 's|.* /proc/\([0-9]*\)/fd/.*|\1|')
    [ -n "$owner" ] && say owner "$(cat "/proc/$owner/comm") (pid $owner)"
}

# Where llama.cpp put the model, in its own words. A build that can use no card says nothing of layers, and tells of its buffers alone.
tell_layers() {
    lines=$(head -c 1000000 "$log" 2>/dev/null | text -E 'offloaded [0-9]+/[0-9]+ layers|load_tensors: .*model buffer size')
    layers=$(echo "$lines" | text -oE '[0-9]+/[0-9]+ layers' | tail -n 1)
    [ -n "$lines" ] && say layers "${layers:-0/1 layers}"
    return 0
}

tell_server() {
    find_server
    say base "$base"
    say log "$log"
    if [ -n "$pid" ]; then
        say pid "$pid"
        say port "$port"
        [ -n "$foreign" ] && say foreign "$foreign"
        tell_life
    else
        tell_end
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
    # What install.sh put there, the newest.
    place=$(ls -dt "$base/engines/$1-"*/complete 2>/dev/null | head -n 1)
    [ -x "${place%complete}bin/$1" ] && echo "${place%complete}bin/$1"
    return 0
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

do_find() {         # PROGRAM PATH USUAL ARGUMENTS
    program=$(find_program "$1" "$2" "$3")
    if [ -n "$program" ]; then
        say program "$program"
        { read -r mark <"${program%/bin/*}/complete"; } 2>/dev/null && [ "$mark" = unverified ] && say unverified 1
        # Not a server of somebody else's that happens to listen where it looks first.
        say version "$(OLLAMA_HOST=127.0.0.1:1 "$program" --version 2>&1 </dev/null | text -i version | tail -n 1)"
    fi
    command -v nvidia-smi >/dev/null 2>&1 || { command -v npu-smi >/dev/null 2>&1 && say chip ascend; }
    [ -d "$HOME/.ollama/models/manifests" ] && say models "$HOME/.ollama/models"
    tell_server
    [ -n "$pid" ] && [ "$(cat "$words" 2>/dev/null)" != "$4" ] && say other 1
}

do_start() {        # ENVIRONMENT COMMAND ARGUMENTS HUNG
    take_lock
    find_server
    [ -n "$pid" ] && [ "$pid" = "$4" ] && [ -z "$foreign" ] && end_server 10 20
    if [ -z "$pid" ]; then
        sweep
        port=$(free_port)
        { printf %s "$3" >"$words"; } 2>/dev/null || fail disk_full "cannot write $words"
        launch "$(printf '%s' "exec env $1 $2" | sed -e "s|@PORT@|$port|g" -e "s|@BASE@|$base|g") $3"
    fi
    tell_server
}

# Asked, asked once more (llama-server wants that), killed with its group.
end_server() {      # AGAIN KILL: after how many tenths of a second
    was=$pid n=0
    [ -n "$was" ] && kill -TERM "$was" 2>/dev/null
    while find_server; [ -n "$pid" ]; do
        n=$((n + 1))
        [ $n = "$1" ] && kill -TERM "$pid" 2>/dev/null
        [ $n = "$2" ] && kill -KILL "-$pid" 2>/dev/null
        [ $n -gt 150 ] && fail engine_stuck "process $pid does not end"
        nap
    done
    [ -n "$was" ] && kill -KILL "-$was" 2>/dev/null
}

# Somebody else's stays: who started it may need it.
do_stop() {
    take_lock
    find_server
    if [ -n "$foreign" ]; then
        tell_server
        return 0
    fi
    end_server 50 100
    sweep
    n=0
    until [ -z "$was" ] || [ -e "$endfile" ] || [ $n -ge 10 ]; do
        n=$((n + 1))
        nap
    done
    rm -f "$pidfile" "$pidfile.new" "$endfile" "$words"
    say gone 1
}

owner=$1
shift
find_base
case $verb in
find) do_find "$@" ;;
start) do_start "$@" ;;
look)
    tell_server
    [ -n "$pid" ] && tell_layers
    ;;
stop) do_stop ;;
esac
say ok 1
