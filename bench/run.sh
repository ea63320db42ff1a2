#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Measures barrel_p2p beside inet_tcp, inet_tls (TLS 1.3) and QUIC without the
# BEAM, in one run, on one Erlang/OTP and one machine, and says which targets are
# met. docs/performance.md says what each figure means.
#
#   bash bench/run.sh                 about 12 minutes
#   bash bench/run.sh --quick         about 4 minutes: does everything work?
#
# Options, or the variable that stands behind them:
#   --quick            QUICK=1        fewer and shorter measurements
#   --rounds N         ROUNDS=N       measurements of each kind and carrier
#   --otp 27|29                       in the root that tools/otp_root.sh makes (needs root)
#   --otp-erl PATH     ERL=PATH       the erl of another OTP
#   --carriers A,B     CARRIERS=A,B   some of barrel_p2p,inet_tcp,inet_tls,barrel_p2p_1452,
#                                     barrel_p2p_cubic,barrel_p2p_bbr
#   --only A,B         ONLY=A,B       some of rtt,messages,bulk,rtt_under_bulk,first_contact,
#                                     idle,links,path,fairness
#   --out DIR          OUT=DIR        where the results go, else bench/out
#   --name NAME        NAME=NAME      of the results, after the release of OTP; else the time
#
# Every measurement lasts a fixed time, and counts what the receiver has got. It
# is done once for each carrier, then again for each in another order, so that
# noise of the machine hits all alike; the figures are medians over these
# rounds. Compare ratios of one run, not figures of two runs. When senders stop,
# the receiver says how much has arrived, and it must be all that was sent.
#
# The tables go to the standard output and to a .md file, the picture to a .svg
# file, all samples to a .json file. The exit code is 1 only when something could
# not be measured; a target that is not met is no failure. Nothing is left behind
# but the results.
#
# Environment: BARREL_P2P_BARE and BARREL_P2P_IMPAIR name those programs, else
# cargo builds them; "none" leaves out what needs them.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
root=$(CDPATH='' cd -- "$here/.." && pwd -P)
# shellcheck source=../tools/run_erlang.sh
. "$root/tools/run_erlang.sh"

usage() {
    sed -n '/^#   bash/,/^#   --name/s/^# \{0,1\}//p' "$here/run.sh" >&2
    exit 2
}

quick=${QUICK:-} rounds=${ROUNDS:-} erl=${ERL:-erl} only=${ONLY:-} out=${OUT:-$here/out} name=${NAME:-}
carriers=${CARRIERS:-barrel_p2p,inet_tcp,inet_tls,barrel_p2p_1452,barrel_p2p_cubic,barrel_p2p_bbr} otp=""
while [ $# -gt 0 ]; do
    case "$1" in
        --quick) quick=1 ;;
        --rounds | --otp | --otp-erl | --carriers | --only | --out | --name)
            [ $# -ge 2 ] || usage
            case "$1" in
                --rounds) rounds=$2 ;;
                --otp) otp=$2 ;;
                --otp-erl) erl=$2 ;;
                --carriers) carriers=$2 ;;
                --only) only=$2 ;;
                --out) out=$2 ;;
                --name) name=$2 ;;
            esac
            shift
            ;;
        *) usage ;;
    esac
    shift
done
mkdir -p "$out"
out=$(CDPATH='' cd -- "$out" && pwd -P)

# built PROGRAM PACKAGE: where the program is, or nothing when it cannot be built.
built() {
    local cargo target=${CARGO_TARGET_DIR:-$root/target}
    cargo=$(sh "$root/native/build.sh" --find-cargo 2>/dev/null) || return 0
    case "$target" in
        /*) ;;
        *) target=$root/$target ;;
    esac
    (cd "$root" && PATH=$(dirname -- "$cargo"):$PATH "$cargo" build --quiet --release --locked --package "$2") >&2 || return 0
    echo "$target/release/$1"
}

bare=${BARREL_P2P_BARE:-$(built barrel_bare barrel_bench)}
impair=${BARREL_P2P_IMPAIR:-$(built barrel_impair barrel_impair)}
[ "$bare" != none ] || bare=""
[ "$impair" != none ] || impair=""

# The commit that was measured, with a `+' when more than it was there.
commit=${BARREL_P2P_COMMIT:-}
if [ -z "$commit" ]; then
    commit=$(git -C "$root" rev-parse --short HEAD 2>/dev/null || echo unknown)
    [ -z "$(git -C "$root" status --porcelain -uno 2>/dev/null)" ] || commit=$commit+
fi

# In another root: this script once more, in the copy of the checkout there, with the
# programs that were built here.
if [ -n "$otp" ]; then
    inside=$(bash "$root/tools/otp_root.sh" "$otp" --root | tail -n 1)
    programs=$inside/tmp/barrel_p2p_bench
    mkdir -p "$programs"
    for program in "$bare" "$impair"; do
        [ -z "$program" ] || cp "$program" "$programs/"
    done
    there() { if [ -n "$1" ]; then echo "/tmp/barrel_p2p_bench/$(basename -- "$1")"; else echo none; fi; }
    status=0
    bash "$root/tools/otp_root.sh" "$otp" env QUICK="$quick" ROUNDS="$rounds" ONLY="$only" \
        CARRIERS="$carriers" NAME="$name" OUT=/tmp/barrel_p2p_bench/out BARREL_P2P_COMMIT="$commit" \
        BARREL_P2P_BARE="$(there "$bare")" BARREL_P2P_IMPAIR="$(there "$impair")" \
        sh -c 'rebar3 compile && bash bench/run.sh' || status=$?
    if [ "$status" -eq 0 ]; then cp "$programs/out"/* "$out/"; fi
    rm -rf "$programs"
    [ "$status" -ne 0 ] || echo "and copied to $out"
    exit "$status"
fi

begin_erlang bench "$erl"
environment=(
    "BARREL_P2P_BENCH_OUT=$out"
    "BARREL_P2P_BENCH_NAME=$name"
    "BARREL_P2P_BENCH_QUICK=$quick"
    "BARREL_P2P_BENCH_ROUNDS=$rounds"
    "BARREL_P2P_BENCH_CARRIERS=$carriers"
    "BARREL_P2P_BENCH_ONLY=$only"
    "BARREL_P2P_BENCH_COMMIT=$commit"
    "BARREL_P2P_BENCH_COOKIE=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')"
    "BARREL_P2P_BENCH_BARE=$bare"
    "BARREL_P2P_IMPAIR=$impair"
)
compile_erl "$here"/*.erl "$root/ct/impaired.erl"
run_erl -s barrel_p2p_bench main
