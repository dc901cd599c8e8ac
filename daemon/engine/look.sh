# llmhost: what this machine is, behind machine.sh and the function cards (gpu.c). Changes nothing. The words are ports of 127.0.0.1.
# shellcheck shell=sh disable=SC1007,SC2010,SC2012,SC2034,SC2154

# Who listens on PORT: "NAME (pid N)"; a process that is not ours to see is "somebody".
holder() {
    hex=$(printf %04X "$1")
    inode=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | while read -r n local remote state queues when again user timeout inode rest; do
        [ "$state" = 0A ] && [ "${local##*:}" = "$hex" ] && echo "$inode" && break
    done)
    [ -n "$inode" ] || return 1
    pid=$(ls -l /proc/[0-9]*/fd 2>/dev/null | while read -r line; do
        case $line in
        /proc/*/fd:) of=${line#/proc/} of=${of%/fd:} ;;
        *"socket:[$inode]") echo "$of" && break ;;
        esac
    done)
    if [ -n "$pid" ] && { read -r name <"/proc/$pid/comm"; } 2>/dev/null; then
        echo "$name (pid $pid)"
    else
        echo somebody
    fi
}

find_disk
say arch "$(uname -m)"
say base "$base"
place=$base
while [ ! -d "$place" ]; do place=$(dirname "$place"); done
df -Pk "$place" 2>/dev/null | tail -n 1 | while read -r device blocks used free rest; do say free_kb "$free"; done
run=$base/run pidfile=$base/run/ollama.pid
find_server
say ours "$port"
for want; do
    who=$(holder "$want") && say port "$want $who"
done
cards | while read -r line; do say card "$line"; done
say ok 1
