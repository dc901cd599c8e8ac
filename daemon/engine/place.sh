# llmhost: find, start, look at and stop a model server on this machine, behind machine.sh.
# First line of the input: set -- VERB SERVER ARGUMENTS…
# shellcheck shell=sh disable=SC1007,SC2016,SC2034,SC2086,SC2088,SC2116,SC2154
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
        # Not a server of somebody else's that happens to listen where it looks first.
        say version "$(OLLAMA_HOST=127.0.0.1:1 "$program" --version 2>&1 </dev/null | text -i version | tail -n 1)"
    fi
    command -v nvidia-smi >/dev/null 2>&1 || { command -v npu-smi >/dev/null 2>&1 && say chip ascend; }
    [ -d "$HOME/.ollama/models/manifests" ] && say models "$HOME/.ollama/models"
    tell_server
    [ -n "$pid" ] && [ "$(cat "$words" 2>/dev/null)" != "$4" ] && say other 1
}

do_start() {        # ENVIRONMENT COMMAND ARGUMENTS
    take_lock
    find_server
    if [ -z "$pid" ]; then
        sweep
        port=$(free_port)
        { printf %s "$3" >"$words"; } 2>/dev/null || fail disk_full "cannot write $words"
        launch "$(printf '%s' "exec env $1 $2" | sed -e "s|@PORT@|$port|g" -e "s|@BASE@|$base|g") $3"
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
    rm -f "$pidfile" "$pidfile.new" "$words"
    say gone 1
}

find_base
case $verb in
find) do_find "$@" ;;
start) do_start "$@" ;;
look) tell_server ;;
stop) do_stop ;;
esac
say ok 1
