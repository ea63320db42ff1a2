#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The whole test run: lint, cargo, the simulator, the C stand-in, EUnit, Common Test. Goes on
# after a failure, prints a table, and as its last line
#
#   N passed, N failed[, N skipped]
#
# where a lint step, a build and a test case count one each. A part that ends
# badly without naming a failed case counts as one failure.
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
cd "$root" || exit 1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0
skipped=0
rows=()
unset BARREL_P2P_NIF

# row NAME PASSED FAILED SKIPPED EXIT_CODE SECONDS
row() {
    local bad=$3
    if [ "$5" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    if [ "$2" -eq 0 ] && [ "$bad" -eq 0 ] && [ "$4" -eq 0 ]; then bad=1; fi
    passed=$((passed + $2))
    failed=$((failed + bad))
    skipped=$((skipped + $4))
    rows+=("$(printf '%-22s %6d passed %5d failed %5d skipped %6d s' "$1" "$2" "$bad" "$4" "$6")")
}

# run LOG COMMAND...: the output goes to the terminal and, without colours, to LOG.
run() {
    local log=$1 code
    shift
    echo
    echo "==> $*"
    "$@" 2>&1 | tee "$log.raw"
    code=${PIPESTATUS[0]}
    sed 's/\x1b\[[0-9;]*m//g' "$log.raw" >"$log"
    return "$code"
}

# sum LOG REGEX: adds up what the one group of REGEX matches.
sum() {
    sed -nE "s/$2/\\1/p" "$1" | awk '{ n += $1 } END { print n + 0 }'
}

lint() {
    local from=$SECONDS code
    : >"$work/lint.rows"
    run "$work/lint" sh tools/lint.sh "$work/lint.rows"
    code=$?
    row lint "$(grep -c '^passed' "$work/lint.rows")" "$(grep -c '^failed' "$work/lint.rows")" 0 $code $((SECONDS - from))
}

cargo_tests() {
    local from=$SECONDS code cargo log=$work/cargo
    if ! cargo=$(sh native/build.sh --find-cargo); then
        row cargo 0 1 0 1 0
        return
    fi
    PATH=$(dirname -- "$cargo"):$PATH
    if cargo nextest --version >/dev/null 2>&1; then
        run "$log" cargo nextest run --workspace --all-features --locked --no-fail-fast
        code=$?
        row "cargo nextest" \
            "$(sum "$log" '^ *Summary .* ([0-9]+) passed.*')" \
            "$(($(sum "$log" '^ *Summary .* ([0-9]+) failed.*') + $(sum "$log" '^ *Summary .* ([0-9]+) timed out.*')))" \
            "$(sum "$log" '^ *Summary .* ([0-9]+) skipped.*')" $code $((SECONDS - from))
    else
        run "$log" cargo test --workspace --all-features --locked --no-fail-fast
        code=$?
        row "cargo test" \
            "$(sum "$log" '^test result: .* ([0-9]+) passed;.*')" \
            "$(sum "$log" '^test result: .* ([0-9]+) failed;.*')" \
            "$(sum "$log" '^test result: .* ([0-9]+) ignored;.*')" $code $((SECONDS - from))
    fi
}

# build NAME COMMAND...: counts one.
build() {
    local from=$SECONDS name=$1
    shift
    if run "$work/build" "$@"; then
        row "$name" 1 0 0 0 $((SECONDS - from))
    else
        row "$name" 0 1 0 1 $((SECONDS - from))
    fi
}

eunit() {
    local from=$SECONDS code log=$work/eunit all bad cancelled ignored
    run "$log" rebar3 eunit
    code=$?
    all=$(sum "$log" '^([0-9]+) tests?, .*')
    bad=$(sum "$log" '^[0-9]+ tests?, ([0-9]+) failures?.*')
    cancelled=$(sum "$log" '^[0-9]+ tests?, .* ([0-9]+) cancelled.*')
    ignored=$(sum "$log" '^[0-9]+ tests?, .* ([0-9]+) skipped.*')
    row eunit $((all - bad - ignored)) $((bad + cancelled)) "$ignored" $code $((SECONDS - from))
}

ct() {
    local from=$SECONDS code log=$work/ct
    run "$log" rebar3 ct
    code=$?
    row "common test" \
        "$(($(sum "$log" '^All ([0-9]+) tests? passed.*') + $(sum "$log" '.*Passed ([0-9]+) tests?.*')))" \
        "$(sum "$log" '^Failed ([0-9]+) tests?.*')" \
        "$(sum "$log" '.*Skipped ([0-9]+) \(.*')" $code $((SECONDS - from))
}

# Each figure of the simulator's table counts one. All families in small worlds, but for C2,
# which measures time: `make sim' has that, and the large ones.
simulator() {
    local from=$SECONDS code bad log=$work/sim
    run "$log" bash tools/sim.sh --table --reduced --seeds 1 --rows H1,H7,H12,H13,H14,P1,P7,C3,M1,M2,D1
    code=$?
    bad=$(sum "$log" '^[0-9]+ figures, ([0-9]+) fail.*')
    row simulator $(($(sum "$log" '^([0-9]+) figures, .*') - bad)) "$bad" 0 $code $((SECONDS - from))
}

lint
cargo_tests
simulator
build "C stand-in" rebar3 as stub compile
build "native library" rebar3 compile
eunit
ct

echo
printf '%s\n' "${rows[@]}"
echo
line="$passed passed, $failed failed"
if [ "$skipped" -gt 0 ]; then line="$line, $skipped skipped"; fi
echo "$line"
[ "$failed" -eq 0 ]
