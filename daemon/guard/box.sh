# llmhost: what the daemon asks of a box that has guard.sh, or shall have it. For any POSIX sh. In front of it: set -- VERB ARGUMENTS...
#   install FIRST ASK...    puts $text there, which is guard.sh; starts it; asks as below
#   ask OWNER SEQ SECONDS HOLD|= HPID [take]
#   read
#   release OWNER           ends the guard, if it is that owner's or nobody's, and what belongs to it
# Answers with lines KEY=VALUE: folder=, as= (root sudo none), said= (the status of guard.sh), record=, now=, typed=; the last one is ok=.
# shellcheck shell=sh disable=SC2086
say() { printf '%s=%s\n' "$1" "$2"; }
over() { say ok; exit 0; }

# Runs guard.sh where it lies, if it is ours: everybody may write in /dev/shm.
guard() {       # ask ARGUMENTS... | look
    said=2 answer=
    for folder in /dev/shm /run "$HOME"; do
        [ -O "$folder/.llmhost.sh" ] || continue
        answer=$(sh "$folder/.llmhost.sh" "$@" </dev/null 2>/dev/null)
        said=$?
        [ -z "$answer" ] || return 0
    done
    folder=
}

# How many seconds ago somebody typed into a terminal that a process here lives on, by this clock: the system notes when it was
# read, within 8 s. Nothing where there is none, or where that cannot be known.
typed() {
    terminals=$(cat /proc/[0-9]*/stat 2>/dev/null | while read -r line; do
        set -- ${line##*) }
        { [ "$5" -ge 34816 ] && [ "$5" -lt 35072 ]; } 2>/dev/null && echo "/dev/pts/$(($5 - 34816))"
    done)
    [ -n "$terminals" ] || return 0
    youngest=0 clock=$(date +%s)
    for read in $(stat -c %X $terminals 2>/dev/null); do
        [ "$read" -le "$youngest" ] || youngest=$read
    done
    [ $youngest = 0 ] || [ "$clock" -lt $youngest ] || say typed $((clock - youngest))
}

tell() {
    say folder "$folder"
    say said "$said"
    say record "${answer%%
*}"
    say now "${answer##*
}"
    typed
    over
}

who() {
    as=none
    if [ "$(id -u)" = 0 ]; then
        as=root
    elif sudo -n true </dev/null >/dev/null 2>&1; then
        as=sudo
    fi
    say as $as
    [ $as != none ] || over
}

is_tmpfs() {
    while read -r device at kind rest; do
        [ "$at $kind" != "$1 tmpfs" ] || return 0
    done </proc/mounts
    return 1
}

# By mv, from a file that is new and ours. On a full disk the one that is there is as good, if it is the same.
put() {         # FOLDER
    [ -d "$1" ] && new=$1/.llmhost.sh.new || return 1
    rm -f "$new"
    if (set -C && printf '%s' "$text" >"$new" && mv -f "$new" "$1/.llmhost.sh") 2>/dev/null; then
        return 0
    fi
    rm -f "$new"
    [ -O "$1/.llmhost.sh" ] && [ "$(cat "$1/.llmhost.sh"; echo .)" = "$text." ]
}

# Where the guard lives that this one replaces; else what a restart empties, else the home.
place() {
    guard look
    [ -n "$answer" ] && put "$folder" && return 0
    for folder in /dev/shm /run "$HOME"; do
        [ "$folder" != /dev/shm ] || is_tmpfs "$folder" || continue
        ! put "$folder" || return 0
    done
    say said 3
    over
}

# The second dog follows records of this version in /dev/shm alone; any other would end a healthy box (lease.md 1.7).
end_dogs() {
    for process in /proc/[0-9]*; do
        words=$({ tr '\0' ' ' <"$process/cmdline"; } 2>/dev/null)
        case $words in *' llmhost-''first ') ;; *) continue ;; esac
        case $folder$words in
        /dev/shm*'"llmhost1$b$i"'*) ;;
        *) kill -KILL "${process#/proc/}" 2>/dev/null ;;
        esac
    done
}

# Sets pid, owner, state of the record that was answered.
read_answer() {
    set -f
    # shellcheck disable=SC2046
    set -- $(printf '%s\n' "${answer%%
*}")
    set +f
    pid=$4 owner=$7 state=${13}
}

# What was asked of the guard before may put one there just now: so it is looked for once more.
release() {     # OWNER
    for turn in 1 2; do
        guard look
        while [ $said = 0 ]; do
            read_answer
            case $owner:$state in
            "$1":acting | -:acting) said=1; return 0 ;;
            "$1":* | -:*) ;;
            *) said=1; return 0 ;;
            esac
            kill -KILL "$pid" 2>/dev/null || return 0
            sleep 0.05 2>/dev/null || sleep 1
            guard look
        done
        [ -z "$folder" ] || rm -f "$folder/.llmhost.sh" "$folder/.llmhost.sh.new" "$folder/.llmhost-guard" "$folder/.llmhost-ask" "$folder/.llmhost-ask.new"
        folder=
        end_dogs
        [ $turn = 2 ] || sleep 1
    done
    guard look
}

umask 077
verb=$1
shift
case $verb in
read)
    guard look
    tell
    ;;
ask)
    guard ask "$@"
    tell
    ;;
release)
    release "$1"
    tell
    ;;
install)
    first=$1
    shift
    who
    place
    at=$folder tries=0
    if command -v setsid >/dev/null 2>&1; then
        setsid sh "$at/.llmhost.sh" run "$first" </dev/null >/dev/null 2>&1 &
    else
        sh "$at/.llmhost.sh" run "$first" </dev/null >/dev/null 2>&1 &
    fi
    guard ask "$@"
    while [ $said = 2 ] && [ $((tries += 1)) -le 40 ]; do
        sleep 0.05 2>/dev/null || sleep 1
        guard ask "$@"
    done
    [ $said != 0 ] || end_dogs
    tell
    ;;
esac
