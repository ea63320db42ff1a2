#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A node named after the address of its container. COOKIE must be set: it is
# the secret of the cluster.
set -eu

: "${COOKIE:?set COOKIE to the secret of the cluster}"
address=$(hostname -i | awk '{ print $1 }')

# The cookie goes through a file: arguments are visible to every process.
(umask 077; printf '%s' "$COOKIE" > "$HOME/.erlang.cookie"; chmod 400 "$HOME/.erlang.cookie")
unset COOKIE

exec erl -noinput -name "${NODE:-node}@$address" \
    -pa /opt/barrel_p2p/ebin \
    -proto_dist barrel_p2p -epmd_module barrel_p2p_epmd -start_epmd false \
    -kernel connect_all false \
    -eval '{ok, _} = application:ensure_all_started(barrel_p2p), io:format("~s is up~n", [node()]).'
