#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The long runs: every suite of ct/ that takes its number of rounds from prove.erl,
# with all rounds, a thousand forged ICMP messages, the schedules of the gossip core, then `make fuzz'. Goes on after a failure,
# prints a table, and as its last line
#
#   N kinds proven, N failed
#
#   bash tools/prove.sh              all
#   bash tools/prove.sh order races  these suites alone; hints, schedules and fuzz, too
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

# Needs root, for its forged ICMP messages.
hints() {
    local from=$SECONDS failed=0 cargo
    echo
    echo "==> a thousand forged refusals, with loss, on a busy machine"
    cargo=$(sh native/build.sh --find-cargo) || failed=1
    [ $failed -eq 1 ] || "$cargo" test --locked -p barrel_quic --test hints || failed=1
    row "hints, living peers said to be gone" 1000 $failed $((SECONDS - from))
}

# A hundred thousand random schedules of each property of the gossip core.
schedules() {
    local from=$SECONDS failed=0 cargo
    echo
    echo "==> a hundred thousand schedules of each property"
    cargo=$(sh native/build.sh --find-cargo) || failed=1
    [ $failed -eq 1 ] || BARREL_SCHEDULES=100000 "$cargo" test --locked --release --all-features \
        -p barrel_hyparview -p barrel_plumtree -p barrel_ormap -p barrel_members -p barrel_node || failed=1
    row "schedules of the gossip core" 100000 $failed $((SECONDS - from))
}

fuzz() {
    local from=$SECONDS failed=0
    echo
    echo "==> make fuzz"
    make fuzz || failed=1
    row fuzz 1 $failed $((SECONDS - from))
}

if [ $# -gt 0 ]; then
    for name in "$@"; do
        case $name in
            hints | schedules | fuzz) "$name" ;;
            *) suite "$name" ;;
        esac
    done
else
    for file in $(grep -l 'prove:check(' ct/*_SUITE.erl); do
        name=$(basename "$file" _SUITE.erl)
        suite "$name"
    done
    if [ "$(id -u)" -eq 0 ]; then hints; fi
    schedules
    fuzz
fi

echo
awk -F'|' '
    BEGIN { printf "%-50s %8s %8s %8s\n", "kind", "rounds", "failed", "seconds" }
    { printf "%-50s %8d %8d %8.1f\n", $1, $2, $3, $4; if ($3 > 0) bad++; else good++ }
    END { printf "\n%d kinds proven, %d failed\n", good, bad; exit !(good > 0 && bad == 0) }
' "$BARREL_P2P_PROVE_TABLE"
