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
# shellcheck source=../../tools/run_erlang.sh
. "$root/tools/run_erlang.sh"

bold=""
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    bold=yes
fi
begin_erlang demo "${ERL:-erl}"
environment=("BARREL_P2P_DEMO_BOLD=$bold")
goodbye="    No process is left, and no file."
compile_erl "$here"/*.erl
run_erl -s demo main
