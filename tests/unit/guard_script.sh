# usage: guard_script.sh FUNCTIONS [GROUP...]: the functions of daemon/guard/guard.sh one by one, beside a world that is made up of
# functions too. What would stop a machine, or end a process, is written down here and never called. Silent when all is well.
# shellcheck shell=sh disable=SC1090,SC2016,SC2034,SC2086,SC2154
case $1 in run) echo "again $*"; exit 0 ;; esac         # see group_run()

functions=$1
groups=${2:-numbers clock born boot lines record ways beside act deadline hold judge heirs run answered look ask main}
fails=0

is() {          # WHAT GOT EXPECTED
    [ "$2" = "$3" ] || { echo "$group: $1: \"$2\", not \"$3\""; fails=$((fails + 1)); }
}

says() { printf '%s\n' "$*" >>"$said"; }

said() {        # WHAT EXPECTED: what says() was told since the last time
    is "$1" "$(tr '\n' ';' <said)" "$2"
    : >said
}

yes() { "$@" && is "$*" yes yes || is "$*" no yes; }
no() { "$@" && is "$*" yes no || is "$*" no no; }

field() { sed 's/.*) //' "/proc/$1/stat" | cut -d ' ' -f "$(($2 - 2))"; }

group_numbers() {
    yes numbers 0
    yes numbers 123 456789012345 890
    for n in '' x 1x -1 1.5 ' 1' '*' 1234567890123; do
        no numbers "$n"
        no numbers 5 "$n"
        no numbers "$n" 5
    done
}

now() { read -r now rest </proc/uptime; now=${now%%.*}; }

group_clock() {
    up=0
    clock
    now
    yes [ "$up" -le "$now" ]
    yes [ "$up" -ge $((now - 2)) ]
    up=99999999
    clock 20
    is "it went back" "$up" 100000019
    clock
    is "and nothing was slept" "$up" 100000019
    now
    up=$now
    clock 1000
    yes [ "$up" -le $((now + 2)) ]
}

group_born() {
    at=old
    born 4194305
    is "never was" "$at" ''
    born $$
    is "this shell" "$at" "$(field $$ 22)"
    cp "$(command -v sleep)" 'a) Z (b' 2>/dev/null
    ln -s "$(command -v sleep)" sleep
    './a) Z (b' 100 &
    job=$!
    n=0
    while [ "$(cut -c 1-20 "/proc/$job/stat")" = "$(cut -c 1-20 /proc/$$/stat)" ] && [ $((n += 1)) -lt 1000 ]; do :; done
    born $job
    is "a name with all sorts of things" "$at" "$(field $job 22)"
    kill $job
    sh -c 'sleep 0.1 & echo $!; exec sleep 100 >/dev/null' >child &
    job=$!
    n=0
    until [ -s child ] && read -r child <child && [ "$(field "$child" 3)" = Z ]; do
        [ $((n += 1)) -lt 1000 ] || break
        sleep 0.01
    done
    is "a zombie is there" "$(field "$child" 3)" Z
    born "$child"
    is "a zombie" "$at" ''
    kill $job
}

group_boot() {
    boot=old init=old
    which_boot
    is boot "$boot" "$(cat /proc/sys/kernel/random/boot_id)"
    is init "$init" "$(field 1 22)"
    born() { at=$1; }
    which_boot
    is "the first process" "$init" 1
    born() { at=; }
    which_boot
    is "no first process" "$init" 0
}

group_lines() {
    echo 'one line' >file
    yes read_line file
    is line "$line" 'one line'
    no read_line none
    printf 'half a line' >file
    no read_line file
    if [ "$(id -u)" = 0 ]; then
        echo theirs >file
        chown 65534 file
    else
        rm -f file
        ln -s /etc/passwd file
    fi
    no read_line file
    rm -f file
    echo >file
    reads=0
    read() { eval "$2=\"another $((reads += 1))\""; }
    no read_line file
    is "how often it was read" "$reads" 10
}

group_record() {
    rec=file boot=b init=7 me=53 up=1001 owner=me seq=5 lease=1100 hold=1300 hpid=42 hborn=43 state=lease tries=2 taken=990
    as=root ways=kill note=ok
    write_record
    is "its length" "$(wc -c <file)" 301
    is "what is written" "$(cat file | sed 's/ *$//')" "llmhost1 b 7 $$ 53 1001 me 5 1100 1300 42 43 lease 2 990 root:kill ok ."
    ln file same
    note=no:seq:me:4
    write_record
    is "it is written in place" "$(cat same)" "$(cat file)"
    yes read_record
    is "what is read" "$g_pid $g_born $g_beat $g_owner $g_seq $g_lease $g_hold $g_hpid $g_hborn $g_state $g_tries $g_taken $g_note" \
        "$$ 53 1001 me 5 1100 1300 42 43 lease 2 990 no:seq:me:4"
    good="llmhost1 b 7 11 53 1001 me 5 1100 1300 42 43 lease 2 990 root:kill ok ."
    echo "$good" >file
    yes read_record
    for bad in "llmhost2${good#llmhost1}" "llmhost1 c${good#llmhost1 b}" "llmhost1 b 8${good#llmhost1 b 7}" "${good%.}" "${good%.}x" "$good more" \
        "llmhost1 b 7 11 53 1001 me 5 1100 1300 42 x lease 2 990 root:kill ok ." "llmhost1 b 7 x 53 1001 me 5 1100 1300 42 43 lease 2 990 root:kill ok ."; do
        echo "$bad" >file
        no read_record
    done
    rm file
    no read_record
}

has() { command() { [ "$1" = -v ] && case " $have " in *" $2 "*) ;; *) return 1 ;; esac; }; }

group_ways() {
    has
    who=none sudo=sudo
    [ "$(id -u)" != 0 ] || who=root sudo=root
    as=root have=
    find_ways
    is "nothing there" "$as:$ways" "$who:kill"
    have="sudo shutdown"
    find_ways
    is "sudo" "$as:$ways" "$sudo:shutdown,kill"
    have="/usr/bin/shutdown shutdown poweroff"
    find_ways
    is "all" "$as:$ways" "$who:/usr/bin/shutdown,shutdown,poweroff,kill"
}

group_beside() {
    job=
    beside sh -c 'echo "$0 $1"; echo "$0 $1" >made' 'one word' '*'
    yes [ -n "$job" ]
    wait "$job"
    is "it was called" "$(cat made)" 'one word *'
    command() { return 1; }
    beside sh -c :
    is "no room" "$job" ''
}

group_act() {
    beside() { says "$*"; }
    kill() { says "self $*"; }
    find_ways() { as=root ways=/usr/bin/shutdown,shutdown,poweroff,kill; }
    tries=0
    for turn in 1 2 3 4 5; do act; done
    said "by root" '/usr/bin/shutdown;shutdown -h now;poweroff;self -TERM 1;sh -c kill -TERM 1;/usr/bin/shutdown;'
    is tries "$tries" 5
    find_ways() { as=sudo ways=poweroff,kill; }
    tries=2
    for turn in 1 2; do act; done
    said "by sudo" 'poweroff;sudo -n poweroff;self -TERM 1;sh -c kill -TERM 1;sudo -n sh -c kill -TERM 1;'
    words='a b,c'
    set -- $words
    is "words are parted as before" $# 2
}

group_deadline() {
    up=100
    while read -r lease hold state ends now_due; do
        due=
        look_at_deadline
        is "$lease $hold" "$state $due" "$ends $now_due"
    done <<'ROWS'
101 0 lease lease
100 0 lease acting 1
100 101 lease lease
100 100 first acting 1
99 99 acting acting
101 101 acting acting
ROWS
}

group_hold() {
    up=1000 grace=300
    born() { says "$1"; at=$lives; }
    while read -r hpid hborn lives hold then_hpid then_hborn then_hold; do
        look_at_hold
        is "hold $hpid $hborn" "$hpid $hborn $hold" "$then_hpid $then_hborn $then_hold"
    done <<'ROWS'
0 7 0 9999 0 7 9999
42 7 7 9999 42 7 9999
42 7 8 9999 0 0 1300
42 7 8 1300 0 0 1300
42 7 8 1299 0 0 1299
42 7 8 1301 0 0 1300
ROWS
    said "who was looked for" '42;42;42;42;42;'
    hpid=42 hborn=7 hold=9999 lives=
    look_at_hold
    is "it is gone" "$hpid $hold" "0 1300"
}

# A request beside what the guard knows; what it has of it then.
judged() {      # REQUEST EXPECTED
    echo "$1" >"$ask"
    last=
    judge
    is "$1" "$owner $seq $lease $hold $hpid $hborn $state $taken $note" "$2"
    owner=me seq=5 lease=1100 hold=0 hpid=0 hborn=0 state=lease taken=990 note=ok
}

group_judge() {
    boot=b init=7 ask=file up=1000 last=
    owner=me seq=5 lease=1100 hold=0 hpid=0 hborn=0 state=lease taken=990 note=ok
    as_it_was="me 5 1100 0 0 0 lease 990"
    judge
    is "no request" "$owner $seq $lease $hold $hpid $hborn $state $taken $note" "$as_it_was ok"
    judged "llmhost1 b 7 me 6 1200 1300 42 43 - ." "me 6 1200 1300 42 43 lease 1000 ok"
    state=first
    judged "llmhost1 b 7 me 6 1000 0 0 0 take ." "me 6 1000 0 0 0 lease 1000 ok"
    owner=-
    judged "llmhost1 b 7 you 6 1200 0 0 0 - ." "you 6 1200 0 0 0 lease 1000 ok"
    judged "llmhost1 b 7 you 6 1200 0 0 0 take ." "you 6 1200 0 0 0 lease 1000 ok"
    judged "llmhost1 b 7 you 6 1200 0 0 0 - ." "$as_it_was no:owner:you:6"
    judged "llmhost1 c 7 me 6 1200 0 0 0 - ." "$as_it_was no:boot:me:6"
    judged "llmhost1 b 8 me 6 1200 0 0 0 - ." "$as_it_was no:boot:me:6"
    state=acting
    judged "llmhost1 b 7 me 6 1200 0 0 0 - ." "me 5 1100 0 0 0 acting 990 no:late:me:6"
    judged "llmhost1 b 7 me 5 1200 0 0 0 - ." "$as_it_was no:seq:me:5"
    judged "llmhost1 b 7 me 4 1100 0 0 0 - ." "$as_it_was no:seq:me:4"
    note=no:seq:me:3
    judged "llmhost1 b 7 me 5 1100 0 0 0 - ." "$as_it_was no:seq:me:3"          # taken before
    judged "llmhost1 b 7 me 6 2800 605800 42 43 - ." "me 6 2800 605800 42 43 lease 1000 ok"
    judged "llmhost1 b 7 me 6 2801 0 0 0 - ." "$as_it_was no:range:me:6"
    judged "llmhost1 b 7 me 6 1200 605801 0 0 - ." "$as_it_was no:range:me:6"
    for bad in "llmhost2 b 7 me 6 1200 0 0 0 - ." "llmhost1 b 7 me 6 1200 0 0 0 -" "llmhost1 b 7 me 6 1200 0 0 0 - x" \
        "llmhost1 b 7 me 6 1200 0 0 0 - . ." "llmhost1 b 7 me six 1200 0 0 0 - ." "llmhost1 b 7 me 6 1200 0 0 x - ." ""; do
        judged "$bad" "$as_it_was ok"
    done
    echo "llmhost1 b 7 me 4 1200 0 0 0 - ." >file
    judge
    is "refused" "$note" no:seq:me:4
    note=ok
    judge
    is "and not told again" "$note" ok
}

group_heirs() {
    at=5
    born() { says "born $1"; }
    yes alive 11 5
    no alive 11 6
    at=
    no alive 11 ''
    said "alive" 'born 11;born 11;born 11;'

    kill() { says "kill $*"; }
    alive() { says "alive $*"; [ "$living" = 1 ]; }
    g_pid=11 g_born=12 g_beat=13 g_owner=me g_seq=14 g_lease=15 g_hold=16 g_hpid=17 g_hborn=18 g_state=lease g_tries=19 g_taken=20 g_note=ok
    dead= living=1
    inherit
    is "what goes on" "$up $owner $seq $lease $hold $hpid $hborn $state $tries $taken $note" "13 me 14 15 16 17 18 lease 19 20 ok"
    said "the one before goes" 'alive 11 12;kill -KILL 11;'
    is dead "$dead" 11.12
    dead= living=0
    inherit
    said "it was gone" 'alive 11 12;'
    is dead "$dead" ''
    living=1 g_pid=$$
    inherit
    is "this one, begun anew" "$(cat said)$dead" ''

    reads=0 me=50
    read_record() { return $reads; }
    : >said
    while read -r what g_pid g_born dead living then; do
        [ "$g_pid" != self ] || g_pid=$$
        is_replaced
        is "replaced: $what" $? "$then"
    done <<'ROWS'
younger 1 51 none 1 0
older 99999999 49 none 1 1
as_old_and_after 99999999 50 none 1 0
as_old_and_before 1 50 none 1 1
itself self 50 none 1 1
gone 1 51 none 0 1
killed_by_us 1 51 1.51 1 1
ROWS
    : >said
    reads=1 g_pid=1 g_born=51 dead= living=1
    is_replaced
    is "no record" $? 1
}

# The loop of run(), for as many turns as TURNS; what each turn does is in said.
turn_by_turn() {
    is_replaced() { says turn; [ $((n_turns += 1)) -gt "$turns" ]; }
    born() { at=53; says "born $*"; }
    find_ways() { says find_ways; }
    clock() { says "clock $*"; up=$((up + 100)); }
    look_at_hold() { says hold; }
    look_at_deadline() { says deadline; }
    judge() { says judge; }
    act() { says act; }
    write_record() { says "record $up $owner $seq $lease $hold $hpid $hborn $state $tries $taken $note $me"; }
    beside() { says "beside $*"; job=$room; }
    wait() { says "wait $*"; }
    read_record() { return $reads; }
    inherit() { up=1000 lease=1100 state=acting; }
    turns=1 n_turns=0 reads=1 room=9 says_record=
}

group_run() {
    turn_by_turn
    (run 60)
    said "one turn" "born $$;find_ways;clock 0;turn;hold;deadline;judge;deadline;record 100 - 0 160 0 0 0 first 0 0 ok 53;beside sleep 20;wait 9;clock 20;turn;"
    (run 60 2 3
    is "what it was told" "$first $period $grace $(pwd)" "60 2 3 /"
    exit $fails)
    fails=$((fails + $?))
    : >said

    write_record() { says record; }
    turns=2 reads=0
    (run 60 2)
    said "acting, each turn" "born $$;find_ways;clock 0;turn;hold;deadline;judge;deadline;act;record;beside sleep 2;wait 9;clock 2;turn;hold;deadline;judge;deadline;act;record;beside sleep 2;wait 9;clock 2;turn;"
    reads=1 room=
    (run 60 2)
    said "no room for a nap" "born $$;find_ways;clock 0;turn;hold;deadline;judge;deadline;record;beside sleep 2;clock ;turn;hold;deadline;judge;deadline;record;beside sleep 2;clock ;turn;"

    room=9
    wait() { says "wait $*"; sh -c 'kill -USR1 $PPID'; [ -n "$woken" ] || is "woken" no yes; }
    inherit() { up=1000 lease=1100 state=acting; }
    reads=0
    (run 60 2)
    said "woken: the nap goes on" "born $$;find_ways;clock 0;turn;hold;deadline;judge;deadline;act;record;beside sleep 2;wait 9;clock 0;turn;hold;deadline;judge;deadline;record;wait 9;clock 0;turn;"
    wait() { says "wait $*"; [ $n_turns != 1 ] || sh -c 'kill -USR1 $PPID'; }
    look_at_deadline() { :; }
    look_at_hold() { :; }
    judge() { :; }
    turns=3 reads=1
    (run 60 2)
    said "and is counted when it is over" "born $$;find_ways;clock 0;turn;record;beside sleep 2;wait 9;clock 0;turn;record;wait 9;clock 2;turn;record;beside sleep 2;wait 9;clock 2;turn;"

    wait() { says "wait $*"; }
    turns=1
    judge() { for s in HUP INT TERM QUIT PIPE; do sh -c "kill -$s \$PPID"; done; says lives; }
    (run 60)
    said "signals" "born $$;find_ways;clock 0;turn;lives;record;beside sleep 20;wait 9;clock 20;turn;"
    judge() { exit 5; }
    is "whatever ends it" "$(run 60 2 3)" "again run 60 2 3"
    judge() { :; }
    is "but its successor" "$(run 60 2 3; echo after)" after
    : >said
    echo() { says "echo $*"; }                 # who may not lower it cannot try it
    (run 60)
    is "the last to be killed for want of memory" "$(grep -c '^echo -1000$' said)" 1
    unset -f echo
    : >said
}

group_answered() {
    before=before
    while read -r g_owner g_seq g_state line g_note then; do
        (answered me 7; exit 9)
        is "$g_owner.$g_seq $g_state $line $g_note" $? "$then"
    done <<'ROWS'
me 7 lease new ok 0
me 6 lease new ok 9
you 7 lease new ok 9
me 6 acting new ok 1
me 7 acting new ok 0
me 6 lease new no:seq:me:7 1
me 6 lease new no:seq:me:8 9
me 6 lease new no:owner:you:7 9
me 6 lease before no:seq:me:7 9
ROWS
}

group_look() {
    read_record() { line="a record" g_pid=11 g_born=12 g_beat=1000; return $reads; }
    clock() { up=$((up + ${1:-50})); }
    alive() { says "alive $*"; return $gone; }
    before=before reads=1 gone=0
    (look; exit 9) >out
    is "no guard" "$? $(cat out)" "2 "
    said "no guard" ''
    reads=0
    (look; exit 9) >out
    is "one that lives" "$? $(tr '\n' ';' <out)" "9 a record;1000;"
    said "who must live" 'alive 11 12;'
    gone=1
    (look; exit 9) >out
    is "one that is gone" "$? $(tr '\n' ';' <out)" "2 a record;1000;"
    said "who must live" 'alive 11 12;'
}

asked() {       # STATUS REQUEST WORD...
    then=$1 wanted=$2
    shift 2
    rm -f requests
    (ask "$@") >/dev/null
    is "ask $*" "$? $([ ! -e requests ] || cat requests)" "$then $wanted"
}

group_ask() {
    boot=b init=7 ask=requests
    look() { line="a record" up=1000 g_pid=11 g_born=12 g_hold=1500 g_hpid=42 g_hborn=43; }
    clock() { up=$((up + 5 + $1)); }
    born() { at=$lives; }
    alive() { says "alive $*"; [ -z "$gone" ]; }
    kill() { says "kill $*"; }
    sleep() { says "sleep $1"; [ "$1" != "$bad_nap" ]; }
    read_record() { says read; return $reads; }
    answered() { says "answered $* $before"; exit $answer; }
    lives=99 gone= bad_nap= reads=0 answer=0

    asked 0 "llmhost1 b 7 me 6 1065 1500 42 43 - ." me 6 60 = 0
    said "asked" 'alive 11 12;kill -USR1 11;sleep 0.01;read;answered me 6 a record;'
    asked 0 "llmhost1 b 7 me 6 1065 1305 77 99 - ." me 6 60 300 77
    asked 0 "llmhost1 b 7 me 6 1065 0 0 99 take ." me 6 60 0 0 take
    lives=
    asked 0 "llmhost1 b 7 a_b.c-D9 6 1065 1006 77 0 - ." a_b.c-D9 6 60 1 77
    asked 0 "llmhost1 b 7 12345678901234567890123456789012 6 1065 1500 42 43 - ." 12345678901234567890123456789012 6 60 = 0
    answer=1
    asked 1 "llmhost1 b 7 me 6 1065 1500 42 43 - ." me 6 60 = 0
    : >said
    for bad in "me x 60 = 0" "me 6 x = 0" "me 6 60 = x" "me 6 60 x 0" "me 6 60 * 0" "- 6 60 = 0" "a/b 6 60 = 0" "123456789012345678901234567890123 6 60 = 0" \
        "me 6 60 = 0 give"; do
        set -f
        asked 64 "" $bad
        set +f
    done
    asked 64 "" '' 6 60 = 0
    said "asked nobody" ''

    gone=1
    asked 2 "llmhost1 b 7 me 6 1065 1500 42 43 - ." me 6 60 = 0
    said "it went" 'alive 11 12;'
    gone= reads=1 bad_nap=0.01
    asked 2 "llmhost1 b 7 me 6 1065 1500 42 43 - ." me 6 60 = 0
    is "how often" "$(grep -c '^kill -USR1 11$' said)" 40
    is "a sleep without fractions" "$(sed -n 3,8p said | tr '\n' ';')" "sleep 0.01;sleep 1;read;alive 11 12;kill -USR1 11;sleep 0.05;"
    : >said
    reads=0 bad_nap=
    kill() { says "kill $*"; return 1; }
    asked 2 "llmhost1 b 7 me 6 1065 1500 42 43 - ." me 6 60 = 0
    said "it went meanwhile" 'alive 11 12;kill -USR1 11;'
    kill() { :; }
    answer=0
    mv() { return 1; }
    echo "what was asked before, and is longer than a request of this time: $(printf '%300s' .)" >requests.old
    asked_over() {
        cp requests.old requests
        (ask me 6 60 = 0) >/dev/null
        is "in place" "$? $(head -n 1 requests | sed 's/ *$//')" "0 llmhost1 b 7 me 6 1065 1500 42 43 - ."
        is "its length" "$(head -n 1 requests | wc -c)" 301
    }
    asked_over
    unset -f mv
    ask=none/requests
    (ask me 6 60 = 0) >/dev/null
    is "nowhere to write" $? 3
    : >said
}

group_main() {
    look() { case $- in *f*) echo "$(umask) $rec $ask $boot $init $PATH $*" ;; esac; }
    which_boot() { boot=b init=7; }
    folder=${0%/*}
    is "a word" "$(umask 022; main look me)" "0077 $folder/.llmhost-guard $folder/.llmhost-ask b 7 $PATH:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin me"
    set -- $(PATH=; main look)
    is "no PATH" "$6" /usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin
    (main over)
    is "another word" $? 64
}

total=0
for group in $groups; do
    mkdir "$group"
    (cd "$group" || exit 1
    . "$functions"
    said=$PWD/said
    : >said
    group_$group
    exit $fails)
    fails_here=$?
    [ "$fails_here" = 0 ] || echo "$group: status $fails_here"
    total=$((total + fails_here))
done
[ $total = 0 ]
