#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Builds the C stand-in of the Rust core.
#
#   sh c_src_stub/build.sh FILE   to that file
#   sh c_src_stub/build.sh        from the rebar3 profile `stub': into a priv
#                                 directory that only this profile has
set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)

if [ $# -eq 1 ]; then
    output=$1
elif [ -n "${REBAR_BUILD_DIR:-}" ]; then
    private="$REBAR_BUILD_DIR/lib/barrel_p2p/priv"
    # rebar3 links priv to the sources; the stand-in must not land there.
    if [ -L "$private" ]; then rm "$private"; fi
    mkdir -p "$private"
    echo "This priv directory holds the C stand-in, not the Rust core." > "$private/STUB"
    output="$private/barrel_p2p_nif.so"
else
    echo "usage: $0 FILE" >&2
    exit 2
fi

headers=$(erl -noshell -eval 'io:put_chars(filename:join([code:root_dir(), "usr", "include"])), halt(0).')
if [ ! -f "$headers/erl_nif.h" ]; then
    echo "barrel_p2p: no erl_nif.h in $headers (Debian: apt-get install erlang-dev)" >&2
    exit 1
fi

case "$(uname -s)" in
    Darwin) shared="-bundle -undefined dynamic_lookup" ;;
    *) shared="-shared" ;;
esac

temporary="$output.$$.tmp"
trap 'rm -f "$temporary"' EXIT
# shellcheck disable=SC2086 # the flags are words
${CC:-cc} -std=c99 -O1 -Wall -Wextra -Werror -fPIC $shared -I"$headers" \
    -o "$temporary" "$here/barrel_p2p_nif_stub.c"
mv -f "$temporary" "$output"
