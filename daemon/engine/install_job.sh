# llmhost: fetch an archive, hold it against its hash, unpack it; started by install.sh in a session of its own.
# $1 our directory, $2 the file that tells how far it is, then
#   WHAT     the archive's name, ENGINE-VERSION.HASH: WHAT.part is fetched as far as it goes, by whomever
#   HOW      install; unverified: install, and write down that nobody knew its hash; keep: fetch alone; as-tgz: fetch, and pack anew for
#            machines without zstd
#   KIND     zst or tgz         SHA256, -: nobody knows it         AT_MOST bytes
#   ENGINE, DIRECTORY, TREE     unpacked into DIRECTORY, in which the files of TREE must be then; other DIRECTORYs of ENGINE go
#   URL...   where to ask, in this order; none: the part is whole
# Whatever is downloaded is resumed; a part that turns out wrong, an unpacked half or a full disk leave nothing behind.
# shellcheck shell=sh disable=SC1091,SC2086,SC2046
base=$1 state=$2 what=$3 how=$4 kind=$5 sha256=$6 at_most=$7 engine=$8 directory=$9
shift 9
tree=$1
shift
engines=$base/engines part=$base/engines/$what.part new=$base/engines/$directory.new final=$base/engines/$directory
mark=
[ "$how" = unverified ] && how=install mark=unverified
unset JOB_TEXT

tell() { printf '%s\n' "$@" >"$state.new" && mv "$state.new" "$state"; }
size_of() { stat -Lc %s "$1" 2>/dev/null || echo 0; }
clean() { LC_ALL=C tr -c '[:print:]' ' ' | cut -c 1-200 | sed 's/ *$//'; }
give_up() {         # CODE TEXT
    rm -rf "$new" "$state.said" "$part.tgz.new"
    tell "doing=failed" "failed=$1 $2"
    exit 1
}

# Is there no room for another 64 KiB?
is_full() {
    ! dd if=/dev/zero of="$engines/.room" bs=65536 count=1 2>/dev/null
    full=$?
    rm -f "$engines/.room"
    return $full
}
give_up_if_full() {
    is_full || return 0
    rm -f "$part"
    give_up disk_full "the disk is full: $1"
}

# One attempt, from where the part ends. More than at_most bytes are never written: the kernel ends it (units of 512 bytes).
ask_once() {        # URL
    (
        ulimit -f $(((at_most + 1023) / 512))
        if command -v curl >/dev/null 2>&1; then
            exec curl -fsSL --max-redirs 3 --connect-timeout 15 --speed-limit 1000 --speed-time 10 -C "$(size_of "$part")" -o "$part" "$1"
        fi
        wget -q -c -T 10 -t 1 -O "$part" "$1"
        status=$?
        # busybox has no -t before 1.3x, and 1.35 as Debian 12 builds it crashes with -T.
        case $status in 1 | 139) exec wget -q -c -O "$part" "$1" ;; esac
        exit $status
    ) 2>"$state.said" </dev/null
}

# Again for as long as it grows. A server that cannot go on in the middle is asked for all of it.
download() {        # URL
    failures=0
    while :; do
        before=$(size_of "$part")
        ask_once "$1" && got=1 && return 0
        status=$?
        give_up_if_full "cannot write $part"
        after=$(size_of "$part")
        [ "$after" -lt "$at_most" ] || return 0
        if [ "$status" = 33 ] && [ "$before" -gt 0 ]; then
            rm -f "$part"
        fi
        [ "$after" -gt "$before" ] && failures=0
        failures=$((failures + 1))
        case $status in 6 | 7 | 22 | 28 | 35 | 47 | 60) [ "$after" -gt "$before" ] || return 1 ;; esac
        [ $failures -ge 4 ] && return 1
        sleep 1
    done
}

is_right() {
    tell "doing=checking"
    if [ "$sha256" = - ]; then              # as good as it gets: whoever delivers it says that this was all
        [ -n "$got" ]
        return
    fi
    [ "$(sha256sum "$part" 2>/dev/null | cut -d' ' -f1)" = "$sha256" ]
}

# A part somebody else left may be wrong where the source is right: once more from nothing.
fetch_from() {      # URL
    resumed=$(size_of "$part") place=${1#*://}
    place=${place%%/*}
    tell "doing=fetching" "url=$1"
    if ! download "$1"; then
        said=$(tail -n 1 "$state.said" 2>/dev/null | sed 's/^curl: ([0-9]*) //' | clean)
        why="$place: ${said:-no answer}"
        is_whole && return 0
        return 1
    fi
    is_whole && return 0
    why="what comes from $place is not it: $(size_of "$part") bytes with another sha256"
    wrong=1
    rm -f "$part"
    [ "$resumed" = 0 ] && return 1
    fetch_from "$1"
}
is_whole() { [ -s "$part" ] && is_right; }

fetch() {
    why= wrong= got=
    # What somebody left there may be another one's.
    [ "$sha256" = - ] && rm -f "$part" "$part.tgz"
    is_whole && return 0
    if [ $# -eq 0 ]; then
        rm -f "$part"
        give_up engine_damaged "what arrived of $what is not it (sha256)"
    fi
    for url; do
        # The provider's proxy for downloads (AutoDL), and for nothing else.
        if [ -r /etc/network_turbo ]; then
            (. /etc/network_turbo >/dev/null 2>&1 && fetch_from "$url") && return 0
        fi
        fetch_from "$url" && return 0
    done
    [ -z "$wrong" ] || give_up engine_wrong "$why"
    give_up engine_unreachable "$why"
}

unpack() {
    tell "doing=unpacking"
    rm -rf "$new"
    mkdir -p "$new" || give_up disk_full "cannot make $new"
    tool="gzip -dc"
    [ "$kind" = zst ] && tool="zstd -dcq"
    if ! $tool "$part" 2>>"$state.said" | tar -xof - -C "$new" 2>>"$state.said"; then
        give_up_if_full "cannot unpack $what"
        give_up engine_damaged "cannot unpack $what: $(grep -v 'Exiting with' "$state.said" | tail -n 1 | clean)"
    fi
    for file in $tree; do
        [ -e "$new/$file" ] || give_up engine_damaged "$file is not in $what"
    done
    program=${tree%% *}
    said=$(OLLAMA_HOST=127.0.0.1:1 "$new/$program" --version 2>&1 </dev/null) ||
        give_up engine_damaged "what is in $what does not run here: $(printf %s "$said" | tail -n 1 | clean)"
}

# Programs that run now keep their directory.
in_use() { ls -l /proc/[0-9]*/exe 2>/dev/null | grep -F -q " $1/"; }

install() {
    unpack
    echo "$mark" >"$new/complete" || give_up disk_full "cannot write $new"
    rm -rf "$final"
    mv "$new" "$final" || give_up disk_full "cannot make $final"
    for old in "$engines/$engine"-*; do
        case $old in "$final" | "$engines/$engine-*") continue ;; esac
        in_use "$old" || rm -rf "$old"
    done
}

# For machines that cannot read .zst: the same files in a .tgz, and its own hash.
pack_anew() {
    tell "doing=packing"
    [ -s "$part.tgz" ] || { zstd -dcq "$part" | gzip -1n >"$part.tgz.new" && mv "$part.tgz.new" "$part.tgz"; } 2>"$state.said" || {
        give_up_if_full "cannot write $part.tgz"
        give_up engine_damaged "cannot pack $what anew: $(tail -n 1 "$state.said" | clean)"
    }
    part=$part.tgz
    sha256=$(sha256sum "$part" | cut -d' ' -f1)
}

mkdir -p "$engines" || give_up disk_full "cannot make $engines"
if [ "$how" != install ]; then
    # Kept for the next machine; what nobody wanted for a week goes.
    touch -c "$part" "$part.tgz"
    find "$engines" -type f -name "$engine-*" -mtime +7 -exec rm -f {} +
fi
if [ "$how" = install ] && [ -e "$final/complete" ]; then
    tell "doing=done"
    exit 0
fi
fetch "$@"
case $how in
install) install ;;
as-tgz) pack_anew ;;
esac
[ "$sha256" = - ] && sha256=$(sha256sum "$part" | cut -d' ' -f1)
rm -f "$state.said"
if [ "$how" = install ]; then
    tell "doing=done"
else
    tell "doing=done" "file=$part" "sha256=$sha256" "bytes=$(size_of "$part")"
fi
