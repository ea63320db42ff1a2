# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by bench/run.sh and examples/demo/run.sh: runs Erlang sources beside
# the built library, in a temporary directory, and leaves nothing behind: not on
# success, not on failure, not after Ctrl-C.
#
#   begin_erlang WHO ERL    finds erl and the library; makes the directory $tmp and enters it
#   compile_erl FILE...     into the code path of run_erl
#   run_erl ARGUMENT...     a node without a name. Its environment has BARREL_P2P_<WHO>_DIR,
#                           _EBIN and _ERL, and what stands in the array $environment
#
# Wants $root, the checkout. After success $goodbye is printed, when it is set.

environment=()
goodbye=""
controller=""

begin_erlang() {
    who=$1
    prefix=BARREL_P2P_$(echo "$who" | tr "[:lower:]" "[:upper:]")
    if ! erl=$(command -v "$2"); then
        echo "$who: there is no $2; install Erlang/OTP 25 or newer" >&2
        exit 1
    fi
    ebin=${REBAR_BASE_DIR:-$root/_build}/default/lib/barrel_p2p/ebin
    if [ ! -f "$ebin/barrel_p2p_dist.beam" ]; then
        echo "$who: barrel_p2p is not built in $ebin; run: rebar3 compile, or: make $who" >&2
        exit 1
    fi
    ebin=$(CDPATH='' cd -- "$ebin" && pwd -P)
    tmp=$(cd "${TMPDIR:-/tmp}" && mktemp -d "$PWD/barrel_p2p_$who.XXXXXX")
    trap cleanup EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    # The flags of a user's own nodes have no place here.
    unset ERL_AFLAGS ERL_FLAGS ERL_ZFLAGS ERL_LIBS
    mkdir -m 700 "$tmp/run"
    mkdir "$tmp/ebin"
    cd "$tmp"
}

# The processes of this run: those whose environment, or else command line,
# names its directory.
ours() {
    if [ -r /proc/self/environ ]; then
        set -- /proc/[0-9]*/environ
        grep -lszxF "${prefix}_DIR=$tmp" "$@" | cut -d / -f 3 || true
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
    [ "$status" -lt 128 ] || echo "$who: interrupted" >&2
    trap - EXIT
    trap '' HUP INT TERM
    if [ "$status" -eq 0 ] && ! none_left; then
        # shellcheck disable=SC2086 # a list of numbers
        echo "$who: FAILED: these processes outlived it:" $left >&2
        status=1
    fi
    if [ -n "$controller" ]; then
        # Together with what bash says of a job that was killed.
        { kill -9 "$controller" && wait "$controller"; } 2>/dev/null || true
    fi
    # Without the controller the others end by themselves, and remove what they made. Who does not is
    # ended, twice, because a process may have started another one meanwhile.
    if ! none_left; then
        for _ in 1 2; do
            left=$(ours)
            # shellcheck disable=SC2086 # a list of numbers
            [ -z "$left" ] || kill -9 $left 2>/dev/null || true
        done
        none_left || true
    fi
    cd /
    rm -rf "$tmp"
    if [ -n "$left" ] || [ -e "$tmp" ]; then
        echo "$who: FAILED: left behind: processes ${left:-none}, directory $tmp" >&2
        status=1
    elif [ "$status" -eq 0 ] && [ -n "$goodbye" ]; then
        echo "$goodbye"
    fi
    exit "$status"
}

# In the background, because bash would put off Ctrl-C until a command in the
# foreground has ended. Nodes of this machine find each other in XDG_RUNTIME_DIR, and
# only these.
run_erl() {
    env "${prefix}_DIR=$tmp" "${prefix}_EBIN=$ebin" "${prefix}_ERL=$erl" "XDG_RUNTIME_DIR=$tmp/run" \
        ${environment[@]+"${environment[@]}"} \
        "$erl" +Bi -noinput -boot no_dot_erlang -pa "$tmp/ebin" "$@" &
    controller=$!
    status=0
    wait "$controller" || status=$?
    controller=""
    if [ "$status" -ne 0 ]; then
        [ "$status" -eq 1 ] || echo "$who: FAILED: Erlang ended with status $status" >&2
        exit 1
    fi
}

compile_erl() {
    run_erl -eval '
        Results = [compile:file(File, [report, {outdir, "ebin"}]) || File <- init:get_plain_arguments()],
        halt(case lists:member(error, Results) of false -> 0; true -> 1 end).
    ' -extra "$@"
}
