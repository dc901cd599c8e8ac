# llmhost: what this machine can say of a model that is to come onto its disk, behind machine.sh. DIR is where models lie; @BASE@ in it is
# our directory, and a server of ours that runs says better.
# shellcheck shell=sh disable=SC1007,SC2034,SC2086,SC2154
have() { command -v "$1" >/dev/null 2>&1; }
newline='
'

find_models() {     # DIR
    find_server
    models=$(printf %s "$1" | sed "s|@BASE@|$base|g")
    [ -n "$pid" ] || return 0
    is=$(tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | sed -n 's/^OLLAMA_MODELS=//p')
    [ -z "$is" ] || models=$is
}

# Some process writes FILE, or one whose name begins so.
is_open() { ls -l /proc/[0-9]*/fd 2>/dev/null | grep -qF -- "-> $1"; }
is_digest() { case $1 in *[!0-9a-f]*) return 1 ;; esac; [ ${#1} = 64 ]; }

# URL ACCEPT: what is there, in one line, as the machine gets it.
do_ask() {
    said=$run/$server.$$.said status= late=
    if have curl; then
        body=$(curl -sSL --max-redirs 5 --connect-timeout 10 --max-time 20 -H "Accept: $2" -w '\n%{http_code}' "$1" 2>"$said")
        [ $? = 28 ] && late=1
        status=${body##*"$newline"} body=${body%"$newline"*}
    elif have wget; then
        body=$(wget -S -T 10 -t 1 -O - --header="Accept: $2" "$1" 2>"$said")
        # busybox has no -t before 1.3x.
        grep -qi 'invalid option\|unrecognized' "$said" && body=$(wget -S -T 10 -O - --header="Accept: $2" "$1" 2>"$said")
        grep -qi 'timed out' "$said" && late=1
        status=$(text -o 'HTTP/[0-9.]* [0-9][0-9][0-9]' "$said" | tail -n 1 | cut -d' ' -f2)
    else
        say tool none
    fi
    rm -f "$said"
    [ -z "$late" ] || say late 1
    case $status in [1-5][0-9][0-9]) say status "$status" ;; esac
    say body "$(printf %s "$body" | tr '\r\n' '  ' | head -c 400000)"
}

# DIR FILE…: the room for more, and how much of these is there, in part or whole. A download whose notes a full disk or a power cut left
# empty cannot be gone on with, and makes every pull end with "EOF": it goes.
do_room() {
    find_models "$1"
    shift
    for part in "$models"/blobs/*-partial-*; do
        [ -e "$part" ] && [ ! -s "$part" ] || continue
        whole=${part%-partial-*}-partial
        is_open "$whole" || rm -f "$whole" "$whole"-*
    done
    kb=0
    for name; do
        for file in "$models/$name" "$models/$name-partial" "$models/$name.downloadInProgress"; do
            set -- $(du -k "$file" 2>/dev/null)
            kb=$((kb + ${1:-0}))
        done
    done
    say have_kb "$kb"
    [ -d "$models" ] && place=$models || place=$base
    set -- $(df -Pk "$place" 2>/dev/null | tail -n 1)
    say models "$models"
    say free_kb "$4"
}

# DIR SHA256…: what is whole there and is not what its name says goes; ollama looks at what it has just fetched, and only to the first
# that is wrong.
do_check() {
    find_models "$1"
    shift
    for hex; do
        file=$models/blobs/sha256-$hex
        is_digest "$hex" && [ -f "$file" ] || continue
        is=$(sha256sum "$file" 2>/dev/null | cut -d' ' -f1)
        is_digest "$is" || continue
        [ "$is" = "$hex" ] || { rm -f "$file" && say removed "$hex"; }
    done
}

# DIR PATTERN…: files below DIR that nobody writes. Who was just told to stop may have them open for a moment.
do_clean() {
    find_models "$1"
    shift
    for pattern; do
        case $pattern in *..* | /*) continue ;; esac
        for file in "$models"/$pattern; do
            [ -f "$file" ] || continue
            n=0 whole=$file
            case $file in *-partial-*) whole=${file%-partial-*}-partial ;; esac
            while is_open "$whole" && [ $n -lt 30 ]; do
                n=$((n + 1))
                nap
            done
            [ $n -lt 30 ] && rm -f "$file" && say removed "${file##*/}"
        done
    done
}

find_base
case $verb in
ask) do_ask "$@" ;;
room) do_room "$@" ;;
check) do_check "$@" ;;
clean) do_clean "$@" ;;
esac
say ok 1
