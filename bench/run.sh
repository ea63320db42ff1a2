#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Measures barrel_p2p beside inet_tcp and inet_tls (TLS 1.3), in one run, on one
# Erlang/OTP, between two nodes of this machine per carrier: round trips,
# messages per second, bulk throughput, round trips while bulk flows, processor
# time, first contact.
#
#   bash bench/run.sh                 about 5 minutes
#   bash bench/run.sh --quick         about 1 minute
#
# Options, or the variable that stands behind them:
#   --quick            QUICK=1        fewer and shorter measurements
#   --rounds N         ROUNDS=N       measurements of each kind and carrier
#   --otp-erl PATH     ERL=PATH       the erl of another OTP
#   --carriers A,B     CARRIERS=A,B   some of barrel_p2p,inet_tcp,inet_tls
#   --only A,B         ONLY=A,B       some of rtt,messages,bulk,rtt_under_bulk,first_contact
#   --out DIR          OUT=DIR        where the results go, else bench/out
#
# Every measurement lasts a fixed time, and counts what the receiver has got. It
# is done once for each carrier, then again for each in another order, so that
# noise of the machine hits all alike; the figures are medians over these
# rounds. Compare ratios of one run, not figures of two runs. When senders stop,
# the receiver says how much has arrived, and it must be all that was sent.
#
# The table goes to the standard output and to <time>.md, all samples to
# <time>.json. There is no judgement in it: the exit code is 1 only when
# something could not be measured. Nothing is left behind but the results.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
root=$(CDPATH='' cd -- "$here/.." && pwd -P)
ebin=${REBAR_BASE_DIR:-$root/_build}/default/lib/barrel_p2p/ebin

usage() {
    sed -n '/^#   bash/,/^#   --out/s/^# \{0,1\}//p' "$here/run.sh" >&2
    exit 2
}

quick=${QUICK:-} rounds=${ROUNDS:-} erl=${ERL:-erl} only=${ONLY:-} out=${OUT:-$here/out}
carriers=${CARRIERS:-barrel_p2p,inet_tcp,inet_tls}
while [ $# -gt 0 ]; do
    case "$1" in
        --quick) quick=1 ;;
        --rounds | --otp-erl | --carriers | --only | --out)
            [ $# -ge 2 ] || usage
            case "$1" in
                --rounds) rounds=$2 ;;
                --otp-erl) erl=$2 ;;
                --carriers) carriers=$2 ;;
                --only) only=$2 ;;
                --out) out=$2 ;;
            esac
            shift
            ;;
        *) usage ;;
    esac
    shift
done

if ! found=$(command -v "$erl"); then
    echo "bench: there is no $erl; install Erlang/OTP 25 or newer, or name one with --otp-erl" >&2
    exit 1
fi
erl=$found
if [ ! -f "$ebin/barrel_p2p_dist.beam" ]; then
    echo "bench: barrel_p2p is not built in $ebin; run: rebar3 compile, or: make bench" >&2
    exit 1
fi
ebin=$(CDPATH='' cd -- "$ebin" && pwd -P)
mkdir -p "$out"
out=$(CDPATH='' cd -- "$out" && pwd -P)

tmp=$(cd "${TMPDIR:-/tmp}" && mktemp -d "$PWD/barrel_p2p_bench.XXXXXX")
controller=""

# The processes of this run: those whose environment, or else command line,
# names its directory.
ours() {
    if [ -r /proc/self/environ ]; then
        set -- /proc/[0-9]*/environ
        grep -lszxF "BARREL_P2P_BENCH_DIR=$tmp" "$@" | cut -d / -f 3 || true
    else
        ps -A -o pid= -o command= | awk -v mark="$tmp/" 'index($0, mark) && !/awk/ { print $1 }'
    fi
}

cleanup() {
    status=$?
    [ "$status" -lt 128 ] || echo "bench: interrupted" >&2
    trap - EXIT
    trap '' HUP INT TERM
    if [ -n "$controller" ]; then
        # Together with what bash says of a job that was killed.
        { kill -9 "$controller" && wait "$controller"; } 2>/dev/null || true
    fi
    # A process may have started another one meanwhile, and needs a moment to end.
    for _ in $(seq 50); do
        left=$(ours)
        [ -n "$left" ] || break
        # shellcheck disable=SC2086 # a list of numbers
        kill -9 $left 2>/dev/null || true
        sleep 0.1
    done
    cd /
    rm -rf "$tmp"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# The flags of a user's own nodes have no place here.
unset ERL_AFLAGS ERL_FLAGS ERL_ZFLAGS ERL_LIBS
mkdir -m 700 "$tmp/run"
mkdir "$tmp/ebin"
cd "$tmp"

# In the background, because bash would put off Ctrl-C until a command in the
# foreground has ended.
run_erl() {
    env "BARREL_P2P_BENCH_DIR=$tmp" "BARREL_P2P_BENCH_EBIN=$ebin" "BARREL_P2P_BENCH_ERL=$erl" \
        "BARREL_P2P_BENCH_OUT=$out" "BARREL_P2P_BENCH_QUICK=$quick" \
        "BARREL_P2P_BENCH_ROUNDS=$rounds" "BARREL_P2P_BENCH_CARRIERS=$carriers" \
        "BARREL_P2P_BENCH_ONLY=$only" \
        "XDG_RUNTIME_DIR=$tmp/run" \
        "$erl" +Bi -noinput -boot no_dot_erlang -pa "$tmp/ebin" "$@" &
    controller=$!
    status=0
    wait "$controller" || status=$?
    controller=""
    if [ "$status" -ne 0 ]; then
        [ "$status" -eq 1 ] || echo "bench: FAILED: Erlang ended with status $status" >&2
        exit 1
    fi
}

run_erl -eval '
    Results = [compile:file(File, [report, {outdir, "ebin"}]) || File <- init:get_plain_arguments()],
    halt(case lists:member(error, Results) of false -> 0; true -> 1 end).
' -extra "$here"/*.erl
run_erl -s barrel_p2p_bench main
