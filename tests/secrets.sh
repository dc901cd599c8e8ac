#!/bin/sh
# usage: tests/secrets.sh [lab] [box] [readme]
#
# Looks for every secret the last run of tests has planted (passwords, passphrases, private keys), raw, in base64 at each of the
# three offsets, in hex, percent- and JSON-escaped, in everything those tests wrote: logs, databases with their write-ahead logs,
# the journal of the box, what both programs said, command lines and environments. tests/run does it at its end.
# A GROUP must have left something to search. $BUILD: the build directory (build/). Exit 1: something was found, or it is not
# certain that it would have been.
export LAB_LOGS="${BUILD:-$(dirname "$(realpath "$0")")/../build}/logs"
exec python3 "$(dirname "$0")/lab/planted.py" "$@"
