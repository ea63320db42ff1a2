#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Three Erlang nodes on this machine talk over authenticated QUIC, and tell what
# they do: identities, mutual authentication, messages, calls, links and
# monitors, 64 MiB there and back, a node that is killed, an impostor that is
# refused, a node that stops in good order.
#
#   bash examples/demo/run.sh         in a built checkout; `make demo' builds it first
#
# Every step is checked. The first one that fails ends the demo with a message,
# the logs of the nodes and exit code 1. Keys, certificates, logs and code live
# in a temporary directory, and nothing is left behind: not on success, not on
# failure, not after Ctrl-C.
#
# Environment:
#   ERL              the erl to use, else the one in PATH
#   REBAR_BASE_DIR   where rebar3 built the library, else _build of the checkout
#   NO_COLOR         plain text also on a terminal
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
root=$(CDPATH='' cd -- "$here/../.." && pwd -P)
ebin=${REBAR_BASE_DIR:-$root/_build}/default/lib/barrel_p2p/ebin
if ! erl=$(command -v "${ERL:-erl}"); then
    echo "demo: there is no ${ERL:-erl} in PATH; install Erlang/OTP 25 or newer, or run: make demo" >&2
    exit 1
fi
if [ ! -f "$ebin/barrel_p2p_dist.beam" ]; then
    echo "demo: barrel_p2p is not built in $ebin; run: rebar3 compile, or: make demo" >&2
    exit 1
fi
ebin=$(CDPATH='' cd -- "$ebin" && pwd -P)

tmp=$(cd "${TMPDIR:-/tmp}" && mktemp -d "$PWD/barrel_p2p_demo.XXXXXX")
controller=""

# The processes of this demo: those whose environment, or else command line,
# names its directory.
ours() {
    if [ -r /proc/self/environ ]; then
        set -- /proc/[0-9]*/environ
        grep -lszxF "BARREL_P2P_DEMO_DIR=$tmp" "$@" | cut -d / -f 3 || true
    else
        ps -A -o pid= -o command= | awk -v mark="$tmp/" 'index($0, mark) && !/awk/ { print $1 }'
    fi
}

# Waits until none of them is left, at most 5 s: a process needs a moment to end.
none_left() {
    for _ in $(seq 50); do
        left=$(ours)
        [ -n "$left" ] || return 0
        sleep 0.1
    done
    return 1
}

# Ends what still runs, removes the directory, and looks whether both worked.
cleanup() {
    status=$?
    [ "$status" -lt 128 ] || echo "demo: interrupted" >&2
    trap - EXIT
    trap '' HUP INT TERM
    if [ "$status" -eq 0 ] && ! none_left; then
        # shellcheck disable=SC2086 # a list of numbers
        echo "demo: FAILED: these processes outlived the demo:" $left >&2
        status=1
    fi
    if [ -n "$controller" ]; then
        # Together with what bash says of a job that was killed.
        { kill -9 "$controller" && wait "$controller"; } 2>/dev/null || true
    fi
    # Twice, because a process may have started another one meanwhile.
    for _ in 1 2; do
        left=$(ours)
        # shellcheck disable=SC2086 # a list of numbers
        [ -z "$left" ] || kill -9 $left 2>/dev/null || true
    done
    none_left || true
    cd /
    rm -rf "$tmp"
    if [ -n "$left" ] || [ -e "$tmp" ]; then
        echo "demo: FAILED: left behind: processes ${left:-none}, directory $tmp" >&2
        status=1
    elif [ "$status" -eq 0 ]; then
        echo "    No process is left, and no file."
    fi
    exit "$status"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# The flags of a user's own nodes have no place here.
unset ERL_AFLAGS ERL_FLAGS ERL_ZFLAGS ERL_LIBS
bold=""
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=yes
fi
mkdir -m 700 "$tmp/run"
mkdir "$tmp/ebin"
cd "$tmp"

# Nodes of this machine find each other in XDG_RUNTIME_DIR, and only these.
# In the background, because bash would put off Ctrl-C until a command in the
# foreground has ended.
run_erl() {
    env "BARREL_P2P_DEMO_DIR=$tmp" "BARREL_P2P_DEMO_EBIN=$ebin" "BARREL_P2P_DEMO_ERL=$erl" \
        "BARREL_P2P_DEMO_BOLD=$bold" "XDG_RUNTIME_DIR=$tmp/run" \
        "$erl" +Bi -noinput -boot no_dot_erlang -pa "$tmp/ebin" "$@" &
    controller=$!
    status=0
    wait "$controller" || status=$?
    controller=""
    if [ "$status" -ne 0 ]; then
        [ "$status" -eq 1 ] || echo "demo: FAILED: Erlang ended with status $status" >&2
        exit 1
    fi
}

run_erl -eval '
    Results = [compile:file(File, [report, {outdir, "ebin"}]) || File <- init:get_plain_arguments()],
    halt(case lists:member(error, Results) of false -> 0; true -> 1 end).
' -extra "$here"/*.erl
run_erl -s demo main
