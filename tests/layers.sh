#!/bin/sh
# usage: tests/layers.sh [DIR]
#
# Holds every #include "..." of daemon/, client/ and proto/ against the road: a file includes its own folder and what
# stands below it in this list, never upwards. Prints FILE:LINE for each offender; exit 1 if there is one.
set -eu
cd "${1:-$(dirname "$0")/..}"

road="control gateway manager deployment lease engine guard session ssh provider policy store http base"

find daemon client proto -name '*.[ch]' | sort | xargs -r awk -v road="$road" '
BEGIN {
    count = split(road, names, " ")
    for (i = 1; i <= count; i++)
        rank[names[i]] = count - i + 1          # base is 1, control the highest
    rank["hook"] = rank["manager"]              # daemon/hook.[ch] stand beside the manager
    rank["proto"] = 0
    top = count + 1                             # daemon/main.c sees everything
}

# Where a path below daemon/ belongs: its folder, or for a file that is in none the first word of its name.
function place(path, parts) {
    split(path, parts, /[\/._]/)
    return parts[1]
}

function offend(why) {
    printf "%s:%d: %s\n", FILENAME, FNR, why
    bad = 1
}

/^[ \t]*#[ \t]*include[ \t]*"/ {
    split($0, quoted, "\"")
    to = quoted[2]
    if (to ~ /\.\.\//)
        offend("\"" to "\": paths begin at the repository or at daemon/, never with ..")
    else if (FILENAME ~ /^proto\//) {
        if (to !~ /^proto\// && to ~ /\//)
            offend("\"" to "\": proto/ includes nothing else of ours")
    } else if (FILENAME ~ /^client\//) {
        if (to !~ /^(proto|client)\// && to ~ /\//)
            offend("\"" to "\": client/ sees proto/ alone")
    } else {
        from = place(substr(FILENAME, length("daemon/") + 1))
        above = (from == "main") ? top : rank[from]
        target = place(to)
        if (to !~ /\// && !(target in rank))
            target = from                       # a file of its own folder
        if (!(from in rank) && from != "main")
            offend("the folder " from " has no place on the road")
        else if (!(target in rank))
            offend("\"" to "\": " target " has no place on the road")
        else if (target != from && rank[target] >= above)
            offend("\"" to "\": " from " stands below " target)
    }
}

END { exit bad }
' || exit 1
