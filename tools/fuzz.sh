#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Runs the fuzz targets one after the other: the hello, and a node that is told
# anything, for ten minutes each, all other decoders for two. Coverage guided, on the
# stable compiler. Exits 1 when a target found something; its input is kept.
#
#   FUZZ_SECONDS=10 bash tools/fuzz.sh           a smoke run, so long for each target
#   FUZZ_TARGETS=frame bash tools/fuzz.sh        this target alone
#   BARREL_P2P_FUZZ_DIR=DIR bash tools/fuzz.sh   builds, corpora and findings go there
#
# What a finding says is in DIR/<target>.log, the input that caused it in DIR/findings/.
# `DIR/build/<triple>/release/<target> FILE` runs that one input again.
set -u

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd -P)
work=${BARREL_P2P_FUZZ_DIR:-$root/target/fuzz}
nodes="node_message node_frame node_record node_piece node_claim node_kept"
targets=${FUZZ_TARGETS:-hello frame preamble $nodes}

cargo=$(sh "$root/native/build.sh" --find-cargo) || exit 1
PATH=$(dirname -- "$cargo"):$PATH
triple=$(rustc -vV | sed -n 's/^host: //p')
mkdir -p "$work/seeds" "$work/findings" || exit 1

# What libFuzzer needs to see which branches an input took. With --target the
# flags do not reach build scripts.
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"

# Not --locked: when a dependency of the library changes, the lock file of this
# workspace follows it, and keeps all other versions.
build() {
    RUSTFLAGS=$coverage CARGO_TARGET_DIR=$work/build cargo build \
        --manifest-path "$root/fuzz/Cargo.toml" --release --quiet --target "$triple"
}

seconds_of() {
    if [ -n "${FUZZ_SECONDS:-}" ]; then
        echo "$FUZZ_SECONDS"
    elif [ "$1" = hello ] || [ "$1" = node_message ]; then
        echo 600
    else
        echo 120
    fi
}

# Longest input worth trying: the longest hello and its length; a packet by
# reference and its neighbours; the longest preamble and some data. Between nodes: a
# conversation of some dozen frames; frames and pieces far below their limits, as their
# long ones are short ones repeated; the longest record; the longest claim and more.
length_of() {
    case $1 in
        hello) echo 720 ;;
        frame) echo 20000 ;;
        node_message) echo 8192 ;;
        node_frame | node_piece | node_kept) echo 4096 ;;
        node_record) echo 1500 ;;
        node_claim) echo 64 ;;
        *) echo 300 ;;
    esac
}

fuzz() {
    local target=$1 seconds log=$work/$1.log code
    seconds=$(seconds_of "$target")
    echo "==> fuzz: $target, $seconds s"
    mkdir -p "$work/corpus/$target"
    "$work/build/$triple/release/$target" "$work/corpus/$target" "$work/seeds/$target" "$root/fuzz/regressions/$target" \
        -max_total_time="$seconds" -max_len="$(length_of "$target")" -timeout=10 -rss_limit_mb=512 \
        -artifact_prefix="$work/findings/$target-" -print_final_stats=1 >"$log" 2>&1
    code=$?
    awk -v target="$target" -v code=$code '
        / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "ft:") ft = $(i + 1); if ($i == "corp:") corp = $(i + 1) } }
        /^stat::number_of_executed_units/ { runs = $2 }
        /^stat::average_exec_per_sec/ { rate = $2 }
        /^stat::peak_rss_mb/ { rss = $2 }
        END { printf "%-12s %12d executions %8d per s, %5d edges, %5d features, corpus %s, %d MiB, %s\n",
              target, runs, rate, cov, ft, corp, rss, code == 0 ? "no findings" : "FINDING" }' "$log"
    [ $code -eq 0 ] || tail -n 40 "$log"
    return $code
}

build || exit 1
"$work/build/$triple/release/seeds" "$work/seeds" || exit 1
failed=0
for target in $targets; do
    fuzz "$target" || failed=1
done
exit $failed
