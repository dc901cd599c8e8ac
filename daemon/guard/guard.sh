# llmhost's guard: switches this machine off when nobody renews. For any POSIX sh; needs sh, cat, mv, kill, sleep and a command that stops.
# The protocol and why it is like this: lease.md, section 1 (reference, tried 2026-11; numbers below are its paragraphs).
#
#   guard.sh run FIRST [PERIOD [GRACE]]             guards: off FIRST seconds from now unless somebody asks. Looks every PERIOD (20)
#   guard.sh ask OWNER SEQ SECONDS HOLD|= HPID [take]
#   guard.sh look
#
# The guard is the only judge. A renewal is a request, handed in beside this file and told by SIGUSR1; the guard takes or refuses it and
# says so in its record. Both are one line, and one without the " ." at its end is half a line. Seconds are those of /proc/uptime.
#   .llmhost-guard  llmhost1 BOOT INIT PID BORN BEAT OWNER SEQ LEASE HOLD HPID HBORN STATE TRIES TAKEN WAYS NOTE .
#   .llmhost-ask    llmhost1 BOOT INIT OWNER SEQ UNTIL HOLD HPID HBORN VERB .
# STATE first lease acting; TAKEN: when the last request was taken; WAYS who:way,way,...: who is root, sudo (untried) or none; NOTE ok or
# no:REASON:OWNER:SEQ. It acts at max(LEASE, HOLD). The second dog (first.sh) reads the fields up to HOLD: they keep their places.
# shellcheck shell=sh disable=SC2034,SC2086,SC2154

# Seconds of this machine. Where they cannot be read, or went back, the naps are counted: $1 is what was slept since.
clock() {
    if { read -r t rest </proc/uptime; } 2>/dev/null && [ "${t%%.*}" -ge "$up" ] 2>/dev/null; then
        up=${t%%.*}
    else
        up=$((up + ${1:-0}))
    fi
}

# Sets at: the start time of a process that lives; nothing for one that is gone, a zombie, or never was.
born() {
    at=
    { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return
    stat=${stat##*) }
    case $stat in Z* | X*) return ;; esac
    set -- $stat
    at=${20}
}

# Which start of this machine it is: a container that is started again keeps the kernel's boot, so the first process belongs to it.
which_boot() {
    { read -r boot </proc/sys/kernel/random/boot_id; } 2>/dev/null || boot=-
    born 1
    init=${at:-0}
}

numbers() {
    for n; do
        case $n in '' | *[!0-9]* | ?????????????*) return 1 ;; esac
    done
}

# Sets line. Ours are rewritten in place, a byte at a time may be read meanwhile: so one that was read twice alike. Not somebody else's:
# everybody may write in /dev/shm.
read_line() {
    [ -O "$1" ] || return 1
    for turn in a b c d e; do
        { read -r line <"$1" && read -r again <"$1"; } 2>/dev/null || return 1
        [ "$line" != "$again" ] || return 0
    done
    return 1
}

# Sets g_*: the record, when a guard of this start of the machine wrote it.
read_record() {
    read_line "$rec" || return 1
    set -- $line
    [ $# = 18 ] && [ "$1.$2.$3.${18}" = "llmhost1.$boot.$init.." ] || return 1
    g_pid=$4 g_born=$5 g_beat=$6 g_owner=$7 g_seq=$8 g_lease=$9
    shift 9
    g_hold=$1 g_hpid=$2 g_hborn=$3 g_state=$4 g_tries=$5 g_taken=$6 g_note=$8
    numbers "$g_pid" "$g_born" "$g_beat" "$g_seq" "$g_lease" "$g_hold" "$g_hpid" "$g_hborn" "$g_tries" "$g_taken"
}

# In place and always as long: works on a full disk, and makes a removed file anew.
write_record() {
    { printf '%-300s\n' "llmhost1 $boot $init $$ $me $up $owner $seq $lease $hold $hpid $hborn $state $tries $taken $as:$ways $note ." \
        1<>"$rec"; } 2>/dev/null
}

# ---- Stopping ----

# Without root all goes by sudo, if that is there; whether it lets us is for the installer to try.
find_ways() {
    as=none
    { while read -r key real id rest; do
        [ "$key" != Uid: ] || [ "$id" != 0 ] || as=root
    done </proc/self/status; } 2>/dev/null
    [ $as = root ] || ! command -v sudo >/dev/null 2>&1 || as=sudo
    ways=
    for way in /usr/bin/shutdown shutdown poweroff; do
        ! command -v $way >/dev/null 2>&1 || ways=$ways$way,
    done
    ways=${ways}kill
}

# Sets job, to nothing where there is no room for another process: a shell that cannot fork ends, but not within "command eval".
beside() {
    job=
    { command eval '"$@" </dev/null >/dev/null 2>&1 & job=$!'; } 2>/dev/null
}

# Never waits for it, and each time another way: one hangs, one only talks to a systemd that is not there, one is refused.
act() {
    find_ways
    IFS=,
    set -- $ways
    unset IFS
    shift $((tries % $#))
    tries=$((tries + 1))
    case $1 in
    shutdown) set -- shutdown -h now ;;
    kill)
        kill -TERM 1 2>/dev/null
        set -- sh -c 'kill -TERM 1'
        ;;
    *) set -- "$1" ;;
    esac
    beside "$@"
    [ $as != sudo ] || beside sudo -n "$@"
}

# ---- Judging (1.3) ----

over() { [ "$up" -ge "$lease" ] && [ "$up" -ge "$hold" ]; }

look_at_deadline() {
    if [ $state != acting ] && over; then
        state=acting due=1
    fi
}

# Its process is gone: so is the reason to stay, but for a while in which somebody may fetch what it made.
look_at_hold() {
    [ "$hpid" != 0 ] || return
    born "$hpid"
    [ "$at" != "$hborn" ] || return
    hpid=0 hborn=0
    [ "$hold" -le $((up + grace)) ] || hold=$((up + grace))
}

judge() {
    read_line "$ask" || return
    set -- $line
    [ $# = 11 ] && [ "$1.${11}" = llmhost1.. ] && numbers "$5" "$6" "$7" "$8" "$9" || return
    [ "$line" != "$last" ] || return
    last=$line
    if [ "$2.$3" != "$boot.$init" ]; then
        note=no:boot:$4:$5
    elif [ $state = acting ]; then
        note=no:late:$4:$5
    elif [ "$4" != "$owner" ] && [ "$owner" != - ] && [ "${10}" != take ]; then
        note=no:owner:$4:$5
    elif [ "$4.$5.$6" = "$owner.$seq.$lease" ]; then
        :                                   # taken by the guard that was here before this one
    elif [ "$5" -le "$seq" ]; then
        note=no:seq:$4:$5
    elif [ "$6" -gt $((up + 1800)) ] || [ "$7" -gt $((up + 604800)) ]; then
        note=no:range:$4:$5
    else
        owner=$4 seq=$5 lease=$6 hold=$7 hpid=$8 hborn=$9 state=lease taken=$up note=ok
    fi
}

# ---- Guarding ----

alive() {       # PID BORN
    born "$1"
    [ -n "$at" ] && [ "$at" = "$2" ]
}

# What the one before knew goes on, and it goes. It is remembered as dead: SIGKILL takes milliseconds, and who saw its victim still
# alive and stepped back for it would leave nobody (1.4).
inherit() {
    up=$g_beat owner=$g_owner seq=$g_seq lease=$g_lease hold=$g_hold hpid=$g_hpid hborn=$g_hborn
    state=$g_state tries=$g_tries taken=$g_taken note=$g_note
    if [ "$g_pid" != $$ ] && alive "$g_pid" "$g_born"; then
        kill -KILL "$g_pid" 2>/dev/null
        dead=$g_pid.$g_born
    fi
}

# By a younger guard that lives.
is_replaced() {
    read_record && [ "$g_pid.$g_born" != "$dead" ] && alive "$g_pid" "$g_born" || return 1
    [ "$g_born" -gt "$me" ] || { [ "$g_born" = "$me" ] && [ "$g_pid" -gt $$ ]; }
}

run() {
    first=$1 period=${2:-20} grace=${3:-300}
    trap '' HUP INT TERM QUIT PIPE
    trap 'woken=1' USR1
    trap 'exec sh "$0" run "$first" "$period" "$grace"' EXIT        # whatever ended it: to become another needs no other process
    cd /
    { echo -1000 >"/proc/$$/oom_score_adj"; } 2>/dev/null
    up=0 owner=- seq=0 lease='' hold=0 hpid=0 hborn=0 state=first tries=0 taken=0 note=ok last='' dead='' woken='' due=1
    born $$
    me=${at:-0}
    find_ways
    ! read_record || inherit
    clock 0
    lease=${lease:-$((up + first))}
    while ! is_replaced; do
        look_at_hold
        look_at_deadline
        judge
        look_at_deadline
        [ $state$due != acting1 ] || act
        write_record
        if [ -n "$due" ]; then
            beside sleep "$period"
            nap=$job due=
        fi
        [ -z "$nap" ] || wait "$nap"
        if [ -n "$woken" ]; then            # the nap goes on: cut short, it could not be counted
            woken=
            clock 0
        else
            due=1
            clock "${nap:+$period}"
        fi
    done
    trap - EXIT
}

# ---- Asking ----

answered() {
    [ "$g_owner.$g_seq" != "$1.$2" ] || exit 0
    [ "$g_state" != acting ] || exit 1
    [ "$line" != "$before" ] || return      # what it refused may be an earlier one of the same number
    case $g_note in no:*:"$1:$2") exit 1 ;; esac
}

# The record of the last guard and the seconds now; status 2: it does not live.
look() {
    read_record || exit 2
    trap 'echo "$line"; clock 0; echo "$up"' EXIT
    up=$g_beat
    alive "$g_pid" "$g_born" || exit 2
}

# The same afterwards. Status 0 taken, 1 refused, 2 no guard, 3 cannot write, 64 not a request.
ask() {
    numbers "$2" "$3" "$5" && { [ "$4" = = ] || numbers "$4"; } || exit 64
    case $1 in - | *[!A-Za-z0-9_.-]* | '' | ?????????????????????????????????*) exit 64 ;; esac
    case $6 in '' | take) ;; *) exit 64 ;; esac
    look
    clock 0
    before=$line
    hold=$g_hold hpid=$g_hpid hborn=$g_hborn
    if [ "$4" != = ]; then
        born "$5"
        hold=$((up + $4)) hpid=$5 hborn=${at:-0}
        [ "$4" != 0 ] || hold=0
    fi
    request="llmhost1 $boot $init $1 $2 $((up + $3)) $hold $hpid $hborn ${6:--} ."
    { { echo "$request" >"$ask.new" && mv -f "$ask.new" "$ask"; } || printf '%-300s\n' "$request" 1<>"$ask"; } 2>/dev/null || exit 3
    polls=0 nap=0.01
    while [ $((polls += 1)) -le 40 ]; do
        alive "$g_pid" "$g_born" && kill -USR1 "$g_pid" 2>/dev/null || exit 2       # again: one just before its wait() ends nothing
        sleep $nap 2>/dev/null || sleep 1
        nap=0.05
        ! read_record || answered "$1" "$2"
    done
    exit 2
}

# All is in functions and read to the end before it begins: this file may be written anew, or removed, while it runs.
main() {
    set -f
    umask 077
    PATH=${PATH:+$PATH:}/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
    rec=${0%/*}/.llmhost-guard ask=${0%/*}/.llmhost-ask
    which_boot
    case $1 in
    run | ask | look) "$@" ;;
    *) exit 64 ;;
    esac
}
main "$@"; exit
