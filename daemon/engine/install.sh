# llmhost: install an engine on this machine, behind machine.sh. What takes long is a job of its own (install_job.sh) in a session of its
# own, which outlives whoever asked; the steps here start it, look at it and bring bytes. NAME of the first line is NAME.install.
# shellcheck shell=sh disable=SC1007,SC2034,SC2086,SC2154
have() { command -v "$1" >/dev/null 2>&1; }
size_of() { stat -Lc %s "$1" 2>/dev/null || echo 0; }
quoted() { printf "'%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }
number() { case $1 in '' | *[!0-9]*) return 1 ;; esac; }

# What decides where an archive comes from, and which.
do_look() {
    say arch "$(uname -m)"
    have cards && cards | while read -r line; do say card "$line"; done     # not on the daemon's own host (machine.h)
    for tool in curl wget zstd gzip tar sha256sum setsid; do
        have $tool && say tool $tool
    done
    # What lies there of an earlier try is room that is needed no more.
    parts=0
    for part in "$engines"/*.part; do
        parts=$((parts + $(size_of "$part") / 1024))
    done
    set -- $(df -Pk "$base" 2>/dev/null | tail -n 1)
    number "$4" && say free_kb "$(($4 + parts))"
}

tell_job() {
    find_server
    [ -n "$pid" ] && say running 1
    cat "$state" 2>/dev/null
    what=
    { read -r what <"$state.what"; } 2>/dev/null
    say what "$what"
    say have "$(size_of "$engines/$what.part")"
    if grep -q '^doing=unpacking' "$state" 2>/dev/null; then
        set -- $(du -sk "$engines"/*.new 2>/dev/null)
        number "$1" && say have "$(($1 * 1024))"
    fi
}

# WHAT DIRECTORY URLS... the rest as install_job.sh says; the last argument is its text. One job at a time, whoever asks.
do_begin() {
    for text; do :; done
    mkdir -p "$engines" 2>/dev/null || fail disk_full "cannot make $engines"
    take_lock
    find_server
    if [ -z "$pid" ]; then
        port=0
        { rm -f "$state" && echo "$1" >"$state.what"; } 2>/dev/null || fail disk_full "cannot write in $run"
        JOB_TEXT=$text
        export JOB_TEXT
        line='exec sh -c "$JOB_TEXT" install'
        for word in "$base" "$state" "$@"; do
            [ "$word" = "$text" ] || line="$line $(quoted "$word")"
        done
        launch "$line"
    fi
    tell_job
}

# WHAT DIRECTORY WHO: may WHO bring bytes now? Not while a job runs or somebody else brings them.
do_turn() {
    mkdir -p "$engines" 2>/dev/null || fail disk_full "cannot make $engines"
    take_lock
    find_server
    now=$(date +%s) who= since=0
    { read -r who since <"$state.bringer"; } 2>/dev/null
    number "$since" || since=0
    [ -e "$engines/$2/complete" ] && say installed 1
    if [ -n "$pid" ] || { [ "$who" != "$3" ] && [ $((now - since)) -lt 30 ] && [ $((since - now)) -lt 30 ]; }; then
        say taken 1
    else
        { echo "$3 $now" >"$state.bringer" && echo "$1" >"$state.what"; } 2>/dev/null || fail disk_full "cannot write in $run"
    fi
    say have "$(size_of "$engines/$1.part")"
}

# WHAT WHO BLOCK COUNT: COUNT bytes of standard input go to block BLOCK (of 64 KiB). A writer left over from a lost connection writes the
# same bytes to the same place, so it does no harm.
do_bring() {
    { echo "$2 $(date +%s)" >"$state.bringer"; } 2>/dev/null
    if ! said=$(LC_ALL=C dd of="$engines/$1.part" bs=65536 seek="$3" conv=notrunc 2>&1); then
        said=$(echo "$said" | grep dd: | head -n 1)
        case $said in *[Ss]pace*) code=disk_full && rm -f "$engines/$1.part" ;; *) code=engine_damaged ;; esac
        fail $code "cannot write $engines/$1.part: $said"
    fi
    say have "$(size_of "$engines/$1.part")"
}

[ "$1" = - ] || base=$1
shift
find_base
state=$run/$server.state engines=$base/engines
case $verb in
look) do_look ;;
begin) do_begin "$@" ;;
poll) tell_job ;;
turn) do_turn "$@" ;;
bring) do_bring "$@" ;;
esac
say base "$base"
say ok 1
