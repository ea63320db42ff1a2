#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The long runs: every suite of ct/ that takes its number of rounds from prove.erl,
# with all rounds, then `make fuzz' where there is one. Goes on after a failure,
# prints a table, and as its last line
#
#   N kinds proven, N failed
#
#   bash tools/prove.sh              all
#   bash tools/prove.sh order races  these suites alone, no fuzzing
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root" || exit 1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export BARREL_P2P_PROVE=full
export BARREL_P2P_PROVE_TABLE=$work/table
: >"$BARREL_P2P_PROVE_TABLE"

# row KIND ROUNDS FAILED SECONDS: as prove.erl writes them.
row() {
    printf '%s|%s|%s|%s\n' "$@" >>"$BARREL_P2P_PROVE_TABLE"
}

# A suite may fail beside its rounds, or before the first of them.
suite() {
    local from=$SECONDS before after
    before=$(failures)
    echo
    echo "==> ct/$1_SUITE"
    if rebar3 ct --suite "ct/$1_SUITE"; then return; fi
    after=$(failures)
    [ "$after" -gt "$before" ] || row "$1, a case without rounds" 1 1 $((SECONDS - from))
}

failures() {
    awk -F'|' '{ n += $3 } END { print n + 0 }' "$BARREL_P2P_PROVE_TABLE"
}

fuzz() {
    local from=$SECONDS failed=0
    echo
    echo "==> make fuzz"
    make fuzz || failed=1
    row fuzz 1 $failed $((SECONDS - from))
}

if [ $# -gt 0 ]; then
    for name in "$@"; do suite "$name"; done
else
    for file in $(grep -l 'prove:check(' ct/*_SUITE.erl); do
        name=$(basename "$file" _SUITE.erl)
        suite "$name"
    done
    if grep -q '^fuzz:' Makefile; then fuzz; fi
fi

echo
awk -F'|' '
    BEGIN { printf "%-50s %8s %8s %8s\n", "kind", "rounds", "failed", "seconds" }
    { printf "%-50s %8d %8d %8.1f\n", $1, $2, $3, $4; if ($3 > 0) bad++; else good++ }
    END { printf "\n%d kinds proven, %d failed\n", good, bad; exit !(good > 0 && bad == 0) }
' "$BARREL_P2P_PROVE_TABLE"
